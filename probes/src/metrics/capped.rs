//! Gauges by collection, and their bound: a probe of a thousand tables must not flood the one that scrapes it.

use std::collections::BTreeMap;

/// Series with a collection that one gauge may show. What is beyond it is folded.
pub const SERIES_MAX: usize = 128;

/// The collection that stands for all those beyond [`SERIES_MAX`].
pub const OTHER: &str = "_other";

/// One value of a gauge: of which collection (`None`: of the whole), whose it is, how much.
pub(crate) type Valued<K, V> = (Option<String>, K, V);

/// The values of one gauge, each pair of collection and owner once, and how many of them were folded into [`OTHER`].
///
/// Which collections are kept depends on their names alone, so that no series comes and goes with its value.
pub(crate) fn capped<K: Ord, V: Copy>(
    values: impl IntoIterator<Item = Valued<K, V>>,
    fold: impl Fn(V, V) -> V,
) -> (Vec<Valued<K, V>>, usize) {
    let merged = merge(values, &fold);
    let named = merged.keys().filter(|(collection, _)| collection.is_some()).count();
    let folded = named.saturating_sub(SERIES_MAX);
    let kept = merged.len() - folded;
    // Those of the whole sort before those with a name, so the last ones are the ones to fold.
    let renamed = merged
        .into_iter()
        .enumerate()
        .map(|(at, ((collection, owner), value))| {
            let collection = if at < kept { collection } else { Some(OTHER.to_owned()) };
            (collection, owner, value)
        });
    let merged = merge(renamed, &fold);
    let values = merged
        .into_iter()
        .map(|((collection, owner), value)| (collection, owner, value));
    (values.collect(), folded)
}

fn merge<K: Ord, V: Copy>(
    values: impl IntoIterator<Item = Valued<K, V>>,
    fold: &impl Fn(V, V) -> V,
) -> BTreeMap<(Option<String>, K), V> {
    let mut merged = BTreeMap::new();
    for (collection, owner, value) in values {
        merged
            .entry((collection, owner))
            .and_modify(|held| *held = fold(*held, value))
            .or_insert(value);
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_beyond_the_bound_shows_by_its_worst_value() {
        let values = (0..SERIES_MAX + 3).map(|n| (Some(format!("table{n:04}")), "route", n));
        let (shown, folded) = capped(values.chain([(None, "route", 7)]), usize::max);
        assert_eq!(folded, 3);
        assert_eq!(shown.len(), SERIES_MAX + 2, "the kept ones, the whole, the rest");
        assert!(shown.contains(&(Some(OTHER.to_owned()), "route", SERIES_MAX + 2)));
        assert!(shown.contains(&(None, "route", 7)));
        let (same, _) = capped(
            (0..SERIES_MAX + 3)
                .rev()
                .map(|n| (Some(format!("table{n:04}")), "route", 1)),
            usize::max,
        );
        let names = |all: &[Valued<&str, usize>]| -> Vec<_> { all.iter().filter_map(|one| one.0.clone()).collect() };
        assert_eq!(
            names(&same),
            names(&shown),
            "neither order nor values decide who is kept"
        );
    }

    #[test]
    fn two_streams_of_one_collection_are_one_series() {
        let values = [
            (Some("a".to_owned()), 1, 2),
            (Some("a".to_owned()), 1, 5),
            (None, 1, 3),
            (None, 1, 4),
        ];
        let (shown, folded) = capped(values, |a: i32, b| a + b);
        assert_eq!((shown, folded), (vec![(None, 1, 7), (Some("a".to_owned()), 1, 7)], 0));
    }
}
