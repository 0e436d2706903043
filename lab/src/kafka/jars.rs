//! Apache Kafka and MirrorMaker 2, as `scripts/install.sh` fetched them.

use std::path::PathBuf;

use crate::LabError;
use crate::java::cache;

/// The folder of the jars.
pub(super) fn find() -> Result<PathBuf, LabError> {
    let jars = cache().join("kafka").join("lib");
    if jars.is_dir() {
        return Ok(jars);
    }
    Err(LabError::MissingArtefact {
        artefact: "Apache Kafka".to_owned(),
        searched: jars,
        command: "scripts/install.sh kafka".to_owned(),
    })
}

/// Log lines to the standard output, as the lab waits for some of them.
pub(super) const LOGGING: &str = "\
Configuration:
  Appenders:
    Console: {name: C, target: SYSTEM_OUT, PatternLayout: {pattern: \"[%d] %p %m (%c)%n\"}}
  Loggers:
    Root: {level: INFO, AppenderRef: {ref: C}}
";
