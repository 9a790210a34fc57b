//! The peer's document on its way here: the revision that is held, and pieces of the next one.

use crate::frame::{Ack, MAX_PIECE_BYTES, Malformed, Partial, Piece};
use crate::{Revision, changes};
use kraken_model::Change;

/// What a piece brought about.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrival {
    /// Nothing new, or not all of it yet.
    Waiting,
    /// The document changes. `whole`: the changes are all it holds.
    Complete { whole: bool, changes: Vec<Change> },
    /// There is no room for more unfinished transfers; the peer will send the piece again.
    NoRoom,
}

#[derive(Debug)]
struct Assembly {
    from: Revision,
    to: Revision,
    missing: usize,
    /// Room for all pieces; only those that are there take memory of their own.
    pieces: Vec<Option<Box<[u8]>>>,
}

impl Assembly {
    /// What an unfinished transfer counts for, whatever is there of it.
    fn cost(count: usize) -> usize {
        count * MAX_PIECE_BYTES
    }
}

#[derive(Debug, Default)]
pub(crate) struct Inbox {
    held: Revision,
    assembly: Option<Box<Assembly>>,
}

impl Inbox {
    pub(crate) fn holding(held: Revision) -> Self {
        Self { held, assembly: None }
    }

    pub(crate) fn held(&self) -> Revision {
        self.held
    }

    /// What to tell the peer.
    pub(crate) fn ack(&self) -> Ack {
        let partial = self.assembly.as_ref().map(|assembly| {
            let there = |p: &Option<Box<[u8]>>| p.is_some();
            let base = assembly.pieces.iter().take_while(|p| there(p)).count();
            let window = assembly.pieces[base..].iter().take(64).enumerate();
            let bits = window.fold(0, |bits, (i, p)| bits | u64::from(there(p)) << i);
            Partial { to: assembly.to, base: u32::try_from(base).unwrap_or(u32::MAX), bits }
        });
        Ack { held: self.held, partial }
    }

    /// Drops what is unfinished, and gives its room back.
    pub(crate) fn release(&mut self, room: &mut usize) {
        if let Some(assembly) = self.assembly.take() {
            *room += Assembly::cost(assembly.pieces.len());
        }
    }

    /// Takes a piece. `room` is what unfinished transfers may still count for.
    pub(crate) fn accept(
        &mut self,
        piece: &Piece<'_>,
        room: &mut usize,
    ) -> Result<Arrival, Malformed> {
        // Whole documents start from 0, so they fit whatever is held.
        if piece.to <= self.held || piece.from > self.held {
            return Ok(Arrival::Waiting);
        }
        if piece.count == 1 {
            return self.complete(piece.from, piece.to, piece.bytes, room);
        }
        let same = |a: &Assembly| {
            (a.from, a.to, a.pieces.len()) == (piece.from, piece.to, piece.count as usize)
        };
        if !self.assembly.as_ref().is_some_and(|a| same(a)) {
            if self.assembly.as_ref().is_some_and(|a| a.to > piece.to) {
                return Ok(Arrival::Waiting);
            }
            self.release(room);
            let count = piece.count as usize;
            let Some(left) = room.checked_sub(Assembly::cost(count)) else {
                return Ok(Arrival::NoRoom);
            };
            *room = left;
            let (from, to, pieces) = (piece.from, piece.to, vec![None; count]);
            self.assembly = Some(Box::new(Assembly { from, to, missing: count, pieces }));
        }
        let Some(assembly) = &mut self.assembly else { return Ok(Arrival::Waiting) };
        let place = &mut assembly.pieces[piece.index as usize];
        if place.is_none() {
            *place = Some(piece.bytes.into());
            assembly.missing -= 1;
        }
        if assembly.missing > 0 {
            return Ok(Arrival::Waiting);
        }
        let whole: Vec<u8> =
            assembly.pieces.iter().flatten().flat_map(|p| p.iter().copied()).collect();
        self.complete(piece.from, piece.to, &whole, room)
    }

    fn complete(
        &mut self,
        from: Revision,
        to: Revision,
        bytes: &[u8],
        room: &mut usize,
    ) -> Result<Arrival, Malformed> {
        if self.assembly.as_ref().is_some_and(|a| a.to <= to) {
            self.release(room);
        }
        let changes = changes::decode(bytes)?;
        self.held = to;
        Ok(Arrival::Complete { whole: from.0 == 0, changes })
    }
}
