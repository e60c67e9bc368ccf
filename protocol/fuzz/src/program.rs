//! A fuzzer's bytes as a program: each step takes what it needs from the front. After the end there are zeros.

pub(crate) struct Program<'a> {
    bytes: &'a [u8],
}

impl<'a> Program<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { bytes }
    }

    pub(crate) fn is_over(&self) -> bool {
        self.bytes.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.bytes.split_first() else { return 0 };
        self.bytes = rest;
        *first
    }

    pub(crate) fn flag(&mut self) -> bool {
        self.byte() & 1 == 1
    }

    /// A number below `count`, which is at most 256.
    pub(crate) fn below(&mut self, count: usize) -> usize {
        usize::from(self.byte()) % count
    }

    pub(crate) fn short(&mut self) -> u16 {
        u16::from_le_bytes([self.byte(), self.byte()])
    }

    /// A run of bytes with its length in front.
    pub(crate) fn take(&mut self) -> &'a [u8] {
        let len = usize::from(self.short()).min(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        taken
    }

    /// A run of at most 255 bytes with its length in front, as text.
    pub(crate) fn text(&mut self) -> String {
        let len = usize::from(self.byte()).min(self.bytes.len());
        let (taken, rest) = self.bytes.split_at(len);
        self.bytes = rest;
        String::from_utf8_lossy(taken).into_owned()
    }

    pub(crate) fn rest(self) -> &'a [u8] {
        self.bytes
    }

    /// Alters one to four places of `bytes`.
    pub(crate) fn alter(&mut self, bytes: &mut Vec<u8>) {
        for _ in 0..=self.below(4) {
            let at = usize::from(self.short()) % (bytes.len() + 1);
            match self.below(4) {
                0 => bytes.insert(at, self.byte()),
                1 => bytes.truncate(at),
                2 => drop(bytes.drain(at..bytes.len().min(at + usize::from(self.byte())))),
                _ => {
                    if let Some(byte) = bytes.get_mut(at) {
                        *byte = self.byte();
                    }
                }
            }
        }
    }
}
