//! Digests, listings and readings of one side.

use async_trait::async_trait;
use futures::StreamExt;

use super::abilities::Handle;
use super::log::End;
use super::pair::{Side, State};
use super::rows::{StoredRow, Table};
use crate::{
    ChunkDigest, Collection, DIGESTS_PER_READ_MAX, DigestMode, KEYS_PER_READ_MAX, Key, KeyRange, Listing, Part,
    Position, Ranged, ReadRequest, Reading, Readings, Recipe, Reread, Result, Role, Row, Snapshot, StoreError, Trouble,
    Value, row_digest,
};

#[async_trait]
impl Ranged for Handle {
    async fn recipe(&self, collection: &Collection, columns: &[String], seed: u64) -> Result<Recipe> {
        let ask = |state: &mut State, side| {
            let table = table(state.log.side(side), &collection.name, "make a recipe")?;
            Ok(recipe_of(columns, table.key_columns().to_vec(), seed))
        };
        self.request("make a recipe", ask).await
    }

    async fn known_answer(&self, collection: &Collection, recipe: &Recipe) -> Result<u128> {
        let ask = |state: &mut State, side| {
            table(state.log.side(side), &collection.name, "compute the known answer")?;
            let literal = Value::Text("known answer".to_owned());
            let columns: Vec<_> = recipe.columns.iter().map(|name| (name.as_str(), &literal)).collect();
            let otherwise = u128::from(state.log.side(side).hashes_otherwise);
            Ok(row_digest(recipe.seed, &Key::int(1), &columns)
                .0
                .wrapping_add(otherwise))
        };
        self.request("compute the known answer", ask).await
    }

    async fn split(&self, collection: &Collection, rows_per_chunk: u64) -> Result<Vec<Key>> {
        let step = usize::try_from(rows_per_chunk.max(1)).unwrap_or(usize::MAX);
        let ask = |state: &mut State, side| {
            let table = table(state.log.side(side), &collection.name, "split")?;
            Ok(table.rows.keys().step_by(step).skip(1).cloned().collect())
        };
        self.request("split", ask).await
    }

    async fn digest(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<ChunkDigest> {
        let ask = |state: &mut State, side| {
            let table = table(state.log.side(side), &collection.name, "digest")?;
            let mut digest = ChunkDigest::default();
            for (key, row) in table.part(part) {
                for _ in 0..row.copies {
                    digest.add(row.digest_by(key, recipe));
                }
            }
            Ok(digest)
        };
        self.request("digest", ask).await
    }

    async fn cut(&self, collection: &Collection, range: &KeyRange, pieces: u32) -> Result<Vec<Key>> {
        let ask = |state: &mut State, side| {
            let table = table(state.log.side(side), &collection.name, "cut a range")?;
            let part = Part::Range(range.clone());
            let keys: Vec<&Key> = table.part(&part).map(|(key, _)| key).collect();
            let pieces = usize::try_from(pieces).unwrap_or(usize::MAX).min(keys.len());
            Ok((1..pieces)
                .map(|piece| keys[piece * keys.len() / pieces].clone())
                .collect())
        };
        self.request("cut a range", ask).await
    }

    async fn list(&self, collection: &Collection, recipe: &Recipe, part: &Part) -> Result<Listing> {
        let ask = |state: &mut State, side| {
            let table = table(state.log.side(side), &collection.name, "list")?;
            let mut rows = Vec::new();
            for (key, row) in table.part(part) {
                for _ in 0..row.copies {
                    rows.push(Ok((key.clone(), row.digest_by(key, recipe))));
                }
            }
            Ok(futures::stream::iter(rows).boxed())
        };
        self.request("list", ask).await
    }
}

#[async_trait]
impl Reread for Handle {
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings> {
        let ask = |state: &mut State, side| self.readings(state, side, request);
        self.request("read keys", ask).await
    }
}

impl Handle {
    /// Every key as this side shows it now.
    pub(crate) fn readings(&self, state: &State, side: Side, request: &ReadRequest<'_>) -> Result<Readings> {
        let end = state.log.side(side);
        let keys_max = if request.recipe.is_keyless() {
            DIGESTS_PER_READ_MAX
        } else {
            KEYS_PER_READ_MAX
        };
        if request.keys.len() > keys_max {
            let cause = format!("{} keys in one read; at most {keys_max}", request.keys.len());
            return Err(StoreError::Unsupported(Trouble::new(&end.site, "read keys", cause)));
        }
        let table = table(end, &request.collection.name, "read keys")?;
        let read = |key: &Key| match table.rows.get(key) {
            Some(row) => Reading::Present(present(state, side, request, key, row)),
            None => Reading::Absent,
        };
        Ok(Readings {
            rows: if request.recipe.is_keyless() {
                super::scans::recount(state, side, table, request)
            } else {
                request.keys.iter().map(read).collect()
            },
            position: (end.role == Role::ReadOnly).then_some(Position(end.applied)),
            snapshot: snapshot(state, side),
            instance: self.instance(end),
        })
    }
}

/// How this store hashes rows.
pub(crate) fn recipe_of(columns: &[String], key_columns: Vec<String>, seed: u64) -> Recipe {
    Recipe {
        mode: DigestMode::Client,
        columns: columns.to_vec(),
        key_columns,
        seed,
        expression: format!("canonical encoding {}, XXH3-128", crate::encode::ENCODING_VERSION),
        column_expressions: columns.to_vec(),
        forms: Vec::new(),
    }
}

fn present(state: &State, side: Side, request: &ReadRequest<'_>, key: &Key, row: &StoredRow) -> Row {
    let place = (request.collection.name.clone(), key.clone());
    Row {
        version: row.version.to_string(),
        digest: row.digest_by(key, request.recipe),
        columns: row.column_digests(request.recipe),
        values: request.values.then(|| row.texts(request.recipe)),
        changed_at_us: request.changed_at.and_then(|column| row.number(column)),
        copies: row.copies,
        created_by: Some(row.created_by),
        ended_by: match side {
            Side::Primary => state.log.pending_on(&place),
            Side::Secondary => None,
        },
        committed_at_us: None,
    }
}

/// Only an end that takes writes has transactions of its own.
fn snapshot(state: &State, side: Side) -> Option<Snapshot> {
    let end = state.log.side(side);
    match (side, end.role) {
        (_, Role::ReadOnly) => None,
        (Side::Primary, Role::Writable) => Some(state.log.primary_snapshot()),
        (Side::Secondary, Role::Writable) => Some(Snapshot {
            xmin: end.applied + 1,
            xmax: end.applied + 1,
            running: Vec::new(),
        }),
    }
}

pub(crate) fn table<'a>(end: &'a End, name: &str, tried: &str) -> Result<&'a Table> {
    let trouble = |cause: String| Trouble::new(&end.site, format!("{tried} {name}"), cause);
    let Some(table) = end.tables.get(name) else {
        return Err(StoreError::NotFound(trouble("there is no such table".to_owned())));
    };
    match &table.collection.unreadable {
        Some(reason) => Err(StoreError::Denied(trouble(reason.clone()))),
        None => Ok(table),
    }
}
