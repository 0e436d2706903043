//! The health of the probe itself. What the system does not tell is absent.

use std::path::Path;

/// Ticks of processor time in a second, as Linux reports them to every process.
const TICKS_PER_SECOND: f64 = 100.0;

/// What the system says of this process now.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub(crate) struct Own {
    pub(crate) resident_bytes: Option<i64>,
    pub(crate) cpu_seconds: Option<f64>,
    pub(crate) open_files: Option<i64>,
}

impl Own {
    pub(crate) fn now() -> Self {
        let read = |name: &str| std::fs::read_to_string(Path::new("/proc/self").join(name)).ok();
        let files = std::fs::read_dir("/proc/self/fd").ok();
        Self {
            resident_bytes: read("status").as_deref().and_then(resident_bytes),
            cpu_seconds: read("stat").as_deref().and_then(cpu_seconds),
            open_files: files.and_then(|files| i64::try_from(files.count()).ok()),
        }
    }
}

fn resident_bytes(status: &str) -> Option<i64> {
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: i64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024)
}

/// User and system time: fields 14 and 15, counted behind the name, which may hold blanks and brackets.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, behind) = stat.rsplit_once(')')?;
    let mut fields = behind.split_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<u32>().ok().map(f64::from);
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_systems_words_are_understood() {
        assert_eq!(
            resident_bytes("Name:\tx\nVmRSS:\t   1234 kB\nVmSwap: 0 kB\n"),
            Some(1_263_616)
        );
        assert_eq!(resident_bytes("Name:\tx\n"), None);
        let stat = "7 (a ) name) S 1 2 3 4 5 6 7 8 9 10 150 50 0 0 20";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (short) S 1"), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_is_alive() {
        let own = Own::now();
        assert!(own.resident_bytes.unwrap() > 100_000);
        assert!(own.open_files.unwrap() > 2);
        assert!(own.cpu_seconds.is_some());
    }
}
