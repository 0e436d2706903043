//! Progress for people: a bar on a terminal, a line a table in a log.

use std::io::IsTerminal as _;

/// Where progress is told.
pub(super) struct Progress {
    bar: indicatif::ProgressBar,
    dataset: String,
}

impl Progress {
    pub(super) fn new(dataset: &str) -> Self {
        let bar = if std::io::stderr().is_terminal() {
            indicatif::ProgressBar::new(0)
        } else {
            indicatif::ProgressBar::hidden()
        };
        if let Ok(style) = indicatif::ProgressStyle::with_template("{msg} {wide_bar} {pos}/{len} chunks") {
            bar.set_style(style);
        }
        Self {
            bar,
            dataset: dataset.to_owned(),
        }
    }

    pub(super) fn tell(&self, event: &reconcile::Event) {
        use reconcile::Event as E;
        match event {
            E::Planned { collections, chunks } => {
                self.bar.set_length(*chunks);
                tracing::info!(dataset = self.dataset, collections, chunks, "planned");
            }
            E::LinkProved { primary, secondary } => {
                tracing::info!(
                    dataset = self.dataset,
                    primary,
                    secondary,
                    "the link is proved by a canary"
                );
            }
            E::Begun { collection, .. } => self.bar.set_message(collection.clone()),
            E::Scanned { collection, site, rows } => {
                tracing::info!(dataset = self.dataset, collection, site, rows, "read a part");
            }
            E::Narrowing { collection, chunk_id } => {
                tracing::debug!(collection, chunk_id, "digests differ; looking for the keys");
            }
            E::ChunkDone { .. } => self.bar.inc(1),
            E::Done(_) => tell(&self.dataset, event),
        }
    }

    pub(super) fn end(&self) {
        self.bar.finish_and_clear();
    }
}

/// Tells what a collection amounts to.
pub(super) fn tell(dataset: &str, event: &reconcile::Event) {
    if let reconcile::Event::Done(coverage) = event {
        tracing::info!(
            dataset,
            collection = coverage.collection,
            state = coverage.state.word(),
            confirmed = coverage.confirmed,
            reason = coverage.reason,
            "compared"
        );
    }
}
