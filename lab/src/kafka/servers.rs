//! Two real clusters and MirrorMaker 2 between them.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::LabError;
use crate::account::Account;
use crate::folder::LabFolder;
use crate::kafka::clients;
use crate::kafka::mirror_maker::{MirrorMaker, Route};
use crate::kafka::server::KafkaServer;

/// Between two looks at how far the mirror is.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// What the pair is made of.
#[derive(Debug, Clone)]
pub struct KafkaServersOptions {
    /// Topics that are mirrored, and their partitions. There are no others.
    pub topics: Vec<(String, i32)>,
    /// Mirrored topics keep their names; else the primary's name and a dot come before them.
    pub is_identity: bool,
    /// What the mirror calls the clusters.
    pub names: [String; 2],
    /// Ports of proxies, at which clients of [`KafkaServer::behind`] find the primary and the secondary.
    pub proxies: Option<[u16; 2]>,
}

impl Default for KafkaServersOptions {
    fn default() -> Self {
        Self {
            topics: Vec::new(),
            is_identity: false,
            names: ["use1", "usw2"].map(str::to_owned),
            proxies: None,
        }
    }
}

/// A primary, a secondary and MirrorMaker 2. Dropping it kills all three and removes what they wrote.
#[derive(Debug)]
pub struct KafkaServers {
    mirror: Arc<MirrorMaker>,
    primary: KafkaServer,
    secondary: KafkaServer,
    options: KafkaServersOptions,
}

impl KafkaServers {
    /// Starts both clusters, makes the topics and starts the mirror.
    ///
    /// # Errors
    /// [`LabError::MissingArtefact`] before `scripts/install.sh kafka`; a process that did not start.
    pub async fn start(options: KafkaServersOptions) -> Result<Self, LabError> {
        let proxies = options.proxies;
        let (folder, primary, secondary) = blocking(move || {
            let folder = Arc::new(LabFolder::create(None, Account::ourselves())?);
            let (primary, secondary) = std::thread::scope(|scope| {
                let other = scope.spawn(|| KafkaServer::start("secondary", &folder, proxies.map(|[_, port]| port)));
                let primary = KafkaServer::start("primary", &folder, proxies.map(|[port, _]| port));
                let died = |_| clients::failed("secondary", "start", "its thread has ended");
                (primary, other.join().map_err(died).and_then(|started| started))
            });
            Ok((folder, primary?, secondary?))
        })
        .await?;
        for (topic, partitions) in &options.topics {
            primary.create_topic(topic, *partitions).await?;
        }
        let names: Vec<&str> = options.topics.iter().map(|(topic, _)| topic.as_str()).collect();
        let [a, b] = options.names.clone();
        let route = Route {
            primary: (a, primary.bootstrap().join(",")),
            secondary: (b, secondary.bootstrap().join(",")),
            topics: names.join(","),
            is_identity: options.is_identity,
        };
        let mirror = blocking(move || MirrorMaker::start(&route, &folder)).await?;
        Ok(Self {
            mirror: Arc::new(mirror),
            primary,
            secondary,
            options,
        })
    }

    /// The cluster that is written.
    pub fn primary(&self) -> &KafkaServer {
        &self.primary
    }

    /// The cluster that is mirrored to.
    pub fn secondary(&self) -> &KafkaServer {
        &self.secondary
    }

    /// What lies between them.
    pub fn mirror(&self) -> &Arc<MirrorMaker> {
        &self.mirror
    }

    /// What a mirrored topic is called at the secondary.
    pub fn mirrored(&self, topic: &str) -> String {
        if self.options.is_identity {
            topic.to_owned()
        } else {
            format!("{}.{topic}", self.options.names[0])
        }
    }

    /// Waits until each mirrored partition holds as many records as it does now at the primary; more, where some arrived twice.
    ///
    /// # Errors
    /// It did not within `patience`.
    pub async fn settle(&self, patience: Duration) -> Result<(), LabError> {
        let partitions = self.options.topics.iter();
        let places: Vec<(String, i32)> = partitions
            .flat_map(|(topic, count)| (0..*count).map(|partition| (topic.clone(), partition)))
            .collect();
        let wanted = ends(&self.primary, places.clone()).await?;
        let deadline = Instant::now() + patience;
        loop {
            let below = places
                .iter()
                .map(|(topic, partition)| (self.mirrored(topic), *partition));
            // Before a topic is mirrored for the first time it is not there.
            let there = ends(&self.secondary, below.collect()).await.unwrap_or_default();
            let is_there = |((topic, partition), end): (&(String, i32), &i64)| {
                let place = (self.mirrored(topic), *partition);
                there.get(&place).is_some_and(|there| there >= end)
            };
            if wanted.iter().all(is_there) {
                return Ok(());
            }
            if Instant::now() >= deadline {
                let problem = format!("not within {patience:?}: {there:?} of {wanted:?}");
                return Err(clients::failed("mirror", "mirror everything", problem));
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }
}

async fn ends(server: &KafkaServer, places: Vec<(String, i32)>) -> Result<BTreeMap<(String, i32), i64>, LabError> {
    let (name, bootstrap) = (server.name().to_owned(), server.bootstrap());
    blocking(move || {
        let client = clients::consumer(&name, &bootstrap, &BTreeMap::new())?;
        clients::ends(&name, &client, places.into_iter())
    })
    .await
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, LabError> + Send + 'static,
) -> Result<T, LabError> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| clients::failed("lab", "work in the background", error))?
}
