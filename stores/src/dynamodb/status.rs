//! What DynamoDB says of its own replication: which copies there are and in what state. It tells no lag here; its lag figure is a
//! metric of CloudWatch, so the native lag is *not collected*, never zero.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use aws_sdk_dynamodb::types::TableDescription;

use super::identity::identity_of;
use super::table::Table;
use crate::{Fork, NativeStatus, Result, Status, StoreError, Trouble};

/// Replication of one table, by its description.
#[derive(Debug)]
pub(crate) struct Replicas {
    table: Arc<Table>,
}

impl Replicas {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table }
    }
}

#[async_trait]
impl Status for Replicas {
    /// The instant is this host's, when the answer came: the answer carries none.
    async fn status(&self) -> Result<NativeStatus> {
        let described = self.table.describe().await?;
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(NativeStatus {
            identity: identity_of(&self.table, &described)?,
            as_of_us: i64::try_from(since_1970.as_micros()).unwrap_or(i64::MAX),
            lag_us: None,
            lag_as_of_us: None,
            pending_operations: None,
            not_collected: None,
            lag_bytes: None,
            position: None,
            link: Some(link(&described)),
            longest_transaction_us: None,
            is_logical: false,
            collections: BTreeMap::new(),
        })
    }

    async fn fork(&self) -> Result<Fork> {
        Err(StoreError::Unsupported(Trouble::new(
            &self.table.site,
            format!("read the fork of table {}", self.table.name),
            "copies of a table are never promoted, and keep no point at which they parted",
        )))
    }
}

/// `usw2 ACTIVE, euw1 CREATING`, or that there is no other copy.
fn link(described: &TableDescription) -> String {
    let copies: Vec<String> = described
        .replicas()
        .iter()
        .map(|copy| {
            let state = copy
                .replica_status()
                .map_or("in an unknown state", |status| status.as_str());
            format!("{} {state}", copy.region_name().unwrap_or("an unnamed region"))
        })
        .collect();
    if copies.is_empty() {
        return "no replicas".to_owned();
    }
    format!("replicas: {}", copies.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_dynamodb::types::{ReplicaDescription, ReplicaStatus};

    #[test]
    fn the_link_names_each_copy_with_its_state() {
        let copy = |region: &str, status| {
            ReplicaDescription::builder()
                .region_name(region)
                .replica_status(status)
                .build()
        };
        let table = TableDescription::builder()
            .replicas(copy("us-west-2", ReplicaStatus::Active))
            .replicas(copy("eu-west-1", ReplicaStatus::RegionDisabled))
            .build();
        assert_eq!(link(&table), "replicas: us-west-2 ACTIVE, eu-west-1 REGION_DISABLED");
        assert_eq!(link(&TableDescription::builder().build()), "no replicas");
    }
}
