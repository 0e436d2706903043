//! Contracts of `Ranged`.

use std::collections::BTreeSet;

use futures::StreamExt;

use super::{Bench, Fixture, Held, ROWS, SEED, answer, fill, hold};
use crate::{ChunkDigest, Collection, Key, KeyRange, Part, Recipe, StoreError};

/// Rows to write: number and body.
type Rows<'a> = &'a [(i64, Option<&'a str>)];

pub(super) async fn ranged(fixture: &dyn Fixture) -> Held {
    fill(fixture).await;
    let Some(bench) = Bench::ranged(fixture).await? else {
        return Ok(());
    };
    recipe(&bench).await?;
    let rows = u64::try_from(ROWS).unwrap_or(0);
    let whole = bench.digest(0, &Part::ALL).await?;
    hold(whole.count == rows, || {
        format!("{} rows counted, {rows} written", whole.count)
    })?;
    let boundaries = answer("split", bench.ranges(0)?.split(&bench.collections[0], 7).await)?;
    let distinct: BTreeSet<&Key> = boundaries.iter().collect();
    hold(distinct.len() == boundaries.len(), || {
        format!("boundaries repeat: {boundaries:?}")
    })?;
    partition(&bench, KeyRange::ALL.cut(&boundaries).into_iter().map(Part::Range)).await?;
    let middle = [fixture.key(9), fixture.key(10), fixture.key(20)];
    partition(&bench, KeyRange::ALL.cut(&middle).into_iter().map(Part::Range)).await?;
    partition(&bench, (0..5).map(|index| Part::Bucket { index, of: 5 })).await?;
    partition(&bench, std::iter::once(Part::Bucket { index: 0, of: 1 })).await?;
    half_open(fixture, &bench).await?;
    pieces(fixture, &bench).await?;
    moments(fixture, &bench).await?;
    missing(&bench).await
}

/// A range is cut strictly between its ends and nowhere twice, and many parts are digested as each by itself.
async fn pieces(fixture: &dyn Fixture, bench: &Bench) -> Held {
    let range = KeyRange {
        lower: Some(fixture.key(5)),
        upper: Some(fixture.key(25)),
    };
    for side in 0..2 {
        let (ranged, collection) = (bench.ranges(side)?, &bench.collections[side]);
        let cuts = answer("cut", ranged.cut(collection, &range, 4).await)?;
        hold(cuts.len() < 4, || format!("4 pieces by {} cuts", cuts.len()))?;
        let parts: Vec<Part> = range.cut(&cuts).into_iter().map(Part::Range).collect();
        let digests = answer("digests", ranged.digests(collection, &bench.recipe, &parts).await)?;
        let mut sum = ChunkDigest::default();
        hold(digests.len() == parts.len(), || {
            format!("{} digests of {} parts", digests.len(), parts.len())
        })?;
        for (part, digest) in parts.iter().zip(digests) {
            let alone = bench.digest(side, part).await?;
            hold(alone == digest && digest.count > 0, || {
                format!("{part:?} by itself: {alone:?}; among others: {digest:?}")
            })?;
            sum = sum.merge(digest, bench.recipe.mode);
        }
        let whole = bench.digest(side, &Part::Range(range.clone())).await?;
        hold(sum == whole, || {
            format!("the pieces add up to {sum:?}, the range is {whole:?}")
        })?;
        let of_one = answer("cut of one row", ranged.cut(collection, &one_row(fixture), 4).await)?;
        hold(of_one.is_empty(), || {
            format!("a range of one row was cut at {of_one:?}")
        })?;
    }
    let none = answer(
        "digests of nothing",
        bench
            .ranges(0)?
            .digests(&bench.collections[0], &bench.recipe, &[])
            .await,
    )?;
    hold(none.is_empty(), || format!("{none:?} of no parts"))
}

fn one_row(fixture: &dyn Fixture) -> KeyRange {
    KeyRange {
        lower: Some(fixture.key(20)),
        upper: Some(fixture.key(21)),
    }
}

/// Whatever was written and is seen makes the moment another one.
async fn moments(fixture: &dyn Fixture, bench: &Bench) -> Held {
    for (what, bodies) in [
        ("an update", Some("body of another moment")),
        ("its undoing", Some("body 1")),
        ("a deletion", None),
    ] {
        let before = bench.moments().await?;
        match bodies {
            Some(_) => fixture.put(&[(1, bodies)]).await,
            None => fixture.delete(&[1]).await,
        }
        fixture.settle().await;
        let after = bench.moments().await?;
        for (before, after) in before.iter().zip(&after) {
            hold(before.is_none() || before != after, || {
                format!("{what} left the moment at {before:?}")
            })?;
        }
    }
    fill(fixture).await;
    Ok(())
}

async fn recipe(bench: &Bench) -> Held {
    let recipe = &bench.recipe;
    hold(recipe.columns == bench.columns && recipe.seed == SEED, || {
        format!("asked for {:?} with {SEED}, got {recipe:?}", bench.columns)
    })?;
    hold(recipe.column_expressions.len() == recipe.columns.len(), || {
        "not one expression for each column".to_owned()
    })?;
    let again = bench
        .ranges(0)?
        .recipe(&bench.collections[0], &bench.columns, SEED + 1)
        .await;
    seeds(bench, &answer("recipe", again)?).await
}

/// Both ends give one known answer, and another seed (`again`) reaches all that is hashed.
pub(super) async fn seeds(bench: &Bench, again: &Recipe) -> Held {
    let one = bench.known_answer(0, &bench.recipe).await?;
    let other = bench.known_answer(1, &bench.recipe).await?;
    hold(one == other, || "the ends give different known answers".to_owned())?;
    let seeded = bench.known_answer(0, again).await?;
    hold(one != seeded, || "the seed does not reach the known answer".to_owned())?;
    let whole = bench.whole(0, &bench.recipe).await?;
    let reseeded = bench.whole(0, again).await?;
    hold(reseeded.sum != whole.sum && reseeded.count == whole.count, || {
        "the seed does not reach the digest".to_owned()
    })
}

/// Every key is in exactly one part, listings add up to digests, parts to the whole, and both ends agree on each part.
async fn partition(bench: &Bench, parts: impl Iterator<Item = Part>) -> Held {
    let mode = bench.recipe.mode;
    let whole = bench.digest(0, &Part::ALL).await?;
    let mut sum = ChunkDigest::default();
    let mut keys = BTreeSet::new();
    for part in parts {
        let digest = bench.digest(0, &part).await?;
        let there = bench.digest(1, &part).await?;
        hold(digest == there, || {
            format!("{part:?}: {digest:?} at the primary, {there:?} at the secondary")
        })?;
        for side in 0..2 {
            let listed = bench.list(side, &part).await?;
            let listed_sum = super::sum(&listed, mode);
            hold(listed_sum == digest, || {
                format!("{part:?}: listed {listed_sum:?}, digested {digest:?}")
            })?;
            if side == 0 {
                for (key, _) in listed {
                    hold(keys.insert(key.clone()), || format!("{key:?} is in two parts"))?;
                }
            }
        }
        sum = sum.merge(digest, mode);
    }
    hold(sum == whole, || {
        format!("the parts add up to {sum:?}, the whole is {whole:?}")
    })
}

async fn half_open(fixture: &dyn Fixture, bench: &Bench) -> Held {
    let range = |lower: i64, upper: i64| {
        Part::Range(KeyRange {
            lower: Some(fixture.key(lower)),
            upper: Some(fixture.key(upper)),
        })
    };
    let listed = bench.list(0, &range(20, 21)).await?;
    let keys: Vec<&Key> = listed.iter().map(|(key, _)| key).collect();
    hold(keys == [&fixture.key(20)], || format!("[20, 21) holds {keys:?}"))?;
    let empty = bench.digest(0, &range(20, 20)).await?;
    hold(empty == ChunkDigest::default(), || format!("[20, 20) gives {empty:?}"))
}

/// A collection that does not exist.
pub(super) fn not_there(bench: &Bench) -> Collection {
    Collection {
        name: format!("{}_that_is_not_there", bench.collections[0].name),
        ..bench.collections[0].clone()
    }
}

async fn missing(bench: &Bench) -> Held {
    let missing = not_there(bench);
    let digest = bench.ranges(0)?.digest(&missing, &bench.recipe, &Part::ALL).await;
    hold(matches!(digest, Err(StoreError::NotFound(_))), || {
        format!("the digest of a missing collection is {digest:?}")
    })?;
    match bench.ranges(0)?.list(&missing, &bench.recipe, &Part::ALL).await {
        Err(_) => Ok(()),
        Ok(mut listing) => {
            let first = listing.next().await;
            hold(matches!(first, Some(Err(_))), || {
                format!("the listing of a missing collection begins with {first:?}")
            })
        }
    }
}

/// Each change must change the digest, and its undoing must bring it back.
pub(super) async fn sensitive(fixture: &dyn Fixture) -> Held {
    fill(fixture).await;
    match Bench::ranged(fixture).await? {
        Some(bench) => finds_every_change(fixture, &bench).await,
        None => Ok(()),
    }
}

/// Each change of a row changes the digest of the whole.
pub(super) async fn finds_every_change(fixture: &dyn Fixture, bench: &Bench) -> Held {
    let before = bench.whole(0, &bench.recipe).await?;
    let changes: [(&str, Rows<'_>); 6] = [
        ("two swapped values", &[(1, Some("body 2")), (2, Some("body 1"))]),
        ("NULL instead of an empty text", &[(7, None)]),
        ("an empty text instead of NULL", &[(3, Some(""))]),
        ("the word NULL instead of NULL", &[(3, Some("NULL"))]),
        ("a blank at the end", &[(1, Some("body 1 "))]),
        ("another Unicode form", &[(1, Some("body 1\u{301}"))]),
    ];
    for (change, rows) in changes {
        fixture.put(rows).await;
        let after = bench.whole(0, &bench.recipe).await?;
        hold(after.count == before.count && after.sum != before.sum, || {
            format!("{change}: not found")
        })?;
        fill(fixture).await;
        let restored = bench.whole(0, &bench.recipe).await?;
        hold(restored == before, || {
            format!("{change}: undone, and the digest is another")
        })?;
    }
    fixture.delete(&[30]).await;
    fixture.put(&[(ROWS + 1, Some("body 30"))]).await;
    let moved = bench.whole(0, &bench.recipe).await?;
    hold(moved.count == before.count && moved.sum != before.sum, || {
        "a row under another key: not found".to_owned()
    })?;
    fixture.delete(&[ROWS + 1]).await;
    fill(fixture).await;
    let restored = bench.whole(1, &bench.recipe).await?;
    hold(restored == before, || {
        "equal rows at the secondary have another digest".to_owned()
    })
}
