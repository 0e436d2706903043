//! What a server's log tells of its end.

use std::fs;
use std::path::Path;

/// Lines at the end of the log.
const LAST_LINES: usize = 20;
/// Lines before these that tell of an error: a Java server says why it ends long before its last word.
const ERROR_LINES: usize = 10;
/// How much of the end of a log is looked at.
const BYTES_MAX: usize = 256 * 1024;

/// The end of a server's log, after the first of the errors that come before it.
pub(crate) fn log_tail(log: &Path) -> String {
    let Ok(bytes) = fs::read(log) else {
        return "(no log)".to_owned();
    };
    let text = String::from_utf8_lossy(&bytes[bytes.len().saturating_sub(BYTES_MAX)..]);
    let lines: Vec<&str> = text.lines().collect();
    let (before, last) = lines.split_at(lines.len().saturating_sub(LAST_LINES));
    let errors = before.iter().filter(|line| tells_of_error(line)).take(ERROR_LINES);
    errors.chain(last).copied().collect::<Vec<_>>().join("\n")
}

fn tells_of_error(line: &str) -> bool {
    ["ERROR", "FATAL", "Exception"].iter().any(|word| line.contains(word))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_is_told_however_long_the_shutdown_talks() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("server.log");
        let shutdown: String = (0..100).map(|line| format!("INFO shutting down {line}\n")).collect();
        fs::write(&log, format!("INFO starts\nERROR Address already in use\n{shutdown}")).unwrap();
        let told = log_tail(&log);
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 1 + LAST_LINES, "{told}");
        assert_eq!(lines[0], "ERROR Address already in use");
        assert_eq!(lines[LAST_LINES], "INFO shutting down 99");
    }

    #[test]
    fn a_short_log_is_told_once_and_a_missing_one_is_said() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("server.log");
        assert_eq!(log_tail(&log), "(no log)");
        fs::write(&log, "ERROR no\nend\n").unwrap();
        assert_eq!(log_tail(&log), "ERROR no\nend");
    }
}
