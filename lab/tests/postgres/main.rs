//! Real servers. Each test has a lab of its own.

mod pair;
