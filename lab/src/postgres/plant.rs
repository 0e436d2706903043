//! Differences planted between two independent servers, the ones that verifiers are known to miss among them.

use super::server::PgServer;
use crate::LabError;
use crate::truth::{Planted, Truth};

const COLLECTION: &str = "public.orders";

/// A kind of difference, planted into `public.orders` of the shop. Unless it says otherwise, one row of the given key is
/// `different`. `updated_at` and every other column stay equal: nothing else gives the difference away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Plant {
    /// The row is deleted at the secondary.
    MissingOnSecondary,
    /// The row is deleted at the primary.
    MissingOnPrimary,
    /// A row at the secondary alone, with the key given; meant for keys before the first and behind the last.
    Extra,
    /// Another text.
    Changed,
    /// A counter that is one higher.
    OneMore,
    /// The row and the next one (key + 1) have exchanged their amounts at the secondary: both are different, and sums
    /// over the columns agree.
    Swapped,
    /// `''` and NULL.
    EmptyAndNull,
    /// NULL and the word `NULL`.
    NullAndItsName,
    /// Numeric 1.0 and 1.00, equal for the server and different in what is stored.
    NumericScale,
    /// The same within `jsonb`.
    JsonScale,
    /// 0 and -0.
    NegativeZero,
    /// A blank at the end.
    TrailingBlank,
    /// (`ab`, `c`) and (`a`, `bc`) in two columns.
    Shifted,
    /// An accented letter in one code point and in two.
    UnicodeForm,
    /// One microsecond.
    Microsecond,
    /// An array with NULL and one with the text `NULL`.
    ArrayNull,
}

impl Plant {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::MissingOnSecondary,
        Self::MissingOnPrimary,
        Self::Extra,
        Self::Changed,
        Self::OneMore,
        Self::Swapped,
        Self::EmptyAndNull,
        Self::NullAndItsName,
        Self::NumericScale,
        Self::JsonScale,
        Self::NegativeZero,
        Self::TrailingBlank,
        Self::Shifted,
        Self::UnicodeForm,
        Self::Microsecond,
        Self::ArrayNull,
    ];

    /// Assignments at the primary and at the secondary, for those that differ in values.
    fn assignments(self) -> Option<(&'static str, &'static str)> {
        let pair = match self {
            Self::MissingOnSecondary | Self::MissingOnPrimary | Self::Extra | Self::Swapped => return None,
            Self::Changed => ("status = 'paid'", "status = 'sent'"),
            Self::OneMore => ("quantity = 7", "quantity = 8"),
            Self::EmptyAndNull => ("note = ''", "note = null"),
            Self::NullAndItsName => ("note = null", "note = 'NULL'"),
            Self::NumericScale => ("amount = 1.0", "amount = 1.00"),
            Self::JsonScale => ("attributes = '{\"a\": 1.0}'", "attributes = '{\"a\": 1.00}'"),
            Self::NegativeZero => ("weight = '0'", "weight = '-0'"),
            Self::TrailingBlank => ("note = 'a'", "note = 'a '"),
            Self::Shifted => ("status = 'ab', note = 'c'", "status = 'a', note = 'bc'"),
            Self::UnicodeForm => ("note = U&'\\00e9'", "note = U&'e\\0301'"),
            Self::Microsecond => (
                "placed_at = '2026-02-02 02:02:02.000001Z'",
                "placed_at = '2026-02-02 02:02:02.000002Z'",
            ),
            Self::ArrayNull => ("tags = '{NULL}'", "tags = '{\"NULL\"}'"),
        };
        Some(pair)
    }

    /// Statements at the primary and at the secondary, and what they make.
    fn statements(self, id: i64) -> (String, String, Vec<Planted>) {
        let different = |id: i64| Planted::new(COLLECTION, &key(id), "different");
        let only = |class: &str| vec![Planted::new(COLLECTION, &key(id), class)];
        let none = String::new;
        let delete = format!("delete from {COLLECTION} where id = {id}");
        if let Some((primary, secondary)) = self.assignments() {
            let update = |assignments| format!("update {COLLECTION} set {assignments} where id = {id}");
            return (update(primary), update(secondary), vec![different(id)]);
        }
        match self {
            Self::MissingOnPrimary => (delete, none(), only("missing_on_primary")),
            Self::Extra => {
                let insert = format!("insert into {COLLECTION} (id) values ({id})");
                (none(), insert, only("missing_on_primary"))
            }
            Self::Swapped => {
                let next = id + 1;
                let both = format!(
                    "update {COLLECTION} set amount = case id when {id} then 11.5 else 12.5 end where id in ({id}, {next})"
                );
                let swapped = both.replace("11.5 else 12.5", "12.5 else 11.5");
                (both, swapped, vec![different(id), different(next)])
            }
            _ => (none(), delete, only("missing_on_secondary")),
        }
    }
}

/// The key of a row of the shop.
pub(crate) fn key(id: i64) -> String {
    format!("{{\"id\":{id}}}")
}

/// Plants differences between two independent servers that hold the same shop: each entry is a kind and the key of its
/// row. Keys must differ, and a row must exist (but for [`Plant::Extra`]). Returns the truth to compare results with.
///
/// # Errors
/// A server's; [`LabError::State`] when a row to plant in is not there, since the truth would then be a lie.
pub async fn plant(
    primary: &PgServer,
    secondary: &PgServer,
    database: &str,
    plants: &[(Plant, i64)],
) -> Result<Truth, LabError> {
    let mut truth = Truth::default();
    let (at_primary, at_secondary) = (primary.client(database).await?, secondary.client(database).await?);
    for (server, client) in [(primary, &at_primary), (secondary, &at_secondary)] {
        // Triggers do not fire, so `updated_at` stays.
        let quiet = "set session_replication_role = replica";
        client
            .batch_execute(quiet)
            .await
            .map_err(|error| server.sql_error(quiet, error))?;
    }
    for (kind, id) in plants {
        let (first, second, made) = kind.statements(*id);
        let rows = u64::try_from(made.len()).unwrap_or(u64::MAX);
        for (server, client, sql) in [(primary, &at_primary, first), (secondary, &at_secondary, second)] {
            if sql.is_empty() {
                continue;
            }
            let changed = client
                .execute(sql.as_str(), &[])
                .await
                .map_err(|error| server.sql_error(&sql, error))?;
            if changed != rows {
                return Err(server.state_error(&format!("{kind:?} at id {id}: {changed} of {rows} rows are there")));
            }
        }
        truth.divergences.extend(made);
    }
    Ok(truth)
}
