//! Events: a failover, switchover, failback, restore or maintenance, with its instants. One JSON file each in the state
//! folder, replaced by atomic rename, so that a running probe can read them at any time.

use std::io::Write;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use stores::Fork;

/// Kinds of event: a closed list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EventKind {
    /// The primary failed and another site took over.
    Failover,
    /// A planned change of roles without loss.
    Switchover,
    /// The return to the old site.
    Failback,
    /// Data was restored from a backup.
    Restore,
    /// Work that is expected to disturb replication.
    Maintenance,
}

impl EventKind {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Failover,
        Self::Switchover,
        Self::Failback,
        Self::Restore,
        Self::Maintenance,
    ];

    /// The word of the `events.kind` column.
    pub fn word(self) -> &'static str {
        match self {
            Self::Failover => "failover",
            Self::Switchover => "switchover",
            Self::Failback => "failback",
            Self::Restore => "restore",
            Self::Maintenance => "maintenance",
        }
    }
}

/// One event. Instants are microseconds since 1970 UTC.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Event {
    /// UUIDv7 text.
    pub event_id: String,
    /// The kind.
    pub kind: EventKind,
    /// A drill.
    pub exercise: bool,
    /// The datasets that it touches; empty = all.
    pub datasets: Vec<String>,
    /// The site that wrote before.
    pub from_site: String,
    /// The site that writes after.
    pub to_site: String,
    /// When people declared it.
    pub declared_at_us: i64,
    /// When the new site was promoted.
    pub promoted_at_us: Option<i64>,
    /// When applications wrote to the new site.
    pub traffic_shifted_at_us: Option<i64>,
    /// When somebody verified that it works.
    pub verified_at_us: Option<i64>,
    /// When it was over.
    pub ended_at_us: Option<i64>,
    /// Where the copies parted, by connection name.
    pub forks: std::collections::BTreeMap<String, Fork>,
    /// How it ended, in words.
    pub outcome: Option<String>,
    /// The scenario of a drill.
    pub scenario: Option<String>,
    /// Who ran the command.
    pub executed_by: String,
    /// Free words.
    pub notes: String,
    /// Grows with each change.
    pub revision: u64,
}

impl Event {
    /// The path of the event's file.
    pub fn path(state: &Path, event_id: &str) -> PathBuf {
        state.join("events").join(format!("{event_id}.json"))
    }

    /// Writes the event whole or not at all.
    ///
    /// # Errors
    /// What the file system says.
    pub fn save(&self, state: &Path) -> std::io::Result<()> {
        let path = Self::path(state, &self.event_id);
        let folder = state.join("events");
        std::fs::create_dir_all(&folder)?;
        let draft = folder.join(format!(".{}.{}.tmp", self.event_id, std::process::id()));
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(serde_json::to_string_pretty(self)?.as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)?;
        std::fs::File::open(&folder)?.sync_all()
    }

    /// Reads every event of a state folder, oldest first. A folder that does not exist holds none.
    ///
    /// # Errors
    /// A file that cannot be read or is not an event is an error, never skipped.
    pub fn load_all(state: &Path) -> std::io::Result<Vec<Self>> {
        let entries = match std::fs::read_dir(state.join("events")) {
            Ok(entries) => entries,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(error),
        };
        let mut events = Vec::new();
        for entry in entries {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = std::fs::read_to_string(&path)?;
                let event: Self = serde_json::from_str(&text)
                    .map_err(|error| std::io::Error::other(format!("{}: {error}", path.display())))?;
                events.push(event);
            }
        }
        events.sort_by(|a, b| a.event_id.cmp(&b.event_id));
        Ok(events)
    }
}
