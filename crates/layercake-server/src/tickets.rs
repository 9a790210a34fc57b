//! Join tokens for machines that boot.

use async_trait::async_trait;
use kraken::SyncParent;
use kraken_model::NodeId;
use layercake_boot::{Ticket, Tickets};
use layercake_seed::JoinToken;
use std::sync::Arc;

/// Tokens of the sync driver.
pub(crate) struct SyncTickets(pub(crate) Arc<SyncParent>);

#[async_trait]
impl Tickets for SyncTickets {
    async fn mint(&self, node: &NodeId) -> Result<Ticket, String> {
        let (boot_id, token) = self.0.mint(node).await.map_err(|e| crate::api::chain(&e))?;
        let token = JoinToken::new(token.bytes().to_vec()).ok_or("the token is too short")?;
        Ok(Ticket { boot_id, token })
    }

    async fn withdraw(&self, node: &NodeId) {
        self.0.withdraw(node).await;
    }
}
