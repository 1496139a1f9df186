//! What can be done wrong, one thing at a time.

use crate::properties::Promise;
use crate::scenario::{COLLECTION, COLLECTORS, COPY, SHORT, SHORTS, Scenario, TAKEOVER};

/// One rule of the protocol, left out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Defect {
    /// A claim is written without the expectation that there is none.
    ClaimsAreNotExclusive,
    /// The claims go in a commit before the decision.
    ClaimsGoBeforeTheDecision,
    /// The claims go in a commit after the decision.
    ClaimsGoAfterTheDecision,
    /// Later operations are registered without the unit's token.
    RegistersWithoutFence,
    /// The decision does not carry the unit's token.
    DecidesWithoutFence,
    /// Who undoes its own unit does not take the lease anew.
    UndoesUnderTheOldToken,
    /// Each path of a unit has a decision of its own.
    DecidesTwice,
    /// Who undoes looks how the unit stands, and then takes the lease.
    LooksBeforeTheLease,
    /// Who undoes removes the bytes, and then takes the lease.
    BytesGoBeforeTheLease,
    /// Who undoes takes the lease, removes the bytes, and then commits the abort.
    BytesGoBeforeTheAbort,
    /// A copy does not expect that its source version is still there.
    CopiesBlindly,
    /// A unit begins whatever the floor is.
    BeginsBelowTheFloor,
    /// The same, and the decision does not look at the floor either.
    MindsNoFloor,
    /// The decision does not look at the floor.
    DecidesBelowTheFloor,
    /// The collector knows the records from before it raised the floor.
    LooksBeforeTheFloor,
    /// The same, and the decision does not look at the floor.
    LooksBeforeTheFloorAndDecidesBelowIt,
    /// The collector raises the floor without the token of its lease.
    RaisesWithoutFence,
    /// The collector removes what it listed, without a look at the records.
    TrustsItsListing,
    /// The collector asks who names an object, and not whether its unit is being worked on.
    AsksOnlyForNames,
    /// The collector asks who names an object, and afterwards how its unit stands.
    AsksForNamesFirst,
    /// The same, and the decision does not look at the floor.
    AsksForNamesFirstAndDecidesBelowTheFloor,
    /// A short put does not expect that nobody has its path.
    ShortMindsNoClaim,
    /// A short put is aborted by a commit with an id of its own.
    ShortAbortsUnderAnotherId,
    /// The bytes of a short put go, and nobody says that it was aborted.
    ShortGoesWithoutAbort,
}

impl Defect {
    /// Whether a unit is decided whatever the floor is.
    pub(crate) fn decides_below_the_floor(self) -> bool {
        matches!(
            self,
            Self::MindsNoFloor
                | Self::DecidesBelowTheFloor
                | Self::LooksBeforeTheFloorAndDecidesBelowIt
                | Self::AsksForNamesFirstAndDecidesBelowTheFloor
        )
    }

    /// Whether the collector asks for names before it asks for units.
    pub(crate) fn asks_for_names_first(self) -> bool {
        matches!(self, Self::AsksForNamesFirst | Self::AsksForNamesFirstAndDecidesBelowTheFloor)
    }
}

/// Each defect, where it shows, and the promise it breaks.
pub(crate) const PLANTED: [(Defect, Scenario, Promise); 25] = [
    (Defect::ClaimsAreNotExclusive, TAKEOVER, Promise::OneHolder),
    (Defect::ClaimsGoBeforeTheDecision, TAKEOVER, Promise::OneHolder),
    (Defect::ClaimsGoAfterTheDecision, TAKEOVER, Promise::NothingLeft),
    (Defect::RegistersWithoutFence, TAKEOVER, Promise::NothingLeft),
    (Defect::DecidesWithoutFence, TAKEOVER, Promise::DecidedOnce),
    (Defect::DecidesWithoutFence, TAKEOVER, Promise::BytesAreThere),
    (Defect::UndoesUnderTheOldToken, TAKEOVER, Promise::DecidedOnce),
    (Defect::DecidesTwice, TAKEOVER, Promise::AllOrNothing),
    (Defect::LooksBeforeTheLease, TAKEOVER, Promise::DecidedOnce),
    (Defect::BytesGoBeforeTheLease, TAKEOVER, Promise::BytesAreThere),
    (Defect::CopiesBlindly, COPY, Promise::BytesAreThere),
    (Defect::BeginsBelowTheFloor, COLLECTION, Promise::LiveBytesStay),
    (Defect::MindsNoFloor, COLLECTION, Promise::BytesAreThere),
    (Defect::LooksBeforeTheFloor, COLLECTION, Promise::LiveBytesStay),
    (Defect::LooksBeforeTheFloorAndDecidesBelowIt, COLLECTION, Promise::BytesAreThere),
    (Defect::RaisesWithoutFence, COLLECTORS, Promise::LiveBytesStay),
    (Defect::TrustsItsListing, COLLECTION, Promise::BytesAreThere),
    (Defect::AsksOnlyForNames, COLLECTION, Promise::LiveBytesStay),
    (Defect::AsksForNamesFirst, COLLECTION, Promise::BytesAreThere),
    (Defect::AsksForNamesFirstAndDecidesBelowTheFloor, COLLECTION, Promise::BytesAreThere),
    (Defect::DecidesBelowTheFloor, SHORT, Promise::BytesAreThere),
    (Defect::ShortMindsNoClaim, SHORT, Promise::NobodyTrespasses),
    (Defect::ShortAbortsUnderAnotherId, SHORT, Promise::BytesAreThere),
    (Defect::ShortGoesWithoutAbort, SHORT, Promise::BytesAreThere),
    (Defect::DecidesBelowTheFloor, SHORTS, Promise::BytesAreThere),
];

/// Rules that can be left out alone, because another one covers for them: the decision's look at the floor, because the
/// collector asks how units stand no later than who names their bytes; the abort before the bytes go, because the lease was
/// taken before.
pub(crate) const COVERED: [(Defect, Scenario); 2] =
    [(Defect::DecidesBelowTheFloor, COLLECTION), (Defect::BytesGoBeforeTheAbort, TAKEOVER)];
