//! Where a benchmark ran: figures mean nothing without it.

use std::process::Command;
use std::time::{Duration, Instant};

use serde::Serialize;
use sha2::{Digest as _, Sha256};

/// The machine, at the start of the run. It is not named.
#[derive(Debug, Serialize)]
pub(crate) struct Machine {
    cpus: usize,
    cpu_model: String,
    memory_mib: u64,
    kernel: String,
    /// Over 1, 5 and 15 minutes. Well above 0, something else was measured too.
    load_average_at_start: [f64; 3],
    /// SHA-256 by one core at the start. A shared machine is not as fast at any time: figures of two runs compare as far as this does.
    sha256_mb_per_second_at_start: f64,
    /// Processor time since the start of the machine that went to others on the same hardware, as the kernel accounts it.
    stolen_percent_since_boot: f64,
}

/// How long the speed is looked at.
const SPEED_LOOK: Duration = Duration::from_millis(500);

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
            sha256_mb_per_second_at_start: speed(),
            stolen_percent_since_boot: stolen_percent(),
        }
    }
}

/// One line for a person.
impl std::fmt::Display for Machine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [one, five, fifteen] = self.load_average_at_start;
        write!(
            f,
            "{} CPUs ({}), {} MiB, Linux {}; load average at start {one:.2} {five:.2} {fifteen:.2}; one core hashes {:.0} MB/s, {:.1} % stolen since boot",
            self.cpus,
            self.cpu_model,
            self.memory_mib,
            self.kernel,
            self.sha256_mb_per_second_at_start,
            self.stolen_percent_since_boot
        )
    }
}

/// The commit that is measured, as whoever built the binary says it. The checkout may be at another by now.
pub(crate) fn commit() -> String {
    std::env::var("DRIFTLINE_BENCH_COMMIT").unwrap_or_else(|_| unknown())
}

/// Megabytes that one core hashes in a second, now.
fn speed() -> f64 {
    let block = [0x5e_u8; 100_000];
    let (begun, mut blocks) = (Instant::now(), 0_u32);
    while begun.elapsed() < SPEED_LOOK {
        std::hint::black_box(Sha256::digest(block));
        blocks += 1;
    }
    f64::from(blocks) / 10.0 / begun.elapsed().as_secs_f64()
}

/// The eighth figure of the first line of `/proc/stat`, of the sum of the first eight (proc(5)); the others are counted in those.
fn stolen_percent() -> f64 {
    let text = read("/proc/stat");
    let line = text.lines().next().unwrap_or_default();
    let ticks: Vec<f64> = line
        .split_whitespace()
        .skip(1)
        .take(8)
        .filter_map(|figure| figure.parse().ok())
        .collect();
    ticks
        .get(7)
        .map_or(f64::NAN, |stolen| stolen * 100.0 / ticks.iter().sum::<f64>())
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
