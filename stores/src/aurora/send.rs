//! Expressions that bring values into their binary form, and rows into one number.
//!
//! A row is hashed as **one** byte string. Hashing columns apart and adding them up is linear: rows that swap values cancel.
//! `record_send` over the columns writes type IDs, which differ between logical copies; over `bytea` columns that come from
//! each type's own send function it writes nothing but lengths and bytes, and keeps NULL apart from empty.

use super::quote::{column, ident, literal};
use super::shape::{Shape, VALUE_BYTES_MAX, Width};

/// Has-nulls flag and element type ID of `array_send`. The flag survives an update that removes the last NULL, the ID differs
/// between logical copies: both are blanked. The NULLs themselves are in the lengths.
const ARRAY_HEADER: &str = "pg_catalog.decode('0000000000000000', 'hex'), 5, 8";

/// The binary form of `value`, a SQL expression of this shape. NULL for NULL.
pub(crate) fn send(shape: &Shape, value: &str) -> String {
    match shape {
        Shape::Simple(simple) => match simple.cast {
            None => format!("pg_catalog.{}({value})", simple.send),
            Some(cast) => format!("pg_catalog.{}({value}::pg_catalog.{cast})", simple.send),
        },
        Shape::Named { output, .. } => {
            format!("pg_catalog.textsend(pg_catalog.textin(pg_catalog.{output}({value})))")
        }
        Shape::Enum => format!("pg_catalog.textsend(pg_catalog.textin(pg_catalog.enum_out({value})))"),
        Shape::Array { .. } => format!("pg_catalog.overlay(pg_catalog.array_send({value}), {ARRAY_HEADER})"),
        Shape::Range { send, .. } => format!("pg_catalog.{send}({value})"),
        Shape::Composite(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, shape)| send(shape, &format!("({value}).{}", ident(name))))
                .collect();
            format!(
                "case when {value} is distinct from null then {} end",
                record(&fields.join(", "))
            )
        }
        Shape::Domain(base) => send(base, value),
        // Recipes refuse it; should one slip through, the server must fail and not hash a constant.
        Shape::Unfit(reason) => format!("pg_catalog.not_comparable({})", literal(reason)),
    }
}

/// Several binary forms as one.
fn record(forms: &str) -> String {
    format!("pg_catalog.record_send(row({forms}))")
}

/// One number for a binary form. `hash_array_extended` of one element is the only 64-bit hash of bytes that versions 13 to 17
/// share; more than one element would be linear again.
fn hash(form: &str, seed: u64) -> String {
    format!(
        "pg_catalog.hash_array_extended(array[{form}], '{}'::pg_catalog.int8)",
        seed.cast_signed()
    )
}

/// The number of a whole row, over the given binary forms.
pub(crate) fn hash_row(forms: &[String], seed: u64) -> String {
    hash(&record(&forms.join(", ")), seed)
}

/// The test that tells that a value is too wide to be hashed, where it can be.
fn too_wide(shape: &Shape, value: &str) -> Option<String> {
    let size = match shape.base() {
        Shape::Simple(simple) => match simple.width {
            Width::Small => return None,
            Width::Octets => format!("pg_catalog.octet_length({value})"),
            Width::Stored => format!("pg_catalog.pg_column_size({value})"),
        },
        Shape::Named { .. } | Shape::Enum | Shape::Unfit(_) => return None,
        Shape::Array { .. } | Shape::Range { .. } | Shape::Composite(_) | Shape::Domain(_) => {
            format!("pg_catalog.pg_column_size({value})")
        }
    };
    Some(format!("pg_catalog.int4gt({size}, {VALUE_BYTES_MAX})"))
}

/// The digest of a row over `columns`. NULL if and only if one of its values is too wide to be hashed.
pub(crate) fn row_digest(columns: &[(&str, &Shape)], seed: u64) -> String {
    let forms: Vec<String> = columns.iter().map(|(name, shape)| send(shape, &column(name))).collect();
    let wide: Vec<String> = columns
        .iter()
        .filter_map(|(name, shape)| too_wide(shape, &column(name)))
        .collect();
    let hash = hash_row(&forms, seed);
    if wide.is_empty() {
        hash
    } else {
        format!("case when {} then null else {hash} end", wide.join(" or "))
    }
}

/// The digest of one column; NULL for NULL, and for a value that is too wide.
pub(crate) fn column_digest(name: &str, shape: &Shape, seed: u64) -> String {
    let value = column(name);
    let hash = hash(&send(shape, &value), seed);
    match too_wide(shape, &value) {
        None => format!("case when {value} is distinct from null then {hash} end"),
        Some(wide) => format!("case when {wide} then null when {value} is distinct from null then {hash} end"),
    }
}

#[cfg(test)]
mod tests {
    use super::super::shape::built_in;
    use super::*;

    #[test]
    fn a_row_is_one_element_of_the_hashed_array() {
        let int = built_in("int8", Some("int8send"));
        let text = built_in("text", Some("textsend"));
        assert_eq!(
            row_digest(&[("id", &int), ("a\"b", &text)], u64::MAX),
            "case when pg_catalog.int4gt(pg_catalog.octet_length(t.\"a\"\"b\"), 16777216) then null else \
             pg_catalog.hash_array_extended(array[pg_catalog.record_send(row(pg_catalog.int8send(t.\"id\"), \
             pg_catalog.textsend(t.\"a\"\"b\")))], '-1'::pg_catalog.int8) end"
        );
    }

    #[test]
    fn composites_are_expanded_and_their_null_is_not_a_row_of_nulls() {
        let shape = Shape::Composite(vec![("x".into(), built_in("int4", Some("int4send")))]);
        assert_eq!(
            send(&shape, "t.\"c\""),
            "case when t.\"c\" is distinct from null then \
             pg_catalog.record_send(row(pg_catalog.int4send((t.\"c\").\"x\"))) end"
        );
    }
}
