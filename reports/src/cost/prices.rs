//! The price list: dated, and to be overridden.

use std::collections::BTreeMap;

use serde::Deserialize;
use stores::Usage;
use toml::Spanned;

use crate::gate::{PolicyError, to_f64};

/// The list that driftline comes with. Its date is part of every estimate.
pub const PRICES_2026_11: &str = include_str!("../../../policies/prices-2026-11.toml");

const MILLION: f64 = 1_000_000.0;

/// Prices of operations by store.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Prices {
    date: Spanned<String>,
    /// The region that they are of.
    pub region: String,
    price: BTreeMap<String, BTreeMap<String, Spanned<Price>>>,
}

/// What an operation costs. Where both stand, both are paid.
#[derive(Debug, Clone, Copy, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Price {
    /// For a million requests.
    pub usd_per_million_requests: Option<f64>,
    /// For a million units as the store counts them (DynamoDB: consumed capacity units).
    pub usd_per_million_units: Option<f64>,
}

impl Prices {
    /// Reads a price list. `origin` is the name of the file in errors.
    ///
    /// # Errors
    /// What is wrong, with its line and column.
    pub fn parse(origin: &str, text: &str) -> Result<Self, PolicyError> {
        let prices: Self = toml::from_str(text).map_err(|error| PolicyError::toml(origin, text, &error))?;
        let refused = |span, message: &str| Err(PolicyError::at(origin, text, Some(span), message));
        if prices.date.get_ref().parse::<jiff::civil::Date>().is_err() {
            return refused(
                prices.date.span(),
                "not a date; write YYYY-MM-DD, the day of which these prices are",
            );
        }
        for price in prices.price.values().flat_map(BTreeMap::values) {
            let stated = [
                price.get_ref().usd_per_million_requests,
                price.get_ref().usd_per_million_units,
            ];
            if stated.iter().all(Option::is_none) {
                return refused(
                    price.span(),
                    "no price; write usd_per_million_requests or usd_per_million_units",
                );
            }
            if stated.iter().flatten().any(|usd| !usd.is_finite() || *usd < 0.0) {
                return refused(price.span(), "a price is a number of dollars, 0 or more");
            }
        }
        Ok(prices)
    }

    /// The date of the prices, YYYY-MM-DD.
    pub fn date(&self) -> &str {
        self.date.get_ref()
    }

    /// What some use of an operation costs, dollars. `None`: the list has no price for it, or the store told no units where units are priced.
    pub fn usd(&self, store: &str, operation: &str, usage: &Usage) -> Option<f64> {
        let price = self.price.get(store)?.get(operation)?.get_ref();
        let mut usd = 0.0;
        if let Some(per_million) = price.usd_per_million_requests {
            usd += per_million * requests(usage) / MILLION;
        }
        if let Some(per_million) = price.usd_per_million_units {
            if usage.requests > 0 && usage.units <= 0.0 {
                return None;
            }
            usd += per_million * usage.units / MILLION;
        }
        Some(usd)
    }
}

fn requests(usage: &Usage) -> f64 {
    to_f64(i64::try_from(usage.requests).unwrap_or(i64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Prices {
        Prices::parse("prices-2026-11.toml", PRICES_2026_11).unwrap()
    }

    fn usage(requests: u64, units: f64) -> Usage {
        Usage {
            requests,
            units,
            bytes: 0,
        }
    }

    #[track_caller]
    fn assert_usd(found: Option<f64>, wanted: f64) {
        let found = found.unwrap();
        assert!((found - wanted).abs() < 1e-9, "{found} instead of {wanted}");
    }

    /// A month of canaries, reckoned by hand.
    #[test]
    fn a_month_of_canaries_costs_what_it_costs_by_hand() {
        let prices = shipped();
        const SECONDS: u64 = 30 * 86_400;
        let units = to_f64(i64::try_from(SECONDS).unwrap());
        // 2,592,000 writes of 1 unit, here and at the replica: 2.592 x 1.25. 5 eventual reads of half a unit each second: 6.48 x 0.125.
        assert_usd(prices.usd("dynamodb", "PutItem", &usage(SECONDS, units)), 3.24);
        assert_usd(
            prices.usd("dynamodb", "GetItem", &usage(5 * SECONDS, 2.5 * units)),
            0.81,
        );
        // 259,200 objects, put twice: 0.2592 x 10. 12,960,000 HEADs: 12.96 x 0.4.
        assert_usd(prices.usd("s3", "PutObject", &usage(SECONDS / 10, 0.0)), 2.592);
        assert_usd(prices.usd("s3", "HeadObject", &usage(5 * SECONDS, 0.0)), 5.184);
    }

    #[test]
    fn what_has_no_price_is_not_free() {
        let prices = shipped();
        assert_eq!(prices.usd("s3", "RestoreObject", &usage(7, 0.0)), None);
        assert_eq!(prices.usd("kafka", "PutItem", &usage(7, 7.0)), None);
        assert_eq!(
            prices.usd("dynamodb", "GetItem", &usage(7, 0.0)),
            None,
            "no units were told"
        );
        assert_usd(prices.usd("s3", "DeleteObject", &usage(7, 0.0)), 0.0);
    }

    #[test]
    fn a_faulty_list_is_told_by_its_line() {
        for (text, place, words) in [
            (
                "date = \"soon\"\nregion = \"x\"\n[price.s3]\n",
                "p.toml:1:8",
                "YYYY-MM-DD",
            ),
            (
                "date = \"2026-11-21\"\nregion = \"x\"\n[price.s3]\nPutObject = {}\n",
                "p.toml:4:13",
                "no price",
            ),
            (
                "date = \"2026-11-21\"\nregion = \"x\"\n[price.s3]\nPutObject = { usd_per_million_requests = -1.0 }\n",
                "p.toml:4:13",
                "0 or more",
            ),
            (
                "date = \"2026-11-21\"\nregion = \"x\"\n[price.s3]\nPutObject = { usd = 1.0 }\n",
                "p.toml:4:15",
                "unknown field",
            ),
        ] {
            let error = Prices::parse("p.toml", text).unwrap_err().to_string();
            assert!(error.starts_with(place) && error.contains(words), "{error}");
        }
    }
}
