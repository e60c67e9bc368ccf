//! Pieces of a blob: how large they are, and sets of them.

use std::ops::Range;

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
    Some(#[serde(with = "crate::id::bytes")] Vec<u8>),
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

/// Pieces in one word of a set.
const WORD: usize = 64;

/// The words that a run of pieces lies in, with the bits that are of the run.
fn words_of(run: Range<usize>) -> impl Iterator<Item = (usize, u64)> {
    (run.start / WORD..run.end.div_ceil(WORD)).map(move |index| {
        let first = run.start.max(index * WORD) - index * WORD;
        let past = (index + 1) * WORD - run.end.min((index + 1) * WORD);
        (index, (u64::MAX << first) & (u64::MAX >> past))
    })
}

/// A set of pieces: a bit each, so that sets of one blob are compared 64 pieces at a time.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pieces {
    words: Vec<u64>,
    count: usize,
    set: usize,
}

impl Pieces {
    /// No piece of a blob of this size. An empty blob has one empty piece.
    #[must_use]
    pub fn none(size: u64) -> Self {
        let count = usize::try_from(size.div_ceil(piece_size(size)).max(1)).expect("at most MAX_PIECES");
        Self { words: vec![0; count.div_ceil(WORD)], count, set: 0 }
    }

    /// Every piece of a blob of this size.
    #[must_use]
    pub fn all(size: u64) -> Self {
        Self::of(size, &PieceMap::All)
    }

    /// The pieces of a map that a peer or the store gave; bits past the end don't count.
    #[must_use]
    pub fn of(size: u64, map: &PieceMap) -> Self {
        let mut pieces = Self::none(size);
        match map {
            PieceMap::All => pieces.words.fill(u64::MAX),
            PieceMap::Some(bits) => {
                for (word, bytes) in pieces.words.iter_mut().zip(bits.chunks(WORD / 8)) {
                    let mut eight = [0; WORD / 8];
                    eight[..bytes.len()].copy_from_slice(bytes);
                    *word = u64::from_le_bytes(eight);
                }
            }
        }
        let past = pieces.words.len() * WORD - pieces.count;
        if let Some(last) = pieces.words.last_mut() {
            *last &= u64::MAX >> past;
        }
        pieces.recount();
        pieces
    }

    /// The same pieces as words say, one for each 64 pieces, none past the end.
    pub(super) fn of_words(&self, words: impl Iterator<Item = u64>) -> Self {
        let mut pieces = Self { words: words.collect(), count: self.count, set: 0 };
        pieces.recount();
        pieces
    }

    /// The set as words, one for each 64 pieces, the least significant bit first.
    pub(super) fn words(&self) -> &[u64] {
        &self.words
    }

    /// The map to tell others.
    #[must_use]
    pub fn map(&self) -> PieceMap {
        if self.is_all() {
            return PieceMap::All;
        }
        let mut bits: Vec<u8> = self.words.iter().flat_map(|word| word.to_le_bytes()).collect();
        bits.truncate(self.count.div_ceil(8));
        PieceMap::Some(bits)
    }

    /// Whether a piece is in the set.
    #[must_use]
    pub fn contains(&self, piece: usize) -> bool {
        self.words.get(piece / WORD).is_some_and(|word| word >> (piece % WORD) & 1 == 1)
    }

    /// Adds a piece.
    pub fn insert(&mut self, piece: usize) {
        if piece < self.count && !self.contains(piece) {
            self.words[piece / WORD] |= 1 << (piece % WORD);
            self.set += 1;
        }
    }

    /// Adds all pieces of another set of the same blob.
    pub fn merge(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(here, there)| *here |= there);
        self.recount();
    }

    /// Removes all pieces of another set of the same blob.
    pub fn subtract(&mut self, other: &Self) {
        self.words.iter_mut().zip(&other.words).for_each(|(here, there)| *here &= !there);
        self.recount();
    }

    fn recount(&mut self) {
        self.set = self.words.iter().map(|word| word.count_ones() as usize).sum();
    }

    /// The pieces that another set of the same blob has too, first one first.
    pub fn common<'a>(&'a self, other: &'a Self) -> impl Iterator<Item = usize> + 'a {
        self.words.iter().zip(&other.words).enumerate().flat_map(|(index, (here, there))| {
            let mut word = here & there;
            std::iter::from_fn(move || {
                let bit = word.trailing_zeros() as usize;
                word &= word.wrapping_sub(1);
                (bit < WORD).then_some(index * WORD + bit)
            })
        })
    }

    /// The first piece of the set from this one on.
    pub(super) fn next_from(&self, piece: usize) -> Option<usize> {
        let first = piece / WORD;
        let mut words = self.words.iter().enumerate().skip(first);
        words.find_map(|(index, word)| {
            let open = if index == first { word & (u64::MAX << (piece % WORD)) } else { *word };
            (open != 0).then(|| index * WORD + open.trailing_zeros() as usize)
        })
    }

    /// Every piece of the set, first one first.
    pub fn iter(&self) -> impl Iterator<Item = usize> {
        self.common(self)
    }

    /// Removes a piece.
    pub fn remove(&mut self, piece: usize) {
        if self.contains(piece) {
            self.words[piece / WORD] &= !(1 << (piece % WORD));
            self.set -= 1;
        }
    }

    /// Adds a run of pieces.
    pub(super) fn insert_run(&mut self, run: Range<usize>) {
        for (index, bits) in words_of(run.start..run.end.min(self.count)) {
            let word = &mut self.words[index];
            self.set += (bits & !*word).count_ones() as usize;
            *word |= bits;
        }
    }

    /// Removes a run of pieces.
    pub(super) fn remove_run(&mut self, run: Range<usize>) {
        for (index, bits) in words_of(run.start..run.end.min(self.count)) {
            let word = &mut self.words[index];
            self.set -= (bits & *word).count_ones() as usize;
            *word &= !bits;
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
        self.words.iter().zip(&other.words).any(|(here, there)| here & !there != 0)
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_run_is_put_in_and_taken_out_as_its_pieces_are_one_by_one(
            runs in prop::collection::vec((0usize..210, 0usize..210, any::<bool>()), 0..12),
        ) {
            let size = 200 * MIN_PIECE;
            let (mut runs_of, mut one_by_one) = (Pieces::none(size), Pieces::none(size));
            for (start, length, add) in runs {
                let run = start..start + length;
                if add {
                    runs_of.insert_run(run.clone());
                    run.for_each(|piece| one_by_one.insert(piece));
                } else {
                    runs_of.remove_run(run.clone());
                    run.for_each(|piece| one_by_one.remove(piece));
                }
                prop_assert_eq!(&runs_of, &one_by_one);
            }
        }
    }
}
