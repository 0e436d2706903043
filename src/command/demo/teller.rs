//! Tells the story on standard output.

use std::path::Path;
use std::time::Instant;

use super::Failure;
use crate::command::print;

/// Tells the story on standard output.
pub(super) struct Teller {
    pub(super) begun: Instant,
}

impl Teller {
    pub(super) fn act(&self, title: &str) -> Result<(), Failure> {
        print::line(&format!("\n{title}  [{:.0} s]", self.begun.elapsed().as_secs_f64()))
    }

    pub(super) fn line(&self, text: &str) -> Result<(), Failure> {
        print::line(text)
    }

    pub(super) fn indented(&self, text: &str) -> Result<(), Failure> {
        match text.trim_end() {
            "" => Ok(()),
            text => print::line(
                &text
                    .lines()
                    .map(|line| format!("   {line}"))
                    .collect::<Vec<_>>()
                    .join("\n"),
            ),
        }
    }

    pub(super) fn files(&self, config: &Path, output: &Path) -> Result<(), Failure> {
        self.act("8. The files, and two queries to try")?;
        let out = output.display();
        print::line(&format!(
            "   configuration  {}\n   Parquet        {out}/TABLE/run_date=YYYY-MM-DD/\n   report         {out}/gate.html\n   truth          {out}/planted.json\n\n   \
             cd {out}\n   \
             duckdb -init views.sql -c \"select collection, class, origin, count(*) as keys from open_divergences group by all order by all\"\n   \
             duckdb -init views.sql -c \"select interval_start, planned, seen, pending, low_p99_us, high_p99_us from latest_lag order by all\"",
            config.display()
        ))
    }
}
