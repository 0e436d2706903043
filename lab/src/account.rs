//! The account that the lab's servers run as.

use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::Command;

use nix::unistd::{Uid, User};

use crate::LabError;

/// Whom the servers run as: ourselves, or an account without rights when we are root, whom PostgreSQL refuses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Account {
    lowered: Option<(u32, u32)>,
}

impl Account {
    pub(crate) fn find() -> Result<Self, LabError> {
        if !Uid::effective().is_root() {
            return Ok(Self { lowered: None });
        }
        let found = ["postgres", "nobody"]
            .into_iter()
            .find_map(|name| User::from_name(name).ok().flatten());
        let user = found.ok_or(LabError::NoAccount)?;
        Ok(Self {
            lowered: Some((user.uid.as_raw(), user.gid.as_raw())),
        })
    }

    /// Ourselves, for programs that do not mind root.
    pub(crate) fn ourselves() -> Self {
        Self { lowered: None }
    }

    /// Makes `path` the account's own.
    pub(crate) fn give(self, path: &Path) -> Result<(), LabError> {
        match self.lowered {
            None => Ok(()),
            Some((uid, gid)) => {
                chown(path, Some(uid), Some(gid)).map_err(LabError::folder("change the owner of", path))
            }
        }
    }

    /// `program` as this account, with nothing of our environment: `PGHOST`, `PGOPTIONS` and their like must not
    /// reach into a lab.
    pub(crate) fn command(self, program: &Path, folder: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(folder);
        if let Some((uid, gid)) = self.lowered {
            command.uid(uid).gid(gid);
        }
        command
    }
}
