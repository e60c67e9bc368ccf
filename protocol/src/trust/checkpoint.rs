//! Where a publisher's log of acts stands, told to everybody by its signed snapshot (`x-audit`): so a publisher, or who
//! stole its keys, can't show two devices two histories without it being found out when they meet.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::document::is_hex;
use crate::Hash;

/// Entries that a checkpoint names at most: as far may two devices be apart and still compare.
pub const MAX_HEADS: usize = 16;
/// The field of the snapshot.
const FIELD: &str = "x-audit";

/// How long a log is, and the names of its last entries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    size: u64,
    /// BLAKE3 of each line, oldest first: as many as there are, up to [`MAX_HEADS`].
    heads: Vec<Hash>,
}

impl Checkpoint {
    /// That of a log with these lines; none of an empty one.
    pub fn of<'a>(lines: impl ExactSizeIterator<Item = &'a str>) -> Option<Self> {
        let size = lines.len();
        let last = lines.skip(size.saturating_sub(MAX_HEADS));
        let heads: Vec<Hash> = last.map(|line| Hash::of(line.as_bytes())).collect();
        (size > 0).then_some(Self { size: size as u64, heads })
    }

    /// How many entries the log has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The name of the last entry.
    #[must_use]
    pub fn head(&self) -> Hash {
        *self.heads.last().expect("a checkpoint has at least one head")
    }

    /// The number of the first entry that both name, and differently.
    #[must_use]
    pub fn fork(&self, other: &Self) -> Option<u64> {
        self.entries()
            .find(|(seq, head)| other.entries().any(|(theirs, other)| theirs == *seq && other != *head))
            .map(|(seq, _)| seq)
    }

    /// Whether a log with entries of these names goes through it.
    #[must_use]
    pub fn is_of(&self, names: &[Hash]) -> bool {
        let name = |seq: u64| usize::try_from(seq - 1).ok().and_then(|at| names.get(at));
        self.entries().all(|(seq, head)| name(seq) == Some(&head))
    }

    /// Numbers and names of the entries that it names.
    fn entries(&self) -> impl Iterator<Item = (u64, Hash)> {
        let first = self.size - self.heads.len() as u64 + 1;
        (first..).zip(self.heads.iter().copied())
    }

    /// The field of a snapshot, with its name.
    pub(super) fn field(&self) -> (String, Value) {
        let heads: Vec<String> = self.heads.iter().map(Hash::to_string).collect();
        (FIELD.to_owned(), json!({ "heads": heads, "size": self.size }))
    }

    /// Reads it from the fields of a snapshot that TUF does not know.
    pub(super) fn read(fields: &BTreeMap<String, Value>) -> Result<Option<Self>, &'static str> {
        let Some(value) = fields.get(FIELD) else { return Ok(None) };
        let refuse = "what it says of the log of acts (x-audit) is not a size and the names of its last entries";
        let value = value.as_object().filter(|value| value.len() == 2).ok_or(refuse)?;
        let size = value.get("size").and_then(Value::as_u64).ok_or(refuse)?;
        let heads = value.get("heads").and_then(Value::as_array).ok_or(refuse)?;
        let head = |head: &Value| head.as_str().filter(|head| is_hex(head, 32)).and_then(|head| head.parse().ok());
        let heads: Vec<Hash> = heads.iter().map(head).collect::<Option<_>>().ok_or(refuse)?;
        let named = heads.len() as u64;
        if named == 0 || named != size.min(MAX_HEADS as u64) {
            return Err(refuse);
        }
        Ok(Some(Self { size, heads }))
    }
}
