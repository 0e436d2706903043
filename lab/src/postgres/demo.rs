//! A small shop: three tables of mixed types, the same rows for the same seed.

use super::server::PgServer;
use crate::LabError;

/// Tables of the shop, as evidence names them.
pub const TABLES: [&str; 3] = ["public.customers", "public.orders", "public.payments"];
/// Rows of all three tables together that a demonstration wants.
pub const ROWS: u32 = 200_000;

/// Every column but the key has a default, so that a workload need only know the ones that it writes. `updated_at` is
/// kept by a trigger: it is the evidence of when a row changed.
const SCHEMA: &str = "
create function public.keep_updated_at() returns trigger language plpgsql as
  $$ begin new.updated_at := clock_timestamp(); return new; end $$;

create table public.customers (
  id bigint primary key,
  name text not null default 'nobody',
  email text,
  balance numeric(12, 2) not null default 0,
  vip boolean not null default false,
  born date,
  quantity integer not null default 0,
  note text,
  updated_at timestamptz not null default clock_timestamp()
);
create table public.orders (
  id bigint primary key,
  customer_id bigint not null default 1,
  status text not null default 'new',
  quantity integer not null default 1,
  amount numeric not null default 0,
  weight double precision not null default 0,
  express boolean not null default false,
  note text,
  tags text[] not null default '{}',
  attributes jsonb not null default '{}',
  placed_at timestamptz not null default clock_timestamp(),
  updated_at timestamptz not null default clock_timestamp()
);
create table public.payments (
  id bigint primary key,
  order_id bigint not null default 1,
  reference uuid,
  amount numeric(10, 2) not null default 0,
  receipt bytea,
  quantity integer not null default 1,
  note text,
  took interval,
  updated_at timestamptz not null default clock_timestamp()
);
create trigger keep_updated_at before update on public.customers
  for each row execute function public.keep_updated_at();
create trigger keep_updated_at before update on public.orders
  for each row execute function public.keep_updated_at();
create trigger keep_updated_at before update on public.payments
  for each row execute function public.keep_updated_at();
";

/// Makes the three tables, empty.
///
/// # Errors
/// The server's; the tables exist already.
pub async fn create_schema(server: &PgServer, database: &str) -> Result<(), LabError> {
    server.execute(database, SCHEMA).await
}

/// Fills the empty tables with `rows` rows altogether: a fifth customers, half orders, the rest payments, each numbered
/// from 1. The same `seed` gives the same rows, whenever and wherever; their `updated_at` lie in January 2026.
///
/// # Errors
/// The server's; the tables are not empty.
pub async fn fill(server: &PgServer, database: &str, rows: u32, seed: u32) -> Result<(), LabError> {
    let customers = rows / 5;
    let orders = rows / 2;
    let payments = rows - customers - orders;
    let sql = format!(
        "insert into public.customers
           select i, 'Customer ' || i, 'c' || i || '@example.com', (h % 1000000) / 100.0, h % 50 = 0,
                  date '1950-01-01' + (h % 20000)::int, (h % 10)::int, case when h % 3 = 0 then 'note ' || h end,
                  timestamptz '2026-01-01 00:00:00Z' + i * interval '1 second'
           from generate_series(1, {customers}) i, lateral (select abs(hashint8extended(i, {seed}) / 2) h) x;
         insert into public.orders
           select i, 1 + h % greatest({customers}, 1), (array['new', 'paid', 'sent', 'done'])[1 + h % 4],
                  (1 + h % 9)::int, (h % 100000) / 100.0, (h % 7919) / 8.0::float8, h % 7 = 0,
                  case when h % 4 = 0 then 'note ' || h end, array['t' || h % 5, 't' || h % 11],
                  jsonb_build_object('channel', h % 3, 'code', h % 1000),
                  timestamptz '2026-01-01 00:00:00Z' + i * interval '1 second',
                  timestamptz '2026-01-01 00:00:00Z' + i * interval '2 second'
           from generate_series(1, {orders}) i, lateral (select abs(hashint8extended(i, {seed} + 1) / 2) h) x;
         insert into public.payments
           select i, 1 + h % greatest({orders}, 1), md5(h::text)::uuid, (h % 100000) / 100.0, decode(md5(i::text), 'hex'),
                  1, null, (h % 86400) * interval '1 second', timestamptz '2026-01-01 00:00:00Z' + i * interval '3 second'
           from generate_series(1, {payments}) i, lateral (select abs(hashint8extended(i, {seed} + 2) / 2) h) x;
         analyze public.customers, public.orders, public.payments"
    );
    server.execute(database, &sql).await
}
