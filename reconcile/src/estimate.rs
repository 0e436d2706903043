//! What a comparison will take, from what the catalogs say, before any row is read.

use serde::Serialize;
use stores::Collection;

use crate::{Limits, Selected};

/// Rows that one side is taken to digest in a second, where nothing was measured. Stated, not measured: a busy or small server is slower.
pub const STATED_ROWS_PER_SECOND: u64 = 500_000;
/// Bytes that one side is taken to read in a second; wide rows are bound by them.
pub const STATED_BYTES_PER_SECOND: u64 = 100_000_000;
/// Bytes of a page: what storage that bills for reads bills for.
const PAGE_BYTES: u64 = 8_192;

/// What the comparison of one collection will take. `None` is not known, which is never nothing.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Estimate {
    /// The collection.
    pub collection: String,
    /// Rows of the larger side, by the store's own account.
    pub rows: Option<u64>,
    /// Bytes of the larger side, by the store's own account.
    pub bytes: Option<u64>,
    /// Chunks that it is cut into.
    pub chunks: Option<u64>,
    /// Seconds, both sides at the same time, by the stated throughput.
    pub seconds: Option<f64>,
    /// Pages that both sides together read from storage, if nothing of it is in memory.
    pub page_reads_max: Option<u64>,
}

/// Rows that one side is taken to digest in a second: as stated, and no faster than the run is allowed to go.
pub fn rows_per_second(limits: &Limits) -> u64 {
    let allowed = limits.pace.rows_per_second.unwrap_or(STATED_ROWS_PER_SECOND);
    allowed.clamp(1, STATED_ROWS_PER_SECOND)
}

/// Pages of one side, by the store's own account.
pub fn pages(side: &Collection) -> Option<u64> {
    Some(side.bytes?.div_ceil(PAGE_BYTES))
}

/// Estimates every selected collection.
pub fn estimates(selected: &[Selected], limits: &Limits) -> Vec<Estimate> {
    selected.iter().map(|one| estimate(one, limits)).collect()
}

fn estimate(selected: &Selected, limits: &Limits) -> Estimate {
    let sides = [&selected.primary, &selected.secondary];
    let most = |of: fn(&Collection) -> Option<u64>| sides.iter().filter_map(|side| of(side.as_ref()?)).max();
    let (rows, bytes) = (most(|side| side.rows_estimate), most(|side| side.bytes));
    let name = sides.iter().find_map(|side| side.as_ref());
    let by_rows = rows.map(|rows| seconds(rows, rows_per_second(limits)));
    let by_bytes = bytes.map(|bytes| seconds(bytes, STATED_BYTES_PER_SECOND));
    let pages = sides.iter().filter_map(|side| pages(side.as_ref()?));
    Estimate {
        collection: name.map(|side| side.name.clone()).unwrap_or_default(),
        rows,
        bytes,
        chunks: rows.map(|rows| rows.div_ceil(limits.rows_per_chunk.max(1)).max(1)),
        seconds: by_rows.map(|seconds| by_bytes.map_or(seconds, |other| seconds.max(other))),
        page_reads_max: bytes.map(|_| pages.sum()),
    }
}

fn seconds(amount: u64, per_second: u64) -> f64 {
    std::time::Duration::from_millis(amount.saturating_mul(1_000) / per_second).as_secs_f64()
}

#[cfg(test)]
mod tests {
    use stores::KeyShape;

    use super::*;
    use crate::Settings;

    fn side(rows_estimate: Option<u64>, bytes: Option<u64>) -> Collection {
        Collection {
            name: "public.t".to_owned(),
            kind: "table".to_owned(),
            columns: Vec::new(),
            key: KeyShape::Unusable("none".to_owned()),
            rows_estimate,
            bytes,
            unreadable: None,
            is_canary: false,
            ..Collection::default()
        }
    }

    #[test]
    fn the_slower_of_rows_and_bytes_decides_and_what_is_unknown_stays_so() {
        let of = |primary, secondary| {
            let selected = Selected {
                primary: Some(primary),
                secondary: Some(secondary),
                settings: Settings::default(),
            };
            estimate(&selected, &Limits::default())
        };
        let narrow = of(side(Some(1_000_000), Some(81_920)), side(Some(900_000), Some(8_193)));
        assert_eq!(
            (narrow.rows, narrow.chunks, narrow.seconds),
            (Some(1_000_000), Some(20), Some(2.0))
        );
        assert_eq!(narrow.page_reads_max, Some(12));
        let wide = of(side(Some(10), Some(1_000_000_000)), side(Some(10), None));
        assert_eq!((wide.chunks, wide.seconds), (Some(1), Some(10.0)));
        let mut paced = Limits::default();
        paced.pace.rows_per_second = Some(1_000);
        assert_eq!(
            (rows_per_second(&paced), rows_per_second(&Limits::default())),
            (1_000, 500_000)
        );
        let unknown = of(side(None, None), side(None, None));
        assert_eq!(
            (unknown.rows, unknown.chunks, unknown.seconds, unknown.page_reads_max),
            (None, None, None, None)
        );
    }
}
