//! Which table answers.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use aws_sdk_dynamodb::types::TableDescription;

use super::shape::{NamedKey, Shape};
use super::table::{Table, takes_writes};
use crate::{Identify, Identity, Result, Role};

/// The API that this code speaks; a service has no version of its own.
const API_VERSION: &str = "2012-08-10";

/// Identity of one table.
#[derive(Debug)]
pub(crate) struct Identifier {
    table: Arc<Table>,
}

impl Identifier {
    pub(crate) fn new(table: Arc<Table>) -> Self {
        Self { table }
    }
}

#[async_trait]
impl Identify for Identifier {
    async fn identity(&self) -> Result<Identity> {
        identity_of(&self.table, &self.table.describe().await?)
    }
}

/// The identity that a description amounts to. Every copy of a global table takes writes, so the role says only whether this one can.
pub(crate) fn identity_of(table: &Table, described: &TableDescription) -> Result<Identity> {
    let shape = Shape::of(&table.site, described)?;
    let mut facts = BTreeMap::from([
        ("region".to_owned(), table.region().to_owned()),
        ("table".to_owned(), table.name.clone()),
        ("key".to_owned(), key_words(&shape)),
    ]);
    let mut fact = |name: &str, value: Option<String>| {
        if let Some(value) = value {
            facts.insert(name.to_owned(), value);
        }
    };
    fact("arn", described.table_arn().map(str::to_owned));
    fact("endpoint", table.endpoint().map(str::to_owned));
    fact(
        "state",
        described.table_status().map(|status| status.as_str().to_owned()),
    );
    fact(
        "global_table_version",
        described.global_table_version().map(str::to_owned),
    );
    fact(
        "consistency_between_regions",
        described
            .multi_region_consistency()
            .map(|kind| kind.as_str().to_owned()),
    );
    Ok(Identity {
        store: "dynamodb".to_owned(),
        version: API_VERSION.to_owned(),
        role: if takes_writes(described) {
            Role::Writable
        } else {
            Role::ReadOnly
        },
        lineage: None,
        instance: table.instance(described)?,
        shares_storage_with: Vec::new(),
        facts,
    })
}

/// `id (String), at (Number)`.
fn key_words(shape: &Shape) -> String {
    let words = |key: &NamedKey| format!("{} ({:?})", key.name, key.kind);
    let sort = shape.sort.as_ref().map(words);
    [Some(words(&shape.partition)), sort]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
}
