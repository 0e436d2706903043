//! A straight line through points.

use serde::Serialize;

/// `seconds = fixed_seconds + seconds_per_million_rows * millions of rows`, by least squares.
#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Line {
    fixed_seconds: f64,
    seconds_per_million_rows: f64,
    /// The share of the spread of times that the line explains.
    r_squared: f64,
    /// The greatest distance of a point from the line, as a share of the point's own time.
    worst_deviation: f64,
}

impl Line {
    /// Through (millions of rows, seconds). `None`: they lie above one another.
    pub(crate) fn through(points: &[(f64, f64)]) -> Option<Self> {
        let count = f64::from(u32::try_from(points.len()).ok()?);
        let mean = |of: fn(&(f64, f64)) -> f64| points.iter().map(of).sum::<f64>() / count;
        let (mean_rows, mean_seconds) = (mean(|point| point.0), mean(|point| point.1));
        let across: f64 = points.iter().map(|(rows, _)| (rows - mean_rows).powi(2)).sum();
        let total: f64 = points.iter().map(|(_, seconds)| (seconds - mean_seconds).powi(2)).sum();
        if across <= 0.0 || total <= 0.0 {
            return None;
        }
        let together: f64 = points
            .iter()
            .map(|(rows, seconds)| (rows - mean_rows) * (seconds - mean_seconds))
            .sum();
        let slope = together / across;
        let fixed = slope.mul_add(-mean_rows, mean_seconds);
        let off = |(rows, seconds): &(f64, f64)| seconds - slope.mul_add(*rows, fixed);
        Some(Self {
            fixed_seconds: fixed,
            seconds_per_million_rows: slope,
            r_squared: 1.0 - points.iter().map(|point| off(point).powi(2)).sum::<f64>() / total,
            worst_deviation: points
                .iter()
                .map(|point| off(point).abs() / point.1)
                .fold(0.0, f64::max),
        })
    }
}

impl std::fmt::Display for Line {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(
            f,
            "{:.2} s + {:.2} s a million rows of six columns; R2 {:.4}, the worst point is {:.1} % off",
            self.fixed_seconds,
            self.seconds_per_million_rows,
            self.r_squared,
            self.worst_deviation * 100.0
        )
    }
}
