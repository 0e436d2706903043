//! What can go wrong in a lab, said so that the reader knows what to do next.

use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// A lab could not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Install the package and try again.
    #[error("{program} was not found in {searched}; install it, on Debian: apt-get install {package}")]
    MissingProgram {
        /// The program that is needed.
        program: String,
        /// Where it was looked for.
        searched: String,
        /// The Debian package that has it.
        package: String,
    },
    /// Run the command and try again.
    #[error("{artefact} was not found in {}; run `{command}` in driftline's folder", searched.display())]
    MissingArtefact {
        /// What is needed.
        artefact: String,
        /// Where it was looked for.
        searched: PathBuf,
        /// What fetches it.
        command: String,
    },
    /// A service of the lab could not do what it was asked; its own words tell why.
    #[error("{server}: could not {tried}: {message}")]
    Service {
        /// The service.
        server: String,
        /// What was tried.
        tried: String,
        /// What it said.
        message: String,
    },
    /// Labs run as root need an account without rights, because PostgreSQL refuses root.
    #[error("running as root, and neither `postgres` nor `nobody` is an account here; run the lab as an ordinary user")]
    NoAccount,
    /// Look at the folder: rights, space, or somebody else's files.
    #[error("could not {action} {}", path.display())]
    Folder {
        /// What was tried.
        action: &'static str,
        /// On which file or folder.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder of labs is not safe to use.
    #[error("{} {problem}; remove it, or start the lab with another root folder", path.display())]
    UnsafeFolder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A program of PostgreSQL failed; its own words tell why.
    #[error("{program} failed ({status}); its last words: {output}")]
    Program {
        /// The program.
        program: String,
        /// Exit status or signal, or why it did not start.
        status: String,
        /// The end of its output.
        output: String,
    },
    /// The certificates of the lab could not be made.
    #[error("could not make the lab's certificates")]
    Certificate(#[from] rcgen::Error),
    /// A server did not get where it should in time; its log tells why.
    #[error("{server}: {what} did not happen within {waited:?}; end of its log:\n{log_tail}")]
    Late {
        /// The server.
        server: String,
        /// What was awaited.
        what: String,
        /// For how long.
        waited: Duration,
        /// The end of the server's log.
        log_tail: String,
    },
    /// A server ended by itself; its log tells why.
    #[error("{server} ended with {status} while starting; end of its log:\n{log_tail}")]
    Ended {
        /// The server.
        server: String,
        /// Its exit status.
        status: String,
        /// The end of the server's log.
        log_tail: String,
    },
    /// A statement or a connection failed.
    #[error("{server}: {statement}: {message}; end of its log:\n{log_tail}")]
    Sql {
        /// The server.
        server: String,
        /// The beginning of the statement, without secrets.
        statement: String,
        /// What the driver or the server said.
        message: String,
        /// The end of the server's log.
        log_tail: String,
        /// The driver's error.
        source: Box<tokio_postgres::Error>,
    },
    /// The lab is not in the state that the call needs; the text says which call comes first.
    #[error("{server}: {problem}")]
    State {
        /// The server.
        server: String,
        /// What is wrong and what to call first.
        problem: String,
    },
}

impl LabError {
    /// Whether a server ended because somebody else listens on its port: another port may do.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Ended { log_tail, .. } if log_tail.contains("Address already in use"))
    }

    pub(crate) fn folder(action: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Folder { action, path, source }
    }

    pub(crate) fn sql(server: &str, statement: &str, source: tokio_postgres::Error, log_tail: String) -> Self {
        Self::Sql {
            server: server.to_owned(),
            statement: without_secrets(statement),
            message: in_full(&source),
            log_tail,
            source: Box::new(source),
        }
    }
}

/// The driver's own text is "db error"; what the server said is further down its chain.
fn in_full(error: &tokio_postgres::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        text.push_str(": ");
        text.push_str(&inner.to_string());
        cause = inner.source();
    }
    text
}

/// Enough of a statement to recognise it; what follows the word `password` is never shown.
fn without_secrets(statement: &str) -> String {
    const SHOWN_CHARS: usize = 100;
    let end = statement
        .to_ascii_lowercase()
        .find("password")
        .unwrap_or(statement.len());
    let shown: String = statement[..end].chars().take(SHOWN_CHARS).collect();
    if shown.len() < statement.len() {
        format!("{shown}...")
    } else {
        shown
    }
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn statements_are_shown_without_passwords() {
        assert_eq!(without_secrets("select 1"), "select 1");
        assert_eq!(without_secrets("create role r PASSWORD 'open'"), "create role r ...");
        assert_eq!(without_secrets(&"x".repeat(500)).len(), 103);
    }
}
