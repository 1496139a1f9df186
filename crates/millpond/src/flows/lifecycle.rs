//! A flow's way into operation and out of it. Each step is one commit over the flow, its history, the configurations
//! of its components and an event: there is no moment at which they disagree.
//!
//! | step     | from                           | to               | components                  |
//! |----------|--------------------------------|------------------|-----------------------------|
//! | deploy   | any but running                | deployed_stopped | written anew, disabled      |
//! | start    | deployed_stopped, not edited   | running          | enabled                     |
//! | stop     | running                        | deployed_stopped | disabled                    |
//! | fail     | deployed_stopped, running      | error            | disabled                    |
//! | undeploy | deployed_stopped, error        | not_deployed     | removed                     |
//! | delete   | any but running                | gone             | removed                     |

use std::collections::HashSet;

use millpond_core::{
    Commit, Document, Error, MergeOp, NewEvent, Page, PageCursor, Query, Read, Record, Records, Result, Versioned, Write,
};
use serde_json::json;

use super::check::{FlowProblem, refuse};
use super::component::DeployedComponent;
use super::history::FlowChange;
use super::model::{CATEGORIES, Flow, RuntimeState};
use super::{Flows, Tries, absent, flow_id, history, json_true_or_false, still_at};

/// Deployed components read in one query: more than a flow may have nodes.
const COMPONENTS: usize = 4_096;

/// A flow and what is deployed of it, from one snapshot.
struct Situation {
    flow: Versioned<Flow>,
    components: Vec<Record>,
}

impl Flows {
    /// Deploys a flow: its components' configurations are written, disabled. A flow that is deployed already is
    /// deployed anew. With a version, only if that is still the flow's own. One commit point: the flow, its new
    /// version, the components and the event `flow.deployed` in stream `flows/<id>`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is running or when the version has moved on; `Invalid` when a node's category
    /// is not one of the known ones.
    pub async fn deploy(&self, id: &str, version: Option<i64>) -> Result<Versioned<Flow>> {
        let mut tries = Tries::of("flows.deploy");
        loop {
            let (commit, flow) = self.deploy_part(id, version).await?;
            if let Some(stored) = self.settle(&mut tries, commit, flow).await? {
                return Ok(stored);
            }
        }
    }

    /// What [`Flows::deploy`] commits, for a larger commit.
    ///
    /// # Errors
    /// As [`Flows::deploy`].
    pub async fn deploy_part(&self, id: &str, version: Option<i64>) -> Result<(Commit, Flow)> {
        self.plan_deploy(id, version).await.map_err(|e| e.during("flows.deploy"))
    }

    async fn plan_deploy(&self, id: &str, version: Option<i64>) -> Result<(Commit, Flow)> {
        let Situation { flow: found, components } = self.situation(id, version).await?;
        if found.runtime_state == RuntimeState::Running {
            return Err(wrong_state(&found, "deployed", "stop it first"));
        }
        refuse(&found, deploy_problems(&found))?;
        let mut flow = self.next(&found, RuntimeState::DeployedStopped);
        flow.deployed_at = Some(flow.updated_at);
        let mut commit = self.change(FlowChange::Deployed, still_at(&found)?, &flow)?;
        let mut kept = HashSet::with_capacity(flow.nodes.len());
        for node in &flow.nodes {
            let component = DeployedComponent::of(&flow, node);
            kept.insert(component.key()?);
            commit = commit.write(Records::put(&component)?);
        }
        for gone in components.iter().filter(|c| !kept.contains(&c.key)) {
            commit = commit.write(Write::Delete(Records::<DeployedComponent>::id(gone.key.as_str())?));
        }
        Ok((with_event(commit, FlowChange::Deployed, &found, &flow, None)?, flow))
    }

    /// Starts a deployed flow: the components that were deployed are enabled. One commit point, as with
    /// [`Flows::deploy`]; the event is `flow.started`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not deployed and stopped, when it was updated since it was deployed (deploy
    /// it again first), or when the version has moved on.
    pub async fn start(&self, id: &str, version: Option<i64>) -> Result<Versioned<Flow>> {
        let mut tries = Tries::of("flows.start");
        loop {
            let (commit, flow) = self.start_part(id, version).await?;
            if let Some(stored) = self.settle(&mut tries, commit, flow).await? {
                return Ok(stored);
            }
        }
    }

    /// What [`Flows::start`] commits, for a larger commit.
    ///
    /// # Errors
    /// As [`Flows::start`].
    pub async fn start_part(&self, id: &str, version: Option<i64>) -> Result<(Commit, Flow)> {
        self.plan_start(id, version).await.map_err(|e| e.during("flows.start"))
    }

    async fn plan_start(&self, id: &str, version: Option<i64>) -> Result<(Commit, Flow)> {
        let situation = self.situation(id, version).await?;
        let found = &situation.flow;
        if found.runtime_state != RuntimeState::DeployedStopped {
            let next = if found.runtime_state == RuntimeState::Running { "nothing to do" } else { "deploy it first" };
            return Err(wrong_state(found, "started", next));
        }
        self.still_as_deployed(found).await?;
        let mut flow = self.next(found, RuntimeState::Running);
        flow.started_at = Some(flow.updated_at);
        self.switch(FlowChange::Started, &situation, flow, true, None)
    }

    /// Stops a running flow: its components are disabled. One commit point, as with [`Flows::deploy`]; the event is
    /// `flow.stopped`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not running, or when the version has moved on.
    pub async fn stop(&self, id: &str, version: Option<i64>) -> Result<Versioned<Flow>> {
        let mut tries = Tries::of("flows.stop");
        loop {
            let (commit, flow) = self.stop_part(id, version).await?;
            if let Some(stored) = self.settle(&mut tries, commit, flow).await? {
                return Ok(stored);
            }
        }
    }

    /// What [`Flows::stop`] commits, for a larger commit.
    ///
    /// # Errors
    /// As [`Flows::stop`].
    pub async fn stop_part(&self, id: &str, version: Option<i64>) -> Result<(Commit, Flow)> {
        self.plan_stop(id, version).await.map_err(|e| e.during("flows.stop"))
    }

    async fn plan_stop(&self, id: &str, version: Option<i64>) -> Result<(Commit, Flow)> {
        let situation = self.situation(id, version).await?;
        let found = &situation.flow;
        if found.runtime_state != RuntimeState::Running {
            return Err(wrong_state(found, "stopped", "only a running flow can be stopped"));
        }
        let mut flow = self.next(found, RuntimeState::DeployedStopped);
        flow.stopped_at = Some(flow.updated_at);
        self.switch(FlowChange::Stopped, &situation, flow, false, None)
    }

    /// Marks a deployed or running flow as failed: its components are disabled. One commit point, as with
    /// [`Flows::deploy`]; the event is `flow.failed` and holds the reason.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` when it is not deployed.
    pub async fn fail(&self, id: &str, reason: &str) -> Result<Versioned<Flow>> {
        let mut tries = Tries::of("flows.fail");
        loop {
            let (commit, flow) = self.fail_part(id, reason).await?;
            if let Some(stored) = self.settle(&mut tries, commit, flow).await? {
                return Ok(stored);
            }
        }
    }

    /// What [`Flows::fail`] commits, for a larger commit.
    ///
    /// # Errors
    /// As [`Flows::fail`].
    pub async fn fail_part(&self, id: &str, reason: &str) -> Result<(Commit, Flow)> {
        self.plan_fail(id, reason).await.map_err(|e| e.during("flows.fail"))
    }

    async fn plan_fail(&self, id: &str, reason: &str) -> Result<(Commit, Flow)> {
        let situation = self.situation(id, None).await?;
        let found = &situation.flow;
        if !matches!(found.runtime_state, RuntimeState::DeployedStopped | RuntimeState::Running) {
            return Err(wrong_state(found, "marked as failed", "only a deployed or running flow can fail"));
        }
        let flow = self.next(found, RuntimeState::Error);
        self.switch(FlowChange::Failed, &situation, flow, false, Some(reason))
    }

    /// Undeploys a flow: its components' configurations are removed, for good. A flow that is not deployed is returned
    /// as it is, and nothing is committed. One commit point, as with [`Flows::deploy`]; the event is `flow.undeployed`.
    ///
    /// # Errors
    /// `NotFound`; `Conflict` while it is running, or when the version has moved on.
    pub async fn undeploy(&self, id: &str, version: Option<i64>) -> Result<Versioned<Flow>> {
        let mut tries = Tries::of("flows.undeploy");
        loop {
            let Some((commit, flow)) = self.undeploy_part(id, version).await? else { return self.require(id).await };
            if let Some(stored) = self.settle(&mut tries, commit, flow).await? {
                return Ok(stored);
            }
        }
    }

    /// What [`Flows::undeploy`] commits, for a larger commit; `None` when the flow is not deployed.
    ///
    /// # Errors
    /// As [`Flows::undeploy`].
    pub async fn undeploy_part(&self, id: &str, version: Option<i64>) -> Result<Option<(Commit, Flow)>> {
        self.plan_undeploy(id, version).await.map_err(|e| e.during("flows.undeploy"))
    }

    async fn plan_undeploy(&self, id: &str, version: Option<i64>) -> Result<Option<(Commit, Flow)>> {
        let Situation { flow: found, components } = self.situation(id, version).await?;
        match found.runtime_state {
            RuntimeState::Running => return Err(wrong_state(&found, "undeployed", "stop it first")),
            RuntimeState::NotDeployed => return Ok(None),
            _ => {}
        }
        let mut flow = self.next(&found, RuntimeState::NotDeployed);
        (flow.deployed_at, flow.started_at, flow.stopped_at) = (None, None, None);
        let commit = self.change(FlowChange::Undeployed, still_at(&found)?, &flow)?;
        let commit = without_components(commit, &components)?;
        Ok(Some((with_event(commit, FlowChange::Undeployed, &found, &flow, None)?, flow)))
    }

    /// Deletes a flow and what is deployed of it; true if it was there. Its history stays. With a version, only if
    /// that is still the flow's own. One commit point, as with [`Flows::deploy`]; the event is `flow.deleted`.
    ///
    /// # Errors
    /// `Conflict` while it is running, or when the version has moved on.
    pub async fn delete(&self, id: &str, version: Option<i64>) -> Result<bool> {
        let mut tries = Tries::of("flows.delete");
        loop {
            let Some(commit) = self.delete_part(id, version).await? else { return Ok(false) };
            match self.store.commit(commit.trusted()).await {
                Ok(_) => return Ok(true),
                Err(e) => tries.again(e)?,
            }
        }
    }

    /// What [`Flows::delete`] commits, for a larger commit; `None` when there is no such flow.
    ///
    /// # Errors
    /// As [`Flows::delete`].
    pub async fn delete_part(&self, id: &str, version: Option<i64>) -> Result<Option<Commit>> {
        self.plan_delete(id, version).await.map_err(|e| e.during("flows.delete"))
    }

    async fn plan_delete(&self, id: &str, version: Option<i64>) -> Result<Option<Commit>> {
        let Situation { flow: found, components } = match self.situation(id, version).await {
            Err(e) if e.is_not_found() => return Ok(None),
            other => other?,
        };
        if found.runtime_state == RuntimeState::Running {
            return Err(wrong_state(&found, "deleted", "stop it first"));
        }
        let last = self.next(&found, found.runtime_state.clone());
        let commit = self.change(FlowChange::Deleted, still_at(&found)?, &last)?;
        let commit = without_components(commit, &components)?;
        with_event(commit, FlowChange::Deleted, &found, &last, None).map(Some)
    }

    /// What is deployed of one node.
    ///
    /// # Errors
    /// `Corrupt` when it does not read back.
    pub async fn component(&self, flow: &str, node: &str) -> Result<Option<Versioned<DeployedComponent>>> {
        let key = DeployedComponent::key_of(flow, node)?;
        Records::new(self.store.clone()).get(key.as_str()).await.map_err(|e| e.during("flows.component"))
    }

    /// What is deployed of a flow, by node.
    ///
    /// # Errors
    /// `Invalid` for a limit out of range or a cursor of another list.
    pub async fn components(
        &self,
        flow: &str,
        limit: usize,
        after: Option<PageCursor>,
    ) -> Result<Page<Versioned<DeployedComponent>>> {
        let query = components_of(flow, limit)?.after(after);
        Records::new(self.store.clone()).page(query).await.map_err(|e| e.during("flows.components"))
    }

    async fn situation(&self, id: &str, version: Option<i64>) -> Result<Situation> {
        let reads = vec![Read::Get(flow_id(id)?), Read::Query(components_of(id, COMPONENTS)?)];
        let mut answers = self.store.read(reads).await?.into_iter();
        let missing = || Error::corrupt("the engine answered too little");
        let flow = answers.next().ok_or_else(missing)?.into_record()?;
        let flow = flow.ok_or_else(|| absent(id))?.decode::<Flow>()?;
        let page = answers.next().ok_or_else(missing)?.into_page()?;
        if let Some(damaged) = page.damaged.first() {
            return Err(Error::corrupt(format!("{} does not read back: {}", damaged.what, damaged.why)));
        }
        if page.next.is_some() {
            return Err(Error::corrupt(format!("more is deployed of flow {id:?} than a flow can have")));
        }
        self.check_version(&flow, version)?;
        Ok(Situation { flow, components: page.items })
    }

    /// Fails when the flow was updated after it was deployed: what would be started is not what the flow shows.
    ///
    /// The commit expects the flow at the revision `found` has, so no later change can slip in between.
    async fn still_as_deployed(&self, found: &Versioned<Flow>) -> Result<()> {
        let id = &found.id;
        let definitions = history::history(id)?.one_of("change", ["deployed", "updated"]).order_desc("version").limit(1);
        let page = self.history().page(definitions).await?;
        if let Some(damaged) = page.damaged.first() {
            return Err(Error::corrupt(format!("{} does not read back: {}", damaged.what, damaged.why)));
        }
        match page.items.first() {
            Some(last) if last.change == FlowChange::Updated => {
                let message =
                    format!("flow {id:?} was updated (version {}) after it was deployed and cannot be started", last.version);
                Err(Error::conflict(message).with_next("deploy again, then start"))
            }
            _ => Ok(()),
        }
    }

    /// The flow one version later, in another state.
    fn next(&self, found: &Versioned<Flow>, state: RuntimeState) -> Flow {
        let now = self.now_after(Some(found.updated_at));
        Flow { version: found.version + 1, runtime_state: state, updated_at: now, last_modified: now, ..found.value.clone() }
    }

    /// The commit that enables or disables everything that is deployed.
    fn switch(
        &self,
        change: FlowChange,
        situation: &Situation,
        flow: Flow,
        enabled: bool,
        reason: Option<&str>,
    ) -> Result<(Commit, Flow)> {
        let mut commit = self.change(change, still_at(&situation.flow)?, &flow)?;
        for component in &situation.components {
            let id = Records::<DeployedComponent>::id(component.key.as_str())?;
            commit = commit.write(Write::Merge(id, vec![MergeOp::Set("/enabled".to_owned(), json_true_or_false(enabled))]));
        }
        Ok((with_event(commit, change, &situation.flow, &flow, reason)?, flow))
    }
}

fn components_of(flow: &str, limit: usize) -> Result<Query> {
    Ok(Query::new(DeployedComponent::COLLECTION.name())?.eq("flow", flow).limit(limit))
}

fn without_components(mut commit: Commit, components: &[Record]) -> Result<Commit> {
    for component in components {
        commit = commit.write(Write::Delete(Records::<DeployedComponent>::id(component.key.as_str())?));
    }
    Ok(commit)
}

fn with_event(commit: Commit, change: FlowChange, from: &Flow, to: &Flow, reason: Option<&str>) -> Result<Commit> {
    let mut data = json!({ "flow": to.id, "version": to.version, "from": from.runtime_state, "nodes": to.nodes.len() });
    if change != FlowChange::Deleted {
        data["to"] = json!(to.runtime_state);
    }
    if let Some(reason) = reason {
        data["reason"] = json!(reason);
    }
    commit.append(&format!("flows/{}", to.id), NewEvent::of(change.event_type(), &data)?)
}

fn wrong_state(flow: &Flow, what: &str, next: &str) -> Error {
    Error::conflict(format!("flow {:?} is {} and cannot be {what}", flow.id, flow.runtime_state)).with_next(next)
}

/// What keeps a valid flow from being deployed.
fn deploy_problems(flow: &Flow) -> Vec<FlowProblem> {
    let mut problems = flow.problems();
    for (i, node) in flow.nodes.iter().enumerate().filter(|(_, n)| !CATEGORIES.contains(&n.category.as_str())) {
        let message = format!("the category {:?} is none of {CATEGORIES:?}", node.category);
        problems.push(FlowProblem { path: format!("$.nodes[{i}].type"), rule: "node_type_known", message });
    }
    problems
}
