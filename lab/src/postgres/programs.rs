//! The programs of PostgreSQL, and running those that end.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use crate::LabError;
use crate::folder::LabFolder;
use crate::java::cache;
use crate::process::wait_until;

/// The version that the lab is made for, as Debian 12 has it.
const DEBIAN_VERSION: u16 = 15;
const DEBIAN_FOLDER: &str = "/usr/lib/postgresql/15/bin";
/// What fetches the others.
const INSTALL: &str = "scripts/install.sh postgresql";
/// Time for `initdb` or `pg_basebackup`, which take a second on a quiet machine.
const PROGRAM_PATIENCE: Duration = Duration::from_secs(120);
const PACKAGE: &str = "postgresql-15";
/// Output of a failed program that is shown.
const OUTPUT_CHARS: usize = 2_000;

/// Where `initdb`, `postgres` and, of Debian's version, `pg_basebackup` are.
#[derive(Debug, Clone)]
pub(crate) struct Programs {
    folder: PathBuf,
    version: u16,
}

impl Programs {
    /// Those of a major version; `None` = Debian's.
    pub(crate) fn of(version: Option<u16>, lab: &LabFolder) -> Result<Self, LabError> {
        match version {
            None | Some(DEBIAN_VERSION) => Self::find(),
            Some(version) => Self::fetched(version, lab),
        }
    }

    /// A version that was fetched into the cache. The account that the servers run as may not pass through our home, so the files are linked
    /// into the lab's folder.
    fn fetched(version: u16, lab: &LabFolder) -> Result<Self, LabError> {
        let source = cache().join("postgresql").join(version.to_string());
        if !source.join("bin/postgres").is_file() {
            return Err(LabError::MissingArtefact {
                artefact: format!("PostgreSQL {version}"),
                searched: source,
                command: INSTALL.to_owned(),
            });
        }
        let place = lab.path().join(format!("postgresql-{version}"));
        if !place.exists() {
            link_tree(&source, &place)?;
        }
        Ok(Self {
            folder: place.join("bin"),
            version,
        })
    }

    /// The major version, as far as it changes how the programs are called.
    pub(crate) fn version(&self) -> u16 {
        self.version
    }

    fn find() -> Result<Self, LabError> {
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
            Some(folder) => Ok(Self {
                folder: folder.clone(),
                version: DEBIAN_VERSION,
            }),
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

    /// Whether `pg_basebackup` is among them.
    pub(crate) fn can_copy_online(&self) -> bool {
        self.path("pg_basebackup").is_file()
    }
}

/// Folders are made, files linked, or copied where another file system does not let them be.
fn link_tree(from: &Path, to: &Path) -> Result<(), LabError> {
    fs::create_dir(to).map_err(LabError::folder("create", to))?;
    for entry in fs::read_dir(from).map_err(LabError::folder("list", from))? {
        let entry = entry.map_err(LabError::folder("list", from))?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().map_err(LabError::folder("look at", &source))?;
        if kind.is_dir() {
            link_tree(&source, &target)?;
        } else if kind.is_symlink() {
            let points_at = fs::read_link(&source).map_err(LabError::folder("read", &source))?;
            std::os::unix::fs::symlink(points_at, &target).map_err(LabError::folder("link", &target))?;
        } else if fs::hard_link(&source, &target).is_err() {
            fs::copy(&source, &target).map_err(LabError::folder("copy", &source))?;
        }
    }
    Ok(())
}

fn told_by_pg_config() -> Option<PathBuf> {
    let output = Command::new("pg_config").arg("--bindir").output().ok()?;
    let folder = String::from_utf8(output.stdout).ok()?;
    Some(PathBuf::from(folder.trim())).filter(|folder| folder.is_absolute())
}

/// Runs a program to its end, at most two minutes, with its output in a file of `folder`. Blocks.
pub(crate) fn run(mut command: Command, folder: &Path) -> Result<(), LabError> {
    let program = Path::new(command.get_program())
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let path = folder.join(format!("{program}.out"));
    let output = File::create(&path).map_err(LabError::folder("create", &path))?;
    let errors = output.try_clone().map_err(LabError::folder("open", &path))?;
    let failed = |status: String| LabError::Program {
        program: program.clone(),
        status,
        output: tail(&path),
    };
    let mut child = command
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(|error| failed(format!("could not be started: {error}")))?;
    let mut ended = None;
    wait_until(PROGRAM_PATIENCE, || {
        ended = child.try_wait().ok().flatten();
        ended.is_some()
    });
    match ended {
        Some(status) if status.success() => Ok(()),
        Some(status) => Err(failed(status.to_string())),
        None => {
            let _ended_meanwhile = child.kill();
            let _status = child.wait();
            Err(failed(format!("ended by us after {PROGRAM_PATIENCE:?}")))
        }
    }
}

fn tail(path: &Path) -> String {
    let text = fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
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
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo no such thing >&2; exit 3"]);
        let error = run(command, folder.path()).unwrap_err().to_string();
        assert!(
            error.contains("sh failed (exit status: 3)") && error.contains("no such thing"),
            "{error}"
        );
    }
}
