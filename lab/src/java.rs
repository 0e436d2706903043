//! Programs in Java.

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use nix::sys::signal::Signal;

use crate::LabError;
use crate::folder::LabFolder;
use crate::process::{ProcessId, wait_until};
use crate::server_log::log_tail;

const PACKAGE: &str = "openjdk-17-jre-headless";
/// How long a killed program may take to be gone.
const KILL_PATIENCE: Duration = Duration::from_secs(10);
/// Settings that halve the time to start and keep the heap small.
const QUICK: [&str; 5] = [
    "-XX:+UseSerialGC",
    "-XX:TieredStopAtLevel=1",
    "-Xshare:auto",
    "-Xms64m",
    "-Xmx384m",
];

/// A program and what it is given.
#[derive(Debug)]
pub(crate) struct JavaProgram {
    /// As errors and logs call it.
    pub(crate) name: String,
    /// Folder of its jars.
    pub(crate) jars: PathBuf,
    /// Options of the machine beside [`QUICK`].
    pub(crate) options: Vec<OsString>,
    /// Its main class.
    pub(crate) class: &'static str,
    /// What the class is given.
    pub(crate) arguments: Vec<OsString>,
}

impl JavaProgram {
    fn command(&self, folder: &Path) -> Result<Command, LabError> {
        let mut class_path = OsString::from(&self.jars);
        class_path.push("/*");
        let mut command = Command::new(java()?);
        command
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C.UTF-8")
            .current_dir(folder)
            .args(QUICK)
            .args(&self.options)
            .arg("-cp")
            .arg(class_path)
            .arg(self.class)
            .args(&self.arguments)
            .stdin(Stdio::null())
            // Ctrl-C on the terminal is for the program that runs the lab; it decides when servers go.
            .process_group(0);
        Ok(command)
    }

    /// Runs it to its end. Blocks.
    pub(crate) fn run(&self, folder: &Path) -> Result<(), LabError> {
        let failed = |status: String, output: &[u8]| LabError::Program {
            program: self.name.clone(),
            status,
            output: String::from_utf8_lossy(output).into_owned(),
        };
        let output = self.command(folder)?.output();
        let output = output.map_err(|error| failed(format!("could not be started: {error}"), &[]))?;
        if output.status.success() {
            return Ok(());
        }
        Err(failed(
            output.status.to_string(),
            &[output.stdout, output.stderr].concat(),
        ))
    }
}

/// One that runs. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct JavaProcess {
    child: Child,
    id: ProcessId,
}

impl JavaProcess {
    /// Starts `program` and waits until its log says `ready`. Blocks.
    pub(crate) fn start(
        program: &JavaProgram,
        folder: &LabFolder,
        log: &Path,
        ready: &str,
        patience: Duration,
    ) -> Result<Self, LabError> {
        let open = || File::create(log).map_err(LabError::folder("open", log));
        let file = open()?;
        let errors = file.try_clone().map_err(LabError::folder("open", log))?;
        let failed = |status: String| LabError::Program {
            program: program.name.clone(),
            status,
            output: String::new(),
        };
        let spawned = program.command(folder.path())?.stdout(file).stderr(errors).spawn();
        let mut child = spawned.map_err(|error| failed(format!("could not be started: {error}")))?;
        let Some(id) = ProcessId::of_child(&child) else {
            let _ended_already = child.kill();
            return Err(failed("its start time cannot be read from /proc".to_owned()));
        };
        let mut process = Self { child, id };
        folder.note_program(id)?;
        let mut ended = None;
        let is_ready = wait_until(patience, || {
            ended = process.child.try_wait().ok().flatten();
            ended.is_some() || fs::read_to_string(log).is_ok_and(|text| text.contains(ready))
        });
        match (is_ready, ended) {
            (_, Some(status)) => Err(LabError::Ended {
                server: program.name.clone(),
                status: status.to_string(),
                log_tail: log_tail(log),
            }),
            (true, None) => Ok(process),
            (false, None) => Err(LabError::Late {
                server: program.name.clone(),
                what: format!("`{ready}`"),
                waited: patience,
                log_tail: log_tail(log),
            }),
        }
    }

    /// It does nothing until [`Self::resume`].
    pub(crate) fn stall(&self) {
        self.id.freeze();
    }

    /// It goes on.
    pub(crate) fn resume(&self) {
        self.id.signal(Signal::SIGCONT);
    }
}

impl Drop for JavaProcess {
    fn drop(&mut self) {
        self.id.signal(Signal::SIGKILL);
        self.id.wait_end(KILL_PATIENCE);
        // Reaps it.
        let _status = self.child.wait();
    }
}

fn java() -> Result<PathBuf, LabError> {
    let mut folders: Vec<PathBuf> = std::env::var_os("JAVA_HOME")
        .map(|home| PathBuf::from(home).join("bin"))
        .into_iter()
        .collect();
    folders.extend(std::env::var_os("PATH").iter().flat_map(std::env::split_paths));
    let found = folders
        .iter()
        .map(|folder| folder.join("java"))
        .find(|path| path.is_file());
    found.ok_or_else(|| {
        let searched: Vec<String> = folders.iter().map(|folder| folder.display().to_string()).collect();
        LabError::MissingProgram {
            program: "java".to_owned(),
            searched: searched.join(":"),
            package: PACKAGE.to_owned(),
        }
    })
}

/// Where `scripts/install.sh` puts what the lab runs.
pub(crate) fn cache() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home);
    cache.unwrap_or_else(std::env::temp_dir).join("driftline")
}
