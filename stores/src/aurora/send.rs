//! Expressions that bring values into their binary form, and rows into one number.
//!
//! A row is hashed as **one** byte string. Hashing columns apart and adding them up is linear: rows that swap values cancel.
//! `record_send` writes each column by its type's own send function, with its length and its type's ID, and keeps NULL apart from
//! empty. The IDs of built-in types never change, so their columns are handed to it as they are, which takes a third less time than
//! sending each by itself. Those of all other types differ between logical copies: their columns come as `bytea`, from the type's
//! own send function or a form made here.

use super::quote::{column, ident, literal};
use super::shape::{Shape, VALUE_BYTES_MAX, Width};

/// Has-nulls flag and element type ID of `array_send`. The flag survives an update that removes the last NULL, the ID differs
/// between logical copies: both are blanked. The NULLs themselves are in the lengths.
const ARRAY_HEADER: &str = "pg_catalog.decode('0000000000000000', 'hex'), 5, 8";

/// The binary form of `value`, a SQL expression of this shape. NULL for NULL.
pub(crate) fn send(shape: &Shape, value: &str) -> String {
    send_within(shape, value, 0)
}

/// `depth`: in how many lists of elements this value stands; each has an alias of its own.
fn send_within(shape: &Shape, value: &str, depth: usize) -> String {
    match shape {
        Shape::Simple(simple) => match simple.cast {
            None => format!("pg_catalog.{}({value})", simple.send),
            Some(cast) => format!("pg_catalog.{}({value}::pg_catalog.{cast})", simple.send),
        },
        Shape::Named { output, cast, .. } => {
            let value = cast.map_or_else(|| value.to_owned(), |cast| format!("{value}::pg_catalog.{cast}"));
            format!("pg_catalog.textsend(pg_catalog.textin(pg_catalog.{output}({value})))")
        }
        Shape::Extension { send } => format!("{send}({value})"),
        Shape::Enum => format!("pg_catalog.textsend(pg_catalog.textin(pg_catalog.enum_out({value})))"),
        Shape::Array { element } if element.is_neutral_inside() => {
            format!("pg_catalog.overlay(pg_catalog.array_send({value}), {ARRAY_HEADER})")
        }
        Shape::Array { element } => {
            let dimensions = format!("pg_catalog.textsend(pg_catalog.array_dims({value}))");
            let elements = elements(value, depth, |one| send_within(element, one, depth + 1));
            unless_null(value, &record(&format!("{dimensions}, {elements}")))
        }
        Shape::Range { send, subtype } if subtype.is_neutral_inside() => format!("pg_catalog.{send}({value})"),
        Shape::Range { send, subtype } if *send == "multirange_send" => unless_null(
            value,
            &record(&elements(value, depth, |one| range(subtype, one, depth + 1))),
        ),
        Shape::Range { subtype, .. } => unless_null(value, &range(subtype, value, depth)),
        Shape::Composite(fields) => {
            let fields: Vec<String> = fields
                .iter()
                .map(|(name, shape)| send_within(shape, &format!("({value}).{}", ident(name)), depth))
                .collect();
            unless_null(value, &record(&fields.join(", ")))
        }
        Shape::Domain(base) => send_within(base, value, depth),
        // Recipes refuse it; should one slip through, the server must fail and not hash a constant.
        Shape::Unfit(reason) => format!("pg_catalog.not_comparable({})", literal(reason)),
    }
}

/// `form`, or NULL for a NULL. Not `is null`, which is also true of a composite of NULLs.
fn unless_null(value: &str, form: &str) -> String {
    format!("case when {value} is distinct from null then {form} end")
}

/// The elements of an array or multirange in their order, each in the binary form that `one` gives it, as one binary form.
fn elements(value: &str, depth: usize, one: impl FnOnce(&str) -> String) -> String {
    let form = one(&format!("e{depth}.v"));
    format!(
        "pg_catalog.array_send(array(select {form} from (select pg_catalog.unnest({value}) as v offset 0) as e{depth}))"
    )
}

/// A range bound by bound.
fn range(subtype: &Shape, value: &str, depth: usize) -> String {
    let bound = |name: &str| send_within(subtype, &format!("pg_catalog.{name}({value})"), depth);
    let mut forms = vec![bound("lower"), bound("upper")];
    for flag in ["isempty", "lower_inc", "upper_inc", "lower_inf", "upper_inf"] {
        forms.push(format!("pg_catalog.boolsend(pg_catalog.{flag}({value}))"));
    }
    record(&forms.join(", "))
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

/// The number of a whole row, over its columns as `record_send` takes them.
pub(crate) fn hash_row(fields: &[String], seed: u64) -> String {
    hash(&record(&fields.join(", ")), seed)
}

/// The size of a value that may be too wide for its binary form: the server would need several times that in memory.
fn size(shape: &Shape, value: &str) -> Option<String> {
    match shape.base() {
        Shape::Simple(simple) => match simple.width {
            Width::Small => None,
            Width::Octets => Some(format!("pg_catalog.octet_length({value})")),
            Width::Stored => Some(format!("pg_catalog.pg_column_size({value})")),
        },
        Shape::Named { .. } | Shape::Enum | Shape::Unfit(_) => None,
        Shape::Extension { .. }
        | Shape::Array { .. }
        | Shape::Range { .. }
        | Shape::Composite(_)
        | Shape::Domain(_) => Some(format!("pg_catalog.pg_column_size({value})")),
    }
}

fn is_wide(shape: &Shape, value: &str) -> Option<String> {
    size(shape, value).map(|size| format!("pg_catalog.int4gt({size}, {VALUE_BYTES_MAX})"))
}

/// A short form of a wide value that takes no more memory than the value itself, where there is one: its length with a hash of it.
fn condensed(shape: &Shape, value: &str, seed: u64) -> Option<String> {
    let Shape::Simple(simple) = shape.base() else {
        return None;
    };
    let hash = match simple.type_name.as_str() {
        "text" | "varchar" => format!(
            "pg_catalog.int8send(pg_catalog.hashtextextended({value}::pg_catalog.text collate pg_catalog.\"C\", '{}'::pg_catalog.int8))",
            seed.cast_signed()
        ),
        "bytea" => format!("pg_catalog.sha256({value}::pg_catalog.bytea)"),
        _ => return None,
    };
    Some(record(&format!(
        "pg_catalog.int4send(pg_catalog.octet_length({value})), {hash}"
    )))
}

/// One column of a row in its binary form.
pub(crate) struct Sent {
    pub(crate) form: String,
    /// The column as `record_send` takes it, where none of its values is too wide.
    field: String,
    /// True of values that have no form.
    pub(crate) unfit: Option<String>,
    /// True of values whose form is a short one. It is hashed beside the forms, so that no value looks like the short form of another.
    pub(crate) condensed: Option<String>,
}

/// A column as a recipe has it.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Hashed<'a> {
    pub(crate) name: &'a str,
    pub(crate) shape: &'a Shape,
    /// Values that the type holds equal are equal, whatever their form.
    pub(crate) is_semantic: bool,
}

/// One form for all values that the type holds equal: 1.0 and 1.00, -0 and 0, and a char(n) with and without its blanks.
///
/// # Errors
/// The types that have one, in words.
pub(crate) fn semantic(shape: &Shape, value: &str) -> Result<String, String> {
    let name = match shape.base() {
        Shape::Simple(simple) => simple.type_name.as_str(),
        _ => "",
    };
    Ok(match name {
        "numeric" => format!("pg_catalog.numeric_send(pg_catalog.trim_scale({value}))"),
        "float4" | "float8" => format!("pg_catalog.{name}send(pg_catalog.{name}pl({value}, '0'::pg_catalog.{name}))"),
        // The cast to text drops the blanks.
        "bpchar" => format!("pg_catalog.textsend({value}::pg_catalog.text)"),
        _ => return Err(
            "values that are equal in more than one form are known of numeric, real, double precision and char(n) only"
                .to_owned(),
        ),
    })
}

/// How the column is brought into its binary form.
pub(crate) fn sent(hashed: Hashed<'_>, seed: u64) -> Sent {
    let Hashed {
        name,
        shape,
        is_semantic,
    } = hashed;
    let value = column(name);
    let full = match semantic(shape, &value) {
        Ok(form) if is_semantic => form,
        _ => send(shape, &value),
    };
    let field = if is_sent_by_record(&hashed) {
        value.clone()
    } else {
        full.clone()
    };
    let (form, unfit, condensed) = match (is_wide(shape, &value), condensed(shape, &value, seed)) {
        (None, _) => (full, None, None),
        (Some(wide), None) => (full, Some(wide), None),
        (Some(wide), Some(short)) => {
            let either = format!("case when {wide} then {short} else {full} end");
            (either, None, Some(wide))
        }
    };
    Sent {
        form,
        field,
        unfit,
        condensed,
    }
}

/// Whether `record_send` itself, and COPY, write of this column what its form says, and the same at every server.
pub(crate) fn is_sent_by_record(hashed: &Hashed<'_>) -> bool {
    !hashed.is_semantic && matches!(hashed.shape, Shape::Simple(simple) if simple.cast.is_none())
}

/// The number of the row of these columns; NULL if one of its values has no form.
fn digest(columns: Vec<Sent>, seed: u64) -> String {
    let unfit: Vec<&str> = columns.iter().filter_map(|one| one.unfit.as_deref()).collect();
    let flags: Vec<&str> = columns.iter().filter_map(|one| one.condensed.as_deref()).collect();
    let fields: Vec<String> = columns.iter().map(|one| one.field.clone()).collect();
    let mut hash = hash_row(&fields, seed);
    if !flags.is_empty() {
        let told = flags
            .iter()
            .map(|flag| format!("pg_catalog.boolsend(coalesce({flag}, false))"));
        let with_flags: Vec<String> = columns.iter().map(|one| one.form.clone()).chain(told).collect();
        hash = format!(
            "case when {} then {} else {hash} end",
            flags.join(" or "),
            hash_row(&with_flags, seed)
        );
    }
    if unfit.is_empty() {
        hash
    } else {
        format!("case when {} then null else {hash} end", unfit.join(" or "))
    }
}

/// The digest of a row over `columns`. NULL if and only if one of its values is too wide to be hashed.
pub(crate) fn row_digest(columns: &[Hashed<'_>], seed: u64) -> String {
    digest(columns.iter().map(|one| sent(*one, seed)).collect(), seed)
}

/// The digest of one column; NULL for NULL, and for a value that is too wide.
pub(crate) fn column_digest(hashed: Hashed<'_>, seed: u64) -> String {
    unless_null(&column(hashed.name), &digest(vec![sent(hashed, seed)], seed))
}

#[cfg(test)]
mod tests {
    use super::super::shape::built_in;
    use super::*;

    fn exact<'a>(name: &'a str, shape: &'a Shape) -> Hashed<'a> {
        Hashed {
            name,
            shape,
            is_semantic: false,
        }
    }

    #[test]
    fn a_row_is_one_element_of_the_hashed_array() {
        let int = built_in("int8", Some("int8send"));
        let float = built_in("float8", Some("float8send"));
        assert_eq!(
            row_digest(&[exact("id", &int), exact("a\"b", &float)], u64::MAX),
            "pg_catalog.hash_array_extended(array[pg_catalog.record_send(row(t.\"id\", t.\"a\"\"b\"))], '-1'::pg_catalog.int8)"
        );
    }

    #[test]
    fn only_what_every_server_knows_by_the_same_id_is_left_to_the_record() {
        let domain = Shape::Domain(Box::new(built_in("int4", Some("int4send"))));
        let cursor = built_in("refcursor", Some("textsend"));
        let array = Shape::Array {
            element: Box::new(built_in("int4", Some("int4send"))),
        };
        for (shape, form) in [
            (&domain, "pg_catalog.int4send(t.\"a\")"),
            (&cursor, "pg_catalog.textsend(t.\"a\"::pg_catalog.text)"),
            (&array, "pg_catalog.overlay(pg_catalog.array_send(t.\"a\"), "),
            (
                &Shape::Enum,
                "pg_catalog.textsend(pg_catalog.textin(pg_catalog.enum_out(t.\"a\")))",
            ),
        ] {
            assert!(!is_sent_by_record(&exact("a", shape)), "{shape:?}");
            let digest = row_digest(&[exact("a", shape)], 1);
            assert!(digest.contains(&format!("row({form}")), "{digest}");
        }
        let int = built_in("float8", Some("float8send"));
        let semantic = Hashed {
            is_semantic: true,
            ..exact("a", &int)
        };
        assert!(row_digest(&[semantic], 1).contains("row(pg_catalog.float8send("));
    }

    #[test]
    fn a_value_that_is_too_wide_is_never_handed_to_the_record() {
        let text = built_in("text", Some("textsend"));
        let digest = row_digest(&[exact("a", &text)], 1);
        let (wide, narrow) = digest.split_once(" else pg_catalog.hash_array_extended(").unwrap();
        assert!(
            narrow.starts_with("array[pg_catalog.record_send(row(t.\"a\"))]"),
            "{digest}"
        );
        assert!(!wide.contains("row(t.\"a\")"), "{digest}");
        assert!(wide.contains("pg_catalog.boolsend(coalesce("), "{digest}");
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
