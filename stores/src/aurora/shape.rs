//! The type of a column, as far as its binary form needs it.

/// A value whose raw size passes this is not hashed: the server would need several times its size in memory.
pub(crate) const VALUE_BYTES_MAX: u32 = 16 << 20;

/// Composite types and domains nest at most this deep; deeper ones are not comparable.
pub(crate) const NESTING_MAX: usize = 16;

/// How a type's values are brought into a binary form that is equal on both ends if and only if the values are identical.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Shape {
    /// A built-in base type with its own send function.
    Simple(Simple),
    /// Sent as the text of its output function, which says more than the number that is stored (`regclass` and its kin).
    Named {
        /// The output function in `pg_catalog`.
        output: String,
        /// The built-in type, for literals.
        type_name: String,
    },
    /// A user's enum: its label. The stored number is an object ID and differs between logical copies.
    Enum,
    /// An array whose elements have a neutral binary form.
    Array {
        /// The element.
        element: Box<Shape>,
    },
    /// A range or multirange whose subtype has a neutral binary form.
    Range {
        /// `range_send` or `multirange_send`.
        send: &'static str,
        /// The subtype.
        subtype: Box<Shape>,
    },
    /// A composite type, sent field by field: its own send function writes object IDs.
    Composite(Vec<(String, Shape)>),
    /// A domain: as its base type. Kept apart since a literal of it may break its constraints.
    Domain(Box<Shape>),
    /// It has no form that can be trusted; the reason.
    Unfit(String),
}

/// A built-in base type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Simple {
    /// Its name in `pg_catalog`.
    pub(crate) type_name: String,
    /// Its send function in `pg_catalog`.
    pub(crate) send: String,
    /// Cast to this `pg_catalog` type before sending (types that borrow another type's send function).
    pub(crate) cast: Option<&'static str>,
    /// How wide its values can be.
    pub(crate) width: Width,
}

/// How to tell that a value is too wide without reading it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    /// It cannot be.
    Small,
    /// By `octet_length`, which reads the raw size off the pointer.
    Octets,
    /// By `pg_column_size`: the stored size, compressed if the server compressed it.
    Stored,
}

/// Why `type_name` of `pg_catalog` cannot be compared, or how it can.
pub(crate) fn built_in(type_name: &str, send: Option<&str>) -> Shape {
    let width = match type_name {
        "bool" | "char" | "name" | "int2" | "int4" | "int8" | "oid" | "xid" | "xid8" | "cid" | "tid" | "float4"
        | "float8" | "numeric" | "date" | "time" | "timetz" | "timestamp" | "timestamptz" | "interval" | "uuid"
        | "money" | "macaddr" | "macaddr8" | "inet" | "cidr" | "point" | "lseg" | "box" | "line" | "circle"
        | "pg_lsn" => Width::Small,
        "text" | "varchar" | "bpchar" | "bytea" => Width::Octets,
        "json" | "jsonb" | "jsonpath" | "xml" | "bit" | "varbit" | "tsvector" | "tsquery" | "path" | "polygon"
        | "refcursor" | "txid_snapshot" | "pg_snapshot" | "int2vector" | "oidvector" => Width::Stored,
        "regclass" | "regtype" | "regrole" | "regnamespace" | "regconfig" | "regdictionary" | "regprocedure"
        | "regoperator" | "regcollation" => {
            return Shape::Named {
                output: format!("{type_name}out"),
                type_name: type_name.to_owned(),
            };
        }
        "regproc" | "regoper" => {
            return Shape::Unfit(format!(
                "{type_name} stores an object ID, and its text does not tell overloaded functions apart"
            ));
        }
        _ => {
            return Shape::Unfit(format!(
                "type {type_name} has no binary form that driftline knows to be safe"
            ));
        }
    };
    let Some(send) = send else {
        return Shape::Unfit(format!("type {type_name} has no send function"));
    };
    Shape::Simple(Simple {
        type_name: type_name.to_owned(),
        send: send.to_owned(),
        cast: (type_name == "refcursor").then_some("text"),
        width,
    })
}

impl Shape {
    /// The shape below domains.
    pub(crate) fn base(&self) -> &Self {
        match self {
            Self::Domain(base) => base.base(),
            other => other,
        }
    }

    /// Why values of this type cannot be compared.
    pub(crate) fn not_comparable(&self) -> Option<String> {
        match self {
            Self::Simple(_) | Self::Named { .. } | Self::Enum => None,
            Self::Domain(base) => base.not_comparable(),
            Self::Array { element } => element.inside("array elements"),
            Self::Range { subtype, .. } => subtype.inside("range bounds"),
            Self::Composite(fields) => fields
                .iter()
                .find_map(|(name, shape)| shape.not_comparable().map(|reason| format!("field {name}: {reason}"))),
            Self::Unfit(reason) => Some(reason.clone()),
        }
    }

    /// Why values of this type cannot be compared inside of `place`, where the server and not we call the send function.
    fn inside(&self, place: &str) -> Option<String> {
        match self.base() {
            Self::Simple(_) | Self::Enum => None,
            Self::Unfit(reason) => Some(reason.clone()),
            Self::Named { type_name, .. } => Some(format!("{place} of type {type_name} are sent as object IDs")),
            Self::Array { .. } | Self::Range { .. } | Self::Composite(_) | Self::Domain(_) => Some(format!(
                "{place} that are themselves arrays, ranges or composites are sent with object IDs"
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_that_are_sent_as_object_ids_are_not_comparable_inside_arrays() {
        let array = |element| Shape::Array {
            element: Box::new(element),
        };
        let int = built_in("int4", Some("int4send"));
        assert_eq!(array(int.clone()).not_comparable(), None);
        assert_eq!(array(Shape::Domain(Box::new(int.clone()))).not_comparable(), None);
        assert!(array(built_in("regclass", None)).not_comparable().is_some());
        assert!(
            array(Shape::Composite(vec![("a".into(), int)]))
                .not_comparable()
                .is_some()
        );
        assert!(built_in("aclitem", None).not_comparable().is_some());
        assert!(built_in("gtsvector", None).not_comparable().is_some());
        assert!(built_in("regproc", Some("regprocsend")).not_comparable().is_some());
    }

    #[test]
    fn a_composite_names_the_field_that_spoils_it() {
        let shape = Shape::Composite(vec![
            ("good".into(), built_in("text", Some("textsend"))),
            ("bad".into(), built_in("aclitem", None)),
        ]);
        assert!(shape.not_comparable().unwrap().starts_with("field bad:"));
    }
}
