//! Rights and logins that are taken away in mid-run, at real servers: the probe goes on, is told why, counts what it could not write, and is
//! well again when they come back.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;
use lab::{KafkaServer, PgOptions, PgPair};
use probes::{FinalState, Polling, RouteStatus, Status, SystemClock};
use stores::kafka::{self, Auth, InitSpec, Mechanism, Tls};
use stores::secret::Secret;
use stores::{Canary, CanaryReader, CanaryWriter, Result, Sighting, Sought, StoreError, WriteOutcome};

use super::servers::{kafka_config, postgresql, prepare_postgresql, secret};
use super::{PATIENCE, counted, seen_more, sent, settled, until, wall_us};
use crate::rig::{Rig, Running};

/// As the rig calls it.
const STREAM: &str = "orders/use1";

/// Kinds of errors that were heard.
type Kinds = Arc<Mutex<BTreeSet<&'static str>>>;

/// An end that notes how it is refused.
#[derive(Debug)]
struct Overheard<T: ?Sized> {
    inner: Arc<T>,
    kinds: Kinds,
}

impl<T: ?Sized> Overheard<T> {
    fn note(&self, error: &StoreError) {
        self.kinds.lock().unwrap().insert(error.kind());
    }
}

#[async_trait]
impl CanaryWriter for Overheard<dyn CanaryWriter> {
    async fn write(&self, canary: &Canary) -> WriteOutcome {
        let outcome = self.inner.write(canary).await;
        if let WriteOutcome::Failed(error) | WriteOutcome::Unknown(error) = &outcome {
            self.note(error);
        }
        outcome
    }

    async fn highest_sequence(&self, stream: &str) -> Result<u64> {
        self.inner.highest_sequence(stream).await
    }

    fn ring_slots(&self) -> u64 {
        self.inner.ring_slots()
    }
}

#[async_trait]
impl CanaryReader for Overheard<dyn CanaryReader> {
    async fn poll(&self, stream: &str, sought: Sought<'_>) -> Result<Sighting> {
        self.inner
            .poll(stream, sought)
            .await
            .inspect_err(|error| self.note(error))
    }

    fn is_ordered(&self) -> bool {
        self.inner.is_ordered()
    }
}

/// Canaries that are waited for before something is refused, and when it is well again.
const SEEN_BEFORE: u32 = 5;
const SEEN_AFTER: u32 = 10;

/// A probe, and what its writer and its reader are told.
struct Watched {
    running: Running,
    reader: Arc<dyn CanaryReader>,
    kinds: [Kinds; 2],
}

impl Watched {
    fn start(ends: &[stores::End; 2], polling: Polling) -> Self {
        let kinds = [Kinds::default(), Kinds::default()];
        let writer = Overheard {
            inner: Arc::clone(ends[0].canary_writer.as_ref().unwrap()),
            kinds: Arc::clone(&kinds[0]),
        };
        let reader = Overheard {
            inner: Arc::clone(ends[1].canary_reader.as_ref().unwrap()),
            kinds: Arc::clone(&kinds[1]),
        };
        let reader: Arc<dyn CanaryReader> = Arc::new(reader);
        let rig = Rig::over(Arc::new(writer), Arc::clone(&reader), polling, "5/s");
        let running = rig.clock(Arc::new(SystemClock::new())).start();
        Self { running, reader, kinds }
    }

    /// Starts where PostgreSQL is probed, and waits for the first canaries.
    async fn postgresql(ends: &[stores::End; 2]) -> Self {
        let writer = ends[0].canary_writer.as_ref().unwrap();
        writer.highest_sequence("nobody's").await.unwrap();
        let watched = Self::start(ends, Polling::AURORA);
        seen_more(&watched.running, f64::from(SEEN_BEFORE)).await;
        watched
    }

    /// Waits until both ends were told so; the probe goes on trying meanwhile.
    async fn refused(&self, kind: &'static str) {
        let has = |kinds: &Kinds| kinds.lock().unwrap().contains(kind);
        let before = sent(&self.running);
        until(kind, &self.running, |running| {
            has(&self.kinds[0]) && sent(running) >= before + 6.0
        })
        .await;
        // The probe itself does not look while nothing is written.
        let by = tokio::time::Instant::now() + PATIENCE;
        while !has(&self.kinds[1]) {
            let told = self.reader.poll(STREAM, Sought::All).await;
            assert!(tokio::time::Instant::now() < by, "never {kind}: {told:?}");
        }
        assert!(counted(&self.running, "lost") + counted(&self.running, "superseded") < 0.5);
        self.shows(kind);
    }

    fn status(&self) -> RouteStatus {
        Status::now(&self.running.metrics, true).routes.remove(0)
    }

    /// Nothing is pending and nothing ages, since nothing was acknowledged: what is wrong is shown beside it, while it is wrong.
    fn shows(&self, kind: &str) {
        let text = self.running.metrics.render();
        let kind = format!("kind=\"{kind}\"");
        let of = |line: &&str| line.starts_with("driftline_errors_total{") && line.contains(&kind);
        let errors: Vec<&str> = text.lines().filter(of).collect();
        assert!(
            errors.iter().any(|line| line.contains("operation=\"write\"")),
            "{errors:#?}"
        );
        let unanswered = self.running.figure("driftline_unanswered").unwrap();
        let unwritten = counted(&self.running, "write_failed") + counted(&self.running, "write_unknown");
        assert!(unanswered + unwritten > 0.5, "{text}");
        let status = self.status();
        assert!(status.write_error.is_some(), "{status:?}");
    }

    /// Waits until it is well again.
    async fn restored(&self) {
        settled(&self.running).await;
        seen_more(&self.running, f64::from(SEEN_AFTER)).await;
        let told = |running: &Running| Status::now(&running.metrics, true).routes.remove(0);
        until("no error is told any more", &self.running, |running| {
            told(running).write_error.is_none() && told(running).poll_error.is_none()
        })
        .await;
    }

    /// What nobody could look at is neither lost nor late.
    async fn judge(self, refused_us: u64) {
        self.judge_but_for(0, refused_us).await;
    }

    /// As [`judge`](Self::judge); so many may have gone with their table.
    async fn judge_but_for(self, gone_max: u64, refused_us: u64) {
        let left = self.running.stop().await.unwrap();
        let accounting = left.accounting();
        assert!(
            accounting.pending == 0 && accounting.lost + accounting.superseded <= gone_max,
            "{accounting:?}"
        );
        // Those of unknown outcome are looked for later, and found where they were written after all.
        let unwritten = accounting.write_failed + accounting.write_unknown;
        // As many as were waited for; how many more there were in that time is the machine's affair.
        assert!(
            accounting.seen >= u64::from(SEEN_BEFORE + SEEN_AFTER) && unwritten > 3,
            "{accounting:?}"
        );
        for sample in left.samples.iter().filter(|sample| sample.state == FinalState::Seen) {
            assert!(
                sample.lag_low_us.unwrap() < refused_us / 3,
                "no answer says that it had not arrived: {sample:?}"
            );
        }
    }
}

/// What the superuser does at the primary, until the standby has it too.
async fn replayed(pair: &PgPair, database: &str, sql: &str) {
    pair.primary().execute(database, sql).await.unwrap();
    pair.wait_replayed(PATIENCE).await.unwrap();
}

fn since(from_us: i64) -> u64 {
    u64::try_from(wall_us() - from_us).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_of_postgresql_loses_its_rights_and_its_login() {
    let pair = PgPair::start(PgOptions::with_database("app")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (ends, _) = postgresql(&pair, [pair.primary().port(), pair.standby().port()], &folder).await;
    let as_superuser = async |database: &str, sql: &str| replayed(&pair, database, sql).await;
    let watched = Watched::postgresql(&ends).await;

    let from_us = wall_us();
    let table = "table driftline.canary";
    as_superuser("driftline", &format!("revoke all on {table} from driftline")).await;
    watched.refused("denied").await;
    as_superuser(
        "driftline",
        &format!("grant select, insert, update, delete on {table} to driftline"),
    )
    .await;
    let refused_us = since(from_us);
    watched.restored().await;

    let from_us = wall_us();
    as_superuser("postgres", "alter role driftline nologin").await;
    for server in [pair.primary(), pair.standby()] {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity where usename = 'driftline'";
        server.execute("postgres", end).await.unwrap();
    }
    watched.refused("config").await;
    as_superuser("postgres", "alter role driftline login").await;
    let refused_us = refused_us.min(since(from_us));
    watched.restored().await;
    watched.judge(refused_us).await;
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_role_of_postgresql_is_dropped_and_made_again() {
    let pair = PgPair::start(PgOptions::with_database("app")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (ends, config) = postgresql(&pair, [pair.primary().port(), pair.standby().port()], &folder).await;
    let as_superuser = async |database: &str, sql: &str| replayed(&pair, database, sql).await;
    let watched = Watched::postgresql(&ends).await;

    let from_us = wall_us();
    for database in ["app", "driftline"] {
        let nothing_left = "reassign owned by driftline to current_user; drop owned by driftline";
        as_superuser(database, nothing_left).await;
    }
    watched.refused("denied").await;
    as_superuser("postgres", "drop role driftline").await;
    // Sessions outlive their role.
    for server in [pair.primary(), pair.standby()] {
        let end = "select pg_terminate_backend(pid) from pg_stat_activity
                   where backend_type = 'client backend' and usename is null";
        server.execute("postgres", end).await.unwrap();
    }
    watched.refused("config").await;
    prepare_postgresql(&pair, &config).await;
    let refused_us = since(from_us);
    watched.restored().await;
    watched.judge(refused_us).await;
    pair.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_canary_table_of_postgresql_is_dropped_and_made_again() {
    let pair = PgPair::start(PgOptions::with_database("app")).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let (ends, config) = postgresql(&pair, [pair.primary().port(), pair.standby().port()], &folder).await;
    let watched = Watched::postgresql(&ends).await;

    let from_us = wall_us();
    let gone = "drop table driftline.canary";
    replayed(&pair, "driftline", gone).await;
    watched.refused("not_found").await;
    prepare_postgresql(&pair, &config).await;
    let refused_us = since(from_us);
    watched.restored().await;
    // Those that were acknowledged and not yet looked for.
    watched.judge_but_for(2, refused_us).await;
    pair.shutdown().await;
}

/// A broker, and both ends of a probe of it that logs in by SCRAM with the password of the file.
async fn kafka_with_login(folder: &tempfile::TempDir) -> (KafkaServer, [stores::End; 2], PathBuf) {
    let server = KafkaServer::start_alone().await.unwrap();
    let plain = kafka_config([(); 2].map(|()| server.bootstrap().remove(0)));
    kafka::init(&plain, "use1", &InitSpec::default()).await.unwrap();
    let (user, password) = server.login();
    let password = secret(folder, password);
    let mut config = kafka_config([(); 2].map(|()| server.secure_bootstrap().remove(0)));
    config.tls = Tls::CaFile(server.ca_file());
    config.auth = Some(Auth {
        mechanism: Mechanism::ScramSha256,
        user: user.to_owned(),
        password: Secret::File(password.clone()),
    });
    let ends = kafka::open(&config, "use1", "usw2", 0).unwrap();
    (server, ends, password)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_user_of_kafka_is_removed() {
    let folder = tempfile::tempdir().unwrap();
    let (server, ends, _) = kafka_with_login(&folder).await;
    let watched = Watched::start(&ends, Polling::KAFKA);
    seen_more(&watched.running, f64::from(SEEN_BEFORE)).await;

    let from_us = wall_us();
    server.revoke_login().await.unwrap();
    watched.refused("config").await;
    server.restore_login().await.unwrap();
    let refused_us = since(from_us);
    watched.restored().await;
    watched.judge(refused_us).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_of_kafka_is_changed_at_the_cluster_and_then_in_its_file() {
    const CHANGED: &str = "lab-secret-of-tomorrow";
    let folder = tempfile::tempdir().unwrap();
    let (server, ends, password) = kafka_with_login(&folder).await;
    let watched = Watched::start(&ends, Polling::KAFKA);
    seen_more(&watched.running, f64::from(SEEN_BEFORE)).await;

    let from_us = wall_us();
    server.change_password(CHANGED).await.unwrap();
    watched.refused("config").await;
    std::fs::write(&password, CHANGED).unwrap();
    let refused_us = since(from_us);
    // A client keeps the password that it was made with: both ends have to make another one.
    watched.restored().await;
    watched.judge(refused_us).await;
}
