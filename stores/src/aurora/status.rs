//! PostgreSQL's own word on its replication, as far as a plain role may read it.

use std::sync::Arc;

use async_trait::async_trait;
use tokio_postgres::Row;
use tokio_postgres::types::PgLsn;

use super::global;
use super::identity::{identity_of, members_of};
use super::session::Sessions;
use crate::{Fork, NativeStatus, Position, Result, Role, Status, StoreError, Trouble};

/// A sender that says nothing for longer may be cut off; up to then what it said last is taken for now.
const SILENCE_US_MAX: i64 = 5_000_000;

/// What is done where a server cannot tell its fork.
const FROM_CANARIES: &str =
    "the fork is then taken from the canaries: the newest that survived and the first that was lost";

/// One row at any server. Replay is read before receive: in the other order a busy standby could seem to have nothing to do.
const FIGURES: &str = "\
select pg_catalog.pg_is_in_recovery() as in_recovery,
       (extract(epoch from pg_catalog.clock_timestamp()) * 1000000)::pg_catalog.int8 as now_us,
       pg_catalog.pg_last_wal_replay_lsn() as replayed,
       (extract(epoch from pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::pg_catalog.int8 as replayed_us,
       pg_catalog.pg_last_wal_receive_lsn() as received,
       receiver.pid is not null as has_receiver,
       receiver.status as receiver_status,
       receiver.latest_end_lsn as announced,
       (extract(epoch from receiver.last_msg_receipt_time) * 1000000)::pg_catalog.int8 as heard_us,
       case when not pg_catalog.pg_is_in_recovery() then pg_catalog.pg_current_wal_insert_lsn() end as written,
       senders.*, writers.*,
       exists (select subname from pg_catalog.pg_subscription where subdbid =
               (select oid from pg_catalog.pg_database where datname = pg_catalog.current_database()))
         or exists (select oid from pg_catalog.pg_publication) as is_logical
from (values (1)) as one
left join pg_catalog.pg_stat_wal_receiver as receiver on true
cross join (
  select pg_catalog.count(*) as senders,
         pg_catalog.string_agg(state, ', ' order by state) as sender_states,
         (extract(epoch from pg_catalog.max(replay_lag)) * 1000000)::pg_catalog.int8 as sender_lag_us,
         pg_catalog.min(replay_lsn) as sender_replayed
  from pg_catalog.pg_stat_replication
) as senders
cross join (
  select pg_catalog.bool_or(began is null) as writer_hidden,
         (extract(epoch from pg_catalog.clock_timestamp() - pg_catalog.min(began)) * 1000000)::pg_catalog.int8 as writer_us
  from (select xact_start as began from pg_catalog.pg_stat_activity where backend_xid is not null
        union all select prepared from pg_catalog.pg_prepared_xacts) as open
) as writers";

/// The status of the server behind one endpoint.
#[derive(Debug)]
pub(crate) struct ReplicationStatus {
    sessions: Arc<Sessions>,
}

impl ReplicationStatus {
    pub(crate) fn new(sessions: Arc<Sessions>) -> Self {
        Self { sessions }
    }
}

/// Client sessions at work, driftline's own left out. NULL where this role does not see what others do: then it would count none.
const ACTIVE: &str = "\
select case when pg_catalog.bool_or(query = '<insufficient privilege>') then null
            else pg_catalog.count(*) filter (where state = 'active' and backend_type = 'client backend'
                                                   and application_name <> 'driftline') end
from pg_catalog.pg_stat_activity";

#[async_trait]
impl Status for ReplicationStatus {
    async fn active_sessions(&self) -> Result<Option<u64>> {
        let trouble = |error| self.sessions.trouble("ask for active sessions", error);
        let lease = self.sessions.lease().await?;
        let row = lease.query_typed_one(ACTIVE, &[]).await.map_err(trouble)?;
        let active: Option<i64> = row.try_get(0).map_err(trouble)?;
        Ok(active.and_then(|active| u64::try_from(active).ok()))
    }

    async fn status(&self) -> Result<NativeStatus> {
        const TRIED: &str = "ask for replication status";
        let trouble = |error| self.sessions.trouble(TRIED, error);
        let lease = self.sessions.lease().await?;
        let mut who = lease.who().clone();
        let members = members_of(&who, &self.sessions, &lease).await?;
        if who.is_aurora {
            return global::status(&lease, identity_of(&who, members))
                .await
                .map_err(trouble);
        }
        let row = lease.query_typed_one(FIGURES, &[]).await.map_err(trouble)?;
        let figures = Figures::read(&row).map_err(trouble)?;
        who.role = figures.role; // of the same instant as the figures
        Ok(figures.judged(identity_of(&who, members)))
    }

    /// Of a server that was promoted and has not restarted since: it keeps where its replay ended.
    ///
    /// Both bounds are the commit instant of the last transaction that it replayed, by the old primary's clock: what the
    /// old primary committed later is not here.
    async fn fork(&self) -> Result<Fork> {
        const TRIED: &str = "ask where this server was promoted";
        // A server that recovered from a crash has a replay position too, but no replayed commit; and one that was never promoted is
        // on timeline 1, the first eight digits of its WAL file's name.
        const FORK: &str = "\
            select pg_catalog.pg_is_in_recovery(), pg_catalog.pg_last_wal_replay_lsn(),
                   (extract(epoch from pg_catalog.pg_last_xact_replay_timestamp()) * 1000000)::pg_catalog.int8,
                   case when not pg_catalog.pg_is_in_recovery()
                        then pg_catalog.left(pg_catalog.pg_walfile_name(pg_catalog.pg_current_wal_insert_lsn()), 8) end";
        let trouble = |error| self.sessions.trouble(TRIED, error);
        let cannot = |cause: &str, hint: &str| {
            StoreError::Unsupported(Trouble::new(self.sessions.site(), TRIED, cause).hint(hint))
        };
        let lease = self.sessions.lease().await?;
        if lease.who().is_aurora {
            return Err(cannot(
                "Aurora replicates by its storage and keeps no position at which a cluster was promoted",
                FROM_CANARIES,
            ));
        }
        let row = lease.query_typed_one(FORK, &[]).await.map_err(trouble)?;
        let in_recovery: bool = row.try_get(0).map_err(trouble)?;
        let position: Option<PgLsn> = row.try_get(1).map_err(trouble)?;
        let at_us: Option<i64> = row.try_get(2).map_err(trouble)?;
        let timeline: Option<String> = row.try_get(3).map_err(trouble)?;
        if in_recovery {
            return Err(cannot(
                "it is in recovery still",
                "mark the promotion once it takes writes",
            ));
        }
        let timeline = timeline.unwrap_or_default();
        if timeline == "00000001" {
            return Err(cannot("it was never promoted", "ask the server that was promoted"));
        }
        let (Some(position), Some(at_us)) = (position, at_us) else {
            return Err(cannot(
                "it has restarted since its promotion, and forgotten",
                FROM_CANARIES,
            ));
        };
        Ok(Fork {
            position: Some(Position(position.into())),
            at_low_us: at_us,
            at_high_us: at_us,
            evidence: format!(
                "commit instant of the last transaction that the promoted server replayed (timeline {timeline}, \
                 pg_last_xact_replay_timestamp), replayed up to {position} (pg_last_wal_replay_lsn)"
            ),
        })
    }
}

/// What the server said.
#[derive(Debug, Clone)]
struct Figures {
    role: Role,
    now_us: i64,
    replayed: Option<u64>,
    replayed_us: Option<i64>,
    received: Option<u64>,
    has_receiver: bool,
    receiver_status: Option<String>,
    announced: Option<u64>,
    heard_us: Option<i64>,
    written: Option<u64>,
    senders: i64,
    sender_states: Option<String>,
    sender_lag_us: Option<i64>,
    sender_replayed: Option<u64>,
    writer_hidden: bool,
    writer_us: Option<i64>,
    is_logical: bool,
}

impl Figures {
    fn read(row: &Row) -> std::result::Result<Self, tokio_postgres::Error> {
        let lsn = |name: &str| row.try_get::<_, Option<PgLsn>>(name).map(|lsn| lsn.map(u64::from));
        Ok(Self {
            role: if row.try_get("in_recovery")? {
                Role::ReadOnly
            } else {
                Role::Writable
            },
            now_us: row.try_get("now_us")?,
            replayed: lsn("replayed")?,
            replayed_us: row.try_get("replayed_us")?,
            received: lsn("received")?,
            has_receiver: row.try_get("has_receiver")?,
            receiver_status: row.try_get("receiver_status")?,
            announced: lsn("announced")?,
            heard_us: row.try_get("heard_us")?,
            written: lsn("written")?,
            senders: row.try_get("senders")?,
            sender_states: row.try_get("sender_states")?,
            sender_lag_us: row.try_get("sender_lag_us")?,
            sender_replayed: lsn("sender_replayed")?,
            writer_hidden: row.try_get::<_, Option<bool>>("writer_hidden")?.unwrap_or(false),
            writer_us: row.try_get("writer_us")?,
            is_logical: row.try_get("is_logical")?,
        })
    }

    fn judged(&self, identity: crate::Identity) -> NativeStatus {
        let (lag_us, lag_bytes, link, position) = match self.role {
            Role::ReadOnly => (
                self.standby_lag_us(),
                self.standby_lag_bytes(),
                self.standby_link(),
                self.replayed,
            ),
            Role::Writable => (
                self.sender_lag_us.and_then(|lag| u64::try_from(lag).ok()),
                self.written
                    .zip(self.sender_replayed)
                    .map(|(written, replayed)| written.saturating_sub(replayed)),
                self.primary_link(),
                self.written,
            ),
        };
        NativeStatus {
            identity,
            as_of_us: self.now_us,
            lag_us,
            lag_as_of_us: None,
            pending_operations: None,
            not_collected: None,
            lag_bytes,
            position: position.map(Position),
            link,
            longest_transaction_us: self.longest_transaction_us(),
            is_logical: self.is_logical,
            collections: std::collections::BTreeMap::new(),
        }
    }

    /// How long the sender has been silent; `None` when this role may not see it.
    fn silence_us(&self) -> Option<i64> {
        (self.receiver_status.as_deref() == Some("streaming"))
            .then_some(self.heard_us)
            .flatten()
            .map(|heard_us| self.now_us.saturating_sub(heard_us).max(0))
    }

    /// WAL that is known to exist and is not replayed.
    fn known_behind(&self) -> Option<u64> {
        let known = self.received.into_iter().chain(self.announced).max()?;
        Some(known.saturating_sub(self.replayed?))
    }

    /// Lag of a standby. A stall must not read zero, so zero needs a witness: all that is known is replayed, *and* the receiver is seen
    /// to be streaming, *and* its sender has spoken just now. If the sender is silent its silence is the lag: nothing is known
    /// since (an idle primary is silent for up to half of `wal_receiver_timeout`). If this role may not see the receiver (no
    /// `pg_monitor`) and all that is known is replayed, idle and stalled look alike: `None`.
    ///
    /// Otherwise it is the age of the last commit that was replayed, an upper bound; `None` if the clocks disagree about its sign.
    fn standby_lag_us(&self) -> Option<u64> {
        let age_of_last_commit = || u64::try_from(self.now_us.saturating_sub(self.replayed_us?)).ok();
        if !self.has_receiver || self.known_behind().is_none_or(|bytes| bytes > 0) {
            return age_of_last_commit();
        }
        match self.silence_us() {
            Some(silence_us) if silence_us <= SILENCE_US_MAX => Some(0),
            Some(silence_us) => u64::try_from(silence_us).ok(),
            None => None,
        }
    }

    /// By the same rule: more than zero is known to be true, zero needs the witness.
    fn standby_lag_bytes(&self) -> Option<u64> {
        let behind = self.known_behind()?;
        let heard_now = self.has_receiver && self.silence_us().is_some_and(|silence_us| silence_us <= SILENCE_US_MAX);
        (behind > 0 || heard_now).then_some(behind)
    }

    fn standby_link(&self) -> Option<String> {
        if !self.has_receiver {
            return Some("no receiver".to_owned());
        }
        self.receiver_status.clone()
    }

    fn primary_link(&self) -> Option<String> {
        match (self.senders, &self.sender_states) {
            (0, _) => Some("no standby".to_owned()),
            (1, Some(state)) => Some(format!("1 standby: {state}")),
            (senders, Some(states)) => Some(format!("{senders} standbys: {states}")),
            (_, None) => None,
        }
    }

    /// Which transactions have written is visible to all, since when only to `pg_monitor` and the role itself.
    fn longest_transaction_us(&self) -> Option<u64> {
        if self.writer_hidden {
            return None;
        }
        match self.writer_us {
            None => Some(0),
            Some(age_us) => u64::try_from(age_us).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A standby that has replayed all, by a role that may see the receiver.
    fn caught_up() -> Figures {
        Figures {
            role: Role::ReadOnly,
            now_us: 100_000_000,
            replayed: Some(500),
            replayed_us: Some(60_000_000),
            received: Some(500),
            has_receiver: true,
            receiver_status: Some("streaming".to_owned()),
            announced: Some(500),
            heard_us: Some(99_900_000),
            written: None,
            senders: 0,
            sender_states: None,
            sender_lag_us: None,
            sender_replayed: None,
            writer_hidden: false,
            writer_us: None,
            is_logical: false,
        }
    }

    fn lag(figures: &Figures) -> (Option<u64>, Option<u64>) {
        (figures.standby_lag_us(), figures.standby_lag_bytes())
    }

    #[test]
    fn zero_needs_a_witness() {
        assert_eq!(lag(&caught_up()), (Some(0), Some(0)));
        let silent = Figures {
            heard_us: Some(80_000_000),
            ..caught_up()
        };
        assert_eq!(lag(&silent), (Some(20_000_000), None));
        let hidden = Figures {
            receiver_status: None,
            announced: None,
            heard_us: None,
            ..caught_up()
        };
        assert_eq!(lag(&hidden), (None, None));
        let cut = Figures {
            has_receiver: false,
            ..hidden
        };
        assert_eq!(lag(&cut), (Some(40_000_000), None));
    }

    #[test]
    fn what_is_known_to_be_missing_counts_for_any_role() {
        let paused = Figures {
            received: Some(700),
            receiver_status: None,
            announced: None,
            heard_us: None,
            ..caught_up()
        };
        assert_eq!(lag(&paused), (Some(40_000_000), Some(200)));
        let announced = Figures {
            announced: Some(900),
            ..caught_up()
        };
        assert_eq!(lag(&announced), (Some(40_000_000), Some(400)));
        let clocks_disagree = Figures {
            replayed_us: Some(200_000_000),
            ..announced
        };
        assert_eq!(lag(&clocks_disagree), (None, Some(400)));
    }

    #[test]
    fn an_open_transaction_that_is_hidden_has_no_age() {
        assert_eq!(caught_up().longest_transaction_us(), Some(0));
        let seen = Figures {
            writer_us: Some(7),
            ..caught_up()
        };
        assert_eq!(seen.longest_transaction_us(), Some(7));
        let hidden = Figures {
            writer_hidden: true,
            ..seen
        };
        assert_eq!(hidden.longest_transaction_us(), None);
    }
}
