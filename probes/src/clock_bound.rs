//! How far the wall clock may be off, by the account of whoever disciplines it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use tokio::process::Command;

/// How long `chronyc` may take.
const CHRONY_TIMEOUT: Duration = Duration::from_secs(2);

/// Columns of `chronyc -c tracking`.
const OFFSET_COLUMN: usize = 4;
const ROOT_DELAY_COLUMN: usize = 10;
const ROOT_DISPERSION_COLUMN: usize = 11;
const LEAP_COLUMN: usize = 13;

/// Tells the bound of the wall clock's error.
#[async_trait]
pub trait ClockBound: std::fmt::Debug + Send + Sync + 'static {
    /// The bound now, microseconds; `None`: nobody vouches for the clock, and then no reading crosses clocks.
    async fn bound_us(&self) -> Option<u64>;
}

/// Asks chrony's daemon.
#[derive(Debug, Clone)]
pub struct Chrony {
    program: String,
    /// Why it gave no bound when it was last asked, so that each reason is logged once and not by every route.
    refused: Arc<Mutex<Option<TrackingError>>>,
}

impl Default for Chrony {
    fn default() -> Self {
        Self::by("chronyc")
    }
}

impl Chrony {
    /// Asks by another program than the `chronyc` of the search path.
    pub fn by(program: impl Into<String>) -> Self {
        Self {
            program: program.into(),
            refused: Arc::default(),
        }
    }

    fn log(&self, refused: Option<&TrackingError>) {
        let mut last = self.refused.lock().unwrap_or_else(PoisonError::into_inner);
        if last.as_ref() == refused {
            return;
        }
        let program = &self.program;
        match refused {
            Some(error) => tracing::info!(
                program,
                %error,
                "no bound of the clock's error is known: lag across two hosts' clocks, or across a reboot, is not read"
            ),
            None => tracing::info!(program, "the bound of the clock's error is known again"),
        }
        *last = refused.cloned();
    }
}

#[async_trait]
impl ClockBound for Chrony {
    async fn bound_us(&self) -> Option<u64> {
        let asked = Command::new(&self.program)
            .args(["-c", "tracking"])
            .kill_on_drop(true)
            .output();
        let told = match tokio::time::timeout(CHRONY_TIMEOUT, asked).await {
            Ok(Ok(output)) if output.status.success() => chrony_bound_us(&String::from_utf8_lossy(&output.stdout)),
            Ok(Ok(output)) => Err(TrackingError(format!("it ended with {}", output.status))),
            Ok(Err(error)) => Err(TrackingError(error.to_string())),
            Err(_) => Err(TrackingError(format!(
                "no answer within {} s",
                CHRONY_TIMEOUT.as_secs()
            ))),
        };
        self.log(told.as_ref().err());
        told.ok()
    }
}

/// Why there is no bound.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("chronyc -c tracking: {0}")]
pub struct TrackingError(String);

/// The bound in one line of `chronyc -c tracking`: |offset| + root dispersion + root delay / 2.
///
/// # Errors
/// The clock is not synchronised, or the line is not what chrony prints.
pub fn chrony_bound_us(line: &str) -> Result<u64, TrackingError> {
    let columns: Vec<&str> = line.trim().split(',').collect();
    let column = |index: usize, name: &str| {
        columns
            .get(index)
            .copied()
            .ok_or_else(|| TrackingError(format!("no column {index} ({name}) in its answer")))
    };
    let leap = column(LEAP_COLUMN, "leap status")?;
    if leap == "Not synchronised" {
        return Err(TrackingError("the clock is not synchronised".to_owned()));
    }
    let seconds = |index, name| {
        let text = column(index, name)?;
        let value: f64 = text
            .parse()
            .map_err(|_| TrackingError(format!("{name} {text:?} is not a number")))?;
        Ok(value.abs())
    };
    let bound = seconds(OFFSET_COLUMN, "offset")?
        + seconds(ROOT_DISPERSION_COLUMN, "root dispersion")?
        + seconds(ROOT_DELAY_COLUMN, "root delay")? / 2.0;
    let bound = Duration::try_from_secs_f64(bound).map_err(|error| TrackingError(error.to_string()))?;
    // A whole microsecond more than the fraction that is cut off.
    u64::try_from(bound.as_micros() + 1).map_err(|error| TrackingError(error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str = "A9FEA97B,169.254.169.123,4,1795251600.123456789,-0.000012345,0.000003000,0.000021000,-12.345,0.001,0.020,0.000400000,0.000150000,16.2,Normal\n";

    #[test]
    fn the_bound_is_offset_and_dispersion_and_half_the_delay() {
        // 12.345 + 150 + 400 / 2 = 362.345 us
        assert_eq!(chrony_bound_us(LINE), Ok(363));
    }

    #[test]
    fn a_clock_that_nobody_vouches_for_has_no_bound() {
        for (line, words) in [
            (LINE.replace("Normal", "Not synchronised"), "not synchronised"),
            (
                LINE.replace("0.000400000", "fast"),
                "root delay \"fast\" is not a number",
            ),
            (LINE.replace("0.000400000", "NaN"), "NaN"),
            ("506 Cannot talk to daemon".to_owned(), "no column 13"),
            (String::new(), "no column 13"),
        ] {
            let error = chrony_bound_us(&line).unwrap_err().to_string();
            assert!(error.contains(words), "{line}: {error}");
        }
    }

    #[tokio::test]
    async fn a_machine_without_chrony_has_no_bound() {
        assert_eq!(Chrony::by("/nonexistent/chronyc").bound_us().await, None);
    }
}
