//! Configuration errors: they name file, line and column, show the line, and suggest what was meant.

use std::fmt;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What is wrong with a configuration file, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ConfigError {
    file: PathBuf,
    place: Option<Place>,
    message: String,
    suggestion: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Place {
    line: usize,
    column: usize,
    /// The line, unless it could hold a secret.
    text: Option<String>,
    width: usize,
}

/// A name further away than this is not what was meant.
const SIMILARITY_MIN: f64 = 0.5;

impl ConfigError {
    /// An error about the file as a whole.
    pub(crate) fn of_file(file: &Path, message: impl Into<String>) -> Self {
        Self {
            file: file.to_path_buf(),
            place: None,
            message: message.into(),
            suggestion: None,
        }
    }

    /// An error at the bytes `span` of `text`.
    pub(crate) fn at(file: &Path, text: &str, span: Range<usize>, message: impl Into<String>) -> Self {
        Self {
            place: Some(Place::find(text, span)),
            ..Self::of_file(file, message)
        }
    }

    /// What the parser or a type said of `text`.
    pub(crate) fn from_toml(file: &Path, text: &str, error: &toml::de::Error) -> Self {
        let (message, suggestion) = explain(error.message());
        let mut found = match error.span() {
            Some(span) => Self::at(file, text, span, message),
            None => Self::of_file(file, message),
        };
        found.suggestion = suggestion;
        if found.place.as_ref().is_some_and(|place| place.text.is_none())
            && error.message().starts_with("unknown variant")
        {
            // The parser repeats what it found, and that could be the secret itself.
            "not a way to give a secret".clone_into(&mut found.message);
        }
        found
    }

    /// Adds the best of `known` if one is near to `written`; else all of them.
    #[must_use]
    pub(crate) fn suggest<'a>(mut self, written: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        self.suggestion = suggestion(written, known);
        self
    }

    /// Adds advice.
    #[must_use]
    pub(crate) fn advise(mut self, advice: impl Into<String>) -> Self {
        self.suggestion = Some(advice.into());
        self
    }
}

impl Place {
    fn find(text: &str, span: Range<usize>) -> Self {
        let start = span.start.min(text.len());
        let line_start = text[..start].rfind('\n').map_or(0, |at| at + 1);
        let line_end = text[start..].find('\n').map_or(text.len(), |at| start + at);
        let end = span.end.clamp(start, line_end);
        Self {
            line: text[..start].matches('\n').count() + 1,
            column: text[line_start..start].chars().count() + 1,
            text: Some(&text[line_start..line_end])
                .filter(|line| !could_hold_a_secret(line))
                .map(str::to_owned),
            width: text[start..end].chars().count().max(1),
        }
    }
}

/// Lines on which somebody may have written a password by mistake are never repeated.
fn could_hold_a_secret(line: &str) -> bool {
    let line = line.to_ascii_lowercase();
    ["password", "passwd", "secret", "auth", "key_hash", "token"]
        .iter()
        .any(|word| line.contains(word))
        || line
            .split_once("://")
            .is_some_and(|(_, rest)| rest.split('@').next().is_some_and(|user| user.contains(':')))
}

/// Turns serde's words into ours, and finds a suggestion in its list of known names.
fn explain(message: &str) -> (String, Option<String>) {
    for (theirs, ours) in [
        ("unknown field `", "unknown key"),
        ("unknown variant `", "unknown kind"),
    ] {
        let Some(rest) = message.strip_prefix(theirs) else {
            continue;
        };
        let Some((written, rest)) = rest.split_once('`') else {
            continue;
        };
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        if written == "native" {
            let told = "`native` belongs to [dataset.NAME.dynamodb], [dataset.NAME.s3] and [connection.NAME.kafka]; \
                        aurora tells its lag itself, and is always asked";
            return (format!("{ours} `{written}`"), Some(told.to_owned()));
        }
        return (
            format!("{ours} `{written}`"),
            suggestion(written, known.iter().copied()),
        );
    }
    (message.trim_end().to_owned(), None)
}

fn suggestion<'a>(written: &str, known: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let known: Vec<&str> = known.into_iter().collect();
    let best = known
        .iter()
        .map(|name| {
            let (edits, prefix) = (
                strsim::normalized_damerau_levenshtein(written, name),
                strsim::jaro_winkler(written, name),
            );
            (edits, prefix, *name)
        })
        .filter(|(edits, ..)| *edits >= SIMILARITY_MIN)
        // Among names that are as few edits away, the one that begins alike.
        .max_by(|a, b| a.0.total_cmp(&b.0).then(a.1.total_cmp(&b.1)));
    match best {
        Some((.., name)) => Some(format!("did you mean `{name}`?")),
        None if known.is_empty() => None,
        None => Some(format!("known here: {}", known.join(", "))),
    }
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if let Some(place) = &self.place {
            write!(f, ":{}:{}", place.line, place.column)?;
        }
        write!(f, ": {}", self.message)?;
        if let Some((place, line)) = self
            .place
            .as_ref()
            .and_then(|place| Some((place, place.text.as_ref()?)))
        {
            let number = place.line.to_string();
            let margin = " ".repeat(number.len());
            let indent: String = line
                .chars()
                .take(place.column - 1)
                .map(|c| if c == '\t' { '\t' } else { ' ' })
                .collect();
            write!(
                f,
                "\n {margin} |\n {number} | {line}\n {margin} | {indent}{}",
                "^".repeat(place.width)
            )?;
        }
        if let Some(suggestion) = &self.suggestion {
            write!(f, "\n  help: {suggestion}")?;
        }
        Ok(())
    }
}

impl std::error::Error for ConfigError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_line_and_column_and_underlines_the_whole_word() {
        let text = "a = 1\n  täbles = 2\n";
        let start = text.find("täbles").unwrap();
        let error = ConfigError::at(
            Path::new("d.toml"),
            text,
            start..start + "täbles".len(),
            "unknown key `täbles`",
        )
        .suggest("täbles", ["tables", "labels"]);
        insta::assert_snapshot!(error, @"
        d.toml:2:3: unknown key `täbles`
           |
         2 |   täbles = 2
           |   ^^^^^^
          help: did you mean `tables`?
        ");
    }

    #[test]
    fn lists_what_is_known_when_nothing_is_near() {
        assert_eq!(suggestion("zzz", ["use1", "usw2"]).unwrap(), "known here: use1, usw2");
        assert_eq!(suggestion("zzz", []), None);
    }

    #[test]
    fn a_span_behind_the_end_is_shown_at_the_end() {
        let error = ConfigError::at(Path::new("d.toml"), "a", 9..12, "cut short");
        assert!(error.to_string().starts_with("d.toml:1:2: cut short"), "{error}");
    }
}
