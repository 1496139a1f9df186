//! Which server a connection goes to: each address of each host in turn, none of them for longer than its share.
//!
//! ```text
//!   old.example ─ 10.0.0.1   accepts, and never says a word    given up after `connect_timeout`
//!   new.example ─ 10.0.0.2   takes writes                      tried first from now on
//! ```
//!
//! The driver's own limit ends with the TCP handshake. A server that hangs behind it would keep everybody from the one
//! that took over.

use std::net::IpAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::Host;
use tokio_postgres::tls::MakeTlsConnect;
use tokio_postgres::{Client, Config, Connection, Error as PgError, Socket};

use crate::nobody;
use crate::tls::Tls;

type Stream = <Tls as MakeTlsConnect<Socket>>::Stream;
/// The half of a connection that has to be driven.
pub(crate) type Driven = Connection<Socket, Stream>;
type Connected = (Client, Driven);

/// The host that answered last.
#[derive(Debug, Default)]
pub(crate) struct Hosts(AtomicUsize);

impl Hosts {
    /// The host that answered last does not any more: another one is asked first.
    pub(crate) fn turn_away(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    /// The one that answered last.
    pub(crate) fn at(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }

    /// Connects to the first address that answers as the configuration wants it, beginning with the host that did so
    /// the last time.
    pub(crate) async fn connect(&self, config: &Config, tls: &Tls) -> Result<Connected, PgError> {
        let hosts = each(config);
        let (first, mut failed) = (self.0.load(Ordering::Relaxed), None);
        for n in 0..hosts.len() {
            let at = first.wrapping_add(n) % hosts.len();
            let Some(host) = hosts.get(at) else { continue };
            match one(host, tls).await {
                Ok(connected) => {
                    self.0.store(at, Ordering::Relaxed);
                    return Ok(connected);
                }
                Err(error) => failed = Some(error),
            }
        }
        match failed {
            Some(error) => Err(error),
            // No host at all: the driver has the words for it.
            None => config.connect(tls.clone()).await,
        }
    }
}

/// Tries the addresses of one host.
async fn one(config: &Config, tls: &Tls) -> Result<Connected, PgError> {
    let most = config.get_connect_timeout().copied().unwrap_or(Duration::MAX);
    let mut failed = None;
    for address in addresses(config, most).await {
        let mut config = config.clone();
        config.hostaddr(address);
        match limited(most, &config, tls).await {
            Ok(connected) => return Ok(connected),
            Err(error) => failed = Some(error),
        }
    }
    match failed {
        Some(error) => Err(error),
        // A socket's path, an address given by number, or a name that is not known, for which the driver has the words.
        None => limited(most, config, tls).await,
    }
}

async fn limited(most: Duration, config: &Config, tls: &Tls) -> Result<Connected, PgError> {
    match timeout(most, config.connect(tls.clone())).await {
        Ok(result) => result,
        Err(_) => match nobody::answered(config, most).await {
            Some(error) => Err(error),
            // It cannot come to this: nobody cannot be connected to.
            None => config.connect(tls.clone()).await,
        },
    }
}

/// The addresses of a host that is given by its name alone.
async fn addresses(config: &Config, most: Duration) -> Vec<IpAddr> {
    let ([Host::Tcp(name)], []) = (config.get_hosts(), config.get_hostaddrs()) else { return Vec::new() };
    let port = config.get_ports().first().copied().unwrap_or(5432);
    match timeout(most, tokio::net::lookup_host((name.as_str(), port))).await {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        _ => Vec::new(),
    }
}

/// The configuration once for each host, naming that host alone.
fn each(config: &Config) -> Vec<Config> {
    let (hosts, numbers, ports) = (config.get_hosts(), config.get_hostaddrs(), config.get_ports());
    let count = hosts.len().max(numbers.len());
    if (!hosts.is_empty() && !numbers.is_empty() && hosts.len() != numbers.len()) || (ports.len() > 1 && ports.len() != count) {
        // The driver says what is wrong with these.
        return Vec::new();
    }
    let single = |at: usize| {
        let mut single = without_hosts(config);
        match hosts.get(at) {
            Some(Host::Tcp(name)) => drop(single.host(name)),
            Some(Host::Unix(path)) => drop(single.host_path(path)),
            None => {}
        }
        numbers.get(at).map(|number| single.hostaddr(*number));
        ports.get(at).or(ports.first()).map(|port| single.port(*port));
        single
    };
    (0..count).map(single).collect()
}

/// Everything but the hosts; the driver offers no way to take them out.
fn without_hosts(from: &Config) -> Config {
    let mut to = Config::new();
    from.get_user().map(|user| to.user(user));
    from.get_password().map(|password| to.password(password));
    from.get_dbname().map(|name| to.dbname(name));
    from.get_options().map(|options| to.options(options));
    from.get_application_name().map(|name| to.application_name(name));
    from.get_connect_timeout().map(|limit| to.connect_timeout(*limit));
    from.get_tcp_user_timeout().map(|limit| to.tcp_user_timeout(*limit));
    from.get_keepalives_interval().map(|interval| to.keepalives_interval(interval));
    from.get_keepalives_retries().map(|retries| to.keepalives_retries(retries));
    to.keepalives(from.get_keepalives())
        .keepalives_idle(from.get_keepalives_idle())
        .ssl_mode(from.get_ssl_mode())
        .ssl_negotiation(from.get_ssl_negotiation())
        .target_session_attrs(from.get_target_session_attrs())
        .channel_binding(from.get_channel_binding())
        .load_balance_hosts(from.get_load_balance_hosts());
    to
}

#[cfg(test)]
mod tests {
    use std::str::FromStr as _;

    use super::*;

    /// A setting of the driver that is left behind here would be read and ignored.
    #[test]
    fn each_host_keeps_every_setting() {
        let url = "postgres://u:p@a:1,b:2/d?application_name=x&connect_timeout=3&tcp_user_timeout=4&keepalives=0\
                   &keepalives_idle=5&keepalives_interval=6&keepalives_retries=7&sslmode=require&sslnegotiation=direct\
                   &target_session_attrs=read-write&channel_binding=require&load_balance_hosts=random";
        let mut config = Config::from_str(url).unwrap();
        config.options("-c a=b");
        let alone = |host: &str| {
            let mut config = Config::from_str(&url.replace("a:1,b:2", host)).unwrap();
            config.options("-c a=b");
            config
        };
        assert_eq!(each(&config), [alone("a:1"), alone("b:2")]);
    }

    #[test]
    fn one_port_serves_every_host_and_numbers_belong_to_names() {
        let config = Config::from_str("host=a,b hostaddr=10.0.0.1,10.0.0.2 port=7 user=u").unwrap();
        let hosts = each(&config);
        assert_eq!(hosts[1], Config::from_str("host=b hostaddr=10.0.0.2 port=7 user=u").unwrap());
        assert_eq!(each(&Config::from_str("host=a,b port=1,2,3 user=u").unwrap()), []);
    }
}
