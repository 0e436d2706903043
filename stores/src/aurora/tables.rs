//! The tables of one end: what the abilities that read the application's data share.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use async_trait::async_trait;

use super::catalog::Schema;
use super::counter;
use super::filter::check_filter;
use super::key_type::KeyColumn;
use super::marks::{CARRIED, Marks, NOT_CARRIED};
use super::quote::{ident, literal};
use super::session::{Lease, Sessions};
use super::slots::{NOT_BROUGHT, Slots};
use super::table::Table;
use crate::{Catalog, Collection, Counter, Position, Result, StoreError, Trouble};

/// What tells how far a reading reaches.
#[derive(Debug, Clone)]
pub(crate) enum Fencing {
    /// The place in the log that a standby has replayed.
    Log,
    /// This end publishes, and writes the marks.
    Publisher(Arc<Marks>),
    /// This end subscribes, and shows the marks.
    Subscriber(Arc<Marks>),
    /// This end subscribes, and its publisher tells how far it is.
    Slots(Arc<Slots>),
}

impl Fencing {
    pub(crate) fn marks(&self) -> Option<&Marks> {
        match self {
            Self::Log | Self::Slots(_) => None,
            Self::Publisher(marks) | Self::Subscriber(marks) => Some(marks),
        }
    }

    /// What this end is known to have applied, where its own log does not tell. Asked before rows are read.
    pub(crate) async fn applied(&self) -> Result<Option<Position>> {
        match self {
            Self::Slots(slots) => slots.applied().await,
            Self::Log | Self::Publisher(_) | Self::Subscriber(_) => Ok(None),
        }
    }
}

/// The tables of one database at one end.
#[derive(Debug)]
pub(crate) struct Tables {
    sessions: Arc<Sessions>,
    /// What tells how far a reading reaches.
    pub(crate) fencing: Fencing,
    /// What the catalog said last; [`Catalog::collections`] reads it anew.
    schema: Mutex<Option<Arc<Schema>>>,
    /// Of tables that were copied: whether they may hold values too wide to be sent.
    wide: Mutex<BTreeMap<String, bool>>,
}

impl Tables {
    /// The tables that `sessions` lead to. Nothing is read yet.
    pub(crate) fn new(sessions: Arc<Sessions>, fencing: Fencing) -> Self {
        Self {
            sessions,
            fencing,
            schema: Mutex::new(None),
            wide: Mutex::default(),
        }
    }

    /// A session.
    pub(crate) async fn lease(&self) -> Result<Lease> {
        self.sessions.lease().await
    }

    /// The server that answered all sessions; `None`: there were several.
    pub(crate) fn only_instance(&self) -> Option<&str> {
        self.sessions.only_instance()
    }

    /// The site.
    pub(crate) fn site(&self) -> &str {
        self.sessions.site()
    }

    /// Trouble of this end that no server reported.
    pub(crate) fn trouble(&self, tried: &str, cause: impl Into<String>) -> Trouble {
        Trouble::new(self.sessions.site(), tried, cause)
    }

    /// What is known of `collection`; the catalog is read if it was not yet, or does not know it.
    pub(crate) async fn table(&self, lease: &Lease, collection: &Collection, tried: &str) -> Result<Arc<Table>> {
        let known = self
            .known()
            .and_then(|schema| schema.tables.get(&collection.name).cloned());
        let table = match known {
            Some(table) => Some(table),
            None => self.load(lease).await?.tables.get(&collection.name).cloned(),
        };
        let table = table.ok_or_else(|| {
            StoreError::NotFound(
                self.trouble(tried, format!("there is no such table in {}", self.sessions.url()))
                    .hint("it was dropped or renamed since the catalog was read"),
            )
        })?;
        if let Some(reason) = &table.unreadable {
            return Err(StoreError::Denied(self.trouble(tried, reason.clone())));
        }
        if table.scope == collection.scope {
            return Ok(table);
        }
        if let Some(filter) = &collection.scope.filter {
            check_filter(filter).map_err(|reason| {
                StoreError::Config(self.trouble(tried, format!("the condition `where`: {reason}")))
            })?;
        }
        Ok(Arc::new(Table {
            scope: collection.scope.clone(),
            ..Table::clone(&table)
        }))
    }

    /// The key of `table`.
    pub(crate) fn key<'a>(&self, table: &'a Table, tried: &str) -> Result<&'a [KeyColumn]> {
        match &table.key {
            Ok(key) => Ok(key),
            Err(reason) => Err(StoreError::Unsupported(
                self.trouble(tried, format!("no usable key: {reason}")),
            )),
        }
    }

    /// Whether `table` may hold values too wide to be sent: those are stored out of line, so it is asked once whether there are such. One
    /// that is stored later is not sent in vain only; it is refused here as well.
    pub(crate) async fn may_be_wide(&self, lease: &Lease, table: &Table, tried: &str) -> Result<bool> {
        let name = table.dotted();
        if let Some(known) = self.wide.lock().ok().and_then(|wide| wide.get(&name).copied()) {
            return Ok(known);
        }
        let class = literal(&format!("{}.{}", ident(&table.schema), ident(&table.name)));
        let sql = format!(
            "select coalesce(sum(pg_relation_size(c.reltoastrelid)), 0) > 0 from pg_class c \
             where c.reltoastrelid <> 0 and (c.oid = {class}::regclass \
             or c.oid in (select relid from pg_partition_tree({class}::regclass)))"
        );
        let failed = |error| lease.trouble(tried, error);
        let rows = lease.query_typed(&sql, &[]).await.map_err(failed)?;
        let is_wide = match rows.first() {
            Some(row) => row.try_get(0).map_err(failed)?,
            None => true,
        };
        if let Ok(mut wide) = self.wide.lock() {
            wide.insert(name, is_wide);
        }
        Ok(is_wide)
    }

    fn known(&self) -> Option<Arc<Schema>> {
        self.schema.lock().ok().and_then(|schema| schema.clone())
    }

    async fn load(&self, lease: &Lease) -> Result<Arc<Schema>> {
        let failed = |error| lease.trouble("read the catalog", error);
        let mut schema = Schema::load(lease).await.map_err(failed)?;
        match &self.fencing {
            Fencing::Log | Fencing::Publisher(_) => {}
            Fencing::Subscriber(_) => {
                let rows = lease.query_typed(CARRIED, &[]).await.map_err(failed)?;
                let carried = rows.iter().map(|row| row.try_get(0));
                let carried: std::result::Result<Vec<u32>, _> = carried.collect();
                schema.mark_unfit(&carried.map_err(failed)?, NOT_CARRIED);
            }
            Fencing::Slots(slots) => schema.mark_unfit(&slots.brought(lease).await?, NOT_BROUGHT),
        }
        let schema = Arc::new(schema);
        if let Ok(mut known) = self.schema.lock() {
            *known = Some(Arc::clone(&schema));
        }
        Ok(schema)
    }
}

#[async_trait]
impl Catalog for Tables {
    async fn collections(&self) -> Result<Vec<Collection>> {
        let lease = self.lease().await?;
        let schema = self.load(&lease).await?;
        let mut collections: Vec<Collection> = schema.tables.values().map(|table| table.collection()).collect();
        collections.extend(counter::collections(&lease).await?);
        collections.extend(counter::large_objects(&lease).await?);
        collections.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(collections)
    }

    async fn counter(&self, collection: &Collection) -> Result<Counter> {
        let lease = self.lease().await?;
        counter::read(&lease, self.site(), collection).await
    }
}
