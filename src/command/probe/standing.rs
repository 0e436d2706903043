//! What a running probe keeps up with: stated writers, events, SIGHUP, and how far the copies of its ledger have come.

use std::sync::Arc;
use std::time::Duration;

use probes::{CopyFigures, LedgerFigures, Metrics, PlaceFigures, StatedWriters};
use reports::{Event, EventKind};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::routes;
use crate::command::Context;
use crate::config::Config;
use crate::reload;
use crate::stated::Stated;

/// Between two looks at the state folder.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Keeps a running probe up to date.
pub(super) struct Standing {
    context: Context,
    metrics: Arc<Metrics>,
    copies: Option<CopyFigures>,
    writers: watch::Sender<StatedWriters>,
    /// The last statement of the state folder.
    seen: Stated,
    /// Counts what was told to the engine.
    statement: u64,
    /// The last fault, so that one that lasts is logged once.
    fault: Option<String>,
}

impl Standing {
    /// Starts from what the command was started with.
    pub(super) fn new(context: &Context, metrics: Arc<Metrics>, copies: Option<CopyFigures>) -> Self {
        let writers = watch::Sender::new(routes::stated(&context.config, 0));
        let seen = Stated::load(&context.config.state).unwrap_or_default();
        Self {
            context: context.clone(),
            metrics,
            copies,
            writers,
            seen,
            statement: 0,
            fault: None,
        }
    }

    /// What the engine is told of writers.
    pub(super) fn writers(&self) -> watch::Receiver<StatedWriters> {
        self.writers.subscribe()
    }

    /// Until `stop`.
    ///
    /// # Errors
    /// The system refuses the signal handler.
    pub(super) async fn run(mut self, stop: CancellationToken) -> std::io::Result<()> {
        let file = self.context.file.clone();
        let first = self.context.config.clone();
        let mut read = reload::follow(first, reload::on_hangup()?, move || Config::load(&file));
        let mut looks = tokio::time::interval(LOOK_EVERY);
        loop {
            let was_read = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                changed = read.changed() => changed.is_ok(),
                _ = looks.tick() => false,
            };
            if was_read {
                let config = read.borrow_and_update().clone();
                self.take_up(&config);
            }
            let looked = self.look();
            self.note(looked.err().map(|error| format!("{error:#}")));
            self.tell_ledger();
        }
    }

    /// Takes up who writes by a configuration that was read again.
    fn take_up(&mut self, config: &Config) {
        let before = &self.context.config;
        if before.fingerprints() != config.fingerprints() || before.ledger != config.ledger {
            tracing::warn!(
                "what is probed, and how, has changed in the configuration: it is taken up at the next start; writers are now"
            );
        }
        self.context.config.writers.clone_from(&config.writers);
        for name in config.connection.keys().chain(config.dataset.keys()) {
            let own = config.writers_of(name).to_vec();
            self.context.config.set_writers(name, own);
        }
        // What the state folder states still beats the file.
        self.seen = Stated::default();
        self.state();
    }

    fn look(&mut self) -> anyhow::Result<()> {
        let found = Stated::load(&self.context.config.state)?;
        if found != self.seen {
            found.apply(&mut self.context.config)?;
            self.seen = found;
            self.state();
        }
        let events = Event::load_all(&self.context.config.state)?;
        for kind in EventKind::ALL {
            let is_active = events
                .iter()
                .any(|event| event.kind == kind && event.ended_at_us.is_none());
            self.metrics.set_event_active(kind.word(), is_active);
        }
        Ok(())
    }

    /// Tells the engine who writes.
    fn state(&mut self) {
        self.statement += 1;
        self.writers
            .send_replace(routes::stated(&self.context.config, self.statement));
    }

    fn note(&mut self, fault: Option<String>) {
        if fault != self.fault {
            match &fault {
                Some(fault) => tracing::error!("the state folder cannot be used, so roles stay as they are: {fault}"),
                None => tracing::info!("the state folder can be used again"),
            }
            self.fault = fault;
        }
    }

    fn tell_ledger(&self) {
        let places = self.copies.as_ref().map(CopyFigures::places).unwrap_or_default();
        self.metrics.set_ledger(LedgerFigures {
            bytes: folder_bytes(&self.context.config.ledger.path),
            sync_failures: 0,
            places: places
                .into_iter()
                .map(|state| PlaceFigures {
                    place: state.name,
                    complete_until_us: state.complete_until_us,
                    failures: state.failures,
                })
                .collect(),
        });
    }
}

/// Bytes of the files in a folder; `None`: it cannot be read.
fn folder_bytes(folder: &std::path::Path) -> Option<u64> {
    let mut bytes = 0;
    for entry in std::fs::read_dir(folder).ok()? {
        // A segment that is removed meanwhile is no fault.
        bytes += entry.ok()?.metadata().map_or(0, |about| about.len());
    }
    Some(bytes)
}
