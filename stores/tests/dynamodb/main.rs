//! The canaries of DynamoDB: against two kinds of real server, and against answers that real servers give rarely.

mod conformance;
mod faults;
mod guards;
mod scripted;
mod setup;
mod setups;
mod shapes;
