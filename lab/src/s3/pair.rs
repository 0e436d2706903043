//! Two sites in this process, and the replication between them.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use aws_sdk_s3::Client;
use aws_sdk_s3::config::{BehaviorVersion, Credentials, Region};
use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::dto::*;
use s3s::service::{S3Service, S3ServiceBuilder};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::link::{S3Delay, S3Link};
use super::objects::Bucket;
use super::site::{Backend, Site};
use super::{S3_ACCESS_KEY, S3_SECRET_KEY};
use crate::LabError;

/// Connections that one site serves at a time; further ones wait.
const CONNECTIONS_MAX: usize = 256;

/// A replication rule from the primary's bucket to the secondary's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct S3Rule {
    /// Its name.
    pub id: String,
    /// Keys begin with this.
    pub prefix: String,
    /// Objects have these tags.
    pub tags: Vec<(String, String)>,
    /// Whether it is switched on.
    pub is_enabled: bool,
    /// Of several rules that match, the highest counts.
    pub priority: i32,
}

impl S3Rule {
    /// An enabled rule for keys that begin with `prefix`.
    pub fn of_prefix(id: &str, prefix: &str) -> Self {
        Self {
            id: id.to_owned(),
            prefix: prefix.to_owned(),
            tags: Vec::new(),
            is_enabled: true,
            priority: 1,
        }
    }

    pub(crate) fn stated(&self, destination: &str) -> ReplicationRule {
        let tags = self.tags.iter().map(|(name, value)| Tag {
            key: Some(name.clone()),
            value: Some(value.clone()),
        });
        let status = if self.is_enabled {
            ReplicationRuleStatus::ENABLED
        } else {
            ReplicationRuleStatus::DISABLED
        };
        ReplicationRule {
            delete_marker_replication: None,
            destination: Destination {
                bucket: format!("arn:aws:s3:::{destination}"),
                access_control_translation: None,
                account: None,
                encryption_configuration: None,
                metrics: None,
                replication_time: None,
                storage_class: None,
            },
            existing_object_replication: None,
            filter: Some(ReplicationRuleFilter {
                and: Some(ReplicationRuleAndOperator {
                    prefix: Some(self.prefix.clone()),
                    tags: Some(tags.collect()),
                }),
                ..ReplicationRuleFilter::default()
            }),
            id: Some(self.id.clone()),
            prefix: None,
            priority: Some(self.priority),
            source_selection_criteria: None,
            status: ReplicationRuleStatus::from_static(status),
        }
    }
}

/// What a pair is started with.
#[derive(Debug, Clone)]
pub struct S3Options {
    /// The bucket at the primary and at the secondary; both are made, with versioning.
    pub buckets: [String; 2],
    /// Rules of the primary's bucket. Empty: it has no replication.
    pub rules: Vec<S3Rule>,
    /// How long a copy takes.
    pub delay: S3Delay,
}

impl Default for S3Options {
    fn default() -> Self {
        Self {
            buckets: ["media-use1".to_owned(), "media-usw2".to_owned()],
            rules: vec![S3Rule::of_prefix("everything", "")],
            delay: S3Delay::Fixed(Duration::from_millis(20)),
        }
    }
}

/// One site of a pair, as its clients see it.
#[derive(Debug)]
pub struct S3Site {
    site: Arc<Site>,
    port: u16,
}

impl S3Site {
    /// Where it answers.
    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        client(&self.endpoint(), "us-east-1")
    }

    /// Whether its role lacks `s3:ListBucket`: LIST is refused, and a missing key answers 403.
    pub fn deny_listing(&self, denies: bool) {
        set(&self.site.behaviour.denies_listing, denies);
    }

    /// Whether its role lacks `s3:GetReplicationConfiguration`.
    pub fn deny_rules(&self, denies: bool) {
        set(&self.site.behaviour.denies_rules, denies);
    }

    /// Whether HEAD and GET for a missing key are answered with the other site's object, as MinIO does when it is not told otherwise.
    pub fn proxy_reads(&self, proxies: bool) {
        set(&self.site.behaviour.proxies_reads, proxies);
    }

    /// Whether `If-Match` and `If-None-Match` are ignored.
    pub fn ignore_conditions(&self, ignores: bool) {
        set(&self.site.behaviour.ignores_conditions, ignores);
    }

    /// Whether an object that failed to replicate is sent again when somebody looks at it, as MinIO does.
    pub fn heal_on_head(&self, heals: bool) {
        set(&self.site.behaviour.heals_on_head, heals);
    }

    /// Whether PUT is refused with 503.
    pub fn refuse_writes(&self, refuses: bool) {
        set(&self.site.behaviour.refuses_writes, refuses);
    }

    /// Whether PUT stores what it is given and answers 500 all the same.
    pub fn lose_answers(&self, loses: bool) {
        set(&self.site.behaviour.loses_answers, loses);
    }

    /// Takes a bucket away with all that it holds.
    pub fn remove_bucket(&self, bucket: &str) {
        self.site.buckets().remove(bucket);
    }

    /// Switches versioning off or on.
    pub fn version(&self, bucket: &str, is_versioned: bool) {
        if let Some(bucket) = self.site.buckets().get_mut(bucket) {
            bucket.is_versioned = is_versioned;
        }
    }
}

fn set(behaviour: &AtomicBool, value: bool) {
    behaviour.store(value, Ordering::Relaxed);
}

/// Two S3 sites in this process. They run on the caller's runtime and end with this handle.
#[derive(Debug)]
pub struct S3Pair {
    sites: [S3Site; 2],
    link: Arc<S3Link>,
    _stop: DropGuard,
}

impl S3Pair {
    /// Starts both sites on free ports, with their buckets and the rules.
    ///
    /// # Errors
    /// `State`: no free port.
    pub async fn start(options: S3Options) -> Result<Self, LabError> {
        let stop = CancellationToken::new();
        let link = S3Link::new(options.delay);
        let sites = [Arc::<Site>::default(), Arc::<Site>::default()];
        for (site, other) in [(&sites[0], &sites[1]), (&sites[1], &sites[0])] {
            let _set_once = site.link.set(Arc::clone(&link));
            let _set_once = site.other.set(Arc::downgrade(other));
        }
        for (site, bucket) in sites.iter().zip(&options.buckets) {
            let empty = Bucket {
                is_versioned: true,
                ..Bucket::default()
            };
            site.buckets().insert(bucket.clone(), empty);
        }
        let [from, to] = &options.buckets;
        if !options.rules.is_empty()
            && let Some(bucket) = sites[0].buckets().get_mut(from)
        {
            bucket.replication = Some(ReplicationConfiguration {
                role: "arn:aws:iam::000000000000:role/lab".to_owned(),
                rules: options.rules.iter().map(|rule| rule.stated(to)).collect(),
            });
        }
        let [primary, secondary] = sites;
        let guard = stop.clone().drop_guard();
        let sites = [serve(primary, &stop).await?, serve(secondary, &stop).await?];
        tokio::spawn(Arc::clone(&link).run(stop));
        Ok(Self {
            sites,
            link,
            _stop: guard,
        })
    }

    /// The site whose bucket has the rules.
    pub fn primary(&self) -> &S3Site {
        &self.sites[0]
    }

    /// The site that they copy to.
    pub fn secondary(&self) -> &S3Site {
        &self.sites[1]
    }

    /// The replication between them.
    pub fn link(&self) -> &S3Link {
        &self.link
    }
}

/// A client of any S3 server of the lab.
pub(crate) fn client(endpoint: &str, region: &str) -> Client {
    let http = aws_smithy_http_client::Builder::new().build_http();
    let config = aws_sdk_s3::Config::builder()
        .behavior_version(BehaviorVersion::latest())
        .http_client(http)
        .region(Region::new(region.to_owned()))
        .credentials_provider(Credentials::new(S3_ACCESS_KEY, S3_SECRET_KEY, None, None, "lab"))
        .endpoint_url(endpoint)
        .force_path_style(true)
        .build();
    Client::from_conf(config)
}

async fn serve(site: Arc<Site>, stop: &CancellationToken) -> Result<S3Site, LabError> {
    let failed = |error: std::io::Error| LabError::State {
        server: "S3 site".to_owned(),
        problem: format!("no free port on 127.0.0.1: {error}"),
    };
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let port = listener.local_addr().map_err(failed)?.port();
    let mut builder = S3ServiceBuilder::new(Backend(Arc::clone(&site)));
    builder.set_auth(SimpleAuth::from_single(S3_ACCESS_KEY, S3_SECRET_KEY));
    tokio::spawn(accept(listener, builder.build(), stop.clone()));
    Ok(S3Site { site, port })
}

async fn accept(listener: TcpListener, service: S3Service, stop: CancellationToken) {
    let room = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    loop {
        let Ok(permit) = Arc::clone(&room).acquire_owned().await else {
            return;
        };
        let Some(accepted) = stop.run_until_cancelled(listener.accept()).await else {
            return;
        };
        let Ok((stream, _)) = accepted else { continue };
        // Small answers must not wait for the client's acknowledgement.
        let _only_slower = stream.set_nodelay(true);
        let (service, stop) = (service.clone(), stop.clone());
        tokio::spawn(async move {
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service);
            let _cut_or_served = stop.run_until_cancelled(connection).await;
            drop(permit);
        });
    }
}
