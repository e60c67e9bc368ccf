//! Delegations: which roles may sign for a target path, and in which order they are asked.

use sha2::{Digest as _, Sha256};
use sigstore_tuf::{DelegatedRole, Delegations, Targets};

use super::{MAX_KEYS, document::check_role, encode};
use crate::trust::{TrustError, document::hex};

/// Bytes of a delegated role's name at most, as it is encoded for a file name.
const MAX_ENCODED_NAME: usize = 200;

/// The way to a delegated role: the same role may be reached by several, each with keys of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Edge {
    pub(super) role: String,
    pub(super) delegator: String,
}

/// The roles to ask for a target path, in pre-order, depth first (TUF 5.6.7).
pub(super) fn edges(delegator: &str, targets: &Targets, path: &str) -> (Vec<Edge>, bool) {
    let roles = targets.delegations.iter().flat_map(|delegations| &delegations.roles);
    let (mut edges, mut terminating) = (Vec::new(), false);
    for role in roles.filter(|role| may_sign(role, path)) {
        edges.push(Edge { role: role.name.clone(), delegator: delegator.to_owned() });
        if role.terminating {
            terminating = true;
            break;
        }
    }
    (edges, terminating)
}

/// Checks the form of what a role delegates: names that can be files and are no top-level role's, each once, either
/// path patterns or hash prefixes.
pub(super) fn check(name: &str, delegations: &Delegations) -> Result<(), TrustError> {
    let refuse = |problem: String| Err(TrustError::malformed(name, problem));
    if delegations.keys.len() > MAX_KEYS {
        return refuse(format!("it names over {MAX_KEYS} keys"));
    }
    let mut names = std::collections::BTreeSet::new();
    for role in &delegations.roles {
        let shown: String = role.name.chars().take(100).collect();
        let top = matches!(role.name.as_str(), "" | "root" | "timestamp" | "snapshot" | "targets");
        if top || encode(&role.name).len() > MAX_ENCODED_NAME {
            return refuse(format!("it delegates to a role that may not be named {shown:?}"));
        }
        if !names.insert(&role.name) {
            return refuse(format!("it delegates to {shown:?} twice"));
        }
        if role.paths.is_some() == role.path_hash_prefixes.is_some() {
            return refuse(format!("the delegation to {shown:?} needs either paths or hash prefixes"));
        }
        check_role(name, &shown, &role.role_keys())?;
    }
    Ok(())
}

fn may_sign(role: &DelegatedRole, path: &str) -> bool {
    match (&role.paths, &role.path_hash_prefixes) {
        (Some(patterns), None) => patterns.iter().any(|pattern| matches(pattern, path)),
        (None, Some(prefixes)) => {
            let hash = hex(&Sha256::digest(path.as_bytes()));
            prefixes.iter().any(|prefix| hash.starts_with(prefix.as_str()))
        }
        _ => false,
    }
}

/// Whether a shell-style pattern matches a path whole. `*` and `?` stay within one part of the path, and so does a
/// set such as `[a-c]` or `[!x]`.
fn matches(pattern: &str, path: &str) -> bool {
    let (mut patterns, mut parts) = (pattern.split('/'), path.split('/'));
    loop {
        match (patterns.next(), parts.next()) {
            (None, None) => return true,
            (Some(pattern), Some(part)) => {
                let (pattern, part) = (pattern.chars().collect::<Vec<_>>(), part.chars().collect::<Vec<_>>());
                if !matches_part(&elements(&pattern), &part) {
                    return false;
                }
            }
            _ => return false,
        }
    }
}

/// What one place of a pattern matches.
#[derive(Clone, Copy)]
enum Element<'a> {
    /// Any characters, or none: `*`.
    Any,
    /// Any one character: `?`.
    One,
    /// One character of a set, or one that is not in it.
    Of { set: &'a [char], negated: bool },
}

impl Element<'_> {
    fn matches(self, c: char) -> bool {
        match self {
            Self::Any => false,
            Self::One => true,
            Self::Of { set, negated } => in_set(set, c) != negated,
        }
    }
}

fn elements(pattern: &[char]) -> Vec<Element<'_>> {
    // Looked up once: a pattern of many `[` and no `]` would be read through for each of them.
    let last = pattern.iter().rposition(|c| *c == ']').unwrap_or(0);
    let (mut elements, mut at) = (Vec::new(), 0);
    while at < pattern.len() {
        let negated = pattern.get(at + 1) == Some(&'!');
        let first = at + 1 + usize::from(negated);
        let (element, next) = match pattern[at] {
            '*' => (Element::Any, at + 1),
            '?' => (Element::One, at + 1),
            // A `]` that comes first is a member; a set that does not end is no set.
            '[' if first < last => {
                let ends = pattern[first + 1..].iter().position(|c| *c == ']');
                let end = first + 1 + ends.expect("the last one lies ahead");
                (Element::Of { set: &pattern[first..end], negated }, end + 1)
            }
            _ => (Element::Of { set: &pattern[at..=at], negated: false }, at + 1),
        };
        elements.push(element);
        at = next;
    }
    elements
}

/// Goes back to the last `*` alone, so the time is at most the product of both lengths; and a pattern that asks for more
/// characters than there are is not looked at.
fn matches_part(pattern: &[Element<'_>], part: &[char]) -> bool {
    if pattern.iter().filter(|element| !matches!(element, Element::Any)).count() > part.len() {
        return false;
    }
    let (mut p, mut t, mut star) = (0, 0, None);
    while t < part.len() {
        match pattern.get(p) {
            Some(Element::Any) => {
                p += 1;
                star = Some((p, t));
                continue;
            }
            Some(element) if element.matches(part[t]) => {
                (p, t) = (p + 1, t + 1);
                continue;
            }
            Some(_) | None => {}
        }
        let Some((after, from)) = star else { return false };
        star = Some((after, from + 1));
        (p, t) = (after, from + 1);
    }
    pattern[p..].iter().all(|element| matches!(element, Element::Any))
}

fn in_set(set: &[char], c: char) -> bool {
    let mut at = 0;
    while at < set.len() {
        if set.get(at + 1) == Some(&'-') && at + 2 < set.len() {
            if (set[at]..=set[at + 2]).contains(&c) {
                return true;
            }
            at += 3;
        } else if set[at] == c {
            return true;
        } else {
            at += 1;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_within_the_parts_of_a_path() {
        let yes = [
            ("*", "a"),
            ("*", ""),
            ("**", "a"),
            ("a/*/c", "a/b/c"),
            ("foo-?.tgz", "foo-1.tgz"),
            ("foo-[0-9a].tgz", "foo-a.tgz"),
            ("[!0-9]", "x"),
            ("[]]", "]"),
            ("[a-]", "-"),
            ("a[b", "a[b"),
            ("*.tar.*", "x.tar.tar.gz"),
            ("é?", "éü"),
            ("{a,b}", "{a,b}"),
        ];
        let no = [
            ("*", "a/b"),
            ("a/*", "a"),
            ("a/*", "a/b/c"),
            ("?", "/"),
            ("[!x]", "x"),
            ("[/]", "/"),
            ("*.md", "README.MD"),
            ("a*b", "a"),
            ("", "a"),
            ("[!]", "x"),
            ("[c-a]", "b"),
        ];
        for (pattern, path) in yes {
            assert!(matches(pattern, path), "{pattern} {path}");
        }
        for (pattern, path) in no {
            assert!(!matches(pattern, path), "{pattern} {path}");
        }
    }

    #[test]
    fn a_pattern_of_many_stars_takes_no_exponential_time() {
        let pattern = "*a".repeat(500) + "b";
        assert!(!matches(&pattern, &"a".repeat(5_000)));
        assert!(!matches(&format!("*{}b", "[".repeat(1_000_000)), &"[".repeat(5_000)));
        assert!(matches(&"[".repeat(200_000), &"[".repeat(200_000)));
    }
}
