//! Sites, ends and pairs.

use std::collections::BTreeMap;
use std::time::Duration;

use aws_sdk_dynamodb::types::{AttributeValue, ScalarAttributeType};
use lab::{DynamoPair, TableSpec};
use stores::aws::{AccessKey, Service, Site};
use stores::dynamodb::{CanaryPlace, Config, open};
use stores::secret::Secret;
use stores::{Canary, End, Sighting, SiteNames, Sought, StoreError, WriteOutcome};

/// A link that needs longer than this has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);
pub(crate) const STREAM: &str = "orders/use1>usw2";
pub(crate) const SITES: [&str; 2] = ["use1", "usw2"];
const REGIONS: [&str; 2] = ["us-east-1", "us-west-2"];

/// Which servers a test runs against.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Kind {
    Embedded,
    Local,
}

/// A pair with the ends of one of its tables.
pub(crate) struct Two {
    pub(crate) pair: DynamoPair,
    pub(crate) ends: [End; 2],
    pub(crate) table: String,
    secrets: tempfile::TempDir,
}

impl Two {
    pub(crate) async fn start(kind: Kind, table: TableSpec) -> Self {
        let name = table.name().to_owned();
        let pair = match kind {
            Kind::Embedded => DynamoPair::embedded(&[table]).await.unwrap(),
            Kind::Local => DynamoPair::local(&[table]).await.unwrap(),
        };
        let secrets = secrets();
        let mut ends = Vec::new();
        for (side, name_of_site) in SITES.iter().enumerate() {
            ends.push(end(&site(side, &pair.endpoint(side), &secrets), name_of_site, &name).await);
        }
        Self {
            pair,
            ends: ends.try_into().unwrap(),
            table: name,
            secrets,
        }
    }

    pub(crate) fn site(&self, side: usize) -> Site {
        site(side, &self.pair.endpoint(side), &self.secrets)
    }

    pub(crate) async fn settle(&self) {
        self.pair.settle(PATIENCE).await.unwrap();
    }

    /// The item of the table at `side` whose text key `id` is `key`.
    pub(crate) async fn item(&self, side: usize, key: &str) -> Option<BTreeMap<String, AttributeValue>> {
        let get = self.pair.client(side).get_item().table_name(&self.table);
        let answer = get.key("id", text(key)).consistent_read(true).send().await.unwrap();
        answer.item.map(|item| item.into_iter().collect())
    }
}

pub(crate) fn secrets() -> tempfile::TempDir {
    let secrets = tempfile::tempdir().unwrap();
    std::fs::write(secrets.path().join("key"), "lab-secret").unwrap();
    secrets
}

pub(crate) fn site(side: usize, endpoint: &str, secrets: &tempfile::TempDir) -> Site {
    Site {
        region: Some(REGIONS[side].to_owned()),
        credentials: Some(AccessKey {
            access_key_id: "lab".to_owned(),
            secret_access_key: Secret::File(secrets.path().join("key")),
        }),
        endpoint_url: BTreeMap::from([(Service::Dynamodb, endpoint.to_owned())]),
        ..Site::default()
    }
}

pub(crate) fn config(table: &str, own: Option<&str>) -> Config {
    Config {
        tables: vec![SiteNames::Everywhere(table.to_owned())],
        writers: None,
        native: None,
        labels: BTreeMap::new(),
        canary: CanaryPlace {
            table: own.map(|own| SiteNames::Everywhere(own.to_owned())),
        },
    }
}

pub(crate) async fn end(site: &Site, name: &str, table: &str) -> End {
    let config = config(table, None);
    open(&config, &config.tables[0], name, site).await.unwrap()
}

/// A table by a text key `id`.
pub(crate) fn by_text(name: &str) -> TableSpec {
    TableSpec::new(name, "id", ScalarAttributeType::S)
}

pub(crate) fn text(value: &str) -> AttributeValue {
    AttributeValue::S(value.to_owned())
}

pub(crate) fn number(value: impl ToString) -> AttributeValue {
    AttributeValue::N(value.to_string())
}

pub(crate) fn canary(epoch: char, sequence: u64) -> Canary {
    Canary {
        stream: STREAM.to_owned(),
        epoch: epoch.to_string().repeat(32),
        sequence,
        stamp: None,
    }
}

pub(crate) async fn write(end: &End, canary: &Canary) -> WriteOutcome {
    end.canary_writer.as_ref().unwrap().write(canary).await
}

pub(crate) async fn acknowledged(end: &End, canary: &Canary) {
    let outcome = write(end, canary).await;
    assert!(matches!(outcome, WriteOutcome::Acknowledged), "{outcome:?}");
}

/// The error of a write that was certainly not done.
pub(crate) async fn refused(end: &End, canary: &Canary) -> StoreError {
    match write(end, canary).await {
        WriteOutcome::Failed(error) => error,
        other => panic!("{other:?}"),
    }
}

/// The error of a write of unknown outcome.
pub(crate) async fn unknown(end: &End, canary: &Canary) -> StoreError {
    match write(end, canary).await {
        WriteOutcome::Unknown(error) => error,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn poll(end: &End, sequences: &[u64]) -> stores::Result<Sighting> {
    let reader = end.canary_reader.as_ref().unwrap();
    reader.poll(STREAM, Sought::Only(sequences)).await
}
