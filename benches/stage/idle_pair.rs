//! A PostgreSQL pair that does nothing but take canaries. For benchmarks that have the fixture of the end-to-end tests.

use lab::PgOptions;

use crate::fixture::{DATABASE, Story};

/// Anything will do: a probe looks at its canaries only.
const TABLE: &str = "create table public.orders (id bigint primary key, note text)";

/// Starts one, with a configuration that has it probed at `rate` canaries a second.
pub(crate) async fn start(rate: u32) -> Story {
    let mut options = PgOptions::with_database(DATABASE);
    options.settings = vec![("autovacuum".to_owned(), "off".to_owned())];
    let story = Story::start_with(options, TABLE).await;
    story.write_config(&format!(
        "{}[defaults]\nprobe = {{ rate = \"{rate}/s\" }}\n",
        story.config()
    ));
    story
}
