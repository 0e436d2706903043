//! Who a cluster is.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;

use super::client::{Asks, PATIENCE, off_runtime};
use crate::{Identify, Identity, Result, Role};

/// Kafka tells its version to no client.
const VERSION: &str = "not told to clients";

/// Identifies the cluster behind the brokers of one site.
#[derive(Debug)]
pub(crate) struct Identifier {
    asks: Arc<Asks>,
    topic: String,
}

impl Identifier {
    pub(crate) fn new(asks: Arc<Asks>, topic: String) -> Self {
        Self { asks, topic }
    }
}

#[async_trait]
impl Identify for Identifier {
    async fn identity(&self) -> Result<Identity> {
        let (asks, topic) = (Arc::clone(&self.asks), self.topic.clone());
        off_runtime(self.asks.site(), "ask for the cluster's identity", move || {
            identity(&asks, &topic, PATIENCE)
        })
        .await
    }
}

/// Blocks. `topic` is any name: asking for one topic is cheaper than for all.
pub(crate) fn identity(asks: &Asks, topic: &str, patience: Duration) -> Result<Identity> {
    let (cluster, brokers) = asks.cluster(topic, patience)?;
    Ok(Identity {
        store: "kafka".to_owned(),
        version: VERSION.to_owned(),
        // Both ends of a mirror take writes; that a mirrored topic should get none is a rule of its users.
        role: Role::Writable,
        lineage: None,
        instance: cluster,
        shares_storage_with: Vec::new(),
        facts: BTreeMap::from([
            ("bootstrap".to_owned(), asks.reach().bootstrap().to_owned()),
            ("brokers".to_owned(), brokers.to_string()),
        ]),
    })
}
