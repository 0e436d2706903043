//! Quantiles of what was measured, exactly: no histogram lies between.

use serde::Serialize;

/// Quantiles by nearest rank, microseconds. `None`: the rank falls among what has no upper bound.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Quantiles {
    /// Figures, the unbounded ones included.
    pub(crate) samples: usize,
    pub(crate) p50_us: Option<u64>,
    pub(crate) p99_us: Option<u64>,
    pub(crate) max_us: Option<u64>,
}

impl Quantiles {
    /// Of `figures`, and of `unbounded` more that are longer than all of them.
    pub(crate) fn of(mut figures: Vec<u64>, unbounded: usize) -> Self {
        figures.sort_unstable();
        let samples = figures.len() + unbounded;
        let at = |percent: usize| {
            let rank = (samples * percent).div_ceil(100).max(1);
            figures.get(rank - 1).copied()
        };
        Self {
            samples,
            p50_us: at(50),
            p99_us: at(99),
            max_us: at(100),
        }
    }
}

/// Microseconds as milliseconds, for a person.
pub(crate) fn ms(us: Option<u64>) -> String {
    us.map_or("unbounded".to_owned(), |us| {
        format!("{}.{:03} ms", us / 1_000, us % 1_000)
    })
}
