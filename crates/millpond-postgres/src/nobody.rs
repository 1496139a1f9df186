//! The driver's error for a server that says nothing.
//!
//! Its errors can be made by itself alone, and it has one for silence only where it waits itself, which ends with the TCP
//! handshake. So it is given a connection to nobody, which fails in the way that is to be told.

use std::io::{Error, ErrorKind, Result};
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::config::SslMode;
use tokio_postgres::{Config, Error as PgError, NoTls};

/// Fails whatever is tried, because of a silence that lasted so long.
struct Nobody(Duration);

impl Nobody {
    fn silence<T>(&self) -> Poll<Result<T>> {
        let text = format!("the server did not answer within {} s", self.0.as_secs_f64());
        Poll::Ready(Err(Error::new(ErrorKind::TimedOut, text)))
    }
}

impl AsyncRead for Nobody {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, _: &mut ReadBuf<'_>) -> Poll<Result<()>> {
        self.silence()
    }
}

impl AsyncWrite for Nobody {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, _: &[u8]) -> Poll<Result<usize>> {
        self.silence()
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.silence()
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Result<()>> {
        self.silence()
    }
}

/// The error of a server that did not answer for so long.
pub(crate) async fn answered(config: &Config, after: Duration) -> Option<PgError> {
    let mut config = config.clone();
    config.ssl_mode(SslMode::Disable);
    config.connect_raw(Nobody(after), NoTls).await.err()
}

#[cfg(test)]
mod tests {
    use std::error::Error as _;

    use super::*;

    #[tokio::test]
    async fn silence_is_an_error_of_the_connection() {
        let mut config = Config::new();
        config.user("u").ssl_mode(SslMode::Require);
        let error = answered(&config, Duration::from_millis(1_500)).await.expect("an error");
        assert!(error.as_db_error().is_none());
        assert_eq!(error.source().map(ToString::to_string).as_deref(), Some("the server did not answer within 1.5 s"));
    }
}
