//! Standard output: data only, and a closed pipe is not a panic.

use std::io::Write as _;

use crate::exit::{Exit, Failure, Outcome};

/// Writes `text` and a line feed where it has none.
pub(crate) fn line(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    let written = stdout
        .write_all(text.as_bytes())
        .and_then(|()| match text.ends_with('\n') {
            true => Ok(()),
            false => stdout.write_all(b"\n"),
        });
    written
        .and_then(|()| stdout.flush())
        .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error).context("write to standard output")))
}

/// Writes the result of a command that ends with `exit`. When nobody could be told, that is the outcome, unless something was found: a
/// divergence or a loss is told by the exit code at least.
pub(crate) fn result(text: &str, exit: Exit) -> Outcome {
    match line(text) {
        Ok(()) => Ok(exit),
        Err(failure) if exit == Exit::Found => Err(Failure { exit, ..failure }),
        Err(failure) => Err(failure),
    }
}
