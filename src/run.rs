//! Who runs what: the identity of one execution.

use jiff::Timestamp;

/// One execution of a command that leaves evidence.
#[derive(Debug, Clone)]
pub(crate) struct Run {
    /// UUIDv7 text: sorts by time.
    pub(crate) id: String,
    pub(crate) started_at_us: i64,
    pub(crate) executed_by: String,
    pub(crate) host: String,
}

impl Run {
    pub(crate) fn begin() -> Self {
        Self {
            id: uuid::Uuid::now_v7().to_string(),
            started_at_us: now_us(),
            executed_by: executed_by(),
            host: host(),
        }
    }
}

/// The wall clock, microseconds since 1970 UTC.
pub(crate) fn now_us() -> i64 {
    Timestamp::now().as_microsecond()
}

/// Who runs this, by the environment's word; `unknown` rather than a guess.
pub(crate) fn executed_by() -> String {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok().filter(|value| !value.is_empty()))
        .unwrap_or_else(|| "unknown".to_owned())
}

/// The name of this machine; `unknown` rather than a guess.
pub(crate) fn host() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map(|name| name.trim().to_owned())
        .ok()
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| "unknown".to_owned())
}
