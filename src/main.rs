//! driftline
fn main() {}
