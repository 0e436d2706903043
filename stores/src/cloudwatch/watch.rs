//! The figures of one route, asked for once a minute at most.

use std::sync::Arc;
use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::ask::{self, Told};
use super::figure::{self, Figure};
use crate::aws::{self, Site};
use crate::{Meter, Result, Usage};

/// Between two requests. Metrics have a data point a minute, and each that is asked for is paid for.
pub const ASK_EVERY: Duration = Duration::from_secs(60);

/// A site by its name.
type At<'a> = (&'a str, &'a Site);

/// What CloudWatch says of one route. Shared by everything that measures the route, so that it is asked for once.
#[derive(Debug)]
pub struct Watch {
    place: Place,
    meter: Arc<Meter>,
    state: Mutex<State>,
}

/// Where the figures are.
#[derive(Debug)]
enum Place {
    Published {
        site: String,
        region: String,
        client: Client,
        figures: Vec<Figure>,
    },
    /// They are nowhere, because of this.
    Nowhere(String),
}

#[derive(Debug)]
struct State {
    asked_at: Option<Instant>,
    told: Told,
    /// The reason that was logged last.
    logged: Option<String>,
}

impl Watch {
    /// The copy of a DynamoDB table at `secondary`: asked for in the region of the `primary`, where the table is called `table`.
    ///
    /// # Errors
    /// `Config`: a site has no region, or a secret that cannot be read.
    pub async fn table(table: &str, primary: At<'_>, secondary: At<'_>, meter: Arc<Meter>) -> Result<Arc<Self>> {
        let receiving = aws::load(secondary.0, secondary.1).await?;
        let receiving = receiving.region().map(ToString::to_string).unwrap_or_default();
        Self::open(primary, figure::of_table(table, &receiving), meter).await
    }

    /// A replication rule of S3: asked for in the region of the bucket that it fills.
    ///
    /// # Errors
    /// As [`table`](Self::table).
    pub async fn rule(
        source: &str,
        destination: &str,
        rule: &str,
        secondary: At<'_>,
        meter: Arc<Meter>,
    ) -> Result<Arc<Self>> {
        Self::open(secondary, figure::of_rule(source, destination, rule), meter).await
    }

    /// An MSK Replicator: asked for in the region of its target.
    ///
    /// # Errors
    /// As [`table`](Self::table).
    pub async fn replicator(name: &str, secondary: At<'_>, meter: Arc<Meter>) -> Result<Arc<Self>> {
        Self::open(secondary, figure::of_replicator(name), meter).await
    }

    /// A route whose figures CloudWatch does not have. Nothing is ever asked.
    pub fn nowhere(reason: impl Into<String>) -> Arc<Self> {
        let reason = reason.into();
        Arc::new(Self {
            meter: Arc::default(),
            state: Mutex::new(State {
                asked_at: None,
                told: Told::nothing(&reason),
                logged: None,
            }),
            place: Place::Nowhere(reason),
        })
    }

    async fn open((name, site): At<'_>, figures: Vec<Figure>, meter: Arc<Meter>) -> Result<Arc<Self>> {
        let sdk = aws::load(name, site).await?;
        Ok(Arc::new(Self {
            place: Place::Published {
                site: name.to_owned(),
                region: sdk.region().map(ToString::to_string).unwrap_or_default(),
                client: ask::client(&sdk, site),
                figures,
            },
            meter,
            state: Mutex::new(State {
                asked_at: None,
                told: Told::nothing("not asked yet"),
                logged: None,
            }),
        }))
    }

    /// What was asked, for whoever pays.
    pub fn meter(&self) -> Arc<Meter> {
        Arc::clone(&self.meter)
    }

    /// Where the lag is published and under which name, or that it is nowhere.
    pub fn words(&self) -> String {
        match &self.place {
            Place::Nowhere(reason) => reason.clone(),
            Place::Published { region, figures, .. } => {
                let lag = figures.first().map(Figure::words).unwrap_or_default();
                format!("{lag} in {region}")
            }
        }
    }

    /// The newest figures, at most [`ASK_EVERY`] after they were asked for.
    pub async fn now(&self) -> Told {
        let mut state = self.state.lock().await;
        let is_due = state.asked_at.is_none_or(|at| at.elapsed() >= ASK_EVERY);
        if let Place::Published { client, figures, .. } = &self.place
            && is_due
        {
            state.asked_at = Some(Instant::now());
            // Whoever waits may give up: what is old is not told as new then.
            state.told = Told::nothing("the request was given up");
            self.count(figures.len());
            state.told = ask::ask(client, figures).await;
        }
        self.log(&mut state);
        state.told.clone()
    }

    /// Counted also when the request fails; CloudWatch is paid for by the metric.
    fn count(&self, figures: usize) {
        let usage = Usage {
            requests: 1,
            units: f64::from(u32::try_from(figures).unwrap_or(u32::MAX)),
            bytes: 0,
        };
        self.meter.count("GetMetricData", usage);
    }

    /// Each reason once, and that it is over.
    fn log(&self, state: &mut State) {
        if state.logged == state.told.not_collected {
            return;
        }
        let site = match &self.place {
            Place::Published { site, .. } => site,
            Place::Nowhere(_) => "",
        };
        match &state.told.not_collected {
            Some(reason) => {
                tracing::warn!(
                    site,
                    metric = self.words(),
                    "the store's own lag is not collected: {reason}"
                );
            }
            None => tracing::info!(site, metric = self.words(), "the store's own lag is collected again"),
        }
        state.logged.clone_from(&state.told.not_collected);
    }
}
