//! SIGHUP: the configuration is read again. A broken one changes nothing, and that is said.

use std::fmt::Display;
use std::sync::Arc;

use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

/// Signals that wait while a file is being read: one more is as good as many.
const WAITING_MAX: usize = 1;

/// Sends for each SIGHUP; several that come at once are one. Must be called on a runtime.
///
/// # Errors
/// When the system refuses the signal handler.
pub(crate) fn on_hangup() -> std::io::Result<mpsc::Receiver<()>> {
    let mut hangup = signal(SignalKind::hangup())?;
    let (sender, receiver) = mpsc::channel(WAITING_MAX);
    tokio::spawn(async move {
        // Ends with the receiver, or when the system tells of no more signals.
        while hangup.recv().await.is_some() {
            if let Err(mpsc::error::TrySendError::Closed(())) = sender.try_send(()) {
                return;
            }
        }
    });
    Ok(receiver)
}

/// The configuration that holds now: `first`, and from then on what `load` reads at each signal. What cannot be read leaves the old one
/// in place. Ends when nobody looks at it any more.
pub(crate) fn follow<T, E>(
    first: T,
    mut signals: mpsc::Receiver<()>,
    load: impl Fn() -> Result<T, E> + Send + 'static,
) -> watch::Receiver<Arc<T>>
where
    T: Send + Sync + 'static,
    E: Display,
{
    let (sender, current) = watch::channel(Arc::new(first));
    tokio::spawn(async move {
        loop {
            let signal = tokio::select! {
                () = sender.closed() => return,
                signal = signals.recv() => signal,
            };
            if signal.is_none() {
                return;
            }
            match load() {
                Ok(new) => {
                    tracing::info!("SIGHUP: the configuration was read again");
                    sender.send_replace(Arc::new(new));
                }
                Err(error) => {
                    tracing::error!("SIGHUP: the configuration cannot be used, so the old one stays in force: {error}");
                }
            }
        }
    });
    current
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::time::Duration;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    #[tokio::test]
    async fn a_broken_file_keeps_the_old_configuration_and_a_mended_one_takes_its_place() {
        let file = Arc::new(Mutex::new(Err("line 3: unknown key".to_owned())));
        let (hangup, signals) = mpsc::channel(WAITING_MAX);
        let read = file.clone();
        let (asked, mut reads) = mpsc::unbounded_channel();
        let mut current = follow("old".to_owned(), signals, move || {
            asked.send(()).unwrap();
            read.lock().unwrap().clone()
        });
        hangup.send(()).await.unwrap();
        tokio::time::timeout(PATIENCE, reads.recv()).await.unwrap().unwrap();
        *file.lock().unwrap() = Ok("new".to_owned());
        hangup.send(()).await.unwrap();
        tokio::time::timeout(PATIENCE, current.changed())
            .await
            .unwrap()
            .unwrap();
        assert_eq!(
            **current.borrow_and_update(),
            "new",
            "the broken one was never in force"
        );
        *file.lock().unwrap() = Err("gone".to_owned());
        hangup.send(()).await.unwrap();
        tokio::time::timeout(PATIENCE, reads.recv()).await.unwrap().unwrap();
        drop(hangup);
        assert!(
            tokio::time::timeout(PATIENCE, current.changed())
                .await
                .unwrap()
                .is_err()
        );
        assert_eq!(**current.borrow(), "new");
    }

    #[tokio::test]
    async fn a_hangup_is_an_event_and_no_end() {
        let mut hangups = on_hangup().unwrap();
        for _ in 0..2 {
            nix::sys::signal::kill(nix::unistd::Pid::this(), nix::sys::signal::Signal::SIGHUP).unwrap();
            tokio::time::timeout(PATIENCE, hangups.recv()).await.unwrap().unwrap();
        }
    }
}
