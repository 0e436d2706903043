//! The contract as JSON, for checks outside of this program, and as the page that people read.

use std::fmt::Write;

use super::schema::{Rule, Table};
use super::{SCHEMA_VERSION, tables};

/// The contract as JSON: tables with their columns in order.
pub fn contract_json() -> String {
    let tables: Vec<serde_json::Value> = tables().into_iter().map(table_json).collect();
    format!(
        "{:#}\n",
        serde_json::json!({ "schema_version": SCHEMA_VERSION, "tables": tables })
    )
}

fn table_json(table: &Table) -> serde_json::Value {
    let columns: Vec<serde_json::Value> = table
        .columns
        .iter()
        .map(|column| {
            let (one_of, hex_digits) = match &column.rule {
                Rule::Any => (None, None),
                Rule::OneOf(words) => (Some(words), None),
                Rule::Hex(digits) => (None, Some(digits)),
            };
            serde_json::json!({
                "name": column.name,
                "type": column.kind.word(),
                "nullable": column.nullable,
                "one_of": one_of,
                "hex_digits": hex_digits,
                "description": column.description,
            })
        })
        .collect();
    serde_json::json!({
        "name": table.name,
        "grain": table.grain,
        "dated_by": table.dated_by,
        "columns": columns,
    })
}

/// The tables as Markdown, one section each: what stands between the marks of `docs/parquet.md`.
pub fn contract_markdown() -> String {
    let mut page = String::new();
    for table in tables() {
        // Writing to a String cannot fail.
        let _ = write!(
            page,
            "### `{}`\n\n{}\n\n`run_date` is the UTC date of `{}`.\n\n| column | type | null | meaning |\n|---|---|---|---|\n",
            table.name, table.grain, table.dated_by
        );
        for column in &table.columns {
            let null = if column.nullable { "yes" } else { "no" };
            let rule = match &column.rule {
                Rule::Any => String::new(),
                Rule::OneOf(words) => format!(" One of `{}`.", words.join("`, `")),
                Rule::Hex(digits) => format!(" {digits} lower-case hex digits."),
            };
            let _ = writeln!(
                page,
                "| `{}` | {} | {null} | {}{rule} |",
                column.name,
                column.kind.word(),
                column.description
            );
        }
        page.push('\n');
    }
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    const BEGIN: &str = "DRIFTLINE_REWRITE_DOCS=1 -->\n";
    const END: &str = "<!-- the end of the contract -->";

    #[test]
    fn the_page_says_what_the_code_does() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/parquet.md");
        let page = std::fs::read_to_string(path).unwrap();
        let (before, rest) = page.split_once(BEGIN).unwrap();
        let (found, after) = rest.split_once(END).unwrap();
        let wanted = contract_markdown();
        if std::env::var_os("DRIFTLINE_REWRITE_DOCS").is_some() {
            std::fs::write(path, format!("{before}{BEGIN}{wanted}{END}{after}")).unwrap();
        } else {
            assert!(
                found == wanted,
                "docs/parquet.md is not the contract; rewrite it with DRIFTLINE_REWRITE_DOCS=1"
            );
        }
        assert!(before.contains(&format!("`schema_version` is {SCHEMA_VERSION}.")));
    }

    #[test]
    fn the_json_names_every_column_once() {
        let contract: serde_json::Value = serde_json::from_str(&contract_json()).unwrap();
        for (table, told) in tables().into_iter().zip(contract["tables"].as_array().unwrap()) {
            assert_eq!(told["name"], table.name);
            let names = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
            let told: Vec<String> = told["columns"].as_array().unwrap().iter().map(names).collect();
            let known: Vec<&str> = table.columns.iter().map(|column| column.name).collect();
            assert_eq!(told, known);
            let distinct: std::collections::BTreeSet<&String> = told.iter().collect();
            assert_eq!(distinct.len(), told.len(), "{}", table.name);
            assert!(table.index_of(table.dated_by).is_some(), "{}", table.name);
        }
    }
}
