//! Unordered passes over one side, and recounts of rows that have no key.

use std::collections::HashMap;

use async_trait::async_trait;
use futures::StreamExt;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::abilities::Handle;
use super::digests::{recipe_of, table};
use super::pair::{Side, State};
use super::rows::{StoredRow, Table};
use crate::{
    Collection, Key, KeyRange, KeyedBy, Listing, Part, ReadRequest, Reading, Recipe, Result, Row, RowDigest, ScanPart,
    Scanned, StoreError, Trouble, encode_row,
};

/// Another order than that of keys, and another cut than that of buckets.
const SCAN_SEED: u64 = 0x5ca7;

fn place(key: &Key) -> u64 {
    xxh3_64_with_seed(&encode_row(key, &[]), SCAN_SEED)
}

#[async_trait]
impl Scanned for Handle {
    async fn recipe(
        &self,
        collection: &Collection,
        columns: &[String],
        seed: u64,
        keyed_by: KeyedBy,
    ) -> Result<Recipe> {
        let ask = |state: &mut State, side| {
            let end = state.log.side(side);
            let table = table(end, &collection.name, "make a recipe")?;
            let key_columns = match keyed_by {
                KeyedBy::Columns if table.key_columns().is_empty() => {
                    let tried = format!("make a recipe for {}", collection.name);
                    return Err(StoreError::Unsupported(Trouble::new(&end.site, tried, "it has no key")));
                }
                KeyedBy::Columns => table.key_columns().to_vec(),
                KeyedBy::Digest => Vec::new(),
            };
            Ok(recipe_of(columns, key_columns, seed))
        };
        self.request("make a recipe", ask).await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        crate::Ranged::known_answer(self, collection, recipe).await
    }

    async fn parts(&self, collection: &Collection, wanted: u32) -> Result<Vec<ScanPart>> {
        let of = wanted.max(1);
        let ask = |state: &mut State, side| {
            table(state.log.side(side), &collection.name, "cut")?;
            Ok((0..of).map(|index| ScanPart::Segment { index, of }).collect())
        };
        self.request("cut into parts", ask).await
    }

    async fn scan(&self, collection: &Collection, recipe: &Recipe, part: &ScanPart) -> Result<Listing> {
        let ask = |state: &mut State, side| {
            let end = state.log.side(side);
            let ScanPart::Segment { index, of } = *part else {
                let tried = format!("scan {}, {part}", collection.name);
                return Err(StoreError::Unsupported(Trouble::new(
                    &end.site,
                    tried,
                    "it is cut into segments",
                )));
            };
            let table = table(end, &collection.name, "scan")?;
            let mut rows: Vec<_> = table
                .part(&Part::Range(KeyRange::ALL))
                .map(|(key, row)| (place(key), key, row))
                .filter(|(place, ..)| place % u64::from(of) == u64::from(index))
                .collect();
            rows.sort_unstable_by_key(|(place, ..)| *place);
            let listed = |(_, key, row): (u64, &Key, &StoredRow)| {
                let digest = row.digest_by(key, recipe);
                let key = if recipe.is_keyless() {
                    Key::digest(digest)
                } else {
                    key.clone()
                };
                std::iter::repeat_n((key, digest), usize::try_from(row.copies).unwrap_or(usize::MAX))
            };
            let rows: Vec<_> = rows.into_iter().flat_map(listed).map(Ok).collect();
            Ok(futures::stream::iter(rows).boxed())
        };
        self.request("scan", ask).await
    }
}

/// How many rows have each of the digests that stand in the place of keys.
pub(crate) fn recount(state: &State, side: Side, table: &Table, request: &ReadRequest<'_>) -> Vec<Reading> {
    let numbered = request.keys.iter().enumerate();
    let wanted: HashMap<RowDigest, usize> = numbered.filter_map(|(at, key)| Some((key.as_digest()?, at))).collect();
    let mut found: Vec<Option<Row>> = vec![None; request.keys.len()];
    for (key, row) in &table.rows {
        let digest = row.digest_by(key, request.recipe);
        let Some(&at) = wanted.get(&digest) else { continue };
        let more = copies(state, side, request, key, row, digest);
        match &mut found[at] {
            None => found[at] = Some(more),
            Some(row) => {
                row.copies += more.copies;
                row.version = format!("{},{}", row.version, more.version);
                row.created_by = row.created_by.max(more.created_by);
                row.ended_by = row.ended_by.max(more.ended_by);
            }
        }
    }
    let reading = |row: Option<Row>| row.map_or(Reading::Absent, Reading::Present);
    found.into_iter().map(reading).collect()
}

/// The copies that one stored row stands for.
fn copies(state: &State, side: Side, request: &ReadRequest<'_>, key: &Key, row: &StoredRow, digest: RowDigest) -> Row {
    let place = (request.collection.name.clone(), key.clone());
    Row {
        version: format!("{} x {}", row.copies, row.version),
        digest,
        columns: row.column_digests(request.recipe),
        values: request.values.then(|| row.texts(request.recipe)),
        changed_at_us: request.changed_at.and_then(|column| row.number(column)),
        committed_at_us: None,
        copies: row.copies,
        created_by: Some(row.created_by),
        ended_by: match side {
            Side::Primary => state.log.pending_on(&place),
            Side::Secondary => None,
        },
    }
}
