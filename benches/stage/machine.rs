//! Where a benchmark ran: figures mean nothing without it.

use std::process::Command;

use serde::Serialize;

/// The machine, at the start of the run. It is not named.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpus: usize,
    cpu_model: String,
    memory_mib: u64,
    kernel: String,
    /// Over 1, 5 and 15 minutes. Well above 0, something else was measured too.
    load_average_at_start: [f64; 3],
}

impl Machine {
    /// Reads it now.
    pub(crate) fn now() -> Self {
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            cpu_model: field("/proc/cpuinfo", "model name").unwrap_or_else(unknown),
            memory_mib: field("/proc/meminfo", "MemTotal")
                .and_then(|text| text.split(' ').next()?.parse::<u64>().ok())
                .map_or(0, |kib| kib / 1024),
            kernel: read("/proc/sys/kernel/osrelease"),
            load_average_at_start: load_average(),
        }
    }
}

/// One line for a person.
impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [one, five, fifteen] = self.load_average_at_start;
        write!(
            f,
            "{} CPUs ({}), {} MiB, Linux {}; load average at start {one:.2} {five:.2} {fifteen:.2}",
            self.cpus, self.cpu_model, self.memory_mib, self.kernel
        )
    }
}

/// The commit that is measured, as whoever built the binary says it. The checkout may be at another by now.
pub(crate) fn commit() -> String {
    std::env::var("DRIFTLINE_BENCH_COMMIT").unwrap_or_else(|_| unknown())
}

fn load_average() -> [f64; 3] {
    let text = read("/proc/loadavg");
    let mut figures = text.split(' ').map(|figure| figure.parse().unwrap_or(f64::NAN));
    std::array::from_fn(|_| figures.next().unwrap_or(f64::NAN))
}

/// The value of the first line `name : value` of a file.
fn field(path: &str, name: &str) -> Option<String> {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

/// What a tool says in one line.
pub(crate) fn told(program: &str, args: &[&str]) -> String {
    Command::new(program)
        .args(args)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .ok()
        .filter(|output| output.status.success())
        .map_or_else(unknown, |output| {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        })
}

pub(crate) fn unknown() -> String {
    "unknown".to_owned()
}
