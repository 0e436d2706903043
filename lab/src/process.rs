//! Processes by PID and start time, because a PID alone may belong to somebody else by now.

use std::fs;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

const POLL: Duration = Duration::from_millis(5);

/// One process of this machine since its boot; never another one that got the same PID later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ProcessId {
    pub(crate) pid: i32,
    /// Clock ticks between boot and the start of the process.
    start_ticks: u64,
}

struct Stat {
    state: char,
    parent: i32,
    start_ticks: u64,
}

/// Fields of `/proc/PID/stat`; the second, the name, may hold blanks and parentheses.
fn stat(pid: i32) -> Option<Stat> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    parse_stat(&text)
}

fn parse_stat(text: &str) -> Option<Stat> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    Some(Stat {
        state: fields.first()?.chars().next()?,
        parent: fields.get(1)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// How long a process may take to stand still.
const FREEZE_PATIENCE: Duration = Duration::from_secs(5);

impl ProcessId {
    /// The process that has this PID now; `None` when there is none.
    pub(crate) fn of(pid: i32) -> Option<Self> {
        stat(pid).map(|stat| Self {
            pid,
            start_ticks: stat.start_ticks,
        })
    }

    pub(crate) fn of_child(child: &std::process::Child) -> Option<Self> {
        i32::try_from(child.id()).ok().and_then(Self::of)
    }

    pub(crate) fn ourselves() -> Option<Self> {
        i32::try_from(std::process::id()).ok().and_then(Self::of)
    }

    /// Whether it still runs. A zombie has ended.
    pub(crate) fn is_alive(self) -> bool {
        stat(self.pid).is_some_and(|stat| stat.start_ticks == self.start_ticks && stat.state != 'Z')
    }

    /// Sends a signal, unless the process has ended.
    pub(crate) fn signal(self, signal: Signal) {
        if self.is_alive() {
            // It may end between the look and the signal; then there is nothing left to do.
            let _ended = kill(Pid::from_raw(self.pid), signal);
        }
    }

    /// Stops it, and waits until each of its threads stands still: one that runs on another core may answer once more.
    pub(crate) fn freeze(self) {
        self.signal(Signal::SIGSTOP);
        wait_until(FREEZE_PATIENCE, || {
            let threads = fs::read_dir(format!("/proc/{}/task", self.pid))
                .into_iter()
                .flatten()
                .flatten();
            let texts = threads.filter_map(|thread| fs::read_to_string(thread.path().join("stat")).ok());
            let mut stats = texts.filter_map(|text| parse_stat(&text));
            stats.all(|stat| matches!(stat.state, 'T' | 't' | 'Z'))
        });
    }

    /// Children that run now.
    pub(crate) fn children(self) -> Vec<Self> {
        all()
            .filter(|pid| stat(*pid).is_some_and(|stat| stat.parent == self.pid))
            .filter_map(Self::of)
            .collect()
    }

    /// Waits until it has ended; false when it has not within `patience`.
    pub(crate) fn wait_end(self, patience: Duration) -> bool {
        wait_until(patience, || !self.is_alive())
    }
}

/// Processes that were started with `-D FOLDER`, where FOLDER lies in `folder`: servers of PostgreSQL and their tools.
pub(crate) fn with_data_in(folder: &std::path::Path) -> Vec<ProcessId> {
    all()
        .filter(|pid| {
            let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else {
                return false;
            };
            let words: Vec<&[u8]> = line.split(|byte| *byte == 0).collect();
            words.windows(2).any(|pair| {
                pair[0] == b"-D"
                    && std::str::from_utf8(pair[1]).is_ok_and(|path| std::path::Path::new(path).starts_with(folder))
            })
        })
        .filter_map(ProcessId::of)
        .collect()
}

fn all() -> impl Iterator<Item = i32> {
    fs::read_dir("/proc")
        .into_iter()
        .flatten()
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

/// Looks again and again, for code that also runs in `Drop`, where no runtime is at hand. False when time is up.
pub(crate) fn wait_until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    loop {
        if done() {
            return true;
        }
        if Instant::now() >= deadline {
            return false;
        }
        pause();
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "Drop has no runtime, and the end of a process that is not our child has no event; bounded by the caller's patience"
)]
fn pause() {
    std::thread::sleep(POLL);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_with_blanks_and_parentheses_is_passed_over() {
        let text = "42 (a) b (c)) S 7 1 1 0 -1 4194304 1 0 0 0 0 0 0 0 20 0 1 0 987 1 1";
        let stat = parse_stat(text).unwrap();
        assert_eq!((stat.state, stat.parent, stat.start_ticks), ('S', 7, 987));
        assert!(parse_stat("42 (cut").is_none());
    }

    #[test]
    fn a_server_is_known_by_the_folder_of_its_data() {
        use std::process::{Command, Stdio};
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new("/bin/sh")
            .args(["-c", "read line", "postgres", "-D"])
            .arg(folder.path().join("primary"))
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let id = ProcessId::of_child(&child).unwrap();
        assert!(wait_until(Duration::from_secs(10), || with_data_in(folder.path()) == [id]));
        assert_eq!(with_data_in(&folder.path().join("other")), []);
        id.signal(Signal::SIGKILL);
        child.wait().unwrap();
        assert!(!id.is_alive());
        assert_eq!(with_data_in(folder.path()), []);
    }

    #[test]
    fn a_pid_with_another_start_time_is_another_process() {
        let ourselves = ProcessId::ourselves().unwrap();
        assert!(ourselves.is_alive());
        let other = ProcessId {
            start_ticks: ourselves.start_ticks + 1,
            ..ourselves
        };
        assert!(!other.is_alive());
    }
}
