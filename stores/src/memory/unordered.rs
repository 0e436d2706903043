//! The second reference store: keys without an order, no versions, no fence, and a tolerance. It has what a store of keys and values has:
//! it can be identified, listed, scanned and read again, and nothing else.

use async_trait::async_trait;

use super::abilities::Handle;
use super::compare::{compare_presence, duplicate};
use super::pair::State;
use crate::{
    Catalog, Class, Collection, Compare, Comparison, Key, KeyShape, ReadRequest, Reading, Readings, Reread, Result, Row,
};

/// A column of whole numbers that counts as equal within a distance, as the remaining time of two copies of one entry does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tolerance {
    /// The column.
    pub column: String,
    /// The largest distance that is no difference.
    pub within: u64,
}

/// One side, without an order.
#[derive(Debug)]
pub(crate) struct Unordered {
    handle: Handle,
    tolerance: Option<Tolerance>,
}

impl Unordered {
    pub(crate) fn new(handle: Handle, tolerance: Option<Tolerance>) -> Self {
        Self { handle, tolerance }
    }

    /// Which of the recipe's columns is judged with a tolerance.
    fn tolerated(&self, request: &ReadRequest<'_>) -> Option<(usize, &str)> {
        let column = &self.tolerance.as_ref()?.column;
        let at = request.recipe.columns.iter().position(|name| name == column)?;
        Some((at, column))
    }
}

#[async_trait]
impl Catalog for Unordered {
    async fn collections(&self) -> Result<Vec<Collection>> {
        let mut collections = Catalog::collections(&self.handle).await?;
        for collection in &mut collections {
            if let KeyShape::Usable { order_identity, .. } = &mut collection.key {
                *order_identity = None;
            }
        }
        Ok(collections)
    }
}

#[async_trait]
impl Reread for Unordered {
    async fn read(&self, request: &ReadRequest<'_>) -> Result<Readings> {
        let tolerated = self.tolerated(request);
        let ask = |state: &mut State, side| {
            let mut readings = self.handle.readings(state, side, request)?;
            let rows = state.log.side(side).tables.get(&request.collection.name);
            let number = |key: &Key| rows?.rows.get(key)?.number(tolerated?.1);
            for (key, reading) in request.keys.iter().zip(&mut readings.rows) {
                if let Reading::Present(row) = reading {
                    // The contents stand in the place of a version, and nothing is told of transactions.
                    row.version = format!("{} x {:032x}", row.copies, row.digest.0);
                    (row.created_by, row.ended_by) = (None, None);
                    if let (Some((at, _)), Some(number)) = (tolerated, number(key)) {
                        row.columns[at] = Some(number.cast_unsigned());
                    }
                }
            }
            Ok(Readings {
                position: None,
                snapshot: None,
                ..readings
            })
        };
        self.handle.request("read keys", ask).await
    }
}

/// Judges by contents alone, with the tolerance of the store.
#[derive(Debug)]
pub(crate) struct ToleranceCompare(pub(crate) Option<Tolerance>);

impl Compare for ToleranceCompare {
    fn compare(&self, primary: &Reading, secondary: &Reading, columns: &[String]) -> Comparison {
        let (primary, secondary) = match (primary, secondary) {
            (Reading::Present(primary), Reading::Present(secondary)) => (primary, secondary),
            (primary, secondary) => return compare_presence(primary, secondary),
        };
        if primary.copies != secondary.copies {
            return duplicate(primary.copies, secondary.copies);
        }
        if primary.digest == secondary.digest {
            return Comparison::Equal;
        }
        self.compare_columns(primary, secondary, columns)
    }

    /// Nothing tells what is in flight: only the bracket does, and time.
    fn guard(&self, _: &Readings, _: &Readings, _: &Readings, _: usize) -> std::result::Result<(), String> {
        Ok(())
    }
}

impl ToleranceCompare {
    fn compare_columns(&self, primary: &Row, secondary: &Row, names: &[String]) -> Comparison {
        let pairs = primary.columns.iter().zip(&secondary.columns).zip(names);
        let differing: Vec<&String> = pairs
            .clone()
            .filter(|((primary, secondary), _)| primary != secondary)
            .map(|(_, name)| name)
            .collect();
        let columns: Vec<String> = pairs
            .filter(|((primary, secondary), name)| {
                primary != secondary && !self.tolerates(name, **primary, **secondary)
            })
            .map(|(_, name)| name.clone())
            .collect();
        // Digests that differ while no column does are not explained by a tolerance.
        if columns.is_empty() && !differing.is_empty() {
            return Comparison::Equal;
        }
        let detail = if columns.is_empty() {
            "the rows differ and no single column does".to_owned()
        } else {
            String::new()
        };
        Comparison::Differs {
            class: Class::Different,
            detail,
            columns,
        }
    }

    fn tolerates(&self, name: &str, primary: Option<u64>, secondary: Option<u64>) -> bool {
        let Some(tolerance) = self.0.as_ref().filter(|tolerance| tolerance.column == name) else {
            return false;
        };
        match (primary, secondary) {
            (Some(primary), Some(secondary)) => {
                primary.cast_signed().abs_diff(secondary.cast_signed()) <= tolerance.within
            }
            _ => false,
        }
    }
}
