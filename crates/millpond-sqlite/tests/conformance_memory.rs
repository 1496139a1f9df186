//! The SQLite engine in memory keeps every promise of the suite. Its data lives in one process, so handles share it.

use std::process::ExitCode;
use std::sync::Arc;

use async_trait::async_trait;
use millpond_conformance::Place;
use millpond_core::{Engine, Result};
use millpond_sqlite::{SqliteEngine, SqliteOptions};
use tokio::sync::OnceCell;

/// One store in memory, made when it is first opened.
#[derive(Debug, Default)]
struct Memory(OnceCell<Arc<dyn Engine>>);

#[async_trait]
impl Place for Memory {
    async fn open(&self) -> Result<Arc<dyn Engine>> {
        let open = || async { Ok(Arc::new(SqliteEngine::memory(SqliteOptions::default()).await?) as Arc<dyn Engine>) };
        self.0.get_or_try_init(open).await.cloned()
    }
}

fn main() -> ExitCode {
    millpond_conformance::harness::main_on(Arc::new(Memory::default()))
}
