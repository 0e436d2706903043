//! What was planted, and whether a result found exactly that.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::LabError;

/// One key that differs, in the words of the `divergences` table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Planted {
    /// The collection, e.g. `public.orders`.
    pub collection: String,
    /// The key as JSON text, e.g. `{"id":17}`; blanks and the order of columns do not matter.
    pub key: String,
    /// The class: `missing_on_secondary`, `missing_on_primary`, `different`.
    pub class: String,
    /// The origin: `lost_write`, `new_write`, `conflict`, `unknown`; `None` where no event is reconciled.
    pub origin: Option<String>,
}

impl Planted {
    /// A difference without an origin.
    pub fn new(collection: &str, key: &str, class: &str) -> Self {
        Self {
            collection: collection.to_owned(),
            key: key.to_owned(),
            class: class.to_owned(),
            origin: None,
        }
    }

    /// Collection and key in a form that is equal for equal keys.
    fn identity(&self) -> (String, String) {
        let key = match serde_json::from_str::<BTreeMap<String, serde_json::Value>>(&self.key) {
            Ok(columns) => serde_json::to_string(&columns).unwrap_or_else(|_| self.key.clone()),
            Err(_) => self.key.clone(),
        };
        (self.collection.clone(), key)
    }
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.collection, self.key, self.class)?;
        match &self.origin {
            Some(origin) => write!(f, " ({origin})"),
            None => Ok(()),
        }
    }
}

/// All differences that were planted; what is not listed is equal.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Truth {
    /// One entry for each key that differs.
    pub divergences: Vec<Planted>,
}

impl Truth {
    /// Writes the truth file (JSON).
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn write(&self, path: &Path) -> Result<(), LabError> {
        let text = serde_json::to_vec_pretty(self)
            .map_err(std::io::Error::from)
            .map_err(LabError::folder("write", path))?;
        fs::write(path, text).map_err(LabError::folder("write", path))
    }

    /// Reads a truth file.
    ///
    /// # Errors
    /// The file cannot be read, or is not a truth file.
    pub fn read(path: &Path) -> Result<Self, LabError> {
        let text = fs::read(path).map_err(LabError::folder("read", path))?;
        serde_json::from_slice(&text)
            .map_err(std::io::Error::from)
            .map_err(LabError::folder("understand", path))
    }

    /// Compares what a run found with what was planted. Every key found is expected once: a second finding of it is
    /// unexpected.
    pub fn compare(&self, found: &[Planted]) -> Mismatches {
        let mut expected: BTreeMap<_, &Planted> = self.divergences.iter().map(|one| (one.identity(), one)).collect();
        let mut mismatches = Mismatches::default();
        for one in found {
            let Some(planted) = expected.remove(&one.identity()) else {
                mismatches.unexpected.push(one.clone());
                continue;
            };
            if planted.class != one.class {
                mismatches.wrong_class.push((planted.clone(), one.clone()));
            }
            if planted.origin != one.origin {
                mismatches.wrong_origin.push((planted.clone(), one.clone()));
            }
        }
        mismatches.missing = expected.into_values().cloned().collect();
        mismatches
    }
}

/// Where a result and the truth disagree.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mismatches {
    /// Planted and not found: the worst.
    pub missing: Vec<Planted>,
    /// Found and not planted: phantoms.
    pub unexpected: Vec<Planted>,
    /// Found with another class; (planted, found).
    pub wrong_class: Vec<(Planted, Planted)>,
    /// Found with another origin; (planted, found).
    pub wrong_origin: Vec<(Planted, Planted)>,
}

impl Mismatches {
    /// Whether the result is exactly the truth.
    pub fn is_empty(&self) -> bool {
        self.missing.is_empty()
            && self.unexpected.is_empty()
            && self.wrong_class.is_empty()
            && self.wrong_origin.is_empty()
    }
}

impl fmt::Display for Mismatches {
    /// One line for each mismatch; nothing when there is none.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for one in &self.missing {
            writeln!(f, "planted, not found: {one}")?;
        }
        for one in &self.unexpected {
            writeln!(f, "found, not planted: {one}")?;
        }
        for (planted, found) in &self.wrong_class {
            writeln!(f, "wrong class: planted {planted}, found {found}")?;
        }
        for (planted, found) in &self.wrong_origin {
            writeln!(f, "wrong origin: planted {planted}, found {found}")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn truth() -> Truth {
        let mut lost = Planted::new("public.orders", r#"{"id":2}"#, "different");
        lost.origin = Some("lost_write".to_owned());
        Truth {
            divergences: vec![
                Planted::new("public.orders", r#"{"id":1}"#, "missing_on_secondary"),
                lost,
            ],
        }
    }

    #[test]
    fn the_truth_itself_has_no_mismatch_and_a_file_keeps_it() {
        assert!(truth().compare(&truth().divergences).is_empty());
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("truth.json");
        truth().write(&path).unwrap();
        assert_eq!(Truth::read(&path).unwrap(), truth());
        fs::write(&path, r#"{"divergences":[],"more":1}"#).unwrap();
        assert!(Truth::read(&path).is_err());
    }

    #[test]
    fn every_kind_of_mismatch_is_told() {
        let mut found = truth().divergences;
        found[0].class = "different".to_owned();
        found[1].origin = None;
        found.push(Planted::new("public.orders", r#"{"id":3}"#, "different"));
        let mismatches = truth().compare(&found);
        let keys = |pairs: &[(Planted, Planted)]| pairs.iter().map(|pair| pair.1.key.clone()).collect::<Vec<_>>();
        assert_eq!(keys(&mismatches.wrong_class), [r#"{"id":1}"#]);
        assert_eq!(keys(&mismatches.wrong_origin), [r#"{"id":2}"#]);
        assert_eq!(mismatches.unexpected.len(), 1);
        assert_eq!(mismatches.to_string().lines().count(), 3);
        let missing = truth().compare(&[]).missing;
        assert_eq!(missing, truth().divergences);
    }

    #[test]
    fn a_key_found_twice_is_unexpected_once() {
        let mut found = truth().divergences;
        found.push(found[0].clone());
        let mismatches = truth().compare(&found);
        assert_eq!(mismatches.unexpected.len(), 1);
        assert!(mismatches.missing.is_empty());
    }

    #[test]
    fn keys_are_equal_as_json_and_collections_are_told_apart() {
        let planted = Truth {
            divergences: vec![Planted::new("public.a", r#"{"x":1,"y":"2"}"#, "different")],
        };
        let same = Planted::new("public.a", r#"{ "y": "2", "x": 1 }"#, "different");
        assert!(planted.compare(&[same]).is_empty());
        let other_type = Planted::new("public.a", r#"{"x":1,"y":2}"#, "different");
        assert_eq!(planted.compare(&[other_type]).missing.len(), 1);
        let other_table = Planted::new("public.b", r#"{"x":1,"y":"2"}"#, "different");
        assert_eq!(planted.compare(&[other_table]).unexpected.len(), 1);
    }
}
