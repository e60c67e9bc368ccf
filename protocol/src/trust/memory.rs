//! What was verified before. A driver of many agents lends one memory to all of them, so that the same bytes, held
//! against the same metadata, are verified once: [`verify`] has no other input, so its answer is the same again.

use std::collections::BTreeMap;

use super::{TrustError, Verified, verify};
use crate::{Hash, RepositoryId};

/// Which repository, against which held pack, and which offered pack.
type Question = (RepositoryId, Option<Hash>, Hash);

/// Answers of [`verify`], up to a bound; when that is reached, all are forgotten.
#[derive(Debug, Default)]
pub struct Memory {
    bound: usize,
    answers: BTreeMap<Question, Result<Verified, TrustError>>,
}

impl Memory {
    /// A memory for so many answers. The default remembers nothing, which suits a driver of one agent.
    #[must_use]
    pub fn of(bound: usize) -> Self {
        Self { bound, answers: BTreeMap::new() }
    }

    /// As [`verify`].
    ///
    /// # Errors
    /// As [`verify`].
    pub fn verify(
        &mut self,
        repository: RepositoryId,
        held: Option<&Verified>,
        pack: &[u8],
    ) -> Result<Verified, TrustError> {
        if self.bound == 0 {
            return verify(repository, held, pack);
        }
        let question = (repository, held.map(Verified::pack_hash), Hash::of(pack));
        if let Some(answer) = self.answers.get(&question) {
            return answer.clone();
        }
        let answer = verify(repository, held, pack);
        if self.answers.len() >= self.bound {
            self.answers.clear();
        }
        self.answers.insert(question, answer.clone());
        answer
    }
}
