//! Names and texts as SQL, safe whatever they hold.

/// `name` as a quoted identifier. Always quoted, so that reserved words, capitals and blanks need no thought.
pub(crate) fn ident(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// `text` as a string literal. Escape syntax is used when it holds a backslash, so that the meaning does not hang on
/// `standard_conforming_strings`.
pub(crate) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// `bytes` as a bytea literal.
pub(crate) fn bytea(bytes: &[u8]) -> String {
    let hex: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("pg_catalog.decode('{hex}', 'hex')")
}

/// The row alias under which every generated expression finds its columns.
pub(crate) const ROW: &str = "t";

/// A column of the row at hand.
pub(crate) fn column(name: &str) -> String {
    format!("{ROW}.{}", ident(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quotes_are_doubled_and_backslashes_escaped() {
        assert_eq!(ident(r#"a"b"#), r#""a""b""#);
        assert_eq!(literal("it's"), "'it''s'");
        assert_eq!(literal(r"\'; drop"), r"E'\\''; drop'");
        assert_eq!(bytea(&[0, 255]), "pg_catalog.decode('00ff', 'hex')");
    }
}
