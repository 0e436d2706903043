//! A process from its start to its end: wall time, CPU time, peak memory.

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde::Serialize;
use tokio::time::MissedTickBehavior;

/// Between two looks at a process. Peak memory only rises, so that no more than the last such time of its life is missed.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// `USER_HZ`: the unit of CPU times in `/proc`, the same on all that Linux runs on here.
const TICKS_PER_SECOND: u32 = 100;

/// What one run of a program cost.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Cost {
    /// From before the start of the process until it had ended.
    pub(crate) wall_seconds: f64,
    /// User and system time of all its threads; the steps are of 10 ms.
    pub(crate) cpu_seconds: f64,
    /// `VmHWM`, in units of 1,000,000 bytes.
    pub(crate) resident_peak_mb: f64,
}

/// A program that has ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) cost: Cost,
    pub(crate) code: Option<i32>,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

impl Ended {
    /// The same, or an error with what the program said, unless it ended with `code`.
    pub(crate) fn expect(self, code: i32) -> anyhow::Result<Self> {
        anyhow::ensure!(
            self.code == Some(code),
            "it ended with {:?}\n--- stdout\n{}\n--- stderr\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        Ok(self)
    }
}

/// Runs `command` to its end; what it says goes through files in `folder`. It is killed when this is dropped.
pub(crate) async fn watch(command: Command, folder: &Path) -> anyhow::Result<Ended> {
    let (out, err) = (folder.join("watched.out"), folder.join("watched.err"));
    let file = |path| std::fs::File::create(path).with_context(|| format!("make {}", Path::display(path)));
    let mut command = tokio::process::Command::from(command);
    command
        .stdin(Stdio::null())
        .stdout(file(&out)?)
        .stderr(file(&err)?)
        .kill_on_drop(true);
    let begun = Instant::now();
    let mut child = command.spawn().context("start the program that is measured")?;
    let pid = child.id().context("it has no process ID")?;
    let (cpu_seconds, resident_peak_kib) = look_until_ended(pid).await?;
    let wall_seconds = begun.elapsed().as_secs_f64();
    let status = child.wait().await.context("wait for the program")?;
    let read = |path| std::fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned());
    Ok(Ended {
        cost: Cost {
            wall_seconds,
            cpu_seconds,
            resident_peak_mb: f64::from(resident_peak_kib) * 1024.0 / 1e6,
        },
        code: status.code(),
        stdout: read(&out)?,
        stderr: read(&err)?,
    })
}

/// CPU seconds and peak KiB. Nobody has waited for the process yet, so that it stays readable as a zombie, all of its CPU time included.
async fn look_until_ended(pid: u32) -> anyhow::Result<(f64, u32)> {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut peak_kib = 0;
    loop {
        looks.tick().await;
        // A zombie has no memory any more, and no such line.
        peak_kib = resident_peak_kib(pid).unwrap_or(0).max(peak_kib);
        let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).context("read the state of the process")?;
        let (state, ticks) = parse_stat(&stat).context("the state of the process has another form")?;
        if state == "Z" {
            return Ok((f64::from(ticks) / f64::from(TICKS_PER_SECOND), peak_kib));
        }
    }
}

fn resident_peak_kib(pid: u32) -> Option<u32> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// State, and user plus system ticks. The second field, the name, may hold blanks and parentheses.
fn parse_stat(text: &str) -> Option<(&str, u32)> {
    let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<u32>().ok();
    Some((fields.first()?, ticks(11)?.checked_add(ticks(12)?)?))
}
