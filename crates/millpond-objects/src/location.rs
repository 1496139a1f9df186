//! Where an object is.

use std::fmt;
use std::str::FromStr;

use millpond_core::{Error, Result};
use uuid::Uuid;

/// Where an object is: `<two hexadecimal digits>/<unit>.<number>`, such as `c7/0198f3…c7.12`.
///
/// A unit writes under its own id and counts, so no location is ever used twice, what a unit left behind is found by
/// its id, and a unit that was taken over reaches nobody's bytes but its own. The two digits are the last of the id,
/// which are random, and keep folders small. Locations are ordered as text.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Location(String);

impl Location {
    /// The `number`th location of a unit.
    pub fn new(unit: Uuid, number: u32) -> Self {
        let unit = unit.simple().to_string();
        Self(format!("{}/{unit}.{number}", &unit[30..]))
    }

    /// As text, with `/` between the folder and the name on every system.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The folder it is in: two hexadecimal digits.
    pub fn folder(&self) -> &str {
        &self.0[..2]
    }

    /// The unit that wrote it.
    pub fn unit(&self) -> Uuid {
        Uuid::parse_str(&self.0[3..35]).unwrap_or_default()
    }
}

impl FromStr for Location {
    type Err = Error;

    /// # Errors
    /// `Invalid` for anything that [`Location::new`] does not make: a path that leads elsewhere is never followed.
    fn from_str(text: &str) -> Result<Self> {
        let read = || {
            let (unit, number) = text.get(3..)?.split_once('.')?;
            Some(Self::new(Uuid::try_parse(unit).ok()?, number.parse().ok()?))
        };
        read().filter(|location| location.0 == text).ok_or_else(|| {
            Error::invalid(format!("{text:?} is no location of an object"))
                .with_next("take it from the record that names the object")
        })
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_location_comes_back_and_nothing_else_is_one() {
        let unit = Uuid::from_u128(0x0198_f3a1_2b3c_7d4e_8f50_6172_8394_a5c7);
        let location = Location::new(unit, 12);
        assert_eq!(location.as_str(), "c7/0198f3a12b3c7d4e8f5061728394a5c7.12");
        assert_eq!((location.folder(), location.unit()), ("c7", unit));
        assert_eq!(location.as_str().parse::<Location>().unwrap(), location);
        let text = location.as_str();
        for wrong in [
            "",
            "c7",
            "c7/",
            "../../etc/passwd",
            "é7/x.1",
            &text.replace("c7/", "c8/"),
            &text.replace(".12", ".012"),
            &text.replace(".12", ""),
            &text.replace(".12", ".-1"),
            &text.to_uppercase(),
            &format!("{text}/.."),
        ] {
            let error = wrong.parse::<Location>().unwrap_err();
            assert_eq!(error.kind(), millpond_core::ErrorKind::Invalid, "{wrong}");
        }
    }
}
