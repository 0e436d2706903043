//! `driftline reconcile run --estimate`

use std::fmt::Write as _;

use reconcile::{Estimate, STATED_BYTES_PER_SECOND, Selected, Stop, estimates, rows_per_second};
use reports::cost::Prices;
use serde::Serialize;
use stores::{Collection, Identity, Usage};

use super::planning::open_all;
use super::{Compared, Context};
use crate::cli::{Format, SelectArgs};
use crate::command::{prices, print};
use crate::exit::{Failure, Outcome};
use crate::topology;

/// What Aurora's storage bills for, in the price list.
const READ: &str = "ReadIO";

/// What one dataset over one pair will take.
struct Told {
    about: String,
    estimates: Vec<Estimate>,
    cost: Cost,
}

/// What storage bills for it, at most.
#[derive(Debug, Default, PartialEq, Serialize)]
struct Cost {
    /// Dollars; `None` = not priced.
    usd_max: Option<f64>,
    /// Why there is no price.
    not_priced: Option<String>,
    /// The day of the price.
    price_table_date: Option<String>,
    /// Sites whose storage bills for reads.
    billed_sites: Vec<String>,
}

/// Asks the catalogs of both ends and reads no row.
pub(super) async fn run(context: &Context, args: &SelectArgs, stop: Stop) -> Outcome {
    let mut compared = Compared::new();
    let prices = prices::load(context)?;
    let units = topology::units(&context.config);
    let opened = open_all(&units, args, &stop, &mut compared).await?;
    let limits = super::limits(context)?;
    let rows_per_second = rows_per_second(&limits);
    let of = opened.iter();
    let all: Vec<Told> = of
        .map(|one| Told {
            about: one.job.about(),
            estimates: estimates(&one.ends.selected, &limits),
            cost: cost(&one.ends.selected, &one.ends.reached, &prices),
        })
        .collect();
    let text = match context.format {
        Format::Json => {
            let of =
                |one: &Told| serde_json::json!({ "about": one.about, "collections": one.estimates, "cost": one.cost });
            // One that has no price makes no sum.
            let usd_max: Option<f64> = all.iter().map(|one| one.cost.usd_max).sum();
            serde_json::to_string_pretty(&serde_json::json!({
                "throughput": "stated",
                "rows_per_second": rows_per_second,
                "bytes_per_second": STATED_BYTES_PER_SECOND,
                "usd_max": usd_max.filter(|_| !all.is_empty()),
                "estimates": all.iter().map(of).collect::<Vec<_>>(),
                "not_estimated": compared.not_compared,
            }))
            .map_err(|error| Failure::cannot_tell(anyhow::Error::new(error)))?
        }
        Format::Human => {
            let mut text: String = all.iter().map(|one| told(one, rows_per_second)).collect();
            for reason in &compared.not_compared {
                let _ = writeln!(text, "NOT ESTIMATED: {reason}");
            }
            text
        }
    };
    print::result(&text, compared.exit)
}

/// What the page reads cost at the sites whose storage bills for them.
fn cost(selected: &[Selected], reached: &[(String, Identity); 2], prices: &Prices) -> Cost {
    let mut cost = Cost::default();
    let (mut pages_max, mut unknown) = (0u64, 0usize);
    let sides: [fn(&Selected) -> Option<&Collection>; 2] = [|one| one.primary.as_ref(), |one| one.secondary.as_ref()];
    for ((site, identity), side) in reached.iter().zip(sides) {
        if identity.facts.get("aurora").map(String::as_str) != Some("yes") {
            continue;
        }
        cost.billed_sites.push(site.clone());
        for one in selected.iter().filter_map(side) {
            match reconcile::pages(one) {
                Some(pages) => pages_max = pages_max.saturating_add(pages),
                None => unknown += 1,
            }
        }
    }
    let usage = Usage {
        requests: pages_max,
        ..Usage::default()
    };
    let usd = prices.usd("aurora", READ, &usage);
    cost.not_priced = match (cost.billed_sites.is_empty(), unknown, usd) {
        (true, ..) => Some("neither site is Aurora, and PostgreSQL elsewhere bills nothing for a read".to_owned()),
        (_, 1.., _) => Some(format!(
            "the catalogs do not say how large {unknown} collections are (ANALYZE them)"
        )),
        (.., None) => Some(format!(
            "the price list of {} has no price of aurora {READ}",
            prices.date()
        )),
        (.., Some(_)) => None,
    };
    if cost.not_priced.is_none() {
        cost.usd_max = usd;
        cost.price_table_date = Some(prices.date().to_owned());
    }
    cost
}

impl Cost {
    fn words(&self) -> String {
        match (self.usd_max, &self.not_priced) {
            (Some(usd), _) => format!(
                "At most ${usd:.4} for page reads at {} by the prices of {}, as Aurora Standard bills them (I/O-Optimized bills none), if nothing is in memory",
                self.billed_sites.join(" and "),
                self.price_table_date.as_deref().unwrap_or_default()
            ),
            (None, Some(reason)) => format!("Not priced: {reason}"),
            (None, None) => "Not priced".to_owned(),
        }
    }
}

fn told(told: &Told, rows_per_second: u64) -> String {
    let Told { about, estimates, cost } = told;
    let mut table = comfy_table::Table::new();
    table.load_style(comfy_table::presets::ASCII_MARKDOWN);
    table.set_header([
        "collection",
        "rows",
        "bytes",
        "chunks",
        "minutes",
        "page reads, at most",
    ]);
    let maybe = |figure: Option<u64>| figure.map_or_else(|| "not known".to_owned(), |figure| figure.to_string());
    let minutes = |seconds: f64| format!("{:.1}", seconds / 60.0);
    for one in estimates {
        table.add_row([
            one.collection.clone(),
            maybe(one.rows),
            maybe(one.bytes),
            maybe(one.chunks),
            one.seconds.map_or_else(|| "not known".to_owned(), minutes),
            maybe(one.page_reads_max),
        ]);
    }
    let known: f64 = estimates.iter().filter_map(|one| one.seconds).sum();
    let unknown = estimates.iter().filter(|one| one.seconds.is_none()).count();
    let mut text = format!("{about}\n{table}\n{} minutes together", minutes(known));
    if unknown > 0 {
        let _ = write!(
            text,
            ", without {unknown} collections of which the catalogs do not say how large they are (ANALYZE them)"
        );
    }
    let _ = writeln!(
        text,
        ". Rows and bytes are the servers' own estimates; minutes are by a stated throughput of {rows_per_second} rows and \
         {STATED_BYTES_PER_SECOND} bytes a second, not by a measured one. {}.",
        cost.words()
    );
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use reports::cost::PRICES_2026_11;
    use stores::Role;

    use super::*;

    fn reached(aurora: [&str; 2]) -> [(String, Identity); 2] {
        let of = |site: &str, aurora: &str| {
            let identity = Identity {
                store: "aurora".to_owned(),
                version: "15".to_owned(),
                role: Role::Writable,
                lineage: None,
                instance: site.to_owned(),
                shares_storage_with: Vec::new(),
                facts: BTreeMap::from([("aurora".to_owned(), aurora.to_owned())]),
            };
            (site.to_owned(), identity)
        };
        [of("use1", aurora[0]), of("usw2", aurora[1])]
    }

    fn table(bytes: Option<u64>) -> Selected {
        let side = Collection {
            name: "public.t".to_owned(),
            bytes,
            ..Collection::default()
        };
        Selected {
            primary: Some(side.clone()),
            secondary: Some(side),
            settings: reconcile::Settings::default(),
        }
    }

    #[test]
    fn reads_are_priced_where_storage_bills_for_them_and_never_guessed() {
        let prices = Prices::parse("p", PRICES_2026_11).unwrap();
        // 8 GiB are 1,048,576 pages: 1.048576 x 0.20 at each Aurora.
        let selected = [table(Some(8 << 30))];
        let usd = |aurora| cost(&selected, &reached(aurora), &prices).usd_max;
        assert!((usd(["yes", "yes"]).unwrap() - 0.419_430_4).abs() < 1e-9);
        assert!((usd(["no", "yes"]).unwrap() - 0.209_715_2).abs() < 1e-9);
        let plain = cost(&selected, &reached(["no", "no"]), &prices);
        assert_eq!((plain.usd_max, plain.price_table_date.as_deref()), (None, None));
        assert!(plain.words().starts_with("Not priced: neither site is Aurora"));
        let unknown = cost(&[table(None)], &reached(["yes", "no"]), &prices);
        assert_eq!(unknown.usd_max, None, "unknown is never zero");
        let none = Prices::parse("p", "date = \"2026-11-21\"\nregion = \"x\"\n[price.s3]\n").unwrap();
        let unpriced = cost(&selected, &reached(["yes", "no"]), &none);
        assert!(unpriced.not_priced.unwrap().contains("no price of aurora ReadIO"));
    }
}
