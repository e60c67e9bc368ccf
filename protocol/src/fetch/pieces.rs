//! Pieces of a blob: how large they are, and sets of them.

use serde::{Deserialize, Serialize};

/// Bytes of a BLAKE3 chunk group, the unit of verification.
pub const GROUP: u64 = 16 << 10;
/// Bytes of the smallest piece.
pub const MIN_PIECE: u64 = 64 << 10;
/// Pieces of one blob at most: a piece map is at most 1 KiB, and pieces grow with the blob.
pub const MAX_PIECES: u64 = 8192;

/// Which pieces of a blob are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum PieceMap {
    /// All of them.
    All,
    /// Those whose bit is set, least significant bit first; at most 1 KiB.
    Some(Vec<u8>),
}

/// Bytes of a piece of a blob of this size: [`MIN_PIECE`], doubled until there are at most [`MAX_PIECES`].
#[must_use]
pub fn piece_size(size: u64) -> u64 {
    let mut piece = MIN_PIECE;
    while size.div_ceil(piece) > MAX_PIECES {
        piece *= 2;
    }
    piece
}

/// A set of pieces.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pieces {
    bits: Vec<u8>,
    count: usize,
    set: usize,
}

impl Pieces {
    /// No piece of a blob of this size. An empty blob has one empty piece.
    #[must_use]
    pub fn none(size: u64) -> Self {
        let count = usize::try_from(size.div_ceil(piece_size(size)).max(1)).expect("at most MAX_PIECES");
        Self { bits: vec![0; count.div_ceil(8)], count, set: 0 }
    }

    /// The pieces of a map that a peer or the store gave; bits past the end don't count.
    #[must_use]
    pub fn of(size: u64, map: &PieceMap) -> Self {
        let mut pieces = Self::none(size);
        for piece in 0..pieces.count {
            if match map {
                PieceMap::All => true,
                PieceMap::Some(bits) => bits.get(piece / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1),
            } {
                pieces.insert(piece);
            }
        }
        pieces
    }

    /// The map to tell others.
    #[must_use]
    pub fn map(&self) -> PieceMap {
        if self.is_all() { PieceMap::All } else { PieceMap::Some(self.bits.clone()) }
    }

    /// Whether a piece is in the set.
    #[must_use]
    pub fn contains(&self, piece: usize) -> bool {
        self.bits.get(piece / 8).is_some_and(|byte| byte >> (piece % 8) & 1 == 1)
    }

    /// Adds a piece.
    pub fn insert(&mut self, piece: usize) {
        if piece < self.count && !self.contains(piece) {
            self.bits[piece / 8] |= 1 << (piece % 8);
            self.set += 1;
        }
    }

    /// Adds all pieces of another set of the same blob.
    pub fn merge(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(here, there)| *here |= there);
        self.recount();
    }

    /// Removes all pieces of another set of the same blob.
    pub fn subtract(&mut self, other: &Self) {
        self.bits.iter_mut().zip(&other.bits).for_each(|(here, there)| *here &= !there);
        self.recount();
    }

    fn recount(&mut self) {
        self.set = self.bits.iter().map(|byte| byte.count_ones() as usize).sum();
    }

    /// The pieces that another set of the same blob has too, first one first.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.bits.iter().zip(&other.bits).enumerate().flat_map(|(index, (here, there))| {
            let mut byte = here & there;
            std::iter::from_fn(move || {
                let bit = byte.trailing_zeros() as usize;
                byte &= byte.wrapping_sub(1);
                (bit < 8).then_some(index * 8 + bit)
            })
        })
    }

    /// Every piece of the set, first one first.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.common(self)
    }

    /// Removes a piece.
    pub fn remove(&mut self, piece: usize) {
        if self.contains(piece) {
            self.bits[piece / 8] &= !(1 << (piece % 8));
            self.set -= 1;
        }
    }

    /// How many pieces the blob has.
    #[must_use]
    pub fn count(&self) -> usize {
        self.count
    }

    /// How many pieces are in the set.
    #[must_use]
    pub fn len(&self) -> usize {
        self.set
    }

    /// Whether a piece is in the set that another set of the same blob lacks.
    #[must_use]
    pub fn adds_to(&self, other: &Self) -> bool {
        self.bits.iter().zip(&other.bits).any(|(here, there)| here & !there != 0)
    }

    /// Whether no piece is in the set.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Whether every piece is in the set.
    #[must_use]
    pub fn is_all(&self) -> bool {
        self.set == self.count
    }
}
