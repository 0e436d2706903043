//! The gate: a policy applied to evidence, and the report of it.
//!
//! Invariants: every figure has two ends, GO is judged by the high one and INVESTIGATE and NO-GO by the low one; what was not
//! measured, not compared or not readable is never GO; a verdict says why and names its runs.

mod blocks;
mod calendar;
mod chart;
mod evidence;
#[cfg(test)]
mod fixture;
mod html;
mod judge;
mod load;
mod policy;
mod quantity;
mod report;
mod rows;
mod share;
mod supplied;
mod terminal;
#[cfg(test)]
mod tests;

pub use blocks::{Block, BlockCollector, Figures, MeasuredRoute, PeakOccurrence, RouteLag, SourcedInterval};
pub(crate) use calendar::instant_text;
pub use calendar::{BLOCK_US, DAY_US, PeakWindow};
pub use evidence::{CollectionCoverage, Evidence, InventoryItem, KeyTally, Reconciliation, RunFacts, SourcedRpo};
pub use html::html;
pub use judge::{Request, judge};
pub use load::{INTERVALS_PER_DAY_MAX, load};
pub use policy::{
    BlockRules, Bounds, Criterion, EventRule, Kind, LagRule, NINETY_DAY, ObservedRule, Policy, PolicyError, Quantile,
    SuppliedRule,
};
pub(crate) use quantity::to_f64;
pub use quantity::{Bound, Measure, Quantity, Side};
pub use report::{Chart, CriterionResult, GateReport, LagSection, LossFacts, Standing, Unit, Verdict, Window};
pub use rows::write_gate;
pub use supplied::{Figure, NotApplicable, Supplied, Waiver};
pub use terminal::terminal;
