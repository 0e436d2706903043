//! The settings that every session pins, and the proof that they hold.

use tokio_postgres::{Client, SimpleQueryMessage};

use crate::{Result, Role, StoreError, Trouble};

/// What a session is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Reads the application's data: digests, lists, catalog.
    Read,
    /// Polls canaries.
    Watch,
    /// Writes canaries.
    Write,
    /// Makes what driftline needs, with an administrator's rights.
    Administer,
}

/// Time limits of a session's statements, in milliseconds; 0 is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Limits {
    statement_ms: u32,
    lock_ms: u32,
}

/// A statement on a hot standby that runs longer holds up replay or is cancelled by it.
const STATEMENT_ON_STANDBY_MS: u32 = 5_000;
/// Sampling keys of a large table takes longer than a digest; nothing takes longer than this.
const STATEMENT_ON_PRIMARY_MS: u32 = 60_000;
/// A canary that takes longer is recorded as unknown, and the next one is due.
pub(crate) const CANARY_STATEMENT_MS: u32 = 5_000;
/// CREATE DATABASE may wait for a checkpoint.
const STATEMENT_OF_INIT_MS: u32 = 600_000;
/// Readers do not queue behind a DDL statement: others would queue behind them.
const LOCK_MS: u32 = 2_000;
/// A transaction left open would hold back vacuum there and replay on a standby.
const IDLE_IN_TRANSACTION_MS: u32 = 30_000;

/// A setting of our own whose value tells one session from any other: a pooler that hands out server sessions by
/// transaction loses it or shows another's.
const TOKEN_SETTING: &str = "driftline.session";

fn limits(purpose: Purpose, role: Role) -> Limits {
    match (purpose, role) {
        (Purpose::Read, Role::ReadOnly) => Limits {
            statement_ms: STATEMENT_ON_STANDBY_MS,
            lock_ms: LOCK_MS,
        },
        (Purpose::Read, Role::Writable) => Limits {
            statement_ms: STATEMENT_ON_PRIMARY_MS,
            lock_ms: LOCK_MS,
        },
        (Purpose::Watch, _) => Limits {
            statement_ms: CANARY_STATEMENT_MS,
            lock_ms: LOCK_MS,
        },
        (Purpose::Write, _) => Limits {
            statement_ms: CANARY_STATEMENT_MS,
            lock_ms: 0, // the statement's limit alone decides
        },
        (Purpose::Administer, _) => Limits {
            statement_ms: STATEMENT_OF_INIT_MS,
            lock_ms: LOCK_MS,
        },
    }
}

/// The settings of one session as `(name, value)`; the value is exactly what `current_setting` shows for it.
fn settings(purpose: Purpose, role: Role, forwards_writes: bool) -> Vec<(&'static str, String)> {
    let limits = limits(purpose, role);
    let writes = matches!(purpose, Purpose::Write | Purpose::Administer);
    // Digests need plans made for their literals; a canary is one statement by its key, which need not be planned each time.
    let plans = if purpose == Purpose::Read {
        "force_custom_plan"
    } else {
        "auto"
    };
    let mut settings = vec![
        ("row_security", "off".to_owned()), // else a policy hides rows on both sides and both counts agree
        ("search_path", "pg_catalog".to_owned()),
        ("client_encoding", "UTF8".to_owned()), // record_send follows it
        ("standard_conforming_strings", "on".to_owned()),
        ("default_transaction_read_only", on_off(!writes)),
        ("default_transaction_isolation", "read committed".to_owned()),
        ("synchronous_commit", "on".to_owned()), // recorded with the lag: an acknowledged canary is durable
        ("plan_cache_mode", plans.to_owned()),
        ("max_parallel_workers_per_gather", "0".to_owned()),
        ("jit", "off".to_owned()), // compiling costs more than a chunk's digest or a catalog query takes
        ("statement_timeout", shown_ms(limits.statement_ms)),
        ("lock_timeout", shown_ms(limits.lock_ms)),
        ("idle_in_transaction_session_timeout", shown_ms(IDLE_IN_TRANSACTION_MS)),
        ("TimeZone", "UTC".to_owned()),
        ("DateStyle", "ISO, YMD".to_owned()),
        ("IntervalStyle", "postgres".to_owned()),
        ("extra_float_digits", "1".to_owned()),
        ("bytea_output", "hex".to_owned()),
        ("xmloption", "content".to_owned()),
    ];
    if forwards_writes {
        settings.push((WRITE_FORWARDING, "OFF".to_owned()));
    }
    settings
}

/// Aurora sends writes from a secondary to the writer unless this says `OFF`.
const WRITE_FORWARDING: &str = "apg_write_forward.consistency_mode";

/// Whether the server knows [`WRITE_FORWARDING`].
pub(crate) async fn forwards_writes(client: &Client) -> std::result::Result<bool, tokio_postgres::Error> {
    let is_known =
        format!("select (pg_catalog.current_setting('{WRITE_FORWARDING}', true) is not null)::pg_catalog.text");
    Ok(last_row(&client.simple_query(&is_known).await?, 0).as_deref() == Some("true"))
}

fn on_off(on: bool) -> String {
    if on { "on" } else { "off" }.to_owned()
}

/// Milliseconds as `current_setting` shows them: in the largest unit that divides them.
fn shown_ms(ms: u32) -> String {
    const UNITS: [(u32, &str); 4] = [(86_400_000, "d"), (3_600_000, "h"), (60_000, "min"), (1_000, "s")];
    if ms == 0 {
        return "0".to_owned();
    }
    match UNITS.iter().find(|(size, _)| ms.is_multiple_of(*size)) {
        Some((size, unit)) => format!("{}{unit}", ms / size),
        None => format!("{ms}ms"),
    }
}

/// What a session has pinned.
#[derive(Debug, Clone)]
pub(crate) struct Pins {
    settings: Vec<(&'static str, String)>,
    backend_pid: String,
    read_back: String,
}

impl Pins {
    /// Pins the settings and reads them back.
    pub(crate) async fn apply(
        client: &Client,
        purpose: Purpose,
        role: Role,
        forwards_writes: bool,
    ) -> std::result::Result<Self, PinFault> {
        let mut settings = settings(purpose, role, forwards_writes);
        settings.push((TOKEN_SETTING, format!("{:032x}", rand::random::<u128>())));
        let mut batch = String::new();
        for (name, value) in &settings {
            batch.push_str(&format!("select pg_catalog.set_config('{name}', '{value}', false);"));
        }
        batch.push_str("select pg_catalog.pg_backend_pid()::pg_catalog.text");
        let backend_pid = last_row(&client.simple_query(&batch).await?, 0).unwrap_or_default();
        let columns: Vec<String> = settings
            .iter()
            .map(|(name, _)| format!("pg_catalog.current_setting('{name}', true)"))
            .collect();
        let pins = Self {
            read_back: format!(
                "select pg_catalog.pg_backend_pid(), (pg_catalog.now() = pg_catalog.statement_timestamp()), \
                 pg_catalog.pg_is_in_recovery(), {}",
                columns.join(", ")
            ),
            settings,
            backend_pid,
        };
        pins.verify(client).await?;
        Ok(pins)
    }

    /// Reads the settings back in a statement of its own: the server session must be the same, no transaction may be open, and each
    /// setting must be as it was pinned. Also tells the server's role now, which is all that may have changed of who answers a session.
    pub(crate) async fn verify(&self, client: &Client) -> std::result::Result<Role, PinFault> {
        let messages = client.simple_query(&self.read_back).await?;
        let shown = |index: usize| last_row(&messages, index);
        if shown(0).as_deref() != Some(self.backend_pid.as_str()) {
            return Err(PinFault::Pooler(
                "two statements of one connection were answered by different server sessions".to_owned(),
            ));
        }
        if shown(1).as_deref() != Some("t") {
            return Err(PinFault::OpenTransaction);
        }
        let role = match shown(2).as_deref() {
            Some("t") => Role::ReadOnly,
            Some("f") => Role::Writable,
            _ => return Err(PinFault::Pooler("the server session did not tell its role".to_owned())),
        };
        for (index, (name, wanted)) in self.settings.iter().enumerate() {
            let found = shown(index + 3);
            if found.as_deref().is_some_and(|found| found.eq_ignore_ascii_case(wanted)) {
                continue;
            }
            if *name == TOKEN_SETTING {
                return Err(PinFault::Pooler(
                    "a setting of this session was lost or is another session's".to_owned(),
                ));
            }
            return Err(PinFault::Changed {
                name,
                wanted: wanted.clone(),
                found: found.unwrap_or_else(|| "nothing".to_owned()),
            });
        }
        Ok(role)
    }

    /// The server process that this session was pinned in.
    pub(crate) fn backend_pid(&self) -> &str {
        &self.backend_pid
    }
}

fn last_row(messages: &[SimpleQueryMessage], column: usize) -> Option<String> {
    let row = messages.iter().rev().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    })?;
    row.try_get(column).ok().flatten().map(str::to_owned)
}

/// Why a session is not as it must be.
#[derive(Debug)]
pub(crate) enum PinFault {
    /// The server could not be asked.
    Asking(tokio_postgres::Error),
    /// A setting does not hold.
    Changed {
        /// Its name.
        name: &'static str,
        /// As pinned.
        wanted: String,
        /// As read back.
        found: String,
    },
    /// Something between us and the server mixes sessions.
    Pooler(String),
    /// The last user of the session left a transaction open.
    OpenTransaction,
}

impl From<tokio_postgres::Error> for PinFault {
    fn from(error: tokio_postgres::Error) -> Self {
        Self::Asking(error)
    }
}

impl PinFault {
    /// In the words and the variants of the store.
    pub(crate) fn into_store_error(self, site: &str, tried: &str) -> StoreError {
        match self {
            Self::Asking(error) => super::fault::in_session(site, tried, &error),
            Self::Changed { name, wanted, found } => StoreError::Config(
                Trouble::new(
                    site,
                    tried,
                    format!("setting {name} was pinned to {wanted} and reads {found}"),
                )
                .hint("something between driftline and the server changes settings; connect to the server itself"),
            ),
            Self::Pooler(cause) => pooler(site, tried, cause),
            Self::OpenTransaction => StoreError::Retryable {
                after: None,
                trouble: Trouble::new(site, tried, "a transaction was left open on this session"),
            },
        }
    }
}

/// A pooler was found out.
pub(crate) fn pooler(site: &str, tried: &str, cause: impl Into<String>) -> StoreError {
    StoreError::Config(
        Trouble::new(site, tried, cause).hint(
            "a pooler in transaction mode loses session settings; connect to the server itself or pool by session",
        ),
    )
}

/// The result of pinning, in the words of the store.
pub(crate) fn pinned<T>(result: std::result::Result<T, PinFault>, site: &str, tried: &str) -> Result<T> {
    result.map_err(|fault| fault.into_store_error(site, tried))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_shown_as_the_server_shows_them() {
        assert_eq!(shown_ms(0), "0");
        assert_eq!(shown_ms(5_000), "5s");
        assert_eq!(shown_ms(60_000), "1min");
        assert_eq!(shown_ms(90_000), "90s");
        assert_eq!(shown_ms(1_500), "1500ms");
        assert_eq!(shown_ms(7_200_000), "2h");
    }

    #[test]
    fn only_the_canary_writer_may_write() {
        for (purpose, read_only) in [(Purpose::Read, "on"), (Purpose::Watch, "on"), (Purpose::Write, "off")] {
            let settings = settings(purpose, Role::Writable, false);
            assert!(settings.contains(&("default_transaction_read_only", read_only.to_owned())));
            assert!(!settings.iter().any(|(name, _)| *name == WRITE_FORWARDING));
        }
        assert!(settings(Purpose::Read, Role::ReadOnly, true).contains(&(WRITE_FORWARDING, "OFF".to_owned())));
    }
}
