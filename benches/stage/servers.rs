//! Servers for tables that are loaded once and compared often.

use lab::PgOptions;

/// The lab's usual servers, without work of their own in the background.
pub(crate) fn without_background(database: &str) -> PgOptions {
    let mut options = PgOptions::with_database(database);
    options.settings = [
        ("autovacuum", "off"),
        ("max_wal_size", "8GB"),
        ("checkpoint_timeout", "1h"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    options
}
