//! What a lab's servers are like.

use std::path::PathBuf;

/// How servers treat connections without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Tls {
    /// Both kinds of connections are let in.
    #[default]
    Available,
    /// Only TLS is let in over TCP.
    Required,
}

/// Settings of a lab. The default is what most tests want.
#[derive(Debug, Clone)]
pub struct PgOptions {
    /// Where the folder of labs is made; `None` = the system's folder for temporary files. When we are root, the account
    /// that the servers run as must be able to pass through it. Left-overs are only looked for under the same root.
    pub root: Option<PathBuf>,
    /// Major version of the servers; `None` = Debian's 15. Others (13, 14, 16, 17, 18) have no `pg_basebackup`:
    /// their primary stops for the moment in which a standby is copied from it.
    pub version: Option<u16>,
    /// Databases made beside `postgres`.
    pub databases: Vec<String>,
    /// Treatment of connections without TLS.
    pub tls: Tls,
    /// `track_commit_timestamp`.
    pub track_commit_timestamp: bool,
    /// `synchronous_commit`, the servers' default; a session can choose otherwise.
    pub synchronous_commit: bool,
    /// `max_connections`.
    pub connections_max: u16,
    /// Further lines of `postgresql.conf`, name and value; they win over the lab's own.
    pub settings: Vec<(String, String)>,
}

impl Default for PgOptions {
    fn default() -> Self {
        Self {
            root: None,
            version: None,
            databases: Vec::new(),
            tls: Tls::default(),
            track_commit_timestamp: true,
            synchronous_commit: true,
            connections_max: 100,
            settings: Vec::new(),
        }
    }
}

impl PgOptions {
    /// The default with one database made at start.
    pub fn with_database(name: &str) -> Self {
        Self {
            databases: vec![name.to_owned()],
            ..Self::default()
        }
    }

    /// Lines for the end of `postgresql.conf`. Whatever differs between the servers of one lab is on their command line
    /// instead, because a standby starts with a copy of this file.
    pub(crate) fn configuration(&self) -> String {
        let on = |flag| if flag { "on" } else { "off" }.to_owned();
        let own = [
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("max_connections", self.connections_max.to_string()),
            ("shared_buffers", "32MB".to_owned()),
            // Speed: these servers lose data when the machine crashes. When only the server crashes, they do not.
            ("fsync", on(false)),
            ("synchronous_commit", on(self.synchronous_commit)),
            ("track_commit_timestamp", on(self.track_commit_timestamp)),
            ("wal_level", "replica".to_owned()),
            ("hot_standby", on(true)),
            ("max_wal_senders", "10".to_owned()),
            ("max_replication_slots", "10".to_owned()),
            // A lab that is left alone with its replication cut does not fill the disk.
            ("max_slot_wal_keep_size", "4GB".to_owned()),
            // The default of 5 s would be waited for after every cut.
            ("wal_retrieve_retry_interval", "100ms".to_owned()),
            ("wal_receiver_status_interval", "1s".to_owned()),
            // Shared memory in the lab's folder goes away with it, whatever ends the server.
            ("dynamic_shared_memory_type", "mmap".to_owned()),
            ("password_encryption", "scram-sha-256".to_owned()),
            ("ssl", on(true)),
            ("timezone", "UTC".to_owned()),
            ("log_timezone", "UTC".to_owned()),
            // Statements may hold passwords, and the log's end is shown in errors.
            ("log_min_error_statement", "panic".to_owned()),
        ];
        let own = own.iter().map(|(name, value)| (*name, value.as_str()));
        let further = self
            .settings
            .iter()
            .map(|(name, value)| (name.as_str(), value.as_str()));
        own.chain(further)
            .map(|(name, value)| format!("{name} = '{}'\n", value.replace('\'', "''")))
            .collect()
    }

    /// `pg_hba.conf`: passwords everywhere, over TCP with TLS or, when that is not required, without.
    pub(crate) fn access(&self) -> String {
        let kind = match self.tls {
            Tls::Available => "host",
            Tls::Required => "hostssl",
        };
        format!(
            "local all all scram-sha-256\n\
             local replication all scram-sha-256\n\
             {kind} all all 127.0.0.1/32 scram-sha-256\n\
             {kind} replication all 127.0.0.1/32 scram-sha-256\n"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn further_settings_come_last_and_are_quoted() {
        let options = PgOptions {
            settings: vec![("fsync".to_owned(), "it's".to_owned())],
            ..PgOptions::default()
        };
        assert!(options.configuration().ends_with("fsync = 'it''s'\n"));
    }

    #[test]
    fn required_tls_leaves_no_line_without_it() {
        let options = PgOptions {
            tls: Tls::Required,
            ..PgOptions::default()
        };
        assert!(!options.access().lines().any(|line| line.starts_with("host ")));
        assert!(PgOptions::default().access().contains("host all"));
    }
}
