//! What driftline itself costs: requests, a dated price list, the `costs` table, and a budget that slows the probe.
//!
//! Invariant: what has no price is not free. Its estimate is NULL, and a budget says that it does not see it.

mod budget;
mod prices;
mod rows;

pub use budget::{Budget, FACTOR_MIN, Guard, Pace, Spent};
pub use prices::{PRICES_2026_11, Price, Prices};
pub use rows::{Charge, spent, write_costs};
