//! What was measured, exactly.

use lab::PgServer;
use serde::Serialize;

use super::lab_up::binary;
use super::machine::{commit, told, unknown};
use super::record::{say, write};

/// The versions of what is measured and of what it ran against.
#[derive(Debug, Serialize)]
pub(crate) struct Versions {
    driftline: &'static str,
    /// With `-dirty` when the working tree differs from it.
    commit: String,
    /// The profile of cargo that the binary was built with.
    profile: String,
    rustc: String,
    postgresql: String,
}

impl Versions {
    /// Asks the tools and the server.
    pub(crate) async fn of(server: &PgServer) -> anyhow::Result<Self> {
        let version = server.value("postgres", "show server_version").await?;
        Ok(Self::with(version.unwrap_or_else(unknown)))
    }

    /// Asks the tools; the server is the installed one.
    pub(crate) fn installed() -> Self {
        let told = told("/usr/lib/postgresql/15/bin/postgres", &["--version"]);
        Self::with(
            told.rsplit_once("PostgreSQL) ")
                .map_or(told.clone(), |(_, version)| version.to_owned()),
        )
    }

    fn with(postgresql: String) -> Self {
        Self {
            driftline: env!("CARGO_PKG_VERSION"),
            commit: commit(),
            profile: profile(),
            rustc: told("rustc", &["--version"]),
            postgresql,
        }
    }

    /// Keeps the raw results as `benches/results/NAME.json`. Only a release build of a known commit is recorded: nothing else may replace
    /// its figures.
    pub(crate) fn keep(&self, name: &str, results: &impl Serialize) -> anyhow::Result<()> {
        if self.profile != "release" || self.commit == unknown() {
            return say("not recorded: only what `make bench` has built for release is");
        }
        write(name, results)
    }
}

/// One line for a person.
impl std::fmt::Display for Versions {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "driftline {} at {}, profile {}, {}; PostgreSQL {}",
            self.driftline, self.commit, self.profile, self.rustc, self.postgresql
        )
    }
}

/// Cargo puts binaries into a folder that is named after the profile.
fn profile() -> String {
    let binary = binary();
    let folder = binary.parent().and_then(std::path::Path::file_name);
    folder.map_or_else(unknown, |name| name.to_string_lossy().into_owned())
}
