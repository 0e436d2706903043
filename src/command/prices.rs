//! The price list: the configured one, or the one that driftline comes with.

use anyhow::Context as _;
use reports::cost::{PRICES_2026_11, Prices};

use super::Context;
use crate::exit::Failure;

/// Reads it.
///
/// # Errors
/// A refusal: the file cannot be read, or says what is no price.
pub(super) fn load(context: &Context) -> Result<Prices, Failure> {
    let prices = match &context.config.prices {
        None => Prices::parse("prices-2026-11.toml", PRICES_2026_11),
        Some(file) => {
            let text = std::fs::read_to_string(file)
                .with_context(|| format!("read the prices in {}", file.display()))
                .map_err(Failure::refused)?;
            Prices::parse(&file.display().to_string(), &text)
        }
    };
    prices.context("the price list").map_err(Failure::refused)
}
