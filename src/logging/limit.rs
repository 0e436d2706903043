//! A fault that repeats must not fill a disk: one kind of line of one route is written a bounded number of times in a while, and what
//! was left out is told with the next one.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use tracing::callsite::Identifier;
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// Lines of one kind and route in one window.
const LINES_MAX: u32 = 10;

/// Length of a window.
const WINDOW: Duration = Duration::from_secs(60);

/// Kinds and routes that are told apart; lines of any further one are all written.
const KINDS_MAX: usize = 1_024;

/// A place in the code, and the span of the route that was there.
type Kind = (Identifier, Option<u64>);

#[derive(Debug)]
struct Window {
    began: Instant,
    written: u32,
    left_out: u64,
}

/// Decides about lines. Details that somebody asked for (`debug`, `trace`) are never left out.
#[derive(Debug, Default)]
struct Limiter {
    windows: Mutex<HashMap<Kind, Window>>,
}

impl Limiter {
    /// `None`: the line is left out. Otherwise how many of its kind were, since the last one that was written.
    fn admit(&self, kind: Kind, now: Instant) -> Option<u64> {
        let mut windows = self.windows.lock().unwrap_or_else(PoisonError::into_inner);
        if windows.len() >= KINDS_MAX && !windows.contains_key(&kind) {
            // A window that is over and owes no word can be forgotten.
            windows.retain(|_, window| window.left_out > 0 || now.duration_since(window.began) < WINDOW);
            if windows.len() >= KINDS_MAX {
                return Some(0);
            }
        }
        let fresh = || Window {
            began: now,
            written: 0,
            left_out: 0,
        };
        let window = windows.entry(kind).or_insert_with(fresh);
        let mut left_out = 0;
        if now.duration_since(window.began) >= WINDOW {
            left_out = window.left_out;
            *window = fresh();
        }
        if window.written < LINES_MAX {
            window.written += 1;
            return Some(left_out);
        }
        window.left_out += 1;
        None
    }
}

/// A format with the limit before it.
#[derive(Debug)]
pub(super) struct Limited<F> {
    inner: F,
    is_json: bool,
    limiter: Limiter,
}

impl<F> Limited<F> {
    pub(super) fn text(inner: F) -> Self {
        Self {
            inner,
            is_json: false,
            limiter: Limiter::default(),
        }
    }

    pub(super) fn json(inner: F) -> Self {
        Self {
            is_json: true,
            ..Self::text(inner)
        }
    }
}

impl<S, N, F> FormatEvent<S, N> for Limited<F>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
    F: FormatEvent<S, N>,
{
    fn format_event(&self, ctx: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let metadata = event.metadata();
        if *metadata.level() <= Level::INFO {
            let span = ctx.lookup_current().map(|span| span.id().into_u64());
            match self.limiter.admit((metadata.callsite(), span), Instant::now()) {
                None => return Ok(()),
                Some(0) => {}
                Some(left_out) if self.is_json => {
                    let line = serde_json::json!({
                        "level": metadata.level().as_str(), "target": metadata.target(),
                        "message": "lines like the next one were left out", "left_out": left_out,
                    });
                    writeln!(writer, "{line}")?;
                }
                Some(left_out) => writeln!(writer, "({left_out} lines like the next one were left out)")?,
            }
        }
        self.inner.format_event(ctx, writer, event)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::sync::Arc;

    use super::*;

    /// Takes what is logged.
    #[derive(Debug, Clone, Default)]
    struct Taken(Arc<Mutex<Vec<u8>>>);

    impl Write for Taken {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    fn logged(body: impl FnOnce()) -> Vec<serde_json::Value> {
        let taken = Taken::default();
        let writer = taken.clone();
        let subscriber = tracing_subscriber::fmt()
            .json()
            .event_format(Limited::json(super::super::json()))
            .with_max_level(Level::TRACE)
            .with_writer(move || writer.clone())
            .finish();
        tracing::subscriber::with_default(subscriber, body);
        let text = String::from_utf8(taken.0.lock().unwrap().clone()).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn a_line_that_repeats_is_bounded_for_each_route_and_names_it() {
        let repeat = |dataset: &str| {
            let span = tracing::error_span!("route", dataset, primary_site = "use1");
            span.in_scope(|| (0..50).for_each(|n| tracing::warn!(n, "cannot look")));
        };
        let lines = logged(|| {
            let (first, second) = ("orders", "media");
            let outer = [first, second].map(|dataset| tracing::error_span!("route", dataset, primary_site = "use1"));
            for span in &outer {
                span.in_scope(|| (0..50).for_each(|n| tracing::warn!(n, "cannot look")));
            }
            repeat("events");
            (0..50).for_each(|n| tracing::debug!(n, "asked for"));
        });
        let of = |dataset: &str| lines.iter().filter(|line| line["span"]["dataset"] == dataset).count();
        let max = usize::try_from(LINES_MAX).unwrap();
        assert_eq!((of("orders"), of("media"), of("events")), (max, max, max));
        assert_eq!(lines.len(), 3 * max + 50);
        assert_eq!(lines[0]["message"], "cannot look");
        assert_eq!(lines[0]["span"]["primary_site"], "use1");
        assert_eq!((&lines[0]["level"], &lines[0]["n"]), (&"WARN".into(), &0.into()));
    }

    #[test]
    fn what_was_left_out_is_told_after_the_window_and_kinds_are_bounded() {
        let limiter = Limiter::default();
        let span = tracing::subscriber::with_default(tracing_subscriber::registry(), || tracing::error_span!("x"));
        let callsite = span.metadata().unwrap().callsite();
        let (began, kind) = (Instant::now(), (callsite.clone(), Some(1)));
        let written = (0..25).filter_map(|_| limiter.admit(kind.clone(), began)).count();
        assert_eq!(written, 10);
        assert_eq!(limiter.admit(kind.clone(), began + WINDOW), Some(15));
        assert_eq!(limiter.admit(kind, began + WINDOW), Some(0));
        for n in 0..5_000 {
            assert_eq!(limiter.admit((callsite.clone(), Some(n + 10)), began), Some(0));
        }
        assert_eq!(limiter.windows.lock().unwrap().len(), KINDS_MAX);
        let later = began + WINDOW * 2;
        assert_eq!(limiter.admit((callsite, Some(9_999)), later), Some(0));
        assert_eq!(limiter.windows.lock().unwrap().len(), 1, "what is over is forgotten");
    }
}
