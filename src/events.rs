//! The events of the state folder.

use anyhow::{Context as _, anyhow};
use reports::Event;

use crate::command::Context;
use crate::exit::Failure;

/// The event with this ID, or the newest for `latest`.
pub(crate) fn find(context: &Context, id: &str) -> Result<Event, Failure> {
    let folder = &context.config.state;
    let events = Event::load_all(folder)
        .with_context(|| format!("read the events in {}", folder.display()))
        .map_err(Failure::cannot_tell)?;
    let found = match id {
        "latest" => events.last(),
        _ => events.iter().find(|event| event.event_id == id),
    };
    found.cloned().ok_or_else(|| {
        Failure::refused(anyhow!(
            "no event `{id}` in {}; `driftline event list` shows those that are there, `event start` declares one",
            folder.display()
        ))
    })
}

/// Keeps `event`, and writes it to the events table.
pub(crate) fn save(context: &Context, event: Event) -> Result<Event, Failure> {
    let folder = &context.config.state;
    event
        .save(folder)
        .with_context(|| format!("write event {} to {}", event.event_id, folder.display()))
        .map_err(Failure::cannot_tell)?;
    reports::render::write_event(&context.output, &event.event_id, &event)
        .with_context(|| format!("write the events table to {}", context.output.display()))
        .map_err(Failure::cannot_tell)?;
    Ok(event)
}
