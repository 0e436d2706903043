//! How the rows of one table are hashed in one run.

use super::copy::form;
use super::quote::{ROW, column, ident, literal};
use super::send::{Hashed, column_digest, row_digest, semantic};
use super::shape::{Shape, Simple};
use super::table::Table;
use crate::{DigestMode, Recipe};

/// The recipe for `table` over `columns`. Columns of the key that are not among them come first: a row digest always covers the key,
/// so that rows that swap their values differ.
///
/// # Errors
/// In words: a column that is not there, or whose values cannot be compared; no usable key.
pub(crate) fn recipe(table: &Table, columns: &[String], seed: u64) -> Result<Recipe, String> {
    let key = table
        .key
        .as_ref()
        .map_err(|reason| format!("no usable key: {reason}"))?;
    let key_columns: Vec<String> = key.iter().map(|column| column.name.clone()).collect();
    let mut names: Vec<String> = key_columns
        .iter()
        .filter(|name| !columns.contains(name))
        .cloned()
        .collect();
    names.extend_from_slice(columns);
    let semantic_names = &table.scope.semantic;
    if let Some(name) = semantic_names.iter().find(|name| !names.contains(name)) {
        return Err(format!(
            "column {name} is to be compared as semantic, and is not compared at all"
        ));
    }
    let mut hashed: Vec<Hashed<'_>> = Vec::with_capacity(names.len());
    for name in &names {
        let column = table.column(name).ok_or_else(|| format!("there is no column {name}"))?;
        if let Some(reason) = column.shape.not_comparable() {
            return Err(format!("column {name} cannot be compared ({reason}); exclude it"));
        }
        let is_semantic = semantic_names.contains(name);
        if is_semantic {
            semantic(&column.shape, "").map_err(|reason| {
                format!(
                    "column {name} of type {} cannot be compared as semantic: {reason}",
                    column.type_name
                )
            })?;
        }
        hashed.push(Hashed {
            name,
            shape: &column.shape,
            is_semantic,
        });
    }
    Ok(Recipe {
        mode: DigestMode::Pushdown,
        expression: row_digest(&hashed, seed),
        column_expressions: hashed.iter().map(|one| column_digest(*one, seed)).collect(),
        forms: hashed.iter().map(|one| form(*one)).collect(),
        columns: names,
        key_columns,
        seed,
    })
}

/// A row of literals and one of NULLs, of the types of the recipe's columns here, as a table that the recipe can be applied to.
///
/// The empty selection from the table gives the columns their types. Values of the user's own types are NULL: their parts are built-in
/// types, which have values of their own in other tests, and an enum's labels may differ.
pub(crate) fn literal_rows(table: &Table, columns: &[String]) -> String {
    let names: Vec<String> = columns.iter().map(|name| column(name)).collect();
    let values: Vec<String> = columns
        .iter()
        .map(|name| {
            table
                .column(name)
                .map_or_else(|| "null".to_owned(), |column| literal_of(&column.shape))
        })
        .collect();
    let nulls = vec!["null"; columns.len()];
    format!(
        "(select {} from {} as {ROW} where false union all select {} union all select {}) as {ROW}",
        names.join(", "),
        table.from(),
        values.join(", "),
        nulls.join(", ")
    )
}

/// A fixed value of the type.
fn literal_of(shape: &Shape) -> String {
    match shape {
        Shape::Simple(simple) => simple_literal(simple),
        Shape::Domain(base) => literal_of(base),
        Shape::Array { element } => match element.as_ref() {
            Shape::Simple(simple) => {
                let element = simple_literal(simple);
                format!("array[{element}, null, {element}]")
            }
            _ => "null".to_owned(),
        },
        Shape::Range { .. }
        | Shape::Composite(_)
        | Shape::Enum
        | Shape::Named { .. }
        | Shape::Extension { .. }
        | Shape::Unfit(_) => "null".to_owned(),
    }
}

/// Text with more than ASCII: a client encoding that is not UTF-8 changes the digest or fails.
const TEXT: &str = "\u{e4} \u{20ac} \u{1f600}|'";

fn simple_literal(simple: &Simple) -> String {
    let text = match simple.type_name.as_str() {
        "bool" => "t",
        "char" => "x",
        "name" | "int2vector" | "oidvector" => "1",
        "text" | "varchar" | "bpchar" | "refcursor" => TEXT,
        "bytea" => "\\x00ff5c27",
        "int2" => "-32768",
        "int4" => "-2147483648",
        "int8" => "-9223372036854775808",
        "oid" | "xid" | "cid" => "4294967295",
        "xid8" => "18446744073709551615",
        "tid" => "(7,9)",
        "float4" | "float8" => "-0",
        "numeric" => "-123456789012345678901234567890.1200",
        "date" => "0044-03-15 BC",
        "time" => "23:59:59.999999",
        "timetz" => "23:59:59.999999+05:30",
        "timestamp" => "0044-03-15 12:00:00.000001 BC",
        "timestamptz" => "0044-03-15 12:00:00.000001+00 BC",
        "interval" => "-1 year 2 days 03:04:05.000006",
        "uuid" => "00112233-4455-6677-8899-aabbccddeeff",
        "json" => r#"{"b": 1.0, "a": [null]}"#,
        "jsonb" => r#"{"b": 1.0, "a": [null]}"#,
        "jsonpath" => "$.a[*] ? (@ > 1)",
        "xml" => "<a>1</a>",
        "bit" | "varbit" => "1011",
        "tsvector" => "'fat':2A 'rat':3",
        "tsquery" => "'fat' & !'rat':*",
        "inet" => "192.168.0.1/24",
        "cidr" => "2001:db8::/32",
        "macaddr" => "08:00:2b:01:02:03",
        "macaddr8" => "08:00:2b:01:02:03:04:05",
        "point" => "(-0,1e300)",
        "lseg" | "box" | "path" => "((1,2),(3,4))",
        "polygon" => "((0,0),(1,1),(2,0))",
        "line" => "{1,2,3}",
        "circle" => "<(1,2),3>",
        "pg_lsn" => "16/B374D848",
        "txid_snapshot" | "pg_snapshot" => "10:20:10,14",
        // money: its text depends on the server's locale. The rest: no value is known.
        _ => return "null".to_owned(),
    };
    format!("{}::pg_catalog.{}", literal(text), ident(&simple.type_name))
}

#[cfg(test)]
mod tests {
    use super::super::key_type::{KeyColumn, KeyType};
    use super::super::shape::built_in;
    use super::super::table::{TableColumn, TableKind};
    use super::*;

    fn table() -> Table {
        let column = |name: &str, type_name: &str, send: Option<&str>| TableColumn {
            name: name.into(),
            type_name: type_name.into(),
            nullable: false,
            shape: built_in(type_name, send),
        };
        Table {
            oid: 1,
            schema: "public".into(),
            name: "t".into(),
            kind: TableKind::Ordinary,
            columns: vec![
                column("id", "int8", Some("int8send")),
                column("a", "text", Some("textsend")),
                column("rights", "gtsvector", None),
            ],
            key: Ok(vec![KeyColumn {
                name: "id".into(),
                kind: KeyType::Int,
                literal_type: KeyType::Int.built_in_literal_type(),
                descending: false,
                order: Some("int8".into()),
            }]),
            rows_estimate: None,
            bytes: None,
            blocks: 0,
            unreadable: None,
            not_replicated: None,
            definitions: Vec::new(),
            scope: crate::Scope::default(),
        }
    }

    #[test]
    fn the_key_is_always_hashed() {
        let made = recipe(&table(), &["a".into()], 1).unwrap();
        assert_eq!(made.columns, ["id", "a"]);
        assert!(made.expression.contains("t.\"id\""));
        let made = recipe(&table(), &["a".into(), "id".into()], 1).unwrap();
        assert_eq!(made.columns, ["a", "id"]);
    }

    #[test]
    fn columns_that_cannot_be_compared_are_refused_and_not_left_out() {
        assert!(
            recipe(&table(), &["rights".into()], 1)
                .unwrap_err()
                .contains("column rights")
        );
        assert!(
            recipe(&table(), &["gone".into()], 1)
                .unwrap_err()
                .contains("no column gone")
        );
    }
}
