//! The `costs` table.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use stores::Usage;

use super::{Prices, Spent};
use crate::render::said;
use crate::tables::{CostRow, FileName, TableError, replace_rows};

/// What was asked of one end for one collection, as its meter tells it.
#[derive(Debug, Clone)]
pub struct Charge {
    /// The dataset.
    pub dataset: String,
    /// The store.
    pub store: String,
    /// The site that was asked.
    pub site: String,
    /// The collection; `None`: not one of a collection.
    pub collection: Option<String>,
    /// [`stores::Meter::usage`] of the end.
    pub usage: BTreeMap<&'static str, Usage>,
}

/// Writes a run's costs so far; a later call replaces them, so that a run that is killed leaves what was known last. An operation that was never
/// asked for gives no row.
///
/// # Errors
/// Unwritable output.
pub fn write_costs(
    output: &Path,
    run_id: &str,
    charges: &[Charge],
    prices: &Prices,
) -> Result<Vec<PathBuf>, TableError> {
    let rows = charges.iter().flat_map(|charge| {
        let used = charge.usage.iter().filter(|(_, usage)| usage.requests > 0);
        used.map(|(operation, usage)| row(run_id, charge, operation, usage, prices))
    });
    replace_rows(output, FileName::of_run(run_id), rows)
}

/// What all of it costs, for a [`super::Budget`].
pub fn spent(charges: &[Charge], prices: &Prices) -> Spent {
    let mut spent = Spent::default();
    for charge in charges {
        for (operation, usage) in charge.usage.iter().filter(|(_, usage)| usage.requests > 0) {
            match prices.usd(&charge.store, operation, usage) {
                Some(usd) => spent.usd += usd,
                None => drop(spent.unpriced.insert(format!("{} {operation}", charge.store))),
            }
        }
    }
    spent
}

fn row(run_id: &str, charge: &Charge, operation: &str, usage: &Usage, prices: &Prices) -> CostRow {
    let usd_estimate = prices.usd(&charge.store, operation, usage);
    CostRow {
        run_id: run_id.to_owned(),
        dataset: charge.dataset.clone(),
        store: charge.store.clone(),
        site: charge.site.clone(),
        collection: charge.collection.clone().and_then(said),
        operation: operation.to_owned(),
        requests: usage.requests,
        units: Some(usage.units).filter(|units| *units > 0.0),
        bytes: Some(usage.bytes).filter(|bytes| *bytes > 0),
        usd_estimate,
        price_table_date: usd_estimate.map(|_| prices.date().to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::PRICES_2026_11;
    use crate::samples::RUN_ID;
    use crate::tables::{Span, read};

    fn charge(operation: &'static str, requests: u64, units: f64) -> Charge {
        let usage = Usage {
            requests,
            units,
            bytes: 0,
        };
        Charge {
            dataset: "profiles".to_owned(),
            store: "dynamodb".to_owned(),
            site: "use1".to_owned(),
            collection: Some("catalog".to_owned()),
            usage: [(operation, usage)].into(),
        }
    }

    #[test]
    fn each_operation_is_a_row_and_the_last_word_replaces_the_first() {
        let output = tempfile::tempdir().unwrap();
        let prices = Prices::parse("p", PRICES_2026_11).unwrap();
        write_costs(output.path(), RUN_ID, &[charge("PutItem", 1, 1.0)], &prices).unwrap();
        let charges = [
            charge("PutItem", 1_000, 2_000.0),
            charge("TransactWriteItems", 3, 6.0),
            charge("GetItem", 0, 0.0),
        ];
        write_costs(output.path(), RUN_ID, &charges, &prices).unwrap();
        let rows: Vec<CostRow> = read(output.path(), Span::ALL).unwrap().map(Result::unwrap).collect();
        let told: Vec<_> = rows
            .iter()
            .map(|row| (row.operation.as_str(), row.requests, row.usd_estimate))
            .collect();
        assert_eq!(
            told,
            [("PutItem", 1_000, Some(0.0025)), ("TransactWriteItems", 3, None)]
        );
        assert_eq!(rows[0].price_table_date.as_deref(), Some("2026-11-21"));
        assert_eq!(rows[1].price_table_date, None);
        assert_eq!(rows[0].bytes, None, "not told is not zero");
        let spent = spent(&charges, &prices);
        assert!((spent.usd - 0.0025).abs() < 1e-12);
        assert_eq!(
            spent.unpriced.into_iter().collect::<Vec<_>>(),
            ["dynamodb TransactWriteItems"]
        );
    }
}
