//! A second standby that the primary waits for, and that can be made to stall.

use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use nix::sys::signal::Signal;
use tokio::sync::OnceCell;

use super::pair::{PgPair, copy_of, create_slot};
use super::server::PgServer;
use crate::LabError;
use crate::process::ProcessId;

/// Its name, its slot's, and the primary's `synchronous_standby_names`.
const NAME: &str = "second";
/// Time for the primary to see it as synchronous, or to see a stall.
const PATIENCE: Duration = Duration::from_secs(30);

/// The second standby of a pair, when there is one.
#[derive(Debug, Default)]
pub(crate) struct Second {
    server: OnceCell<PgServer>,
    stalled: Mutex<Option<ProcessId>>,
}

impl PgPair {
    /// Adds a second standby, which the primary waits for at each commit. It reaches the primary without the relay, so
    /// that [`cut`](Self::cut) does not touch it. A second call returns the same server.
    ///
    /// # Errors
    /// It does not start, or the primary does not answer.
    pub async fn add_synchronous_standby(&self) -> Result<&PgServer, LabError> {
        let add = async {
            create_slot(self.primary(), NAME).await?;
            let second = copy_of(self.primary(), NAME, self.primary().port()).await?;
            let change = format!("set synchronous_standby_names = '{NAME}'");
            self.primary().alter_system(&change).await?;
            let seen = format!("select sync_state = 'sync' from pg_stat_replication where application_name = '{NAME}'");
            self.primary()
                .wait_for("postgres", &seen, "the second standby as synchronous", PATIENCE)
                .await?;
            Ok(second)
        };
        self.second().server.get_or_try_init(|| add).await
    }

    /// Stops the second standby's receiver with SIGSTOP: commits at the primary wait from now on, while the first standby
    /// already shows them.
    ///
    /// # Errors
    /// There is no second standby, or it does not stream.
    pub async fn stall_synchronous_standby(&self) -> Result<(), LabError> {
        let Some(second) = self.second().server.get() else {
            return Err(self.primary().state_error("call add_synchronous_standby() first"));
        };
        let pid = second
            .value(
                "postgres",
                "select pid from pg_stat_wal_receiver where status = 'streaming'",
            )
            .await?
            .and_then(|pid| pid.parse().ok());
        // Only ever a process below the lab's own server.
        let receiver = second
            .inner()
            .children()
            .into_iter()
            .find(|child| Some(child.pid) == pid)
            .ok_or_else(|| second.state_error("it does not stream, so there is no receiver to stall"))?;
        receiver.freeze();
        *self.second().stalled.lock().unwrap_or_else(PoisonError::into_inner) = Some(receiver);
        Ok(())
    }

    /// Lets the second standby go on; commits that wait return. Nothing happens when it is not stalled.
    pub fn resume_synchronous_standby(&self) {
        let stalled = self
            .second()
            .stalled
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
        if let Some(receiver) = stalled {
            receiver.signal(Signal::SIGCONT);
        }
    }

    /// The second standby, when there is one.
    pub fn synchronous_standby(&self) -> Option<&PgServer> {
        self.second().server.get()
    }
}
