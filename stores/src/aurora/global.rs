//! Aurora's own word on its replication. Its copies share storage or follow it, and the functions that tell where plain PostgreSQL's
//! replay stands are refused there.

use tokio_postgres::{Client, Row};

use crate::{Identity, NativeStatus};

/// What any role may read, and which of Aurora's functions there are.
const FIGURES: &str = "\
select (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8 as now_us,
       writers.*,
       exists (select subname from pg_catalog.pg_subscription where subdbid =
               (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
         or exists (select oid from pg_catalog.pg_publication) as is_logical,
       exists (select from pg_catalog.pg_proc where proname = 'aurora_global_db_status') as has_regions,
       exists (select from pg_catalog.pg_proc where proname = 'aurora_db_instance_identifier') as has_name
from (
  select pg_catalog.bool_or(began is null) as writer_hidden,
         (extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(began)) * 1000000)::pg_catalog.int8 as writer_us
  from (select xact_start as began from pg_catalog.pg_stat_activity where backend_xid is not null
        union all select prepared from pg_catalog.pg_prepared_xacts) as open
) as writers";

/// One row for each other region of a global database: the primary's own row has no lag, and says -1 and 1970.
///
/// The RPO lag, and not the durability lag, which one long transaction raises while nothing is behind.
const REGIONS: &str = "\
select aws_region::pg_catalog.text as name, rpo_lag_in_msec::pg_catalog.float8 as lag_ms,
       (extract(epoch from last_lag_calculation_time) * 1000000)::pg_catalog.int8 as as_of_us
from pg_catalog.aurora_global_db_status()
where durability_lag_in_msec >= 0 and rpo_lag_in_msec >= 0
order by 1";

/// This instance as a reader of its cluster's storage; no row at the writer.
const REPLICA: &str = "\
select server_id::pg_catalog.text as name, replica_lag_in_msec::pg_catalog.float8 as lag_ms,
       (extract(epoch from last_update_timestamp) * 1000000)::pg_catalog.int8 as as_of_us
from pg_catalog.aurora_replica_status()
where server_id = pg_catalog.aurora_db_instance_identifier()
  and session_id is distinct from 'MASTER_SESSION_ID'";

/// One lag as Aurora tells it.
#[derive(Debug, Clone, PartialEq)]
struct Told {
    name: String,
    lag_us: Option<u64>,
    as_of_us: Option<i64>,
}

impl Told {
    fn read(row: &Row) -> Result<Self, tokio_postgres::Error> {
        let lag_ms: Option<f64> = row.try_get("lag_ms")?;
        Ok(Self {
            name: row.try_get::<_, Option<String>>("name")?.unwrap_or_default(),
            lag_us: lag_ms.and_then(microseconds),
            as_of_us: row.try_get("as_of_us")?,
        })
    }

    fn words(&self) -> String {
        match self.lag_us {
            Some(lag_us) => format!("{} {lag_us} us behind", self.name),
            None => format!("{} does not say", self.name),
        }
    }
}

/// `None`: no such time.
fn microseconds(ms: f64) -> Option<u64> {
    let lag = std::time::Duration::try_from_secs_f64(ms / 1_000.0).ok()?;
    u64::try_from(lag.as_micros()).ok()
}

/// The status of an Aurora instance.
pub(crate) async fn status(client: &Client, identity: Identity) -> Result<NativeStatus, tokio_postgres::Error> {
    let row = client.query_typed_one(FIGURES, &[]).await?;
    let now_us: i64 = row.try_get("now_us")?;
    let is_hidden = row.try_get::<_, Option<bool>>("writer_hidden")?.unwrap_or(false);
    let writer_us: Option<i64> = row.try_get("writer_us")?;
    let regions = if row.try_get("has_regions")? {
        ask(client, REGIONS).await?
    } else {
        Vec::new()
    };
    // Between regions counts first: it is what is lost with one.
    let (told, kind) = if regions.is_empty() && row.try_get("has_name")? {
        (ask(client, REPLICA).await?, "reader of its cluster")
    } else {
        (regions, "global database")
    };
    let (lag_us, lag_as_of_us) = worst(&told);
    Ok(NativeStatus {
        identity,
        as_of_us: now_us,
        lag_us,
        lag_as_of_us,
        pending_operations: None,
        not_collected: lag_us.is_none().then(|| {
            "this instance is neither in a global database with other regions nor a reader of its cluster".to_owned()
        }),
        lag_bytes: None, // its positions are no bytes of log
        position: None,
        link: (!told.is_empty()).then(|| {
            let all: Vec<String> = told.iter().map(Told::words).collect();
            format!("{kind}: {}", all.join(", "))
        }),
        longest_transaction_us: match (is_hidden, writer_us) {
            (true, _) => None,
            (false, None) => Some(0),
            (false, Some(age_us)) => u64::try_from(age_us).ok(),
        },
        is_logical: row.try_get("is_logical")?,
        collections: std::collections::BTreeMap::new(),
    })
}

async fn ask(client: &Client, sql: &str) -> Result<Vec<Told>, tokio_postgres::Error> {
    client.query_typed(sql, &[]).await?.iter().map(Told::read).collect()
}

/// The largest lag with its instant. An instance cannot tell which region it is in, so with several the worst speaks for all; one that
/// does not say leaves it open.
fn worst(told: &[Told]) -> (Option<u64>, Option<i64>) {
    if told.iter().any(|one| one.lag_us.is_none()) {
        return (None, None);
    }
    let worst = told.iter().max_by_key(|one| one.lag_us);
    worst.map_or((None, None), |one| (one.lag_us, one.as_of_us))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(name: &str, lag_us: Option<u64>) -> Told {
        let as_of_us = Some(7);
        Told {
            name: name.to_owned(),
            lag_us,
            as_of_us,
        }
    }

    #[test]
    fn the_worst_region_speaks_for_all_and_silence_is_no_zero() {
        let (near, far) = (told("us-west-2", Some(20)), told("eu-west-1", Some(300)));
        assert_eq!(worst(&[near.clone(), far]), (Some(300), Some(7)));
        assert_eq!(worst(&[near, told("ap-south-1", None)]), (None, None));
        assert_eq!(worst(&[]), (None, None));
        assert_eq!(
            (microseconds(1.5), microseconds(-1.0), microseconds(f64::NAN)),
            (Some(1_500), None, None)
        );
    }
}
