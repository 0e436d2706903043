//! A probe over a reference pair.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use probes::{
    Boot, Clock, Config, EpochLedger, LagInterval, LagSample, Metrics, Output, Part, Polling, ProbeError, Readiness,
    Route, RouteSpec, Setting, StatedWriters, Summary, SystemClock,
};
use stores::memory::{Pair, Settings};
use stores::{Canary, CanaryReader, CanaryWriter};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

/// How long pending canaries are waited for, unless a test says otherwise.
pub(crate) const DRAIN: Duration = Duration::from_secs(30);

pub(crate) fn route() -> Route {
    Route {
        dataset: "orders".to_owned(),
        store: "aurora".to_owned(),
        primary_site: "use1".to_owned(),
        secondary_site: "usw2".to_owned(),
        observer: "usw2/test".to_owned(),
    }
}

/// Statement number `statement`: these sites take writes.
pub(crate) fn writers(statement: u64, sites: &[&str]) -> StatedWriters {
    let of = |site: &&str| ("orders".to_owned(), (*site).to_owned());
    StatedWriters::new(statement, sites.iter().map(of))
}

pub(crate) fn pair(settings: Settings) -> Pair {
    Pair::new(settings)
}

/// The date at which probes of these tests begin: a whole minute, so that no test depends on when it runs.
pub(crate) const WALL: i64 = 1_795_251_600_000_000;

/// When the machine was booted, for all probes of these tests.
static BOOTED: std::sync::LazyLock<std::time::Instant> = std::sync::LazyLock::new(std::time::Instant::now);

/// Monotonic time as tokio has it, and a wall clock that somebody sets by hand at each reading.
#[derive(Debug)]
pub(crate) struct TestClock {
    system: SystemClock,
    wall_us: AtomicI64,
    step_us: i64,
    pub(crate) boot_id: Option<Uuid>,
}

impl TestClock {
    pub(crate) fn stepping_by(step_us: i64) -> Self {
        Self {
            system: SystemClock::new(),
            wall_us: AtomicI64::new(WALL),
            step_us,
            boot_id: Some(Uuid::from_u128(1)),
        }
    }
}

impl Clock for TestClock {
    fn now_us(&self) -> u64 {
        self.system.now_us()
    }

    fn wall_us(&self) -> i64 {
        self.wall_us.fetch_add(self.step_us, Ordering::SeqCst)
    }

    fn boot(&self) -> Option<Boot> {
        let age = tokio::time::Instant::now()
            .into_std()
            .saturating_duration_since(*BOOTED);
        let at_us = u64::try_from(age.as_micros()).unwrap();
        self.boot_id.map(|id| Boot { id, at_us })
    }
}

pub(crate) struct Rig {
    pub(crate) spec: RouteSpec,
    pub(crate) setting: Setting,
    pub(crate) folder: tempfile::TempDir,
    pub(crate) stated: watch::Sender<StatedWriters>,
    output: mpsc::Receiver<Output>,
}

/// A probe that runs.
pub(crate) struct Running {
    pub(crate) shutdown: CancellationToken,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) readiness: Arc<Readiness>,
    probe: JoinHandle<Result<Summary, ProbeError>>,
    taken: JoinHandle<(Vec<LagSample>, Vec<LagInterval>)>,
    pub(crate) stated: watch::Sender<StatedWriters>,
    pub(crate) folder: tempfile::TempDir,
}

/// What a probe left.
pub(crate) struct Left {
    pub(crate) summary: Summary,
    pub(crate) samples: Vec<LagSample>,
    pub(crate) intervals: Vec<LagInterval>,
    pub(crate) folder: tempfile::TempDir,
}

impl Rig {
    pub(crate) fn new(pair: &Pair, rate: &str) -> Self {
        let (primary, secondary) = (pair.primary(), pair.secondary());
        let (writer, reader) = (primary.canary_writer.unwrap(), secondary.canary_reader.unwrap());
        let mut rig = Self::over(writer, reader, Polling::AURORA, rate);
        rig.spec.primary_status = primary.status;
        rig.spec.secondary_status = secondary.status;
        rig
    }

    /// Over two ends that say nothing of themselves.
    pub(crate) fn over(
        writer: Arc<dyn CanaryWriter>,
        reader: Arc<dyn CanaryReader>,
        polling: Polling,
        rate: &str,
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let (sender, output) = mpsc::channel(64);
        let spec = RouteSpec {
            route: route(),
            collection: None,
            stream: "orders/use1".to_owned(),
            writer,
            reader,
            primary_status: None,
            secondary_status: None,
            single_writer: true,
            settings: Config {
                rate: Some(rate.parse().unwrap()),
                ..Config::default()
            },
            polling,
            pace: None,
            part: Part::Both,
        };
        let stated = watch::Sender::new(writers(1, &["use1"]));
        let setting = Setting {
            ledger_folder: folder.path().to_owned(),
            ledger_keep: Duration::from_secs(3_600),
            shutdown: CancellationToken::new(),
            drain_deadline: DRAIN,
            output: sender,
            metrics: Arc::new(Metrics::new("1.2.3")),
            readiness: Arc::new(Readiness::default()),
            clock: Arc::new(TestClock::stepping_by(0)),
            stated: stated.subscribe(),
            clock_bound: None,
            wall_bound: None,
            seed: 5,
        };
        Self {
            spec,
            setting,
            folder,
            stated,
            output,
        }
    }

    pub(crate) fn writer(mut self, wrap: impl FnOnce(Arc<dyn CanaryWriter>) -> Arc<dyn CanaryWriter>) -> Self {
        self.spec.writer = wrap(self.spec.writer);
        self
    }

    pub(crate) fn clock(mut self, clock: Arc<dyn Clock>) -> Self {
        self.setting.clock = clock;
        self
    }

    pub(crate) fn drain(mut self, deadline: Duration) -> Self {
        self.setting.drain_deadline = deadline;
        self
    }

    pub(crate) fn folder(mut self, folder: tempfile::TempDir) -> Self {
        self.setting.ledger_folder = folder.path().to_owned();
        self.folder = folder;
        self
    }

    pub(crate) fn start(self) -> Running {
        self.start_with(Vec::new())
    }

    /// Probes these routes beside its own.
    pub(crate) fn start_with(self, mut routes: Vec<RouteSpec>) -> Running {
        let Self {
            spec,
            setting,
            folder,
            stated,
            mut output,
        } = self;
        let (shutdown, metrics, readiness) = (
            setting.shutdown.clone(),
            setting.metrics.clone(),
            setting.readiness.clone(),
        );
        routes.insert(0, spec);
        let probe = tokio::spawn(probes::run(routes, setting));
        let taken = tokio::spawn(async move {
            let (mut samples, mut intervals) = (Vec::new(), Vec::new());
            while let Some(row) = output.recv().await {
                match row {
                    Output::Sample(sample) => samples.push(sample),
                    Output::Interval(interval) => intervals.push(interval),
                }
            }
            (samples, intervals)
        });
        Running {
            shutdown,
            metrics,
            readiness,
            probe,
            taken,
            folder,
            stated,
        }
    }

    /// Runs for a time and drains.
    pub(crate) async fn run_for(self, length: Duration) -> Left {
        let running = self.start();
        tokio::time::sleep(length).await;
        running.stop().await.unwrap()
    }
}

impl Running {
    /// Shuts down, drains, and hands over what was left.
    pub(crate) async fn stop(self) -> Result<Left, ProbeError> {
        self.shutdown.cancel();
        self.end().await
    }

    /// Waits until the probe ends by itself.
    pub(crate) async fn end(self) -> Result<Left, ProbeError> {
        let summary = self.probe.await.unwrap()?;
        let (samples, intervals) = self.taken.await.unwrap();
        Ok(Left {
            summary,
            samples,
            intervals,
            folder: self.folder,
        })
    }

    /// Ends the probe as a kill would: no drain, nothing more is written.
    pub(crate) async fn kill(self) -> tempfile::TempDir {
        self.probe.abort();
        let _aborted = self.probe.await;
        self.folder
    }

    /// As [`kill`](Self::kill), with the minutes that it had handed over.
    pub(crate) async fn killed(self) -> (tempfile::TempDir, Vec<LagInterval>) {
        self.probe.abort();
        let _aborted = self.probe.await;
        let (_, intervals) = self.taken.await.unwrap();
        (self.folder, intervals)
    }

    /// The value of a figure in the scrape.
    pub(crate) fn figure(&self, name: &str) -> Option<f64> {
        let text = self.metrics.render();
        let line = text.lines().find(|line| line.starts_with(&format!("{name}{{")))?;
        line.rsplit(' ').next()?.parse().ok()
    }
}

impl Left {
    pub(crate) fn accounting(&self) -> probes::Accounting {
        assert_eq!(self.summary.routes.len(), 1);
        let accounting = self.summary.routes[0].accounting;
        assert!(accounting.holds(), "{accounting:?}");
        accounting
    }

    pub(crate) fn ledgers(&self) -> Vec<EpochLedger> {
        probes::ledgers(self.folder.path(), |_| true).unwrap()
    }
}

/// Every canary that was written was seen.
#[track_caller]
pub(crate) fn assert_all_seen(accounting: &probes::Accounting, case: impl std::fmt::Display) {
    assert_eq!(
        (accounting.pending, accounting.lost, accounting.superseded),
        (0, 0, 0),
        "{case}: {accounting:?}"
    );
}

pub(crate) fn canary(sample: &LagSample) -> Canary {
    Canary {
        stream: sample.stream.clone(),
        epoch: sample.epoch.clone(),
        sequence: sample.sequence,
        stamp: None,
    }
}

/// Waits for something to become true, in virtual time.
pub(crate) async fn until(what: &str, mut is_true: impl FnMut() -> bool) {
    for _ in 0..100_000 {
        if is_true() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}
