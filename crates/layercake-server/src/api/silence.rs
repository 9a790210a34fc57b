//! Since when nodes are not heard, as the journal tells.

use super::{NodeView, Problem};
use kraken::{Event, Kraken, What};
use kraken_model::{Millis, NodeId};
use layercake_schema::run_state;

/// Up to how many silent nodes it is looked up: for each of them the journal is read.
const FEW: usize = 64;

/// How many events of a node are read at a time.
const PAGE: usize = 100;

/// How far back it is looked for, in events of a node.
const REACH: usize = 2000;

/// Says of each node of which something is only last known, since when it is not heard.
pub(super) async fn tell(kraken: &Kraken, nodes: &mut [NodeView]) -> Result<(), Problem> {
    let is_silent = |node: &&mut NodeView| {
        !node.last_known.is_null() && node.dsc[run_state::PATH] != run_state::SYNC
    };
    let mut silent: Vec<&mut NodeView> = nodes.iter_mut().filter(is_silent).collect();
    if silent.len() > FEW {
        return Ok(());
    }
    for node in &mut silent {
        node.silent_since = since(kraken, &node.name).await?;
    }
    Ok(())
}

async fn since(kraken: &Kraken, node: &NodeId) -> Result<Option<Millis>, Problem> {
    let (mut end, mut since) = (u64::MAX, None);
    for _ in 0..REACH / PAGE {
        let page = kraken.events_before(end, PAGE, Some(node.clone())).await?;
        let Some(first) = page.first() else { break };
        end = first.seq;
        for event in page.iter().rev() {
            match is_heard(event) {
                Some(true) => return Ok(since),
                Some(false) => since = Some(event.entry.at),
                None => {}
            }
        }
    }
    // That it was ever heard is not told any more: it is silent for longer than that.
    Ok(None)
}

/// What an event says of whether its node is heard, if anything.
fn is_heard(event: &Event) -> Option<bool> {
    match &event.entry.what {
        What::Discovered { changes } => {
            let change = changes.iter().find(|change| change.path.as_str() == run_state::PATH)?;
            let value = change.value.as_ref().and_then(|value| value.as_text());
            Some(value == Some(run_state::SYNC))
        }
        What::Forgotten { variables } => {
            variables.iter().any(|path| path.as_str() == run_state::PATH).then_some(false)
        }
        _ => None,
    }
}
