//! What PostgreSQL's errors mean to the caller.

use std::error::Error as _;

use tokio_postgres::error::DbError;

use crate::{StoreError, Trouble};

/// An error while a connection was being made.
pub(crate) fn connecting(site: &str, tried: &str, error: &tokio_postgres::Error) -> StoreError {
    if let Some(db) = error.as_db_error() {
        return answered_at_connect(site, tried, db);
    }
    let cause = in_words(error);
    let trouble = Trouble::new(site, tried, cause.clone());
    if is_certificate_refused(error) {
        return StoreError::Config(trouble.hint(
            "the server's certificate is not trusted for this host; set tls = { ca_file = \"...\" } to the authority that signed it",
        ));
    }
    if cause.contains("server does not support TLS") {
        return StoreError::Config(
            trouble.hint("turn TLS on at the server; tls = \"disable\" is for loopback hosts only"),
        );
    }
    if cause.contains("authentication error") || cause.contains("invalid configuration") {
        return StoreError::Config(trouble.hint("check auth of this connection"));
    }
    StoreError::Unreachable(trouble.hint("check host, port, firewall and that the server runs"))
}

/// What a server that answered refuses a connection with. Most of it only a person can change.
fn answered_at_connect(site: &str, tried: &str, db: &DbError) -> StoreError {
    let trouble = Trouble::new(site, tried, server_words(db));
    match db.code().code() {
        "28P01" => StoreError::Config(trouble.hint("check the password that auth refers to, and the user in the URL")),
        "28000" if db.message().contains("no encryption") || db.message().contains("SSL off") => {
            StoreError::Config(trouble.hint("the server wants TLS: take tls = \"disable\" out of the configuration"))
        }
        "28000" => StoreError::Config(trouble.hint("check the user in the URL and the server's pg_hba.conf")),
        "3D000" => StoreError::Config(
            trouble.hint("check the database in the URL; `driftline init` makes the canary database"),
        ),
        "42501" => StoreError::Denied(trouble.hint("grant CONNECT on the database to this role")),
        _ => answered(site, tried, db),
    }
}

/// An error on a connection that stood.
pub(crate) fn in_session(site: &str, tried: &str, error: &tokio_postgres::Error) -> StoreError {
    if let Some(db) = error.as_db_error() {
        return answered(site, tried, db);
    }
    let trouble = Trouble::new(site, tried, in_words(error));
    if error.is_closed() || source_of::<std::io::Error>(error).is_some() {
        return StoreError::Retryable {
            after: None,
            trouble: trouble.hint("the connection was cut"),
        };
    }
    StoreError::Corrupt(trouble)
}

/// By SQLSTATE: <https://www.postgresql.org/docs/current/errcodes-appendix.html>.
fn answered(site: &str, tried: &str, db: &DbError) -> StoreError {
    let code = db.code().code();
    let trouble = Trouble::new(site, tried, server_words(db));
    let passing = |trouble: Trouble| StoreError::Retryable { after: None, trouble };
    match code {
        "42501" if db.message().contains("row-level security") => StoreError::Denied(trouble.hint(
            "row-level security hides rows from this role; give it BYPASSRLS, or a policy is all that is compared",
        )),
        "42501" => StoreError::Denied(trouble.hint("`driftline init --print` shows the grants that are needed")),
        "42P01" | "3F000" | "3D000" => StoreError::NotFound(trouble),
        // 25006 read-only transaction: the endpoint answers from a standby; after a failover it may lead elsewhere.
        "25006" => passing(trouble.hint("this server is read-only now: a standby, or a failover is under way")),
        "40001" if db.message().contains("conflict with recovery") => {
            passing(trouble.hint("the standby cancelled the statement to go on replaying"))
        }
        "57014" => passing(trouble.hint("the statement was ended by a time-out, a cancel or a recovery conflict")),
        // Deadlock and serialization; lock time-out; object in use; idle time-outs; shutdown, crash, start-up, dropped database.
        "40001" | "40P01" | "55P03" | "55006" | "25P03" | "57P01" | "57P02" | "57P03" | "57P04" | "57P05" => {
            passing(trouble)
        }
        // 26000: a prepared statement that we made is gone.
        "26000" => StoreError::Config(
            trouble.hint("a pooler between driftline and the server loses sessions; connect to the server itself"),
        ),
        "28000" | "28P01" => StoreError::Config(trouble),
        "XX001" | "XX002" => StoreError::Corrupt(trouble.hint("the server reports that its own data is damaged")),
        _ => match code.get(..2) {
            // Connection faults; out of connections, memory, disk.
            Some("08" | "53") => passing(trouble),
            Some("58") => StoreError::Corrupt(trouble.hint("the server reports a system error")),
            _ => StoreError::Unsupported(trouble),
        },
    }
}

/// The server's own words, without what may hold row values: never the detail, and for data exceptions (22) and constraint
/// violations (23) not even the message.
fn server_words(db: &DbError) -> String {
    let code = db.code().code();
    if matches!(code.get(..2), Some("22" | "23")) {
        return format!("SQLSTATE {code} (the server's words are left out, for they may hold row values)");
    }
    format!("{} (SQLSTATE {code})", db.message())
}

/// Whether the server says that it ended the session, and not only the statement.
pub(crate) fn ends_session(error: &tokio_postgres::Error) -> bool {
    use tokio_postgres::error::Severity;
    match error.as_db_error() {
        None => true,
        Some(db) => match db.parsed_severity() {
            Some(severity) => matches!(severity, Severity::Fatal | Severity::Panic),
            None => true,
        },
    }
}

/// The whole chain of causes on one line.
fn in_words(error: &tokio_postgres::Error) -> String {
    let mut words = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let next = cause.to_string();
        if !words.contains(&next) {
            words = format!("{words}: {next}");
        }
        source = cause.source();
    }
    words
}

fn source_of<T: std::error::Error + 'static>(error: &tokio_postgres::Error) -> Option<&T> {
    let mut source = error.source();
    while let Some(cause) = source {
        if let Some(found) = cause.downcast_ref::<T>() {
            return Some(found);
        }
        source = cause.source();
    }
    None
}

/// rustls hands its verdict through an I/O error.
fn is_certificate_refused(error: &tokio_postgres::Error) -> bool {
    source_of::<std::io::Error>(error)
        .and_then(std::io::Error::get_ref)
        .is_some_and(|inner| inner.is::<rustls::Error>())
}
