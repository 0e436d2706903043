//! Rows that are copied out in binary form and hashed here.
//!
//! The server sends each column by its type's own send function, which costs it less than hashing. What comes is hashed where and as it
//! comes. Threads of their own for that cost as much processor time as the hashing itself, and a server sends slower than one thread hashes.

use std::pin::Pin;

use futures::StreamExt as _;
use tokio_postgres::CopyOutStream;

use super::copy_form::{CopyForm, Fault, Fields};
use super::key_type::{KeyColumn, KeyType};
use super::quote::column;
use super::ranged::digest_of;
use super::send::{Hashed, is_sent_by_record, semantic, send, sent};
use super::sent_row;
use super::session::Lease;
use super::shape::VALUE_BYTES_MAX;
use super::table::Table;
use crate::{ChunkDigest, DigestMode, KeptRows, KeyPart, Recipe, Result, StoreError, Trouble};

/// Bytes of one batch: as many are hashed before somebody else has a turn, if they have all come.
const BATCH_BYTES: usize = 128 << 10;
/// Columns of one key.
const KEY_COLUMNS_MAX: usize = 32;
/// Columns of most keys: room for all that a key may have would be cleared for each row.
const KEY_COLUMNS_FEW: usize = 4;

/// How a value travels to driftline: where its type's send function says it all, as it is, for COPY sends it by that function.
pub(crate) fn form(hashed: Hashed<'_>) -> String {
    let value = column(hashed.name);
    if is_sent_by_record(&hashed) {
        return value;
    }
    match semantic(hashed.shape, &value) {
        Ok(form) if hashed.is_semantic => form,
        _ => send(hashed.shape, &value),
    }
}

/// One column of the key in the fields of a row.
#[derive(Debug, Clone, Copy)]
struct KeyField {
    index: usize,
    kind: KeyType,
}

/// What of a row is hashed.
#[derive(Debug)]
enum Body {
    /// It is a digest already, by the server: an int8, or NULL where a value is too wide to be hashed.
    Digest(usize),
    /// So many fields from this one on.
    Fields { first: usize, count: usize, seed: u64 },
}

/// The select list of a copy, and how its rows are read.
#[derive(Debug)]
pub(crate) struct Layout {
    selected: Vec<String>,
    key: Vec<KeyField>,
    body: Body,
    /// The first field is a guard, see [`forms`].
    is_guarded: bool,
}

impl Layout {
    /// Rows by `recipe`, each with its key. `may_be_wide`: the table may hold values that must not be sent.
    pub(crate) fn of_rows(table: &Table, key: &[KeyColumn], recipe: &Recipe, may_be_wide: bool) -> Self {
        let mut layout = match recipe.mode {
            DigestMode::Pushdown => Self {
                selected: vec![recipe.expression.clone()],
                key: Vec::new(),
                body: Body::Digest(0),
                is_guarded: false,
            },
            DigestMode::Client => Self::of_columns(table, recipe, may_be_wide),
        };
        for part in key.iter().take(KEY_COLUMNS_MAX) {
            let field = layout.field_of(part, recipe).unwrap_or_else(|| {
                layout.selected.push(part.kind.canonical(&part.name));
                layout.selected.len() - 1
            });
            layout.key.push(KeyField {
                index: field,
                kind: part.kind,
            });
        }
        layout
    }

    /// The columns of `recipe` alone, without a key.
    pub(crate) fn of_columns(table: &Table, recipe: &Recipe, may_be_wide: bool) -> Self {
        let (guard, mut selected) = forms(table, recipe, may_be_wide);
        if let Some(guard) = &guard {
            selected.insert(0, guard.clone());
        }
        Self {
            selected,
            key: Vec::new(),
            body: Body::Fields {
                first: usize::from(guard.is_some()),
                count: recipe.columns.len(),
                seed: recipe.seed,
            },
            is_guarded: guard.is_some(),
        }
    }

    /// The field that holds this column of the key already, in its canonical form.
    fn field_of(&self, part: &KeyColumn, recipe: &Recipe) -> Option<usize> {
        let Body::Fields { first, .. } = self.body else {
            return None;
        };
        let is_canonical = matches!(part.kind, KeyType::Int | KeyType::Text | KeyType::Bytea);
        let at = recipe.columns.iter().position(|name| *name == part.name)?;
        (is_canonical && recipe.forms.get(at) == Some(&column(&part.name)) && !self.is_guarded).then_some(first + at)
    }

    /// The statement that copies `source`, a table expression whose rows are `t`.
    pub(crate) fn sql(&self, source: &str) -> String {
        format!(
            "copy (select {} from {source}) to stdout (format binary)",
            self.selected.join(", ")
        )
    }
}

/// The guard of a row, where it needs one, and the columns of `recipe` as they are sent.
///
/// The guard is NULL where a value is too wide and has no short form: it is not sent then. Otherwise it is a byte for each column that
/// has a short form for values that are too wide, 1 where that form is sent: it is hashed too, so that no value looks like the short form
/// of another.
pub(crate) fn forms(table: &Table, recipe: &Recipe, may_be_wide: bool) -> (Option<String>, Vec<String>) {
    if !may_be_wide {
        return (None, recipe.forms.clone());
    }
    let (mut unfit, mut flags) = (Vec::new(), Vec::new());
    let mut forms = Vec::with_capacity(recipe.forms.len());
    for (name, form) in recipe.columns.iter().zip(&recipe.forms) {
        let one = table.column(name).map(|found| {
            let hashed = Hashed {
                name,
                shape: &found.shape,
                is_semantic: table.scope.semantic.contains(name),
            };
            sent(hashed, recipe.seed)
        });
        match one.map(|one| (one.form, one.unfit, one.condensed)) {
            Some((_, Some(wide), _)) => {
                forms.push(format!("case when {wide} then null else {form} end"));
                unfit.push(wide);
            }
            Some((form, None, Some(wide))) => {
                forms.push(form);
                flags.push(format!("pg_catalog.boolsend(coalesce({wide}, false))"));
            }
            _ => forms.push(form.clone()),
        }
    }
    if unfit.is_empty() && flags.is_empty() {
        return (None, forms);
    }
    let told = flags
        .into_iter()
        .fold("pg_catalog.decode('', 'hex')".to_owned(), |told, flag| {
            format!("pg_catalog.byteacat({told}, {flag})")
        });
    let guard = if unfit.is_empty() {
        told
    } else {
        format!("case when {} then null else {told} end", unfit.join(" or "))
    };
    (Some(guard), forms)
}

/// Why a row cannot be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refused {
    TooWide,
    Key,
    Digest,
}

/// What becomes of the rows of one batch.
struct Batch<'a> {
    /// Of all rows that came.
    digest: ChunkDigest,
    /// Where they are kept, if they are.
    rows: Option<&'a mut KeptRows>,
}

impl Layout {
    fn row(&self, fields: Fields<'_>, batch: &mut Batch<'_>) -> std::result::Result<(), Refused> {
        if self.key.len() <= KEY_COLUMNS_FEW {
            self.row_with::<KEY_COLUMNS_FEW>(fields, batch)
        } else {
            self.row_with::<KEY_COLUMNS_MAX>(fields, batch)
        }
    }

    fn row_with<const COLUMNS: usize>(
        &self,
        fields: Fields<'_>,
        batch: &mut Batch<'_>,
    ) -> std::result::Result<(), Refused> {
        let wide_max = usize::try_from(VALUE_BYTES_MAX).unwrap_or(usize::MAX);
        if fields.widest() > wide_max {
            return Err(Refused::TooWide);
        }
        let guard = match (self.is_guarded, fields.get(0)) {
            (false, _) => &[],
            (true, Some(guard)) => guard,
            (true, None) => return Err(Refused::TooWide),
        };
        let mut parts = [KeyPart::Int(0); COLUMNS];
        let Some(key) = parts.get_mut(..self.key.len()) else {
            return Err(Refused::Key);
        };
        for (part, field) in key.iter_mut().zip(&self.key) {
            *part = key_part(field.kind, fields.get(field.index)).ok_or(Refused::Key)?;
        }
        let mode = match self.body {
            Body::Digest(_) => DigestMode::Pushdown,
            Body::Fields { .. } => DigestMode::Client,
        };
        let digest = match self.body {
            Body::Digest(index) => {
                let hash = fields.get(index).ok_or(Refused::TooWide)?;
                digest_of(i64::from_be_bytes(hash.try_into().map_err(|_| Refused::Digest)?))
            }
            Body::Fields { first, count, seed } => {
                let row = fields.sent(first, count).ok_or(Refused::Digest)?;
                sent_row::digest(seed, row, guard)
            }
        };
        batch.digest = batch.digest.merge(
            ChunkDigest {
                count: 1,
                sum: digest.0,
            },
            mode,
        );
        match &mut batch.rows {
            Some(rows) => rows.push(key, digest).then_some(()).ok_or(Refused::Key),
            None => Ok(()),
        }
    }
}

/// A key value as COPY sends it: `int2send` and its kin, or the bytes of text or bytea.
fn key_part(kind: KeyType, field: Option<&[u8]>) -> Option<KeyPart<'_>> {
    let bytes = field?;
    Some(match kind {
        KeyType::Int => KeyPart::Int(match bytes.len() {
            2 => i16::from_be_bytes(bytes.try_into().ok()?).into(),
            4 => i32::from_be_bytes(bytes.try_into().ok()?).into(),
            _ => i64::from_be_bytes(bytes.try_into().ok()?),
        }),
        KeyType::Bytea => KeyPart::Bytes(bytes),
        KeyType::Text | KeyType::Bpchar | KeyType::Numeric | KeyType::Float(_) | KeyType::Enum | KeyType::Plain(_) => {
            KeyPart::Text(str::from_utf8(bytes).ok()?)
        }
    })
}

/// One copy as it comes, batch by batch.
pub(crate) struct Copying {
    rows: Pin<Box<CopyOutStream>>,
    at: At,
    form: CopyForm,
    layout: Layout,
    /// What came and is no whole row.
    left_over: Vec<u8>,
    lease: Lease,
    tried: String,
    wide: StoreError,
}

/// Where a copy stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum At {
    Rows,
    /// The server has said that this was all.
    End,
    /// There is nothing more behind an error, and behind a batch that nobody waited for.
    Error,
}

impl Copying {
    /// Begins to copy `source`. `tried` and `wide` are what its errors say.
    pub(crate) async fn begin(
        lease: Lease,
        layout: Layout,
        source: &str,
        (tried, wide): (String, StoreError),
    ) -> Result<Self> {
        let rows = lease
            .copy_out(&layout.sql(source))
            .await
            .map_err(|error| lease.trouble(&tried, error))?;
        Ok(Self {
            rows: Box::pin(rows),
            at: At::Rows,
            form: CopyForm::new(layout.selected.len()),
            layout,
            left_over: Vec::new(),
            lease,
            tried,
            wide,
        })
    }

    /// The digest of the next batch, whose rows are added to `rows`; `None` only when the server has said that this was all, and nothing
    /// is left over.
    ///
    /// # Errors
    /// Of the server, also in mid-copy; `Corrupt` when the copy ends without its trailer; `Unsupported` for a value that is too wide.
    pub(crate) async fn next(&mut self, rows: Option<&mut KeptRows>) -> Result<Option<ChunkDigest>> {
        // Of a batch that is not waited for to its end, rows are gone: only one that came whole leads on.
        match std::mem::replace(&mut self.at, At::Error) {
            At::Rows => self.batch(rows).await.map(Some),
            At::End => {
                self.at = At::End;
                Ok(None)
            }
            At::Error => Err(self.corrupt("it was read on behind an error")),
        }
    }

    /// Takes from the wire until there is a batch, or no more: the last one may be empty.
    async fn batch(&mut self, rows: Option<&mut KeptRows>) -> Result<ChunkDigest> {
        let digest = ChunkDigest::default();
        let (mut batch, mut taken) = (Batch { digest, rows }, 0);
        while taken < BATCH_BYTES {
            match self.rows.next().await {
                Some(Ok(bytes)) => {
                    taken += bytes.len();
                    self.take(&bytes, &mut batch).map_err(|fault| self.refused(&fault))?;
                }
                Some(Err(error)) => return Err(self.lease.trouble(&self.tried, error)),
                None if !self.left_over.is_empty() => return Err(self.corrupt("it ended in the middle of a row")),
                None if !self.form.is_whole() => return Err(self.corrupt("it ended before its trailer")),
                None => {
                    self.at = At::End;
                    return Ok(batch.digest);
                }
            }
        }
        self.at = At::Rows;
        Ok(batch.digest)
    }

    /// Takes the whole rows of what came. A server sends rows one by one, but nothing promises that.
    fn take(&mut self, bytes: &[u8], batch: &mut Batch<'_>) -> std::result::Result<(), Fault<Refused>> {
        let layout = &self.layout;
        let row = |fields: Fields<'_>| layout.row(fields, batch);
        if self.left_over.is_empty() {
            let taken = self.form.feed(bytes, row)?;
            self.left_over.extend_from_slice(&bytes[taken..]);
        } else {
            self.left_over.extend_from_slice(bytes);
            let taken = self.form.feed(&self.left_over, row)?;
            self.left_over.drain(..taken);
        }
        Ok(())
    }

    fn corrupt(&self, cause: &str) -> StoreError {
        StoreError::Corrupt(Trouble::new(
            self.lease.site(),
            &self.tried,
            format!("the copy of rows: {cause}"),
        ))
    }

    fn refused(&self, fault: &Fault<Refused>) -> StoreError {
        match fault {
            Fault::Form(cause) => self.corrupt(cause),
            Fault::Row(Refused::TooWide) => self.wide.clone(),
            Fault::Row(Refused::Key) => self.corrupt("a row without a key that can be read"),
            Fault::Row(Refused::Digest) => self.corrupt("a row without a digest that can be read"),
        }
    }
}
