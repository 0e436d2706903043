//! What a probe could not measure, kept beside its tables: `OUTPUT/unmeasured/RUN.json`. Lag that is in no table is not zero, and is said.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use probes::Unmeasured;

use crate::tables::TableError;

/// The folder below the output folder.
const FOLDER: &str = "unmeasured";

/// Writes what nobody measures in a run; a later call replaces it.
///
/// # Errors
/// Unwritable output.
pub fn write_unmeasured(output: &Path, run_id: &str, unmeasured: &[Unmeasured]) -> Result<(), TableError> {
    let folder = output.join(FOLDER);
    let path = folder.join(format!("{run_id}.json"));
    let draft = folder.join(format!(".{run_id}.json.tmp"));
    let write = || {
        std::fs::create_dir_all(&folder)?;
        let mut file = std::fs::File::create(&draft)?;
        file.write_all(serde_json::json!(unmeasured).to_string().as_bytes())?;
        file.sync_all()?;
        std::fs::rename(&draft, &path)
    };
    write().map_err(|cause| TableError::unwritable(&path, cause))
}

/// What nobody measured in these runs, by the output folders among `paths`.
///
/// # Errors
/// A file that cannot be read: what is not measured must not go unsaid.
pub(super) fn read_unmeasured(paths: &[PathBuf], runs: &BTreeSet<String>) -> Result<Vec<Unmeasured>, TableError> {
    let mut found = BTreeSet::new();
    for path in paths {
        for run in runs {
            let file = path.join(FOLDER).join(format!("{run}.json"));
            let text = match std::fs::read_to_string(&file) {
                Ok(text) => text,
                Err(error)
                    if matches!(
                        error.kind(),
                        std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory
                    ) =>
                {
                    continue;
                }
                Err(error) => return Err(TableError::unreadable(&file, error)),
            };
            let told: Vec<Unmeasured> =
                serde_json::from_str(&text).map_err(|error| TableError::unreadable(&file, error))?;
            found.extend(told);
        }
    }
    Ok(found.into_iter().collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_measured_is_read_again_for_its_run_alone_and_a_broken_file_is_an_error() {
        let output = tempfile::tempdir().unwrap();
        let one = Unmeasured {
            dataset: "events".to_owned(),
            store: "kafka".to_owned(),
            collection: "audit".to_owned(),
            reason: "the mirror tells no lag of it".to_owned(),
        };
        write_unmeasured(output.path(), "b", &[one.clone(), one.clone()]).unwrap();
        write_unmeasured(output.path(), "a", std::slice::from_ref(&one)).unwrap();
        write_unmeasured(output.path(), "a", &[]).unwrap();
        let paths = [output.path().to_owned(), output.path().join("x.parquet")];
        let read = |run: &str| read_unmeasured(&paths, &BTreeSet::from([run.to_owned()]));
        assert_eq!(read("b").unwrap(), [one]);
        assert_eq!(read("a").unwrap(), []);
        assert_eq!(read("never").unwrap(), []);
        std::fs::write(output.path().join(FOLDER).join("b.json"), "{").unwrap();
        assert!(read("b").is_err());
    }
}
