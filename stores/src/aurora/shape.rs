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
        /// Cast to this `pg_catalog` type before, where that says more.
        cast: Option<&'static str>,
        /// The built-in type, for literals.
        type_name: String,
    },
    /// A user's enum: its label. The stored number is an object ID and differs between logical copies.
    Enum,
    /// A type of a well-known extension, by its own send function, which writes nothing of this server alone.
    Extension {
        /// The send function, qualified and quoted.
        send: String,
    },
    /// An array. Elements whose own send function writes object IDs are sent one by one.
    Array {
        /// The element.
        element: Box<Shape>,
    },
    /// A range or multirange. Bounds whose own send function writes object IDs are sent one by one.
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

/// Base types of extensions whose send functions were read: extension and type. Lengths, numbers and text, and nothing of one server.
pub(crate) const KNOWN_EXTENSION_TYPES: [(&str, &str); 5] = [
    ("cube", "cube"),
    ("hstore", "hstore"),
    ("ltree", "lquery"),
    ("ltree", "ltree"),
    ("ltree", "ltxtquery"),
];

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
        | "regoperator" | "regcollation" | "aclitem" => {
            return Shape::Named {
                output: format!("{type_name}out"),
                cast: None,
                type_name: type_name.to_owned(),
            };
        }
        // Their own text does not tell overloaded functions apart; that of their kin, which stores the same number, does.
        "regproc" | "regoper" => {
            let cast = if type_name == "regproc" {
                "regprocedure"
            } else {
                "regoperator"
            };
            return Shape::Named {
                output: format!("{cast}out"),
                cast: Some(cast),
                type_name: type_name.to_owned(),
            };
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
            Self::Simple(_) | Self::Named { .. } | Self::Enum | Self::Extension { .. } => None,
            Self::Domain(base) => base.not_comparable(),
            Self::Array { element } => element
                .not_comparable()
                .map(|reason| format!("array elements: {reason}")),
            Self::Range { subtype, .. } => subtype.not_comparable().map(|reason| format!("range bounds: {reason}")),
            Self::Composite(fields) => fields
                .iter()
                .find_map(|(name, shape)| shape.not_comparable().map(|reason| format!("field {name}: {reason}"))),
            Self::Unfit(reason) => Some(reason.clone()),
        }
    }

    /// Whether the server's own send function of an array or range of this type writes the same at every server.
    pub(crate) fn is_neutral_inside(&self) -> bool {
        matches!(self.base(), Self::Simple(_) | Self::Enum | Self::Extension { .. })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_sent_cannot_be_compared_inside_of_anything() {
        let array = |element| Shape::Array {
            element: Box::new(element),
        };
        let int = built_in("int4", Some("int4send"));
        assert_eq!(array(int.clone()).not_comparable(), None);
        assert!(array(int.clone()).base().not_comparable().is_none() && int.is_neutral_inside());
        let named = built_in("regclass", None);
        assert!(named.not_comparable().is_none() && !named.is_neutral_inside());
        let composite = Shape::Composite(vec![("a".into(), int)]);
        assert!(!composite.is_neutral_inside() && array(composite).not_comparable().is_none());
        let statistics = || built_in("pg_mcv_list", Some("pg_mcv_list_send"));
        assert!(statistics().not_comparable().is_some());
        assert!(
            array(statistics())
                .not_comparable()
                .unwrap()
                .starts_with("array elements:")
        );
        assert!(built_in("gtsvector", None).not_comparable().is_some());
    }

    #[test]
    fn a_composite_names_the_field_that_spoils_it() {
        let shape = Shape::Composite(vec![
            ("good".into(), built_in("text", Some("textsend"))),
            ("bad".into(), built_in("gtsvector", None)),
        ]);
        assert!(shape.not_comparable().unwrap().starts_with("field bad:"));
    }
}
