//! Stopping: the first SIGTERM or Ctrl-C asks for a drain; every drain has a deadline of its own.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;

/// A token that is cancelled by the first SIGTERM or SIGINT. Must be called on a runtime.
///
/// # Errors
/// When the system refuses the signal handlers.
pub(crate) fn on_signal() -> std::io::Result<CancellationToken> {
    let token = CancellationToken::new();
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let cancelled = token.clone();
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => tracing::info!("SIGTERM: draining"),
            _ = interrupt.recv() => tracing::info!("Ctrl-C: draining"),
        }
        cancelled.cancel();
    });
    Ok(token)
}
