//! One site: its buckets behind the S3 protocol, and what it may be made to do wrong.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::SystemTime;

use s3s::dto::*;
use s3s::{S3, S3Error, S3Request, S3Response, S3Result, s3_error};

use super::link::S3Link;
use super::objects::{self, Bucket, Version};

/// Keys of a page, also when more are asked for.
const PAGE_KEYS_MAX: i32 = 1_000;
/// Bytes of one object.
const OBJECT_BYTES_MAX: usize = 16 * 1024 * 1024;

/// What a site is made to do.
#[derive(Debug, Default)]
pub(crate) struct Behaviour {
    /// The role may not list: LIST is refused, and a missing key answers 403.
    pub(crate) denies_listing: AtomicBool,
    /// The role may not read replication rules.
    pub(crate) denies_rules: AtomicBool,
    /// HEAD and GET for a missing key are answered with the other site's object.
    pub(crate) proxies_reads: AtomicBool,
    /// `If-Match` and `If-None-Match` are not looked at.
    pub(crate) ignores_conditions: AtomicBool,
    /// An object that failed to replicate is tried again when it is looked at.
    pub(crate) heals_on_head: AtomicBool,
    /// PUT is refused with 503, nothing stored.
    pub(crate) refuses_writes: AtomicBool,
    /// PUT stores, and answers 500.
    pub(crate) loses_answers: AtomicBool,
}

/// One site of a pair.
#[derive(Debug, Default)]
pub(crate) struct Site {
    buckets: Mutex<BTreeMap<String, Bucket>>,
    writes: AtomicU64,
    pub(crate) behaviour: Behaviour,
    pub(crate) link: OnceLock<Arc<S3Link>>,
    pub(crate) other: OnceLock<Weak<Site>>,
}

impl Site {
    pub(crate) fn buckets(&self) -> MutexGuard<'_, BTreeMap<String, Bucket>> {
        self.buckets.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn with<T>(&self, bucket: &str, look: impl FnOnce(&mut Bucket) -> S3Result<T>) -> S3Result<T> {
        let mut buckets = self.buckets();
        look(buckets.get_mut(bucket).ok_or_else(|| s3_error!(NoSuchBucket))?)
    }

    /// A place among all writes, by which the newest version of a key is known.
    pub(crate) fn next_order(&self) -> u64 {
        self.writes.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// Stores a version and hands it to the replication, if a rule says so.
    pub(crate) fn write(&self, bucket: &str, key: &str, mut version: Version) -> S3Result<()> {
        let (id, destination) = self.with(bucket, |held| {
            let destination = held.destination(key, &version);
            version.replication = destination.is_some().then_some(ReplicationStatus::PENDING);
            let id = version.id.clone();
            held.put(key, version);
            Ok((id, destination))
        })?;
        if let (Some(destination), Some(link)) = (destination, self.link.get()) {
            link.send(self, bucket, key, &id, destination);
        }
        Ok(())
    }

    fn missing(&self) -> S3Error {
        match self.behaviour.denies_listing.load(Ordering::Relaxed) {
            true => s3_error!(AccessDenied),
            false => s3_error!(NoSuchKey),
        }
    }

    /// The current version, wherever the site takes it from.
    fn look(&self, bucket: &str, key: &str) -> S3Result<Version> {
        let here = self.with(bucket, |held| Ok(held.current(key).cloned()))?;
        if let Some(version) = here {
            let is_failed = version.replication == Some(ReplicationStatus::FAILED);
            if is_failed
                && self.behaviour.heals_on_head.load(Ordering::Relaxed)
                && let Some(link) = self.link.get()
            {
                link.heal(self, bucket, key, &version.id);
            }
            return Ok(version);
        }
        if self.behaviour.proxies_reads.load(Ordering::Relaxed)
            && let Some(other) = self.other.get().and_then(Weak::upgrade)
        {
            let there = other.buckets();
            if let Some(version) = there.values().find_map(|held| held.current(key)) {
                return Ok(version.clone());
            }
        }
        Err(self.missing())
    }
}

fn check_conditions(current: Option<&Version>, input: &PutObjectInput) -> S3Result<()> {
    let fits = |condition: &ETagCondition| match condition {
        ETagCondition::Any => current.is_some(),
        ETagCondition::ETag(etag) => current.is_some_and(|version| version.etag == etag.value()),
    };
    if input.if_none_match.as_ref().is_some_and(fits) {
        return Err(s3_error!(PreconditionFailed));
    }
    match &input.if_match {
        Some(_) if current.is_none() => Err(s3_error!(NoSuchKey)),
        Some(condition) if !fits(condition) => Err(s3_error!(PreconditionFailed)),
        _ => Ok(()),
    }
}

async fn read(body: Option<StreamingBlob>) -> S3Result<bytes::Bytes> {
    use futures::StreamExt as _;
    let mut bytes = bytes::BytesMut::new();
    let Some(mut body) = body else {
        return Ok(bytes.freeze());
    };
    while let Some(part) = body.next().await {
        bytes.extend_from_slice(&part.map_err(|error| s3_error!(IncompleteBody, "{error}"))?);
        if bytes.len() > OBJECT_BYTES_MAX {
            return Err(s3_error!(EntityTooLarge));
        }
    }
    Ok(bytes.freeze())
}

/// The S3 protocol in front of one site.
#[derive(Debug, Clone)]
pub(crate) struct Backend(pub(crate) Arc<Site>);

#[async_trait::async_trait]
impl S3 for Backend {
    async fn create_bucket(&self, req: S3Request<CreateBucketInput>) -> S3Result<S3Response<CreateBucketOutput>> {
        let mut buckets = self.0.buckets();
        if buckets.contains_key(&req.input.bucket) {
            return Err(s3_error!(BucketAlreadyOwnedByYou));
        }
        buckets.insert(req.input.bucket, Bucket::default());
        Ok(S3Response::new(CreateBucketOutput::default()))
    }

    async fn head_bucket(&self, req: S3Request<HeadBucketInput>) -> S3Result<S3Response<HeadBucketOutput>> {
        self.0.with(&req.input.bucket, |_| Ok(()))?;
        Ok(S3Response::new(HeadBucketOutput::default()))
    }

    async fn put_object(&self, req: S3Request<PutObjectInput>) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = req.input;
        let body = read(input.body.take()).await?;
        if self.0.behaviour.refuses_writes.load(Ordering::Relaxed) {
            return Err(s3_error!(SlowDown));
        }
        let etag = objects::etag(&body);
        let ignores_conditions = self.0.behaviour.ignores_conditions.load(Ordering::Relaxed);
        let is_versioned = self.0.with(&input.bucket, |held| {
            if !ignores_conditions {
                check_conditions(held.current(&input.key), &input)?;
            }
            Ok(held.is_versioned)
        })?;
        let order = self.0.next_order();
        let version = Version {
            id: if is_versioned {
                format!("{order:016x}{:08x}", rand::random::<u32>())
            } else {
                "null".to_owned()
            },
            body,
            etag: etag.clone(),
            metadata: input.metadata.unwrap_or_default().into_iter().collect(),
            tags: input.tagging.as_deref().map(objects::tags).unwrap_or_default(),
            content_type: input.content_type,
            modified: SystemTime::now(),
            order,
            replication: None,
            is_delete_marker: false,
        };
        let id = version.id.clone();
        self.0.write(&input.bucket, &input.key, version)?;
        if self.0.behaviour.loses_answers.load(Ordering::Relaxed) {
            return Err(s3_error!(InternalError));
        }
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(etag)),
            version_id: is_versioned.then_some(id),
            ..PutObjectOutput::default()
        }))
    }

    async fn delete_object(&self, req: S3Request<DeleteObjectInput>) -> S3Result<S3Response<DeleteObjectOutput>> {
        let input = req.input;
        let is_marked = self.0.with(&input.bucket, |held| {
            if let Some(id) = &input.version_id {
                if let Some(versions) = held.objects.get_mut(&input.key) {
                    versions.retain(|version| version.id != *id);
                }
                return Ok(false);
            }
            if !held.is_versioned {
                held.objects.remove(&input.key);
            }
            Ok(held.is_versioned)
        })?;
        if is_marked {
            let order = self.0.next_order();
            let marker = Version {
                id: format!("{order:016x}{:08x}", rand::random::<u32>()),
                body: bytes::Bytes::new(),
                etag: String::new(),
                metadata: std::collections::HashMap::new(),
                tags: BTreeMap::new(),
                content_type: None,
                modified: SystemTime::now(),
                order,
                replication: None,
                is_delete_marker: true,
            };
            self.0.write(&input.bucket, &input.key, marker)?;
        }
        Ok(S3Response::new(DeleteObjectOutput {
            delete_marker: is_marked.then_some(true),
            ..DeleteObjectOutput::default()
        }))
    }

    async fn head_object(&self, req: S3Request<HeadObjectInput>) -> S3Result<S3Response<HeadObjectOutput>> {
        let version = self.0.look(&req.input.bucket, &req.input.key)?;
        Ok(S3Response::new(HeadObjectOutput {
            content_length: i64::try_from(version.body.len()).ok(),
            content_type: version.content_type,
            e_tag: Some(ETag::Strong(version.etag)),
            last_modified: Some(Timestamp::from(version.modified)),
            metadata: Some(version.metadata.into_iter().collect()),
            replication_status: version.replication.map(ReplicationStatus::from_static),
            version_id: (version.id != "null").then_some(version.id),
            ..HeadObjectOutput::default()
        }))
    }

    async fn get_object(&self, req: S3Request<GetObjectInput>) -> S3Result<S3Response<GetObjectOutput>> {
        let version = self.0.look(&req.input.bucket, &req.input.key)?;
        let (length, body) = (version.body.len(), version.body);
        let once = futures::stream::once(async move { Ok::<_, std::io::Error>(body) });
        Ok(S3Response::new(GetObjectOutput {
            body: Some(StreamingBlob::wrap(once)),
            content_length: i64::try_from(length).ok(),
            content_type: version.content_type,
            e_tag: Some(ETag::Strong(version.etag)),
            last_modified: Some(Timestamp::from(version.modified)),
            metadata: Some(version.metadata.into_iter().collect()),
            replication_status: version.replication.map(ReplicationStatus::from_static),
            version_id: (version.id != "null").then_some(version.id),
            ..GetObjectOutput::default()
        }))
    }

    async fn list_objects_v2(&self, req: S3Request<ListObjectsV2Input>) -> S3Result<S3Response<ListObjectsV2Output>> {
        if self.0.behaviour.denies_listing.load(Ordering::Relaxed) {
            return Err(s3_error!(AccessDenied));
        }
        let input = req.input;
        let prefix = input.prefix.clone().unwrap_or_default();
        let after = input
            .continuation_token
            .clone()
            .or(input.start_after.clone())
            .unwrap_or_default();
        let page_keys = input.max_keys.unwrap_or(PAGE_KEYS_MAX).clamp(0, PAGE_KEYS_MAX);
        let wanted = usize::try_from(page_keys).unwrap_or(0);
        let mut found: Vec<Object> = self.0.with(&input.bucket, |held| {
            let keys = held.objects.range(prefix.clone()..).map(|(key, _)| key);
            let keys = keys
                .take_while(|key| key.starts_with(&prefix))
                .filter(|key| **key > after);
            let current = keys.filter_map(|key| Some((key, held.current(key)?)));
            let listed = current.take(wanted + 1).map(|(key, version)| Object {
                key: Some(key.clone()),
                e_tag: Some(ETag::Strong(version.etag.clone())),
                last_modified: Some(Timestamp::from(version.modified)),
                size: i64::try_from(version.body.len()).ok(),
                ..Object::default()
            });
            Ok(listed.collect())
        })?;
        let is_truncated = found.len() > wanted;
        found.truncate(wanted);
        let last = found.last().and_then(|object| object.key.clone());
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            max_keys: Some(page_keys),
            key_count: i32::try_from(found.len()).ok(),
            is_truncated: Some(is_truncated),
            next_continuation_token: last.filter(|_| is_truncated),
            contents: Some(found),
            ..ListObjectsV2Output::default()
        }))
    }

    async fn put_bucket_versioning(
        &self,
        req: S3Request<PutBucketVersioningInput>,
    ) -> S3Result<S3Response<PutBucketVersioningOutput>> {
        let status = req.input.versioning_configuration.status;
        let is_versioned = status.is_some_and(|status| status.as_str() == BucketVersioningStatus::ENABLED);
        self.0.with(&req.input.bucket, |held| {
            held.is_versioned = is_versioned;
            Ok(())
        })?;
        Ok(S3Response::new(PutBucketVersioningOutput::default()))
    }

    async fn get_bucket_versioning(
        &self,
        req: S3Request<GetBucketVersioningInput>,
    ) -> S3Result<S3Response<GetBucketVersioningOutput>> {
        let is_versioned = self.0.with(&req.input.bucket, |held| Ok(held.is_versioned))?;
        let enabled = BucketVersioningStatus::from_static(BucketVersioningStatus::ENABLED);
        Ok(S3Response::new(GetBucketVersioningOutput {
            status: is_versioned.then_some(enabled),
            ..GetBucketVersioningOutput::default()
        }))
    }

    async fn put_bucket_replication(
        &self,
        req: S3Request<PutBucketReplicationInput>,
    ) -> S3Result<S3Response<PutBucketReplicationOutput>> {
        self.0.with(&req.input.bucket, |held| {
            if !held.is_versioned {
                return Err(s3_error!(InvalidRequest, "versioning must be enabled on the bucket"));
            }
            held.replication = Some(req.input.replication_configuration);
            Ok(())
        })?;
        Ok(S3Response::new(PutBucketReplicationOutput::default()))
    }

    async fn get_bucket_replication(
        &self,
        req: S3Request<GetBucketReplicationInput>,
    ) -> S3Result<S3Response<GetBucketReplicationOutput>> {
        if self.0.behaviour.denies_rules.load(Ordering::Relaxed) {
            return Err(s3_error!(AccessDenied));
        }
        let found = self.0.with(&req.input.bucket, |held| Ok(held.replication.clone()))?;
        let replication_configuration = Some(found.ok_or_else(|| s3_error!(ReplicationConfigurationNotFoundError))?);
        Ok(S3Response::new(GetBucketReplicationOutput {
            replication_configuration,
        }))
    }

    async fn put_bucket_lifecycle_configuration(
        &self,
        req: S3Request<PutBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<PutBucketLifecycleConfigurationOutput>> {
        self.0.with(&req.input.bucket, |held| {
            held.lifecycle = req.input.lifecycle_configuration;
            Ok(())
        })?;
        Ok(S3Response::new(PutBucketLifecycleConfigurationOutput::default()))
    }

    async fn get_bucket_lifecycle_configuration(
        &self,
        req: S3Request<GetBucketLifecycleConfigurationInput>,
    ) -> S3Result<S3Response<GetBucketLifecycleConfigurationOutput>> {
        let found = self.0.with(&req.input.bucket, |held| Ok(held.lifecycle.clone()))?;
        let found = found.ok_or_else(|| s3_error!(NoSuchLifecycleConfiguration))?;
        Ok(S3Response::new(GetBucketLifecycleConfigurationOutput {
            rules: Some(found.rules),
            ..GetBucketLifecycleConfigurationOutput::default()
        }))
    }
}
