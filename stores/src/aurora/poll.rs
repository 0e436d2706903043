//! Asking a server again and again until it shows what is waited for.

use std::time::Duration;

use tokio::time::Instant;

use crate::Result;

/// Between two questions, at first and at most.
const SPACING_MIN: Duration = Duration::from_millis(2);
const SPACING_MAX: Duration = Duration::from_millis(100);

/// Asks until the answer is yes, at most for `patience`. `false`: it was never yes. Nothing is open at the server between two questions.
///
/// # Errors
/// The first error of a question.
pub(crate) async fn until<F: Future<Output = Result<bool>>>(patience: Duration, ask: impl Fn() -> F) -> Result<bool> {
    let deadline = Instant::now() + patience;
    let mut spacing = SPACING_MIN;
    loop {
        if ask().await? {
            return Ok(true);
        }
        let now = Instant::now();
        if now >= deadline {
            return Ok(false);
        }
        tokio::time::sleep(spacing.min(deadline - now)).await;
        spacing = (spacing * 2).min(SPACING_MAX);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_asks_less_and_less_often_and_once_more_at_the_end_of_its_patience() {
        let asked = AtomicU32::new(0);
        let begun = Instant::now();
        let found = until(Duration::from_secs(1), || async {
            asked.fetch_add(1, Ordering::Relaxed);
            Ok(false)
        });
        assert_eq!(found.await, Ok(false));
        assert_eq!(begun.elapsed(), Duration::from_secs(1));
        // 2, 4, ... 64 ms apart, then 100 ms.
        assert_eq!(asked.load(Ordering::Relaxed), 1 + 6 + 9);
        let third = until(Duration::from_secs(1), || async {
            Ok(asked.fetch_add(1, Ordering::Relaxed) == 18)
        });
        assert_eq!((third.await, asked.load(Ordering::Relaxed)), (Ok(true), 19));
    }
}
