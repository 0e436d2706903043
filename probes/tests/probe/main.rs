//! Probes on the reference pair, whose instants of visibility are known, under paused time.

mod accuracy;
mod chrony;
mod copies;
mod faults;
mod ledger;
mod network;
mod outages;
mod pace;
mod restart;
mod rig;
mod roles;
mod routes;
mod rpo;
mod scattered;
mod segments;
mod service;
mod two_clock;
mod unordered;
mod watched_stores;
