//! Millpond: the state layer that a workflow engine would otherwise write itself.
//!
//! ```
//! # async fn demo() -> millpond::Result<()> {
//! let pond = millpond::open("memory:").await?;
//! let receipt = pond.commit(
//!     millpond::Commit::new()
//!         .expect_absent("tenants", "t1")?
//!         .put("tenants", "t1", &serde_json::json!({"plan": "pro"}))?
//!         .append("audit", millpond::NewEvent::of("tenant.created", &"t1")?)?,
//! ).await?;
//! assert_eq!(receipt.revisions, [1]);
//! # Ok(()) }
//! # tokio::runtime::Runtime::new().unwrap().block_on(demo()).unwrap();
//! ```
//!
//! [`Pond`] opens a place and gives access to the domains; [`blocking`] is the same for synchronous callers.

#[macro_use]
mod bridge;
mod artifacts;
pub mod blocking;
mod checkpoints;
mod conditions;
mod config;
pub mod dead_letters;
mod diff;
mod events;
mod extra;
mod flows;
mod health;
mod homes;
#[cfg(feature = "journal")]
mod journals;
mod lineage;
pub mod locks;
mod metrics;
mod objects;
mod open;
mod payloads;
mod pins;
mod pond;
mod prune;
mod replay;
mod runs;
pub mod sessions;
mod text;
#[cfg(feature = "file")]
mod tree;
mod unit;
mod units;
mod workflows;
pub mod yaml;

pub use artifacts::{
    ARTIFACT_DELETED, ARTIFACT_WRITTEN, Artifact, ArtifactFilter, ArtifactKey, ArtifactList, ArtifactReader, ArtifactVersion,
    ArtifactWatch, Artifacts, BlockSums, Body, DamagedArtifact, Downloaded, DownloadedFile, KEYS_AT_ONCE, KeptBecause, KeptFor,
    Listed, ListedPage, MovedPlace, NewArtifact, NotDownloaded, Only, Provenance, PurgeVersions, PurgedVersions, PutArtifact,
    SavedArtifact, StorageEvent, StorageEventKind, UnitArtifacts, VerifiedArtifacts, VerifyArtifacts, VerifyProgress,
    WatchArtifacts,
};
pub use checkpoints::{
    CHECKPOINT_BYTES, CHECKPOINT_JSON_BYTES, Checkpoint, CheckpointChunk, CheckpointInfo, CheckpointRecord, CheckpointScope,
    Checkpoints, NewCheckpoint, Payload, PayloadKind, Scope,
};
pub use config::{Config, ConfigLine, DEFAULT_STORE, FILE_NAME, Origin, Sources, without_password};
pub use dead_letters::DEFAULT_CAPACITY as DEAD_LETTER_CAPACITY;
pub use dead_letters::{
    Added, AnalysisRequest, Claim, ClaimNote, ClaimRequest, Claimed, ClosedNote, DeadLetter, DeadLetterFilter, DeadLetterJob,
    DeadLetterState, DeadLetterStats, DeadLetteredItem, DeadLetters, ErrorType, FailureAnalysis, FailureDetail, FailurePattern,
    LetterRef, PurgeRequest, PurgedLetters, WorktreeArtifacts, error_signature,
};
pub use events::{EventFeed, EventReader, EventStats, EventStream, Events, FedEvent, Verdict, verdict};
pub use flows::{
    CATEGORIES, CanvasPosition, ComponentConfig, DeployedComponent, Flow, FlowChange, FlowConnection, FlowDelivery, FlowFilter,
    FlowNode, FlowOrder, FlowPattern, FlowProblem, FlowProblems, FlowVersion, FlowWatch, Flows, RuntimeState, UNKNOWN_CATEGORY,
};
pub use health::{Health, HealthRequest};
pub use homes::Domain;
pub use lineage::{
    AdapterCounts, ArtifactRef, FoundBy, LineageChain, LineageEdge, LineageEnd, LineageFilter, LineageOrder, LineageRelative,
    LineageRow, LineageRows, LineageStats, LineageStatus, LineageWalk, MissingRow, NewLineage, OpenLineagePage, WalkLimits,
    WalkedRow,
};
pub use locks::{Attempt, Lease, LockFilter, LockInfo, LockPage, LockRequest, Locks};
pub use metrics::{
    Execution, Feedback, FeedbackFilter, Measure, MetricSummary, Metrics, NamedCount, NamedDuration, NewFeedback, NewPattern,
    NodeDurations, NodeExecution, OperationCount, Pattern, PatternFilter, QUANTILE_ERROR, Sketch, Summary, TrendPoint,
    pattern_kinds,
};
pub use millpond_core::*;
pub use objects::ObjectsPlace;
pub use open::{OpenOptions, open};
pub use payloads::PayloadObject;
pub use pins::{ExecutionPins, PINS_OF_EXECUTION, Pin, PinFilter, Pins};
pub use pond::Pond;
pub use prune::{
    PRUNE_REASONS_NAMED, Prune, PruneCounts, PruneFilter, PruneObstacle, PrunePhase, PrunePlan, PruneReason, PruneStatus,
    PrunedObject, Prunes,
};
pub use replay::{
    ARTIFACT_REPLAYED, EXPECTED_KEYS, MESSAGES_AT_ONCE, PlannedMessage, ProblemKind, REPLAY_PROBLEMS_NAMED, Replay, ReplayFilter,
    ReplayPage, ReplayPlan, ReplayProblem, ReplayRequest, ReplayStatus, Replays,
};
pub use runs::{
    Action, NewRun, Run, RunConfig, RunCounters, RunEnd, RunFilter, RunKey, RunOrder, RunStatus, Runs, Step, kinds as run_events,
};
pub use sessions::{
    JobSessionMapping, MapReduceData, MapReducePhase, NewSession, Session, SessionCheckpoint, SessionCounts, SessionFilter,
    SessionJobMapping, SessionStats, SessionStatus, SessionTotals, SessionType, Sessions, WorkflowData,
};
#[cfg(feature = "file")]
pub use tree::{Adoption, Fate, Tree, TreeMode, TreeStatus};
pub use unit::{STEP_ARGS_BYTES, Unit, UnitCheckpoints, UnitEvents, UnitLineage, UnitMetrics, UnitRuns};
pub use units::{
    COMPENSATION_TIME, COMPENSATION_TRIES, CollectRequest, Collected, Compensations, ForgottenUnits, MissingObject,
    OperationKind, OperationStatus, PathClaim, Reconciled, Recovered, RecoveredCounts, StepToUndo, UNITS_JOB, UnitDetail,
    UnitFilter, UnitFloor, UnitInfo, UnitOperation, UnitState, Units, UnusedObject,
};
pub use workflows::{
    Ancestors, Lineage, NewWorkflow, Tags, VersionRef, WorkflowFilter, WorkflowHead, WorkflowVersion, Workflows,
};
