//! Sites whose CloudWatch is a stand-in.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use lab::{CloudWatch, MetricAnswer};
use stores::Meter;
use stores::aws::{AccessKey, Service, Site};
use stores::cloudwatch::{ASK_EVERY, Told, Watch};
use stores::secret::Secret;

pub(crate) struct Lab {
    pub(crate) cloudwatch: CloudWatch,
    secrets: tempfile::TempDir,
}

impl Lab {
    pub(crate) async fn start(answer: MetricAnswer) -> Self {
        let secrets = tempfile::tempdir().unwrap();
        std::fs::write(secrets.path().join("key"), "lab-secret").unwrap();
        Self {
            cloudwatch: CloudWatch::start(answer).await.unwrap(),
            secrets,
        }
    }

    pub(crate) fn site(&self, region: &str) -> Site {
        self.site_at(region, self.cloudwatch.endpoint())
    }

    pub(crate) fn site_at(&self, region: &str, endpoint: String) -> Site {
        Site {
            region: Some(region.to_owned()),
            credentials: Some(AccessKey {
                access_key_id: "lab".to_owned(),
                secret_access_key: Secret::File(self.secrets.path().join("key")),
            }),
            endpoint_url: BTreeMap::from([(Service::Cloudwatch, endpoint)]),
            ..Site::default()
        }
    }

    /// A table that is written in the east and copied to the west.
    pub(crate) async fn table(&self) -> Arc<Watch> {
        let (east, west) = (self.site("us-east-1"), self.site("us-west-2"));
        let meter = Arc::new(Meter::default());
        Watch::table("profiles", ("use1", &east), ("usw2", &west), meter)
            .await
            .unwrap()
    }
}

/// What the stand-in makes a new watch say.
pub(crate) async fn told(answer: MetricAnswer) -> Told {
    let lab = Lab::start(answer).await;
    lab.table().await.now().await
}

/// As if the time had passed after which it may be asked again. The clock goes on afterwards: under a clock that stands still, each
/// request would be out of time.
pub(crate) async fn pass(time: Duration) {
    tokio::time::pause();
    tokio::time::advance(time).await;
    tokio::time::resume();
}

pub(crate) async fn pass_a_minute() {
    pass(ASK_EVERY).await;
}
