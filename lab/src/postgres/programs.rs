//! The programs of PostgreSQL, and running those that end.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::LabError;

/// The version that the lab is made for, as Debian 12 has it.
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql/15/bin";
const PACKAGE: &str = "postgresql-15";
/// Output of a failed program that is shown.
const OUTPUT_CHARS: usize = 2_000;

/// Where `initdb`, `postgres` and `pg_basebackup` are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
}

impl Programs {
    pub(crate) fn find() -> Result<Self, LabError> {
        let mut folders = vec![PathBuf::from(DEBIAN_FOLDER)];
        folders.extend(told_by_pg_config());
        if let Some(path) = std::env::var_os("PATH") {
            folders.extend(std::env::split_paths(&path));
        }
        Self::find_in(&folders)
    }

    /// All three programs come from one folder: versions are never mixed.
    fn find_in(folders: &[PathBuf]) -> Result<Self, LabError> {
        const NEEDED: [&str; 3] = ["postgres", "initdb", "pg_basebackup"];
        let complete = |folder: &&PathBuf| NEEDED.iter().all(|name| folder.join(name).is_file());
        match folders.iter().find(complete) {
            Some(folder) => Ok(Self { folder: folder.clone() }),
            None => {
                let searched: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
                Err(LabError::MissingProgram {
                    program: NEEDED.join(", "),
                    searched: searched.join(":"),
                    package: PACKAGE.to_owned(),
                })
            }
        }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.folder.join(name)
    }
}

fn told_by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim())).filter(|folder| folder.is_absolute())
}

/// Runs a program to its end. Blocks; the programs that we run bound themselves by connecting to loopback only.
pub(crate) fn run(mut command: Command) -> Result<(), LabError> {
    let program = Path::new(command.get_program())
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    match command.output() {
        Ok(output) if output.status.success() => Ok(()),
        Ok(output) => Err(LabError::Program {
            program,
            status: output.status.to_string(),
            output: tail(&String::from_utf8_lossy(&[output.stdout, output.stderr].concat())),
        }),
        Err(error) => Err(LabError::Program {
            program,
            status: format!("could not be started: {error}"),
            output: String::new(),
        }),
    }
}

fn tail(text: &str) -> String {
    let skipped = text.chars().count().saturating_sub(OUTPUT_CHARS);
    text.chars().skip(skipped).collect::<String>().trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_program_names_the_package() {
        let error = Programs::find_in(&[PathBuf::from("/nowhere")]).unwrap_err().to_string();
        assert!(error.contains("apt-get install postgresql-15"), "{error}");
        assert!(error.contains("/nowhere"), "{error}");
    }

    #[test]
    fn a_failing_program_is_quoted() {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let error = run(command).unwrap_err().to_string();
        assert!(
            error.contains("sh failed (exit status: 3)") && error.contains("no such thing"),
            "{error}"
        );
    }
}
