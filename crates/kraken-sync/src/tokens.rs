//! Who may join: one-time tokens for boots, and the secrets with which a boot joins again.
//!
//! Only hashes are kept. Every change of the book is a [`TokenRecord`] (the whole entry of one
//! node), which the caller makes durable *before* it acts on the answer: a used token must stay
//! used after a crash.

use crate::join::is_boot_id;
use crate::secret::SecretHash;
use crate::{Proof, Secret};
use kraken_model::{Millis, NodeId};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::time::Duration;

/// Why a node was not let in. The peer is told only [`crate::REFUSED`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, thiserror::Error)]
pub enum TokenRefusal {
    /// No node has such a token or secret (any more).
    #[error("the token is not known")]
    Unknown,
    /// The token let somebody in already.
    #[error("the token was used before")]
    Used,
    /// The token is too old.
    #[error("the token has expired")]
    Expired,
    /// The token was made for another node.
    #[error("the token was made for another node")]
    WrongNode,
    /// The token was made for another boot.
    #[error("the token was made for another boot of this node")]
    WrongBoot,
    /// Nobody expects this node to boot now.
    #[error("this boot of this node is not expected")]
    NotExpected,
}

/// How often what happened, since the book was opened.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct TokenCounters {
    /// Let in by token.
    pub joined: u64,
    /// Let in again by the secret of an earlier join.
    pub resumed: u64,
    /// Refused: unknown.
    pub unknown: u64,
    /// Refused: used before.
    pub used: u64,
    /// Refused: expired.
    pub expired: u64,
    /// Refused: another node's.
    pub wrong_node: u64,
    /// Refused: another boot's.
    pub wrong_boot: u64,
    /// Refused: not expected.
    pub not_expected: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Token {
    hash: SecretHash,
    boot_id: String,
    expires: Millis,
    used: bool,
}

/// The secrets of a boot that joined.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Resume {
    boot_id: String,
    current: SecretHash,
    /// The one before. It stays valid until the current one is shown: the answer that carried the
    /// current one may never have arrived.
    previous: Option<SecretHash>,
}

/// All that is kept for a node; opaque, to be stored as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenEntry {
    expected: Option<String>,
    token: Option<Token>,
    resume: Option<Resume>,
}

/// One node's entry as it is now; `None` when there is none any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenRecord {
    /// Whose.
    pub node: NodeId,
    /// The entry.
    pub entry: Option<TokenEntry>,
}

/// The tokens of all nodes.
#[derive(Debug, Default)]
pub struct TokenBook {
    entries: HashMap<NodeId, TokenEntry>,
    /// Whose changed, maybe several times.
    changed: Vec<NodeId>,
    counters: TokenCounters,
}

impl TokenBook {
    /// A book from its records; of two for one node the last counts.
    #[must_use]
    pub fn import(records: impl IntoIterator<Item = TokenRecord>) -> Self {
        let mut book = Self::default();
        for TokenRecord { node, entry } in records {
            match entry {
                Some(entry) => drop(book.entries.insert(node, entry)),
                None => drop(book.entries.remove(&node)),
            }
        }
        book
    }

    /// Every node's record, in the order of the names.
    #[must_use]
    pub fn export(&self) -> Vec<TokenRecord> {
        let mut records: Vec<_> = self.entries.keys().map(|node| self.record(node)).collect();
        records.sort_unstable_by(|a, b| a.node.cmp(&b.node));
        records
    }

    /// The records that changed since the last call. They have to be durable before anybody is told
    /// the outcome of the call that changed them.
    pub fn take_changes(&mut self) -> Vec<TokenRecord> {
        let mut changed = std::mem::take(&mut self.changed);
        changed.sort_unstable();
        changed.dedup();
        changed.iter().map(|node| self.record(node)).collect()
    }

    /// One node's record.
    #[must_use]
    pub fn record(&self, node: &NodeId) -> TokenRecord {
        TokenRecord { node: node.clone(), entry: self.entries.get(node).cloned() }
    }

    /// How often what happened.
    #[must_use]
    pub fn counters(&self) -> TokenCounters {
        self.counters
    }

    fn entry(&mut self, node: &NodeId) -> &mut TokenEntry {
        self.changed.push(node.clone());
        self.entries.entry(node.clone()).or_default()
    }

    /// Makes the token for one boot of one node, from fresh random bytes. The node's earlier token
    /// is void; the secret of the boot that runs now stays valid until this token is used.
    pub fn mint(
        &mut self,
        now: Millis,
        node: &NodeId,
        boot_id: &str,
        random: [u8; 32],
        valid: Duration,
    ) -> Secret {
        let secret = Secret::new(random);
        let token = Token {
            hash: secret.hash(),
            boot_id: boot_id.to_owned(),
            expires: now.plus(valid),
            used: false,
        };
        self.entry(node).token = Some(token);
        secret
    }

    /// From now on the engine expects this boot of this node to join. Level-triggered: saying it
    /// again changes nothing.
    pub fn expect(&mut self, node: &NodeId, boot_id: &str) {
        let same = self.entries.get(node).is_some_and(|e| e.expected.as_deref() == Some(boot_id));
        if !same && is_boot_id(boot_id) {
            self.entry(node).expected = Some(boot_id.to_owned());
        }
    }

    /// From now on no boot of this node is expected; its token waits, but lets nobody in.
    pub fn unexpect(&mut self, node: &NodeId) {
        if self.entries.get(node).is_some_and(|e| e.expected.is_some()) {
            self.entry(node).expected = None;
        }
    }

    /// Which boot of this node is expected.
    #[must_use]
    pub fn expected(&self, node: &NodeId) -> Option<&str> {
        self.entries.get(node)?.expected.as_deref()
    }

    /// Forgets the node: neither token nor secret lets it in.
    pub fn revoke(&mut self, node: &NodeId) {
        if self.entries.remove(node).is_some() {
            self.changed.push(node.clone());
        }
    }

    /// Whether a proof would let a node in now. Nothing is used up by asking.
    ///
    /// # Errors
    /// When it would not.
    pub fn knows(
        &self,
        now: Millis,
        node: &NodeId,
        boot_id: &str,
        proof: &Proof,
    ) -> Result<(), TokenRefusal> {
        self.judge(now, node, boot_id, proof).map(drop)
    }

    /// The secret that was shown, to be kept until its successor is shown; `None` with a token.
    fn judge(
        &self,
        now: Millis,
        node: &NodeId,
        boot_id: &str,
        proof: &Proof,
    ) -> Result<Option<SecretHash>, TokenRefusal> {
        match proof {
            Proof::Token(secret) => self.judge_token(now, node, boot_id, secret.hash()),
            Proof::Resume(secret) => self.judge_resume(node, boot_id, secret.hash()),
        }
    }

    /// The nodes of which anything is kept, in no order.
    pub fn nodes(&self) -> impl Iterator<Item = &NodeId> {
        self.entries.keys()
    }

    /// Judges a proof. Who is let in gets a new secret to join again with, made from `random`.
    ///
    /// # Errors
    /// When it is not let in; the reason is for the journal, not for the peer.
    pub fn present(
        &mut self,
        now: Millis,
        node: &NodeId,
        boot_id: &str,
        proof: &Proof,
        random: [u8; 32],
    ) -> Result<Secret, TokenRefusal> {
        let fresh = Secret::new(random);
        match self.judge(now, node, boot_id, proof) {
            Ok(previous) => {
                let entry = self.entry(node);
                if previous.is_none() {
                    if let Some(token) = &mut entry.token {
                        token.used = true;
                    }
                    entry.expected = None;
                }
                let boot_id = boot_id.to_owned();
                entry.resume = Some(Resume { boot_id, current: fresh.hash(), previous });
                self.count(if previous.is_none() { None } else { Some(None) });
                Ok(fresh)
            }
            Err(refusal) => {
                self.count(Some(Some(refusal)));
                Err(refusal)
            }
        }
    }

    /// `None` when the token is good; it has no earlier secret to keep.
    fn judge_token(
        &self,
        now: Millis,
        node: &NodeId,
        boot_id: &str,
        shown: SecretHash,
    ) -> Result<Option<SecretHash>, TokenRefusal> {
        let made = self.entries.get(node).and_then(|e| e.token.as_ref());
        let Some(token) = made.filter(|t| t.hash == shown) else {
            // Only on the way to a refusal, and only to name its reason: a walk over all nodes.
            let others = self.entries.values().filter_map(|e| e.token.as_ref());
            let known = others.into_iter().any(|t| t.hash == shown);
            return Err(if known { TokenRefusal::WrongNode } else { TokenRefusal::Unknown });
        };
        if token.used {
            Err(TokenRefusal::Used)
        } else if token.boot_id != boot_id {
            Err(TokenRefusal::WrongBoot)
        } else if now >= token.expires {
            Err(TokenRefusal::Expired)
        } else if self.expected(node) != Some(boot_id) {
            Err(TokenRefusal::NotExpected)
        } else {
            Ok(None)
        }
    }

    /// The secret that was shown, when it is good.
    fn judge_resume(
        &self,
        node: &NodeId,
        boot_id: &str,
        shown: SecretHash,
    ) -> Result<Option<SecretHash>, TokenRefusal> {
        let holds = |r: &Resume| r.current == shown || r.previous == Some(shown);
        let given = self.entries.get(node).and_then(|e| e.resume.as_ref());
        match given.filter(|r| holds(r)) {
            Some(resume) if resume.boot_id == boot_id => Ok(Some(shown)),
            Some(_) => Err(TokenRefusal::WrongBoot),
            None => {
                let known = self.entries.values().filter_map(|e| e.resume.as_ref()).any(holds);
                Err(if known { TokenRefusal::WrongNode } else { TokenRefusal::Unknown })
            }
        }
    }

    fn count(&mut self, what: Option<Option<TokenRefusal>>) {
        let counters = &mut self.counters;
        *match what {
            None => &mut counters.joined,
            Some(None) => &mut counters.resumed,
            Some(Some(TokenRefusal::Unknown)) => &mut counters.unknown,
            Some(Some(TokenRefusal::Used)) => &mut counters.used,
            Some(Some(TokenRefusal::Expired)) => &mut counters.expired,
            Some(Some(TokenRefusal::WrongNode)) => &mut counters.wrong_node,
            Some(Some(TokenRefusal::WrongBoot)) => &mut counters.wrong_boot,
            Some(Some(TokenRefusal::NotExpected)) => &mut counters.not_expected,
        } += 1;
    }
}

/// For fuzzing: any bytes, as records of a book.
pub fn fuzz_tokens(data: &[u8]) {
    if let Ok(records) = serde_json::from_slice::<Vec<TokenRecord>>(data) {
        let book = TokenBook::import(records);
        let again = TokenBook::import(book.export());
        assert_eq!(book.export(), again.export());
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);

    fn id(name: &str) -> NodeId {
        NodeId::new(name).unwrap()
    }

    fn book_with_token() -> (TokenBook, Proof) {
        let mut book = TokenBook::default();
        let token = book.mint(Millis(0), &id("a"), "boot-1", [1; 32], HOUR);
        book.expect(&id("a"), "boot-1");
        (book, Proof::Token(token))
    }

    #[test]
    fn a_token_lets_the_expected_boot_in_once() {
        let (mut book, token) = book_with_token();
        assert!(book.present(Millis(5), &id("a"), "boot-1", &token, [2; 32]).is_ok());
        let again = book.present(Millis(6), &id("a"), "boot-1", &token, [3; 32]);
        assert_eq!(again, Err(TokenRefusal::Used));
        assert_eq!((book.counters().joined, book.counters().used), (1, 1));
    }

    #[test]
    fn every_wrong_token_is_refused_for_its_own_reason() {
        let (mut book, token) = book_with_token();
        book.mint(Millis(0), &id("b"), "boot-9", [4; 32], HOUR);
        let mut show = |now, node: &str, boot: &str, proof: &Proof| {
            book.present(Millis(now), &id(node), boot, proof, [2; 32]).unwrap_err()
        };
        let guessed = Proof::Token(Secret::new([9; 32]));
        assert_eq!(show(1, "a", "boot-1", &guessed), TokenRefusal::Unknown);
        assert_eq!(show(1, "b", "boot-9", &token), TokenRefusal::WrongNode);
        assert_eq!(show(1, "a", "boot-2", &token), TokenRefusal::WrongBoot);
        assert_eq!(show(3_600_000, "a", "boot-1", &token), TokenRefusal::Expired);
        let resume = Proof::Resume(Secret::new([1; 32]));
        assert_eq!(show(1, "a", "boot-1", &resume), TokenRefusal::Unknown, "a token is no resume");
        book.unexpect(&id("a"));
        let refusal = book.present(Millis(1), &id("a"), "boot-1", &token, [2; 32]).unwrap_err();
        assert_eq!(refusal, TokenRefusal::NotExpected);
    }

    #[test]
    fn a_proof_that_is_only_looked_at_is_good_afterwards_as_before() {
        let (mut book, token) = book_with_token();
        let knows =
            |book: &TokenBook, proof: &Proof| book.knows(Millis(1), &id("a"), "boot-1", proof);
        assert_eq!((knows(&book, &token), knows(&book, &token)), (Ok(()), Ok(())));
        let resume = book.present(Millis(1), &id("a"), "boot-1", &token, [2; 32]).unwrap();
        let changes = book.take_changes();
        assert_eq!(knows(&book, &token), Err(TokenRefusal::Used));
        assert_eq!(knows(&book, &Proof::Resume(resume)), Ok(()));
        assert_eq!(book.take_changes().len(), 0, "{changes:?}");
        assert_eq!(book.nodes().collect::<Vec<_>>(), [&id("a")]);
    }

    #[test]
    fn a_boot_joins_again_until_the_next_boot_has_joined() {
        let (mut book, token) = book_with_token();
        let first = book.present(Millis(1), &id("a"), "boot-1", &token, [2; 32]).unwrap();
        let next = book.mint(Millis(2), &id("a"), "boot-2", [5; 32], HOUR);
        let resume = Proof::Resume(first);
        assert!(book.present(Millis(3), &id("a"), "boot-1", &resume, [6; 32]).is_ok());
        book.expect(&id("a"), "boot-2");
        let next = Proof::Token(next);
        assert!(book.present(Millis(4), &id("a"), "boot-2", &next, [7; 32]).is_ok());
        let late = book.present(Millis(5), &id("a"), "boot-1", &resume, [8; 32]);
        assert_eq!(late, Err(TokenRefusal::Unknown));
    }

    #[test]
    fn a_secret_whose_successor_was_lost_on_the_way_is_still_good() {
        let (mut book, token) = book_with_token();
        let first = book.present(Millis(1), &id("a"), "boot-1", &token, [2; 32]).unwrap();
        let resume = Proof::Resume(first);
        for round in 10..13 {
            assert!(book.present(Millis(2), &id("a"), "boot-1", &resume, [round; 32]).is_ok());
        }
        let latest = Proof::Resume(Secret::new([12; 32]));
        assert!(book.present(Millis(3), &id("a"), "boot-1", &latest, [13; 32]).is_ok());
        let old = book.present(Millis(4), &id("a"), "boot-1", &resume, [14; 32]);
        assert_eq!(old, Err(TokenRefusal::Unknown));
    }

    #[test]
    fn a_used_token_stays_used_after_a_restart_and_nothing_secret_is_stored() {
        let (mut book, token) = book_with_token();
        let mut stored: std::collections::BTreeMap<NodeId, TokenRecord> = Default::default();
        let resume = book.present(Millis(1), &id("a"), "boot-1", &token, [2; 32]).unwrap();
        stored.extend(book.take_changes().into_iter().map(|r| (r.node.clone(), r)));
        assert!(book.take_changes().is_empty());
        let json = serde_json::to_string(&stored.values().collect::<Vec<_>>()).unwrap();
        let Proof::Token(secret) = &token else { unreachable!() };
        assert!(!json.contains(&secret.to_hex()) && !json.contains(&resume.to_hex()));
        let records: Vec<TokenRecord> = serde_json::from_str(&json).unwrap();
        let mut book = TokenBook::import(records);
        let again = book.present(Millis(2), &id("a"), "boot-1", &token, [3; 32]);
        assert_eq!(again, Err(TokenRefusal::Used));
        let resume = Proof::Resume(resume);
        assert!(book.present(Millis(3), &id("a"), "boot-1", &resume, [4; 32]).is_ok());
        book.revoke(&id("a"));
        assert_eq!(book.take_changes().last().unwrap().entry, None);
        let gone = book.present(Millis(4), &id("a"), "boot-1", &resume, [5; 32]);
        assert_eq!(gone, Err(TokenRefusal::Unknown));
    }
}
