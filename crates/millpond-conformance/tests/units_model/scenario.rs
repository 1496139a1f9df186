//! Who takes part: small casts, each for one kind of meeting.

/// A set of operations, paths or units, one bit each.
pub(crate) type Bits = u8;

/// Units of every scenario. Unit 0 is over before anything begins: what it wrote is what is there.
pub(crate) const UNITS: usize = 3;
/// Paths of every scenario.
pub(crate) const PATHS: usize = 3;
/// The paths, by name.
const A: usize = 0;
const B: usize = 1;
const C: usize = 2;

/// What an operation does. An operation's number is also the number of its version, and of its location.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum What {
    /// Writes bytes to a location of its own.
    Put,
    /// Names the location that the newest version of this path names.
    Copy(usize),
}

/// One operation of a unit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Operation {
    pub(crate) unit: usize,
    pub(crate) path: usize,
    pub(crate) what: What,
    /// Registered by a commit of its own, after the unit began.
    pub(crate) later: bool,
}

/// Who takes part.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) operations: &'static [Operation],
    /// Processes that undo the units of others.
    pub(crate) takers: usize,
    pub(crate) collectors: usize,
    /// Old versions are purged.
    pub(crate) purges: bool,
    /// Units of one put that are not registered.
    pub(crate) short: Bits,
    /// How often a unit's lease can be taken, its own taking included.
    pub(crate) tokens: u8,
}

const fn put(unit: usize, path: usize) -> Operation {
    Operation { unit, path, what: What::Put, later: false }
}

/// Two units want one path; two processes undo either, at once; one unit registers its second path later.
pub(crate) const TAKEOVER: Scenario = Scenario {
    name: "takeover",
    operations: &[put(0, A), put(1, A), Operation { later: true, ..put(1, B) }, put(2, A)],
    takers: 2,
    collectors: 0,
    purges: false,
    short: 0,
    tokens: 3,
};

/// A unit of two paths, one that writes over what was there, a purge, one who undoes, and the collector.
pub(crate) const COLLECTION: Scenario = Scenario {
    name: "collection",
    operations: &[put(0, A), put(1, A), put(1, B), put(2, A)],
    takers: 1,
    collectors: 1,
    purges: true,
    short: 0,
    tokens: 2,
};

/// A copy names the location of what another unit writes over, and a purge forgets.
pub(crate) const COPY: Scenario = Scenario {
    name: "copy",
    operations: &[put(0, A), put(1, A), Operation { unit: 2, path: C, what: What::Copy(A), later: false }],
    takers: 1,
    collectors: 1,
    purges: true,
    short: 0,
    tokens: 2,
};

/// Two collectors, one of which was taken for dead.
pub(crate) const COLLECTORS: Scenario = Scenario {
    name: "two collectors",
    operations: &[put(0, A), put(1, A), put(2, B)],
    takers: 0,
    collectors: 2,
    purges: false,
    short: 0,
    tokens: 2,
};

/// A short put and a unit that want one path, a purge, one who undoes, and the collector.
pub(crate) const SHORT: Scenario = Scenario {
    name: "short put",
    operations: &[put(0, A), put(1, A), put(2, A)],
    takers: 1,
    collectors: 1,
    purges: true,
    short: 1 << 1,
    tokens: 2,
};

/// Two short puts of one path, and two collectors, one of which was taken for dead.
pub(crate) const SHORTS: Scenario = Scenario {
    name: "two short puts",
    operations: &[put(0, A), put(1, A), put(2, A)],
    takers: 0,
    collectors: 2,
    purges: true,
    short: 1 << 1 | 1 << 2,
    tokens: 1,
};

impl Scenario {
    /// Whether a unit is a short put.
    pub(crate) fn is_short(&self, unit: usize) -> bool {
        self.short & bit(unit) != 0
    }

    /// The operations of a unit.
    pub(crate) fn of(&self, unit: usize) -> Bits {
        self.those(|operation| operation.unit == unit)
    }

    /// Operations that write bytes.
    pub(crate) fn puts(&self) -> Bits {
        self.those(|operation| operation.what == What::Put)
    }

    /// Operations that are registered when their unit begins.
    pub(crate) fn at_once(&self) -> Bits {
        self.those(|operation| !operation.later)
    }

    /// What an operation of this unit copies, if it has one that does.
    pub(crate) fn copied_by(&self, unit: usize) -> Option<usize> {
        self.operations.iter().filter(|operation| operation.unit == unit).find_map(|operation| match operation.what {
            What::Copy(path) => Some(path),
            What::Put => None,
        })
    }

    fn those(&self, wanted: impl Fn(&Operation) -> bool) -> Bits {
        let numbered = self.operations.iter().enumerate();
        numbered.filter(|(_, operation)| wanted(operation)).fold(0, |all, (number, _)| all | bit(number))
    }
}

/// The set of this one.
pub(crate) fn bit(number: usize) -> Bits {
    1 << number
}

/// The members of a set, from the lowest.
pub(crate) fn members(set: Bits) -> impl Iterator<Item = usize> {
    (0..8).filter(move |number| set & bit(*number) != 0)
}
