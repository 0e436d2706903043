//! Reconciliations of simulated pairs: what is planted is found, what is in flight is not, and what goes wrong is never equal.

mod end;
mod evidence;
mod faults;
mod found;
mod in_flight;
mod memory;
mod one_in_ten;
mod outcome;
mod pace;
mod property;
mod recorded;
mod scanned;
mod schema;
mod stages;
mod subranges;
mod timed;
mod world;
