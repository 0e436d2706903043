//! Where the rows of a collection are hashed, and how many make a chunk: measured on its first chunk, at both sides at the same time.

use std::time::Duration;

use stores::{Collection, DigestMode, End, Key, KeyRange, Part, Recipe};

use crate::one_side;
use crate::{DigestChoice, Limits, Pair};

/// No chunk has fewer rows, however slow they are.
const ROWS_PER_CHUNK_MIN: u64 = 1_000;
/// Chunks are cut anew only if they should have so many times more or fewer rows.
const RECUT_FACTOR: f64 = 1.5;
/// Hashing here is chosen when it takes less than this share of the time: it costs driftline's own processor, too.
const CLIENT_SHARE_MAX: f64 = 0.9;
/// A server that hashes takes so many times as long where chunks differ: the digests of their rows have to be sent, too. Rows that are hashed
/// here are kept, so that their keys cost nothing more. Measured on PostgreSQL, 0.1 and 1 % of five million rows: 1.4 to 1.8.
const SERVER_WHERE_CHUNKS_DIFFER: f64 = 1.6;

/// One way of hashing a collection, which both ends do alike.
#[derive(Debug, Clone)]
pub(crate) struct Way {
    pub(crate) recipe: Recipe,
    pub(crate) known_answer: u128,
}

/// The modes to try for a recipe, in the order of preference; empty if the store cannot do what is asked for.
pub(crate) fn modes(choice: DigestChoice, recipe: &Recipe) -> Vec<Recipe> {
    let modes: &[DigestMode] = match choice {
        DigestChoice::Auto => &[DigestMode::Pushdown, DigestMode::Client],
        DigestChoice::Pushdown => &[DigestMode::Pushdown],
        DigestChoice::Client => &[DigestMode::Client],
    };
    if recipe.forms.is_empty() {
        let is_meant = choice != DigestChoice::Client || recipe.mode == DigestMode::Client;
        return if is_meant { vec![recipe.clone()] } else { Vec::new() };
    }
    modes.iter().filter_map(|mode| recipe.hashed(*mode)).collect()
}

/// What one chunk took.
#[derive(Debug, Clone, Copy)]
struct Taken {
    rows: u64,
    /// Of the slower side.
    time: Duration,
    /// The sides were not equal, so that the next chunks may not be either.
    differs: bool,
}

impl Taken {
    fn micros_per_row(self) -> f64 {
        let rows = u32::try_from(self.rows.max(1)).unwrap_or(u32::MAX);
        self.time.as_secs_f64() * 1e6 / f64::from(rows)
    }

    /// What a row would cost by the server, with the search for what differs.
    fn server_cost(self) -> f64 {
        let times = if self.differs { SERVER_WHERE_CHUNKS_DIFFER } else { 1.0 };
        self.micros_per_row() * times
    }
}

/// Chooses among `ways`, and how many rows a chunk should have. What cannot be measured leaves the first way and the size as they are.
pub(crate) async fn choose(
    pair: &Pair,
    limits: &Limits,
    (primary, secondary): (&Collection, &Collection),
    ways: Vec<Way>,
    boundaries: &[Key],
) -> (Option<Way>, u64) {
    let mut measured: Vec<(Way, Option<Taken>)> = Vec::with_capacity(ways.len());
    let Some(first) = KeyRange::ALL.cut(boundaries).into_iter().next() else {
        return (ways.into_iter().next(), limits.rows_per_chunk);
    };
    let part = Part::Range(first);
    let take = async |recipe: &Recipe| {
        let keep = recipe.mode == DigestMode::Client;
        let one = async |end: &End, collection: &Collection| {
            let begun = tokio::time::Instant::now();
            let look = one_side::look((end, collection), recipe, &part, keep, limits).await.0;
            look.ok().map(|look| (look.digest, begun.elapsed()))
        };
        let (ours, theirs) = futures::join!(one(&pair.primary, primary), one(&pair.secondary, secondary));
        let (ours, theirs) = (ours?, theirs?);
        Some(Taken {
            rows: ours.0.count.max(theirs.0.count),
            time: ours.1.max(theirs.1),
            differs: ours.0 != theirs.0,
        })
    };
    for way in ways {
        let taken = take(&way.recipe).await;
        measured.push((way, taken));
    }
    if best(&measured) > 0
        && let Some((way, taken)) = measured.first_mut()
    {
        // It may only have been slower because it fetched the chunk into memory for the other one.
        *taken = take(&way.recipe).await;
    }
    let best = best(&measured);
    let name = &primary.name;
    let figures: Vec<String> = measured
        .iter()
        .map(|(way, taken)| match taken {
            Some(taken) => format!("{} {:.3} us a row", way.recipe.mode.word(), taken.micros_per_row()),
            None => format!("{} not measured", way.recipe.mode.word()),
        })
        .collect();
    let Some((way, taken)) = measured.into_iter().nth(best) else {
        return (None, limits.rows_per_chunk);
    };
    let rows = taken.map_or(limits.rows_per_chunk, |taken| wanted(taken, limits));
    tracing::info!(
        collection = name,
        mode = way.recipe.mode.word(),
        measured = figures.join(", "),
        rows_per_chunk = rows,
        "measured on the first chunk"
    );
    (Some(way), rows)
}

fn best(measured: &[(Way, Option<Taken>)]) -> usize {
    let taken = |at: usize| measured.get(at).and_then(|(_, taken)| *taken);
    match (taken(0), taken(1)) {
        (Some(first), Some(second)) if second.micros_per_row() < first.server_cost() * CLIENT_SHARE_MAX => 1,
        _ => 0,
    }
}

/// So many rows that a chunk takes the time that it should.
fn wanted(taken: Taken, limits: &Limits) -> u64 {
    let rows = limits.pace.chunk_target.as_secs_f64() * 1e6 / taken.micros_per_row().max(f64::MIN_POSITIVE);
    let most = limits.pace.rows_per_chunk_max.max(ROWS_PER_CHUNK_MIN);
    // Doubled and halved as whole numbers: a float is not cast.
    let mut wanted = ROWS_PER_CHUNK_MIN;
    while wanted < most && f64::from(u32::try_from(wanted).unwrap_or(u32::MAX)) < rows {
        wanted = (wanted + wanted.div_ceil(8)).min(most);
    }
    wanted
}

/// Whether it is worth its while to cut chunks of `now` rows anew into such of `wanted`.
pub(crate) fn is_other_size(now: u64, wanted: u64) -> bool {
    let (now, wanted) = (
        f64::from(u32::try_from(now.max(1)).unwrap_or(u32::MAX)),
        f64::from(u32::try_from(wanted.max(1)).unwrap_or(u32::MAX)),
    );
    (now / wanted).max(wanted / now) >= RECUT_FACTOR
}

#[cfg(test)]
mod tests {
    use super::*;

    fn way(mode: DigestMode) -> Way {
        Way {
            recipe: Recipe {
                mode,
                columns: Vec::new(),
                key_columns: Vec::new(),
                seed: 0,
                expression: String::new(),
                column_expressions: Vec::new(),
                forms: vec!["t.id".to_owned()],
            },
            known_answer: 0,
        }
    }

    fn taken(millis: u64) -> Option<Taken> {
        Some(Taken {
            rows: 50_000,
            time: Duration::from_millis(millis),
            differs: false,
        })
    }

    #[test]
    fn hashing_here_has_to_be_clearly_faster() {
        let best = |pushdown, client| best(&[(way(DigestMode::Pushdown), pushdown), (way(DigestMode::Client), client)]);
        assert_eq!(best(taken(100), taken(60)), 1);
        assert_eq!(best(taken(100), taken(95)), 0);
        assert_eq!(best(taken(100), taken(300)), 0);
        assert_eq!(best(None, taken(1)), 0, "what was not measured is not beaten");
        assert_eq!(best(taken(100), None), 0);
    }

    #[test]
    fn where_the_first_chunk_differs_rows_are_rather_kept_than_asked_for_again() {
        let differs = taken(100).map(|taken| Taken { differs: true, ..taken });
        let best = |client| best(&[(way(DigestMode::Pushdown), differs), (way(DigestMode::Client), client)]);
        assert_eq!(best(taken(140)), 1);
        assert_eq!(best(taken(150)), 0);
    }

    #[test]
    fn a_chunk_has_as_many_rows_as_fit_into_its_time() {
        let limits = Limits::default();
        let rows = |millis| wanted(taken(millis).unwrap(), &limits);
        assert_eq!(rows(1), limits.pace.rows_per_chunk_max);
        assert!((24_000..30_000).contains(&rows(1_000)), "{}", rows(1_000));
        assert_eq!(rows(1_000_000), ROWS_PER_CHUNK_MIN);
    }

    #[test]
    fn only_a_much_other_size_is_cut_anew() {
        assert!(!is_other_size(50_000, 60_000) && !is_other_size(60_000, 50_000));
        assert!(is_other_size(50_000, 100_000) && is_other_size(100_000, 50_000));
    }

    #[test]
    fn a_store_that_hashes_in_one_place_is_not_asked_to_hash_elsewhere() {
        let only = |mode| Recipe {
            forms: Vec::new(),
            ..way(mode).recipe
        };
        let chosen = |choice, mode| modes(choice, &only(mode)).len();
        assert_eq!(chosen(DigestChoice::Client, DigestMode::Pushdown), 0);
        assert_eq!(chosen(DigestChoice::Client, DigestMode::Client), 1);
        assert_eq!(chosen(DigestChoice::Auto, DigestMode::Client), 1);
        assert_eq!(modes(DigestChoice::Auto, &way(DigestMode::Pushdown).recipe).len(), 2);
    }
}
