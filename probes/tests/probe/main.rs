//! Probes on the reference pair, whose instants of visibility are known, under paused time.

mod accuracy;
mod faults;
mod ledger;
mod rig;
mod rpo;
mod service;
