//! Canaries: schedule, tracker, histograms, ledger, service endpoints

mod sample;

pub use sample::*;
