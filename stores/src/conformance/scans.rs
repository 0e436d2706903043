//! Contracts of `Scanned`.

use std::collections::{BTreeMap, BTreeSet};

use futures::StreamExt;

use super::digests::{finds_every_change, not_there, seeds};
use super::readings::row;
use super::{Bench, Fixture, Held, ROWS, SEED, answer, fill, hold, sum};
use crate::{ChunkDigest, Key, KeyedBy, Reading, RowDigest, ScanPart};

/// Numbers of parts that are tried: one, some, and more than there can be rows in each.
const PARTS: [u32; 3] = [1, 3, 200];

pub(super) async fn scanned(fixture: &dyn Fixture) -> Held {
    fill(fixture).await;
    let Some(bench) = Bench::scanned(fixture, KeyedBy::Columns).await? else {
        return Ok(());
    };
    let recipe = &bench.recipe;
    hold(
        bench.columns.iter().all(|name| recipe.columns.contains(name)) && recipe.seed == SEED,
        || format!("asked for {:?} with {SEED}, got {recipe:?}", bench.columns),
    )?;
    hold(!recipe.is_keyless(), || {
        "asked for keys, got a recipe without".to_owned()
    })?;
    let again = bench
        .scans(0)?
        .recipe(&bench.collections[0], &bench.columns, SEED + 1, KeyedBy::Columns);
    seeds(&bench, &answer("recipe", again.await)?).await?;
    let wanted: BTreeSet<Key> = (1..=ROWS).map(|number| fixture.key(number)).collect();
    let mut seen = Vec::new();
    for parts in PARTS {
        for side in 0..2 {
            let parts = answer("parts", bench.scans(side)?.parts(&bench.collections[side], parts).await)?;
            let rows = pass(&bench, side, &parts).await?;
            let keys: BTreeSet<Key> = rows.keys().cloned().collect();
            hold(keys == wanted, || {
                format!("{} parts hold {} of {ROWS} rows", parts.len(), keys.len())
            })?;
            seen.push(rows);
        }
    }
    hold(seen.windows(2).all(|two| two[0] == two[1]), || {
        "the same rows are listed otherwise by another cut or at the other end".to_owned()
    })?;
    grown(fixture, &bench).await?;
    missing(&bench).await?;
    finds_every_change(fixture, &bench).await
}

/// All rows of one side by their keys, each of which is in one part.
async fn pass(bench: &Bench, side: usize, parts: &[ScanPart]) -> Held<BTreeMap<Key, RowDigest>> {
    hold(!parts.is_empty(), || "no part at all".to_owned())?;
    let mut rows = BTreeMap::new();
    for part in parts {
        let once = bench.scan(side, part).await?;
        let again = bench.scan(side, part).await?;
        let mode = bench.recipe.mode;
        hold(sum(&once, mode) == sum(&again, mode), || {
            format!("{part}: nobody wrote, and it holds other rows when it is read again")
        })?;
        for (key, digest) in once {
            let is_new = rows.insert(key, digest).is_none();
            hold(is_new, || format!("{part}: it holds a row that was listed already"))?;
        }
    }
    Ok(rows)
}

/// Parts stay complete when rows come after they were cut.
async fn grown(fixture: &dyn Fixture, bench: &Bench) -> Held {
    let parts = answer("parts", bench.scans(0)?.parts(&bench.collections[0], 3).await)?;
    let numbers = ROWS + 1..=4 * ROWS;
    let rows: Vec<(i64, Option<&str>)> = numbers.clone().map(|number| (number, Some("later"))).collect();
    fixture.put(&rows).await;
    fixture.settle().await;
    let found = pass(bench, 0, &parts).await?.len();
    fixture.delete(&numbers.collect::<Vec<_>>()).await;
    fixture.settle().await;
    hold(i64::try_from(found) == Ok(4 * ROWS), || {
        format!("parts that were cut before hold {found} rows of {}", 4 * ROWS)
    })
}

async fn missing(bench: &Bench) -> Held {
    let missing = not_there(bench);
    match bench
        .scans(0)?
        .scan(&missing, &bench.recipe, &first_part(bench).await?)
        .await
    {
        Err(_) => Ok(()),
        Ok(mut listing) => {
            let first = listing.next().await;
            hold(matches!(first, Some(Err(_))), || {
                format!("the scan of a missing collection begins with {first:?}")
            })
        }
    }
}

async fn first_part(bench: &Bench) -> Held<ScanPart> {
    let mut parts = answer("parts", bench.scans(0)?.parts(&bench.collections[0], 1).await)?;
    parts.pop().ok_or_else(|| "no part at all".to_owned())
}

/// Rows by their digests: what is listed is what is counted again.
pub(super) async fn keyless(fixture: &dyn Fixture) -> Held {
    fill(fixture).await;
    let Some(bench) = Bench::scanned(fixture, KeyedBy::Digest).await? else {
        return Ok(());
    };
    hold(bench.recipe.is_keyless(), || {
        "asked for rows without keys, and the recipe names a key".to_owned()
    })?;
    let rows = bench.rows(0).await?;
    hold(i64::try_from(rows.len()) == Ok(ROWS), || {
        format!("{} rows listed, {ROWS} written", rows.len())
    })?;
    let other = rows.iter().find(|(key, digest)| key.as_digest() != Some(*digest));
    hold(other.is_none(), || {
        format!("a row is listed by another key than its digest: {other:?}")
    })?;
    let there = bench.whole(1, &bench.recipe).await?;
    hold(sum(&rows, bench.recipe.mode) == there, || {
        "the ends hash equal rows otherwise".to_owned()
    })?;
    let mut keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
    keys.push(Key::digest(RowDigest(7)));
    for side in 0..2 {
        let Some(read) = bench.read(side, &keys, false).await? else {
            return Ok(());
        };
        hold(read.rows.len() == keys.len(), || {
            format!("{} counts of {} digests", read.rows.len(), keys.len())
        })?;
        hold(read.rows.last() == Some(&Reading::Absent), || {
            "a digest that no row has is counted".to_owned()
        })?;
        for (reading, (_, digest)) in read.rows.iter().zip(&rows) {
            let row = row(Some(reading))?;
            hold(row.copies == 1 && row.digest == *digest, || {
                format!("one row is counted as {row:?}")
            })?;
        }
    }
    changed(fixture, &bench, &keys[..1], &rows[0].1).await
}

/// A row that changed is another row: the old digest has none any more.
async fn changed(fixture: &dyn Fixture, bench: &Bench, first: &[Key], digest: &RowDigest) -> Held {
    let rows: Vec<(i64, Option<&str>)> = (1..=ROWS).map(|number| (number, Some("rewritten"))).collect();
    fixture.put(&rows).await;
    fixture.settle().await;
    let read = bench.read(1, first, false).await?;
    let sums: ChunkDigest = bench.whole(0, &bench.recipe).await?;
    fill(fixture).await;
    hold(read.is_none_or(|read| read.rows == [Reading::Absent]), || {
        format!("every row was rewritten, and {:032x} is still counted", digest.0)
    })?;
    hold(i64::try_from(sums.count) == Ok(ROWS), || {
        format!("{} rows after a rewrite of {ROWS}", sums.count)
    })
}
