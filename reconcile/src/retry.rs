//! A bounded number of tries for errors that pass.

use std::time::Duration;

use stores::{Result, StoreError};

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
