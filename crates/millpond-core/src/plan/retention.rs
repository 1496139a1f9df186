//! How long what settles an unknown outcome is kept.

use std::time::Duration;

use crate::error::{Error, Result};
use crate::limits;
use crate::time::Timestamp;

/// Up to which moment receipts and tombstones may be forgotten by whoever wants those gone that are older than this.
///
/// The one place of the rule that receipts are kept for [`limits::RECEIPT_DAYS`] days: an engine forgets up to the
/// moment it is given.
///
/// # Errors
/// `Invalid` for an age below that.
pub fn purge_before(now: Timestamp, older_than: Duration) -> Result<Timestamp> {
    let days = u64::try_from(limits::RECEIPT_DAYS).unwrap_or(0);
    if older_than < Duration::from_secs(days * 86_400) {
        return Err(Error::invalid(format!("receipts are kept for at least {days} days; {older_than:?} is less"))
            .with_next(format!("ask for {days}d or more")));
    }
    Ok(now.minus(older_than))
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    #[test]
    fn a_receipt_is_kept_for_seven_days_to_the_microsecond() {
        let now = Timestamp::from_micros(1_800_000_000_000_000);
        assert_eq!(purge_before(now, DAY * 7).unwrap(), now.minus(DAY * 7));
        let error = purge_before(now, DAY * 7 - Duration::from_micros(1)).unwrap_err();
        assert_eq!(error.kind(), crate::ErrorKind::Invalid);
        assert!(error.to_string().contains("7 days"), "{error}");
    }
}
