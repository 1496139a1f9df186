//! Steps outside of the store, and what a unit has to be told before it begins.

use millpond_core::{Error, Result, limits};
use serde_json::Value;

use super::Unit;
use crate::units::{OperationKind, Wanted};

/// The most that the arguments of a step outside may have, as JSON: 64 KiB.
pub const STEP_ARGS_BYTES: usize = 64 << 10;

impl Unit {
    /// Notes a step outside of the store that is about to be done: an API call, a table that is made. If the unit does
    /// not happen, the compensation of this name undoes it ([`crate::Units::compensations`]), with these arguments. It is
    /// called even if the step did not happen, and perhaps more than once: it has to look first.
    ///
    /// Do the step when this has answered true. False says that a unit of this id was committed before: the step was done
    /// then, and is not to be done again. One commit point: the step's record.
    ///
    /// # Errors
    /// `Unsupported` when the unit's parts are in another store than artifacts; `Invalid` without a name, or when the
    /// arguments have more than [`STEP_ARGS_BYTES`] of JSON.
    pub async fn step(&mut self, step: &str, compensation: &str, args: &impl serde::Serialize) -> Result<bool> {
        let noting = async {
            if step.is_empty() || compensation.is_empty() {
                return Err(
                    Error::invalid("a step and its compensation need names").with_next("name them as whoever undoes them would")
                );
            }
            let args = serde_json::to_value(args).map_err(|e| Error::invalid("the arguments are no JSON").with_source(e))?;
            check_sizes(step, compensation, &args)?;
            let wanted = Wanted {
                kind: OperationKind::Step,
                path: step.to_owned(),
                compensation: Some(compensation.to_owned()),
                args: Some(args),
            };
            let work = self.work()?;
            let working = work.working();
            working.repeats().await?;
            let operation = working.claim(wanted).await?;
            working.finish(operation.number)?;
            Ok(!working.is_repeated())
        };
        noting.await.map_err(|e: Error| e.during("unit.step"))
    }

    /// Refuses what the unit began without.
    pub(super) fn early(&mut self, what: &str) -> &mut Self {
        if self.work.is_some() {
            self.fail(
                Error::invalid(format!("`{what}` was said after the unit's first artifact or step, which began without it"))
                    .with_next(format!("say `{what}` before `artifacts` and `step`")),
            );
        }
        self
    }
}

/// Refuses what whoever undoes the step could not be handed, or could not keep what became of it.
fn check_sizes(step: &str, compensation: &str, args: &Value) -> Result<()> {
    for (name, bytes) in [("step", step.len()), ("compensation", compensation.len())] {
        if bytes > limits::NAME_BYTES {
            return Err(Error::invalid(format!("the name of the {name} has {bytes} bytes; the limit is {}", limits::NAME_BYTES))
                .with_next("say in its arguments what it is about"));
        }
    }
    let bytes = args.to_string().len();
    if bytes > STEP_ARGS_BYTES {
        let message = format!("the arguments of step {step:?} have {bytes} bytes of JSON; the limit is {STEP_ARGS_BYTES}");
        return Err(Error::invalid(message).with_next("put what is large into an artifact, and name its key"));
    }
    Ok(())
}
