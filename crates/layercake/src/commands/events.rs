//! `layercake events`: what happened, and what is happening.

use super::{Failure, next, story, typed};
use crate::args::{Events, Output};
use crate::client::{Client, path};
use crate::show;
use layercake_server::api::Event;

/// How many of the latest events are shown.
const LATEST: usize = 50;

/// How many are shown from where somebody wants to begin: as many as one answer has.
const ALL: usize = 10_000;

pub(crate) async fn run(client: &Client, output: Output, asked: &Events) -> Result<(), Failure> {
    let is_from_start = asked.from.is_some() || asked.span.since.is_some();
    let limit = asked.limit.unwrap_or(if is_from_start { ALL } else { LATEST });
    let from = asked.from.map(|from| from.to_string());
    let query = [
        ("from", from.as_deref()),
        ("nodes", asked.nodes.as_deref().map(typed).transpose()?),
        ("kind", asked.kind.as_deref()),
        ("since", asked.span.since.as_deref()),
        ("until", asked.span.until.as_deref()),
    ];
    let path = path(&format!("/v1/events?limit={limit}&follow={}", asked.follow), &query);
    if !asked.follow {
        let events: Vec<Event> = client.get(&path).await?;
        let table = || events.iter().map(line).collect::<Vec<_>>().join("\n");
        let names = || events.iter().map(|event| event.seq.to_string()).collect();
        return show::answer(output, &serde_json::to_value(&events)?, table, names);
    }
    let mut messages = Messages::default();
    let mut pieces = client.open(&path).await?;
    while let Some(piece) = next(&mut pieces).await? {
        messages.push(&piece).iter().try_for_each(|data| tell(output, data))?;
    }
    Err("the server ended".into())
}

/// Prints one event that was followed.
fn tell(output: Output, data: &[u8]) -> Result<(), Failure> {
    match (output, serde_json::from_slice::<Event>(data)) {
        (Output::Table | Output::Yaml, Ok(event)) => show::people(&line(&event)),
        (Output::Name, Ok(event)) => show::text(&event.seq.to_string()),
        // One object a line, so that programs can read along.
        (Output::Json, _) => show::text(&String::from_utf8_lossy(data)),
        (_, Err(error)) => {
            show::note(&format!("unreadable event: {error}"));
            Ok(())
        }
    }
}

fn line(event: &Event) -> String {
    let time = show::time_of_day(event.entry.at.0);
    let node = event.entry.node.as_ref().map_or("-", |node| node.as_str());
    format!("{:>6} {time} {node:<12} {}", event.seq, story::words(&event.entry))
}

/// Takes the data out of server-sent events (HTML Living Standard §9.2), as far as the server
/// makes use of them: one line of data a message.
#[derive(Default)]
pub(super) struct Messages {
    rest: Vec<u8>,
}

impl Messages {
    pub(super) fn push(&mut self, bytes: &[u8]) -> Vec<Vec<u8>> {
        self.rest.extend_from_slice(bytes);
        let mut found = Vec::new();
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Some(data) = line[..end].strip_prefix(b"data:") {
                found.push(data.strip_prefix(b" ").unwrap_or(data).to_vec());
            }
        }
        found
    }
}

#[cfg(test)]
mod tests {
    use super::Messages;

    #[test]
    fn messages_are_found_however_they_are_cut() {
        let text = b"id: 1\ndata: {\"a\":1}\n\n:\n\ndata:x\n\n";
        for cut in 0..text.len() {
            let mut messages = Messages::default();
            let mut found = messages.push(&text[..cut]);
            found.extend(messages.push(&text[cut..]));
            assert_eq!(found, [b"{\"a\":1}".to_vec(), b"x".to_vec()]);
        }
    }
}
