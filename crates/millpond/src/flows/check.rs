//! What makes a flow valid. All problems are found at once.

use std::collections::HashSet;
use std::fmt;

use millpond_core::{Error, Key, Result, limits};
use serde::Serialize;

use super::model::{Flow, FlowConnection, FlowNode, RuntimeState};

/// One thing that is wrong with a flow.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowProblem {
    /// Where: a JSON path, such as `$.nodes[2].id`.
    pub path: String,
    /// The rule it breaks, such as `node_id_unique`.
    pub rule: &'static str,
    /// In words.
    pub message: String,
}

/// Everything that is wrong with a flow: the source of the error a refused flow is answered with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct FlowProblems(pub Vec<FlowProblem>);

impl FlowProblems {
    /// The problems an error was made of, if it is about an invalid flow.
    pub fn of(error: &Error) -> Option<&Self> {
        std::error::Error::source(error)?.downcast_ref()
    }
}

impl fmt::Display for FlowProblems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, problem) in self.0.iter().enumerate() {
            write!(f, "{}{}: {}", if i > 0 { "; " } else { "" }, problem.path, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for FlowProblems {}

/// Bytes of a flow's or a node's id: together, and escaped, they are the key of a component's configuration.
const ID_BYTES: usize = 256;

/// Nodes of a flow: deploying it is one commit, which holds up to 4,096 operations.
pub(super) const NODES: usize = 2_000;

impl Flow {
    /// Everything that is wrong with the flow; empty when it is valid.
    pub fn problems(&self) -> Vec<FlowProblem> {
        let mut found = Found(Vec::new());
        found.id("$.id".to_owned(), "id", &self.id);
        if Key::new(self.id.as_str()).is_err() && !self.id.is_empty() {
            found.add("$.id".to_owned(), "id_well_formed", "an id has no control character, and no empty, '.' or '..' segment");
        }
        found.name("$.name".to_owned(), "name", &self.name);
        if let RuntimeState::Other(state) = &self.runtime_state {
            found.add("$.runtime_state".to_owned(), "runtime_state_known", format!("there is no state {state:?}"));
        }
        if self.nodes.len() > NODES {
            found.add("$.nodes".to_owned(), "node_count", format!("{} nodes; the limit is {NODES}", self.nodes.len()));
        }
        let mut ids = HashSet::with_capacity(self.nodes.len());
        for (i, node) in self.nodes.iter().enumerate() {
            found.node(i, node, !ids.insert(node.id.as_str()));
        }
        for (i, connection) in self.connections.iter().enumerate() {
            found.connection(i, connection, &ids);
        }
        found.0
    }

    /// Fails when the flow is not valid.
    ///
    /// # Errors
    /// `Invalid`, with all problems; [`FlowProblems::of`] gives them as a list.
    pub fn validate(&self) -> Result<()> {
        refuse(self, self.problems())
    }
}

/// The error for a list of problems, unless it is empty.
pub(super) fn refuse(flow: &Flow, problems: Vec<FlowProblem>) -> Result<()> {
    if problems.is_empty() {
        return Ok(());
    }
    let (id, n) = (&flow.id, problems.len());
    Err(Error::invalid(format!("flow {id:?} is not valid ({n} problem{})", if n == 1 { "" } else { "s" }))
        .with_source(FlowProblems(problems)))
}

struct Found(Vec<FlowProblem>);

impl Found {
    fn add(&mut self, path: String, rule: &'static str, message: impl Into<String>) {
        self.0.push(FlowProblem { path, rule, message: message.into() });
    }

    fn text(&mut self, path: String, what: &str, text: &str) {
        if text.is_empty() {
            self.add(path, "required", format!("{what} is empty"));
        }
    }

    fn id(&mut self, path: String, what: &str, id: &str) {
        if id.len() > ID_BYTES {
            self.add(path.clone(), "id_length", format!("{what} has {} bytes; the limit is {ID_BYTES}", id.len()));
        }
        self.text(path, what, id);
    }

    fn name(&mut self, path: String, what: &str, name: &str) {
        if name.len() > limits::INDEXED_TEXT_BYTES {
            let limit = limits::INDEXED_TEXT_BYTES;
            self.add(path.clone(), "name_length", format!("{what} has {} bytes; the limit is {limit}", name.len()));
        }
        self.text(path, what, name);
    }

    fn node(&mut self, i: usize, node: &FlowNode, repeated: bool) {
        self.id(format!("$.nodes[{i}].id"), "the node's id", &node.id);
        if repeated && !node.id.is_empty() {
            self.add(format!("$.nodes[{i}].id"), "node_id_unique", format!("another node has the id {:?}", node.id));
        }
        self.text(format!("$.nodes[{i}].component"), "the node's component", &node.component);
        self.text(format!("$.nodes[{i}].type"), "the node's type", &node.category);
        self.name(format!("$.nodes[{i}].name"), "the node's name", &node.name);
        for (axis, value) in [("x", node.position.x), ("y", node.position.y)] {
            if !value.is_finite() {
                self.add(format!("$.nodes[{i}].position.{axis}"), "position_finite", "the position is not a number");
            }
        }
    }

    fn connection(&mut self, i: usize, connection: &FlowConnection, nodes: &HashSet<&str>) {
        self.text(format!("$.connections[{i}].id"), "the connection's id", &connection.id);
        self.text(format!("$.connections[{i}].source_port"), "the source port", &connection.source_port);
        self.text(format!("$.connections[{i}].target_port"), "the target port", &connection.target_port);
        let ends = [("source_node_id", &connection.source_node_id), ("target_node_id", &connection.target_node_id)];
        for (field, node) in ends {
            if !nodes.contains(node.as_str()) {
                let path = format!("$.connections[{i}].{field}");
                self.add(path, "connection_node_exists", format!("there is no node {node:?}"));
            }
        }
    }
}
