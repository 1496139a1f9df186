//! An engine around another one, for a test that wants to see or spoil what passes: it states what it does with commits, reads
//! and the feed, and everything else goes to its `inner`.

/// Writes `impl Engine` for a type with a field `inner: Arc<dyn Engine>`. `commit`, `read` and `feed` are its own.
///
/// It offers no [`millpond::LocalEngine`]: everything has to go through the calls that it states.
macro_rules! engine_around {
    ($engine:ty { $($own:tt)* }) => {
        #[async_trait::async_trait]
        impl millpond::Engine for $engine {
            $($own)*
            fn info(&self) -> millpond::EngineInfo {
                self.inner.info()
            }
            async fn examine(&self, probing: millpond::Probing) -> millpond::Result<millpond::Examination> {
                self.inner.examine(probing).await
            }
            fn host(&self) -> std::sync::Arc<dyn millpond::Host> {
                self.inner.host()
            }
            async fn namespaces(&self) -> millpond::Result<Vec<millpond::NamespaceInfo>> {
                self.inner.namespaces().await
            }
            async fn namespace(
                &self,
                namespace: &millpond::Namespace,
            ) -> millpond::Result<Option<millpond::NamespaceInfo>> {
                self.inner.namespace(namespace).await
            }
            async fn create_namespace(
                &self,
                namespace: &millpond::Namespace,
            ) -> millpond::Result<millpond::NamespaceInfo> {
                self.inner.create_namespace(namespace).await
            }
            async fn set_status(
                &self,
                namespace: &millpond::Namespace,
                status: millpond::NamespaceStatus,
            ) -> millpond::Result<millpond::NamespaceInfo> {
                self.inner.set_status(namespace, status).await
            }
            async fn delete_namespace(&self, namespace: &millpond::Namespace, store_id: &str) -> millpond::Result<()> {
                self.inner.delete_namespace(namespace, store_id).await
            }
            async fn declare(
                &self,
                namespace: &millpond::Namespace,
                specs: &[millpond::CollectionSpec],
            ) -> millpond::Result<std::sync::Arc<millpond::Catalog>> {
                self.inner.declare(namespace, specs).await
            }
            async fn catalog(
                &self,
                namespace: &millpond::Namespace,
            ) -> millpond::Result<std::sync::Arc<millpond::Catalog>> {
                self.inner.catalog(namespace).await
            }
            async fn outcome(
                &self,
                namespace: &millpond::Namespace,
                id: millpond::CommitId,
            ) -> millpond::Result<Option<millpond::Receipt>> {
                self.inner.outcome(namespace, id).await
            }
            async fn changed(&self, namespace: &millpond::Namespace, after: millpond::Position) {
                self.inner.changed(namespace, after).await;
            }
            async fn purge(
                &self,
                namespace: &millpond::Namespace,
                before: millpond::Timestamp,
            ) -> millpond::Result<millpond::Purged> {
                self.inner.purge(namespace, before).await
            }
            async fn check(&self, namespace: &millpond::Namespace) -> millpond::Result<Vec<String>> {
                self.inner.check(namespace).await
            }
            async fn close(&self) -> millpond::Result<()> {
                self.inner.close().await
            }
            fn local(&self) -> Option<&dyn millpond::LocalEngine> {
                None
            }
        }
    };
}
pub(crate) use engine_around;
