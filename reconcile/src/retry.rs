//! A bounded number of tries for errors that pass.

use std::time::Duration;

use stores::{Fence, Position, Result, StoreError, Trouble};

use crate::Limits;

/// No single pause is longer, whatever the store asks for.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// Calls `ask` until it succeeds, fails for good, or `limits.attempts_max` tries are used up. Also tells the number of tries.
pub(crate) async fn patiently<T, F, A>(limits: &Limits, mut ask: F) -> (Result<T>, u64)
where
    F: FnMut() -> A,
    A: Future<Output = Result<T>>,
{
    let mut attempts = 1;
    loop {
        match ask().await {
            Err(error) => match rest(limits, attempts, error).await {
                Ok(()) => attempts += 1,
                Err(error) => return (Err(error), attempts),
            },
            Ok(answer) => return (Ok(answer), attempts),
        }
    }
}

/// Asks a store until it answers, fails for good, or `limits.attempts_max` tries are used up, each of which ends after
/// `limits.answer_patience` at the latest. `site` is who is asked. Also tells the number of tries.
pub async fn asked<T, F, A>(limits: &Limits, site: &str, mut ask: F) -> (Result<T>, u64)
where
    F: FnMut() -> A,
    A: Future<Output = Result<T>>,
{
    patiently(limits, || answered(limits, site, ask())).await
}

/// Waits for one answer, and not for ever: a relay that forgot a connection keeps it alive and says nothing, and no time limit that
/// the server or the network keeps can end that.
pub(crate) async fn answered<T>(limits: &Limits, site: &str, answer: impl Future<Output = Result<T>>) -> Result<T> {
    let patience = limits.answer_patience;
    match tokio::time::timeout(patience, answer).await {
        Ok(answer) => answer,
        Err(_) => Err(StoreError::Unreachable(
            Trouble::new(site, "wait for an answer", format!("nothing came within {patience:?}")).hint(
                "the connection stands and is silent: look at proxies and balancers between driftline and the server",
            ),
        )),
    }
}

/// Waits at `site` until it has passed `point`; `false` when it had not after `patience`.
pub(crate) async fn passed(
    limits: &Limits,
    site: &str,
    fence: &dyn Fence,
    point: Position,
    patience: Duration,
) -> Result<bool> {
    let limits = &Limits {
        answer_patience: patience + limits.answer_patience,
        ..limits.clone()
    };
    asked(limits, site, || fence.wait(point, patience)).await.0
}

/// Rests before the next try.
///
/// # Errors
/// The error itself, when it does not pass or all tries are used up.
pub(crate) async fn rest(limits: &Limits, attempts: u64, error: StoreError) -> Result<()> {
    if !error.is_passing() || attempts >= u64::from(limits.attempts_max) {
        return Err(error);
    }
    tokio::time::sleep(pause(limits.backoff, attempts, &error)).await;
    Ok(())
}

/// Doubles for each try, between half and the whole of that at random, and never before the store wants to be asked again.
fn pause(base: Duration, attempts: u64, error: &StoreError) -> Duration {
    let doublings = u32::try_from(attempts - 1).unwrap_or(u32::MAX).min(16);
    let full = base.saturating_mul(1 << doublings).min(PAUSE_MAX);
    let jittered = full.mul_f64(rand::random_range(0.5..=1.0));
    let asked = match error {
        StoreError::Retryable { after, .. } => after.unwrap_or_default(),
        _ => Duration::ZERO,
    };
    jittered.max(asked.min(PAUSE_MAX))
}
