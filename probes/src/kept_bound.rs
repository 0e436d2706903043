//! The bound of the wall clock's error, asked for beside the timing path.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use crate::ClockBound;

/// Between two questions.
const ASK_EVERY: Duration = Duration::from_secs(5);

/// A clock that nobody asks about wanders by no more than one part in this many: 50 ppm, more than a crystal does.
const WANDERS_ONE_IN: u64 = 20_000;

/// What was told last, and when.
type Told = Option<(u64, Instant)>;

/// Knows the bound at any instant without asking. Asking ends when it is dropped.
#[derive(Debug)]
pub struct KeptBound {
    told: watch::Receiver<Told>,
    _asking: AbortOnDropHandle<()>,
}

impl KeptBound {
    /// Asks `bound` now and again and again. Returns after the first answer.
    pub async fn of(bound: Arc<dyn ClockBound>) -> Self {
        let first = ask(&*bound).await;
        let (sender, told) = watch::channel(first);
        let asking = tokio::spawn(async move {
            loop {
                tokio::time::sleep(ASK_EVERY).await;
                sender.send_replace(ask(&*bound).await);
            }
        });
        Self {
            told,
            _asking: AbortOnDropHandle::new(asking),
        }
    }

    /// The bound now, microseconds; `None`: nobody vouches for the clock.
    pub fn now_us(&self) -> Option<u64> {
        let (bound_us, at) = (*self.told.borrow())?;
        let age_us = u64::try_from(at.elapsed().as_micros()).ok()?;
        Some(bound_us.saturating_add(age_us / WANDERS_ONE_IN + 1))
    }
}

async fn ask(bound: &dyn ClockBound) -> Told {
    let at = Instant::now();
    bound.bound_us().await.map(|bound_us| (bound_us, at))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use async_trait::async_trait;

    use super::*;

    /// Vouches for as much as it is set to; 0: for nothing.
    #[derive(Debug)]
    struct Word(AtomicU64);

    #[async_trait]
    impl ClockBound for Word {
        async fn bound_us(&self) -> Option<u64> {
            Some(self.0.load(Ordering::SeqCst)).filter(|bound| *bound > 0)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_bound_grows_until_it_is_asked_for_again_and_goes_when_nobody_vouches() {
        let word = Arc::new(Word(AtomicU64::new(300)));
        let kept = KeptBound::of(word.clone()).await;
        assert_eq!(kept.now_us(), Some(301));
        tokio::time::sleep(Duration::from_secs(4)).await;
        assert_eq!(kept.now_us(), Some(501), "200 us in 4 s");
        word.0.store(0, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_secs(2)).await;
        assert_eq!(kept.now_us(), None);
    }
}
