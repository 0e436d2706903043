//! `driftline gate run`

use super::Context;
use crate::cli::GateArgs;
use crate::exit::{Exit, Failure, Outcome};

pub(super) fn run(context: &Context, args: &GateArgs) -> Outcome {
    judge(context, args).map(|(exit, _)| exit)
}
pub(crate) fn judge(_context: &Context, _args: &GateArgs) -> Result<(Exit, String), Failure> {
    Ok((Exit::Found, String::new()))
}
