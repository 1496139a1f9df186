//! Millpond's SQLite engine (its body follows in the next commits).
use millpond_core::*;
use std::path::PathBuf;
use std::sync::Arc;

/// Options.
#[derive(Debug, Clone)]
pub struct SqliteOptions {
    /// Clock and randomness.
    pub host: Arc<dyn Host>,
    /// Make the file if it is not there.
    pub create: bool,
}

/// The engine.
#[derive(Debug)]
pub enum SqliteEngine {}

impl SqliteEngine {
    /// Opens a file.
    /// # Errors
    /// Always, until its body is here.
    pub async fn open(_path: PathBuf, _options: SqliteOptions) -> Result<Self> {
        Err(Error::unavailable("being written"))
    }
    /// Opens a store in memory.
    /// # Errors
    /// Always, until its body is here.
    pub async fn memory(_options: SqliteOptions) -> Result<Self> {
        Err(Error::unavailable("being written"))
    }
}

#[async_trait::async_trait]
impl Engine for SqliteEngine {
    fn info(&self) -> EngineInfo {
        match *self {}
    }
    fn host(&self) -> Arc<dyn Host> {
        match *self {}
    }
    async fn namespaces(&self) -> Result<Vec<NamespaceInfo>> {
        match *self {}
    }
    async fn namespace(&self, _: &Namespace) -> Result<Option<NamespaceInfo>> {
        match *self {}
    }
    async fn create_namespace(&self, _: &Namespace) -> Result<NamespaceInfo> {
        match *self {}
    }
    async fn set_status(&self, _: &Namespace, _: NamespaceStatus) -> Result<NamespaceInfo> {
        match *self {}
    }
    async fn delete_namespace(&self, _: &Namespace, _: &str) -> Result<()> {
        match *self {}
    }
    async fn declare(&self, _: &Namespace, _: &[CollectionSpec]) -> Result<Arc<Catalog>> {
        match *self {}
    }
    async fn catalog(&self, _: &Namespace) -> Result<Arc<Catalog>> {
        match *self {}
    }
    async fn commit(&self, _: &Namespace, _: Vec<PreparedCommit>) -> Result<Vec<Result<Outcome>>> {
        match *self {}
    }
    async fn outcome(&self, _: &Namespace, _: CommitId) -> Result<Option<Receipt>> {
        match *self {}
    }
    async fn read(&self, _: &Namespace, _: Vec<Read>) -> Result<Vec<Answer>> {
        match *self {}
    }
    async fn feed(&self, _: &Namespace, _: FeedRequest) -> Result<FeedPage> {
        match *self {}
    }
    async fn changed(&self, _: &Namespace, _: Position) {
        match *self {}
    }
    async fn purge(&self, _: &Namespace, _: Timestamp) -> Result<Purged> {
        match *self {}
    }
    async fn check(&self, _: &Namespace) -> Result<Vec<String>> {
        match *self {}
    }
    async fn close(&self) -> Result<()> {
        match *self {}
    }
    fn local(&self) -> Option<&dyn LocalEngine> {
        match *self {}
    }
}
