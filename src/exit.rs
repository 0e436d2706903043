//! Exit codes: they are part of the contract, scripts branch on them.

use std::process::ExitCode;

use stores::StoreError;

/// What a command ended with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// Consistent, GO, drained.
    Fine,
    /// A confirmed divergence, a proved loss, INVESTIGATE, NO-GO. Beats `CannotTell`.
    Found,
    /// Decided before any comparison: usage, configuration, password, TLS, identity.
    Refused,
    /// Could not tell: unreachable, no rights, time-out, stopped, unwritable output, nothing matched, unverified, INCONCLUSIVE.
    CannotTell,
    /// `reconcile shard`: the plan is none, of another version, or has no such shard.
    BadPlan,
    /// `reconcile shard`: what is stored of the run is not what was written.
    BadData,
    /// `reconcile shard`: passing; the same command again may succeed.
    TryAgain,
}

impl Exit {
    /// The outcome that the number of a finished piece of work stands for; an unknown number is never success.
    pub(crate) fn from_code(code: u8) -> Self {
        match code {
            0 => Self::Fine,
            1 => Self::Found,
            2 => Self::Refused,
            _ => Self::CannotTell,
        }
    }

    /// The number.
    pub(crate) fn code(self) -> u8 {
        match self {
            Self::Fine => 0,
            Self::Found => 1,
            Self::Refused => 2,
            Self::CannotTell => 3,
            Self::BadPlan => 64,
            Self::BadData => 65,
            Self::TryAgain => 75,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// An error that ends a command, with the exit code that it deserves.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The code.
    pub(crate) exit: Exit,
    /// What to tell the person.
    pub(crate) error: anyhow::Error,
}

/// The result of a command.
pub(crate) type Outcome = Result<Exit, Failure>;

impl Failure {
    /// Usage, configuration, password, TLS or identity is wrong (exit 2).
    pub(crate) fn refused(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::Refused,
            error: error.into(),
        }
    }

    /// The question could not be answered (exit 3).
    pub(crate) fn cannot_tell(error: impl Into<anyhow::Error>) -> Self {
        Self {
            exit: Exit::CannotTell,
            error: error.into(),
        }
    }

    /// The same failure, told in a wider context.
    pub(crate) fn context(self, context: impl std::fmt::Display + Send + Sync + 'static) -> Self {
        Self {
            exit: self.exit,
            error: self.error.context(context),
        }
    }
}

impl From<StoreError> for Failure {
    /// Before any comparison: only what the configuration has to change is a refusal, the rest could not be told.
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Config(_) => Self::refused(error),
            _ => Self::cannot_tell(error),
        }
    }
}

impl From<crate::config::ConfigError> for Failure {
    fn from(error: crate::config::ConfigError) -> Self {
        Self::refused(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stores::Trouble;

    #[test]
    fn only_a_configuration_fault_of_a_store_is_a_refusal() {
        let trouble = || Trouble::new("use1", "connect", "no");
        assert_eq!(Failure::from(StoreError::Config(trouble())).exit, Exit::Refused);
        for error in [
            StoreError::Unreachable(trouble()),
            StoreError::Denied(trouble()),
            StoreError::NotFound(trouble()),
            StoreError::Unsupported(trouble()),
            StoreError::Corrupt(trouble()),
            StoreError::Retryable {
                after: None,
                trouble: trouble(),
            },
        ] {
            assert_eq!(Failure::from(error).exit, Exit::CannotTell);
        }
    }
}
