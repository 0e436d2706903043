//! How many reads of rows run at each side at the same time: one side may bear fewer than the other.

use std::sync::OnceLock;

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::{Limits, Side};

/// The gates of both sides, as wide as the limits that come first say. One for all chunks of a pair in this process.
#[derive(Debug, Default)]
pub(crate) struct Gates(OnceLock<(Semaphore, Semaphore)>);

/// While it is held, one read of rows may run.
pub(crate) type Entered<'a> = Option<SemaphorePermit<'a>>;

impl Gates {
    /// Waits until one more read may run at this side. Who waits at both, waits at the primary first: then nobody waits in a circle.
    pub(crate) async fn enter(&self, side: Side, limits: &Limits) -> Entered<'_> {
        let (primary, secondary) = self.0.get_or_init(|| {
            let reads = limits.reads_in_flight;
            (
                Semaphore::new(reads.primary.max(1)),
                Semaphore::new(reads.secondary.max(1)),
            )
        });
        let gate = match side {
            Side::Primary => primary,
            Side::Secondary => secondary,
        };
        // It is never closed.
        gate.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt as _;

    use super::*;
    use crate::ReadsInFlight;

    #[test]
    fn each_side_lets_in_as_many_as_it_bears() {
        let limits = Limits {
            reads_in_flight: ReadsInFlight {
                primary: 1,
                secondary: 2,
            },
            ..Limits::default()
        };
        let gates = Gates::default();
        let enter = |side| gates.enter(side, &limits).now_or_never();
        let first = enter(Side::Primary);
        assert!(matches!(first, Some(Some(_))));
        assert!(enter(Side::Primary).is_none());
        let others = [enter(Side::Secondary), enter(Side::Secondary)];
        assert!(others.iter().all(|entered| matches!(entered, Some(Some(_)))));
        assert!(enter(Side::Secondary).is_none());
        drop(first);
        assert!(enter(Side::Primary).is_some());
    }
}
