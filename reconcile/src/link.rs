//! Proof that the secondary applies what the primary writes.
//!
//! A log position alone proves nothing between two servers of one origin: after a promotion both go on counting from the same point.

use std::collections::HashMap;
use std::time::Duration;

use stores::{Canary, CanaryReader, Sought, WriteOutcome};
use tokio::time::Instant;

use crate::progress::{Event, Listener};
use crate::retry::{answered, asked};
use crate::{Limits, Pair};

/// The canaries of all reconciliations share one ring, so that runs leave no rows behind.
const STREAM: &str = "reconcile-link";
/// Canaries that one proof may try to write: another run may take the slot.
const CANARIES_MAX: u32 = 5;
/// First pause between two polls; doubled up to [`POLL_PAUSE_MAX`].
const POLL_PAUSE: Duration = Duration::from_millis(2);
const POLL_PAUSE_MAX: Duration = Duration::from_millis(250);

/// What was tried and found of the link in this run: for two instances, proof or the reason why there is none. A failed proof is not
/// tried again, so that a dead link costs its patience once and not once for each batch of keys.
#[derive(Debug, Default)]
pub(crate) struct Link {
    found: tokio::sync::Mutex<HashMap<(String, String), Result<(), String>>>,
}

impl Link {
    /// Whether the link between these two instances was proved in this run.
    pub(crate) async fn is_proved(&self, primary: &str, secondary: &str) -> bool {
        let found = self.found.lock().await;
        matches!(found.get(&(primary.to_owned(), secondary.to_owned())), Some(Ok(())))
    }

    /// Writes a canary of a random epoch at the primary and waits until the secondary shows it. Callers queue: one proof serves all.
    ///
    /// # Errors
    /// Why it is not proved, in words.
    pub(crate) async fn prove(
        &self,
        pair: &Pair,
        limits: &Limits,
        (primary, secondary): (&str, &str),
        listener: Listener<'_>,
    ) -> Result<(), String> {
        let instances = (primary.to_owned(), secondary.to_owned());
        let mut found = self.found.lock().await;
        if let Some(known) = found.get(&instances) {
            return known.clone();
        }
        let result = try_once(pair, limits).await.map_err(|reason| {
            let (from, to) = (&pair.primary.site, &pair.secondary.site);
            format!("the link from {from} to {to} is not proved: {reason}")
        });
        if result.is_ok() {
            listener(Event::LinkProved {
                primary: instances.0.clone(),
                secondary: instances.1.clone(),
            });
        }
        found.insert(instances, result.clone());
        result
    }
}

/// Writes and looks at the same time: a canary that is seen proves the link however its write ends. Where the primary waits for another
/// standby, the secondary shows it long before it is acknowledged.
async fn try_once(pair: &Pair, limits: &Limits) -> Result<(), String> {
    let (Some(writer), Some(reader)) = (&pair.primary.canary_writer, &pair.secondary.canary_reader) else {
        return Err("no canary can be written and seen; create the canary tables first".to_owned());
    };
    let (from, to) = (&pair.primary.site, &pair.secondary.site);
    let mut last = String::new();
    for _ in 0..CANARIES_MAX {
        let highest = asked(limits, from, || writer.highest_sequence(STREAM)).await.0;
        let canary = Canary {
            stream: STREAM.to_owned(),
            epoch: format!("{:032x}", rand::random::<u128>()),
            sequence: highest.map_err(|error| error.to_string())? + 1,
            stamp: None,
        };
        let mut seeing = std::pin::pin!(see(reader.as_ref(), to, &canary, limits));
        let outcome = tokio::select! {
            seen = &mut seeing => return seen,
            outcome = writer.write(&canary) => outcome,
        };
        match outcome {
            WriteOutcome::Acknowledged => return seeing.await,
            WriteOutcome::Unknown(error) => {
                return seeing
                    .await
                    .map_err(|reason| format!("{reason}; whether it was written is not known: {error}"));
            }
            // Another run took the slot, or the primary refused it.
            WriteOutcome::Failed(error) => last = error.to_string(),
        }
    }
    Err(format!("no canary could be written in {CANARIES_MAX} tries: {last}"))
}

async fn see(reader: &dyn CanaryReader, site: &str, canary: &Canary, limits: &Limits) -> Result<(), String> {
    let deadline = Instant::now() + limits.fence_patience;
    let mut pause = POLL_PAUSE;
    let mut last = String::new();
    loop {
        match answered(limits, site, reader.poll(STREAM, Sought::All)).await {
            Ok(sighting) if sighting.canaries.contains(canary) => return Ok(()),
            Ok(_) => {}
            Err(error) if error.is_passing() => last = format!("; last error: {error}"),
            Err(error) => return Err(error.to_string()),
        }
        if Instant::now() + pause > deadline {
            let patience = limits.fence_patience;
            return Err(format!("a canary was not seen within {patience:?}{last}"));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(POLL_PAUSE_MAX);
    }
}
