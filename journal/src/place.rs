//! A place that keeps copies of journals: a folder, or a bucket of S3. Objects are written whole and never changed.

use std::fmt;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use object_store::aws::AmazonS3Builder;
use object_store::local::LocalFileSystem;
use object_store::path::Path as ObjectPath;
use object_store::{
    ClientOptions, ObjectStore, ObjectStoreExt as _, PutMode, PutOptions, PutPayload, RetryConfig, WriteMultipart,
};

/// Tries of one request after the first; whoever copies tries again later anyway.
const REQUEST_RETRIES_MAX: usize = 2;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(20);

/// How long a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Bytes of a file that are read, and of an upload that are in flight for each of [`PARTS_IN_FLIGHT_MAX`] parts.
const FILE_PART_BYTES: usize = 5 << 20;

/// Parts of one upload that are in flight.
const PARTS_IN_FLIGHT_MAX: usize = 2;

/// Where copies are kept.
#[derive(Debug, Clone)]
pub struct Place {
    name: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Folder(PathBuf),
    Store(Arc<dyn ObjectStore>, ObjectPath),
}

/// A bucket, and how to reach it. What is `None` is found as every AWS tool finds it.
#[derive(Clone, Default)]
pub struct Bucket {
    /// Its name.
    pub name: String,
    /// What the names of all objects begin with.
    pub prefix: String,
    /// Its region.
    pub region: Option<String>,
    /// Another endpoint than AWS's own.
    pub endpoint_url: Option<String>,
    /// Key and secret of a service that knows no roles.
    pub access_key: Option<(String, String)>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bucket")
            .field("name", &self.name)
            .field("prefix", &self.prefix)
            .field("region", &self.region)
            .field("endpoint_url", &self.endpoint_url)
            .finish_non_exhaustive()
    }
}

/// What goes wrong at a place.
#[derive(Debug, thiserror::Error)]
pub enum PlaceError {
    /// Correct the configuration.
    #[error("copy place {place}: {cause}; correct the configuration of the place")]
    Config {
        /// The place.
        place: String,
        /// What is wrong.
        cause: String,
    },
    /// Try again later.
    #[error("copy place {place}: cannot {tried} {object}: {cause}; it is tried again")]
    Failed {
        /// The place.
        place: String,
        /// What was tried.
        tried: &'static str,
        /// With which object.
        object: String,
        /// What came back.
        cause: String,
    },
    /// The place said that it has an object, and holds something else. Do not trust it.
    #[error(
        "copy place {place}: {object} should have {wanted_bytes} bytes and has {found_bytes}: the place does not keep what it is given; use another one"
    )]
    NotKept {
        /// The place.
        place: String,
        /// The object.
        object: String,
        /// What was put there.
        wanted_bytes: u64,
        /// What is there.
        found_bytes: u64,
    },
    /// The place overwrites where it was told to create: two workers could both believe that they were first.
    #[error(
        "place {place} does not keep to `create only if absent` (If-None-Match on S3): two workers could both take themselves for the first; \
         use a folder, AWS S3, or a store that does"
    )]
    NotExclusive {
        /// The place.
        place: String,
    },
}

/// An object at a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its name below the place, `/` between its parts.
    pub object: String,
    /// Its size.
    pub bytes: u64,
}

impl Place {
    /// A folder; it is made when something is put there.
    pub fn folder(path: &Path) -> Self {
        Self {
            name: path.display().to_string(),
            kind: Kind::Folder(path.to_owned()),
        }
    }

    /// A bucket. Nothing is asked of it yet.
    ///
    /// # Errors
    /// `Config`.
    pub fn bucket(bucket: &Bucket) -> Result<Self, PlaceError> {
        let name = format!("s3://{}/{}", bucket.name, bucket.prefix);
        let wrong = |cause: String| PlaceError::Config {
            place: name.trim_end_matches('/').to_owned(),
            cause,
        };
        let mut client = ClientOptions::new()
            .with_timeout(REQUEST_TIMEOUT)
            .with_connect_timeout(CONNECT_TIMEOUT);
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&bucket.name);
        if let Some(endpoint) = &bucket.endpoint_url {
            if endpoint.starts_with("http://") {
                if !is_loopback(endpoint) {
                    return Err(wrong(format!(
                        "endpoint {endpoint} is not encrypted; http:// is for loopback only"
                    )));
                }
                client = client.with_allow_http(true);
            }
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &bucket.region {
            builder = builder.with_region(region);
        }
        if let Some((id, secret)) = &bucket.access_key {
            builder = builder.with_access_key_id(id).with_secret_access_key(secret);
        }
        let store = builder
            .with_client_options(client)
            .with_retry(RetryConfig {
                max_retries: REQUEST_RETRIES_MAX,
                retry_timeout: REQUEST_TIMEOUT,
                ..RetryConfig::default()
            })
            .build()
            .map_err(|error| wrong(error.to_string()))?;
        Ok(Self::store(name.trim_end_matches('/'), Arc::new(store), &bucket.prefix))
    }

    /// Any object store, below `prefix`.
    pub fn store(name: &str, store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        Self {
            name: name.to_owned(),
            kind: Kind::Store(store, ObjectPath::from(prefix)),
        }
    }

    /// Its name, as people wrote it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Writes a whole object and looks whether it is there. A folder is told to put it on the disk.
    ///
    /// # Errors
    /// `Failed`, `NotKept`.
    pub async fn put(&self, object: &str, bytes: Bytes) -> Result<(), PlaceError> {
        let wanted_bytes = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
        let (store, path) = self.reach("write", object, true)?;
        let put = store.put(&path, PutPayload::from(bytes)).await;
        put.map_err(|error| self.failed("write", object, &error))?;
        self.check_kept(&*store, &path, object, wanted_bytes).await
    }

    /// Writes a whole object unless there is one of its name; `false`: there is one, and it was left as it is. Of several that create the
    /// same name one succeeds, if the place passes [`check_exclusive`](Self::check_exclusive).
    ///
    /// # Errors
    /// `Failed`: whether it was created is not known. `NotExclusive`.
    pub async fn create(&self, object: &str, bytes: Bytes) -> Result<bool, PlaceError> {
        let (store, path) = self.reach("create", object, true)?;
        let options = PutOptions {
            mode: PutMode::Create,
            ..PutOptions::default()
        };
        match store.put_opts(&path, PutPayload::from(bytes), options).await {
            Ok(_) => Ok(true),
            Err(object_store::Error::AlreadyExists { .. } | object_store::Error::Precondition { .. }) => Ok(false),
            Err(object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. }) => {
                Err(self.not_exclusive())
            }
            Err(error) => Err(self.failed("create", object, &error)),
        }
    }

    /// Creates an object of this name twice and removes it: the second time must fail.
    ///
    /// # Errors
    /// `NotExclusive`: it did not. `Failed`.
    pub async fn check_exclusive(&self, object: &str) -> Result<(), PlaceError> {
        let bytes = Bytes::from_static(b"whether this place creates a name only once");
        let first = self.create(object, bytes.clone()).await?;
        let second = self.create(object, bytes).await?;
        self.remove(object).await?;
        match (first, second) {
            (true, false) => Ok(()),
            _ => Err(self.not_exclusive()),
        }
    }

    /// Reads a whole object, if there is one.
    ///
    /// # Errors
    /// `Failed`; that it is not there is none.
    pub async fn find(&self, object: &str) -> Result<Option<Bytes>, PlaceError> {
        if let Kind::Folder(folder) = &self.kind
            && matches!(folder.try_exists(), Ok(false))
        {
            return Ok(None);
        }
        let (store, path) = self.reach("read", object, false)?;
        match store.get(&path).await {
            Ok(got) => {
                let bytes = got.bytes().await;
                bytes.map(Some).map_err(|error| self.failed("read", object, &error))
            }
            Err(object_store::Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed("read", object, &error)),
        }
    }

    /// Writes a file as one object, in parts, and looks whether all of it is there. Memory: the parts in flight.
    ///
    /// # Errors
    /// `Failed`, `NotKept`.
    pub async fn put_file(&self, object: &str, file: &Path) -> Result<(), PlaceError> {
        let (store, path) = self.reach("write", object, true)?;
        let failed = |error: object_store::Error| self.failed("write", object, &error);
        let mut upload =
            WriteMultipart::new_with_chunk_size(store.put_multipart(&path).await.map_err(failed)?, FILE_PART_BYTES);
        let mut reader = File::open(file).map_err(|error| self.failed("read for upload", object, &error))?;
        let mut wanted_bytes = 0;
        let mut part = vec![0; FILE_PART_BYTES];
        loop {
            let read = reader
                .read(&mut part)
                .map_err(|error| self.failed("read for upload", object, &error))?;
            if read == 0 {
                break;
            }
            wanted_bytes += u64::try_from(read).unwrap_or(u64::MAX);
            upload.wait_for_capacity(PARTS_IN_FLIGHT_MAX).await.map_err(failed)?;
            upload.write(&part[..read]);
        }
        upload.finish().await.map_err(failed)?;
        self.check_kept(&*store, &path, object, wanted_bytes).await
    }

    /// Reads an object into a file, part by part.
    ///
    /// # Errors
    /// `Failed`: what is in the file is not all.
    pub async fn fetch(&self, object: &str, file: &Path) -> Result<(), PlaceError> {
        let (store, path) = self.reach("read", object, false)?;
        let failed = |error: object_store::Error| self.failed("read", object, &error);
        let writing = |error: std::io::Error| self.failed("keep a local copy of", object, &error);
        let mut parts = store.get(&path).await.map_err(failed)?.into_stream();
        let mut writer = File::create(file).map_err(writing)?;
        while let Some(part) = parts.try_next().await.map_err(failed)? {
            writer.write_all(&part).map_err(writing)?;
        }
        Ok(())
    }

    /// The file that an object is, where the place is a folder.
    pub fn file(&self, object: &str) -> Option<PathBuf> {
        match &self.kind {
            Kind::Folder(folder) => Some(folder.join(object)),
            Kind::Store(..) => None,
        }
    }

    /// The place below `prefix`, of which all names begin with it.
    #[must_use]
    pub fn below(&self, prefix: &str) -> Self {
        let name = format!("{}/{prefix}", self.name);
        let kind = match &self.kind {
            Kind::Folder(folder) => Kind::Folder(folder.join(prefix)),
            Kind::Store(store, above) if above.as_ref().is_empty() => {
                Kind::Store(store.clone(), ObjectPath::from(prefix))
            }
            Kind::Store(store, above) => Kind::Store(store.clone(), ObjectPath::from(format!("{above}/{prefix}"))),
        };
        Self { name, kind }
    }

    /// Reads a whole object.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn get(&self, object: &str) -> Result<Bytes, PlaceError> {
        let (store, path) = self.reach("read", object, false)?;
        let got = store
            .get(&path)
            .await
            .map_err(|error| self.failed("read", object, &error))?;
        got.bytes().await.map_err(|error| self.failed("read", object, &error))
    }

    /// Removes an object.
    ///
    /// # Errors
    /// `Failed`.
    pub async fn remove(&self, object: &str) -> Result<(), PlaceError> {
        let (store, path) = self.reach("remove", object, false)?;
        let removed = store.delete(&path).await;
        removed.map_err(|error| self.failed("remove", object, &error))
    }

    /// Hands over every object of the place, in no order. An error is never an empty place; a folder that does not exist is one.
    ///
    /// # Errors
    /// `Failed`: what was handed over before is not all.
    pub async fn each(&self, mut visit: impl FnMut(Stored) + Send) -> Result<(), PlaceError> {
        if let Kind::Folder(folder) = &self.kind
            && matches!(folder.try_exists(), Ok(false))
        {
            return Ok(());
        }
        let (store, path) = self.reach("list", "", false)?;
        let below = match &self.kind {
            Kind::Folder(_) => None,
            Kind::Store(_, prefix) => (!prefix.as_ref().is_empty()).then_some(&path),
        };
        let mut listing = store
            .list(below)
            .map(|found| found.map_err(|error| self.failed("list", "", &error)));
        while let Some(found) = listing.try_next().await? {
            let name = match (&self.kind, found.location.prefix_match(&path)) {
                (Kind::Store(..), Some(parts)) if below.is_some() => {
                    parts.map(|part| part.as_ref().to_owned()).collect::<Vec<_>>().join("/")
                }
                _ => found.location.to_string(),
            };
            visit(Stored {
                object: name,
                bytes: found.size,
            });
        }
        Ok(())
    }

    /// Looks whether what was put there is there, all of it.
    async fn check_kept(
        &self,
        store: &dyn ObjectStore,
        path: &ObjectPath,
        object: &str,
        wanted_bytes: u64,
    ) -> Result<(), PlaceError> {
        let found = store.head(path).await;
        let found_bytes = found.map_err(|error| self.failed("look at", object, &error))?.size;
        if found_bytes == wanted_bytes {
            return Ok(());
        }
        Err(PlaceError::NotKept {
            place: self.name.clone(),
            object: object.to_owned(),
            wanted_bytes,
            found_bytes,
        })
    }

    /// The store behind the place and the full name of an object there.
    fn reach(
        &self,
        tried: &'static str,
        object: &str,
        is_made: bool,
    ) -> Result<(Arc<dyn ObjectStore>, ObjectPath), PlaceError> {
        match &self.kind {
            Kind::Store(store, prefix) => {
                let name = [prefix.as_ref(), object]
                    .iter()
                    .filter(|part| !part.is_empty())
                    .copied()
                    .collect::<Vec<_>>()
                    .join("/");
                Ok((store.clone(), ObjectPath::from(name)))
            }
            Kind::Folder(folder) => {
                if is_made {
                    std::fs::create_dir_all(folder).map_err(|error| self.failed(tried, object, &error))?;
                }
                let store = LocalFileSystem::new_with_prefix(folder)
                    .map_err(|error| self.failed(tried, object, &error))?
                    .with_fsync(true)
                    .with_automatic_cleanup(true);
                Ok((Arc::new(store), ObjectPath::from(object)))
            }
        }
    }

    fn not_exclusive(&self) -> PlaceError {
        PlaceError::NotExclusive {
            place: self.name.clone(),
        }
    }

    fn failed(&self, tried: &'static str, object: &str, cause: &dyn std::error::Error) -> PlaceError {
        PlaceError::Failed {
            place: self.name.clone(),
            tried,
            object: object.to_owned(),
            cause: cause.to_string(),
        }
    }
}

fn is_loopback(endpoint: &str) -> bool {
    let host = endpoint.trim_start_matches("http://").split('/').next().unwrap_or("");
    let host = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_without_encryption_must_be_this_machine() {
        for (endpoint, is_taken) in [
            ("http://127.0.0.1:9000", true),
            ("http://[::1]:9000/", true),
            ("http://localhost", true),
            ("http://127.0.0.1.example.com:9000", false),
            ("http://10.0.0.1:9000", false),
        ] {
            assert_eq!(is_loopback(endpoint), is_taken, "{endpoint}");
        }
        let bucket = Bucket {
            name: "evidence".to_owned(),
            endpoint_url: Some("http://10.0.0.1:9000".to_owned()),
            access_key: Some(("lab".to_owned(), "lab-secret".to_owned())),
            ..Bucket::default()
        };
        let words = Place::bucket(&bucket).unwrap_err().to_string();
        assert!(
            words.contains("s3://evidence") && words.contains("loopback only"),
            "{words}"
        );
        assert!(!format!("{bucket:?}").contains("lab-secret"));
    }
}
