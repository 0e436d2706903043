//! Kafka's canaries and status: on simulated clusters with a mirror that errs on demand, and on real ones with MirrorMaker 2.

mod arrivals;
mod contracts;
mod leaders;
mod mirror_maker;
mod one_server;
mod setup;
mod status;
