//! The list as a whole: order, collisions, links and sums (`protocol/README.md` §2.2, §2.4 to §2.6).

use std::collections::BTreeMap;

use super::{
    Content, Entry, LinkProblem, MAX_BYTES, MAX_FILES, ManifestError, at_most, check_path,
    names::{fold, resolve, shown},
};

/// Checks a list that is sorted by path and returns the bytes of all its files.
pub(super) fn check(entries: &[Entry]) -> Result<u64, ManifestError> {
    if entries.is_empty() {
        return Err(ManifestError::Empty);
    }
    at_most("the number of files", entries.len() as u64, MAX_FILES)?;
    for entry in entries {
        check_path(&entry.path)?;
    }
    if let Some(pair) = entries.windows(2).find(|pair| pair[0].path == pair[1].path) {
        return Err(ManifestError::Duplicate(shown(&pair[0].path)));
    }
    check_names(entries)?;
    check_links(entries)?;
    let mut bytes = 0_u64;
    for entry in entries {
        if let Content::File { size, .. } = entry.content {
            bytes = bytes.saturating_add(size);
            at_most("the size of all files in bytes", bytes, MAX_BYTES)?;
        }
    }
    Ok(bytes)
}

/// One directory on the way to the current path: the names seen in it so far.
struct Directory<'a> {
    name: &'a str,
    /// Folded name to the name itself and whether it is a directory.
    names: BTreeMap<String, (&'a str, bool)>,
}

/// In byte order all that is below a directory stands together, so a walk keeps only the directories that lead to the
/// current path: memory is bounded by the list, however deep its paths are.
fn check_names(entries: &[Entry]) -> Result<(), ManifestError> {
    let mut way = vec![Directory { name: "", names: BTreeMap::new() }];
    for entry in entries {
        let components: Vec<&str> = entry.path.split('/').collect();
        let depth = components.len() - 1;
        let shared = way[1..].iter().zip(&components[..depth]).take_while(|(on, name)| on.name == **name).count();
        way.truncate(shared + 1);
        for (level, name) in components.iter().enumerate().skip(shared) {
            let directory = level < depth;
            let here = way.last_mut().expect("the way starts at the top and only grows here");
            if let Some((other, _)) = here.names.insert(fold(name), (name, directory)) {
                let full = |name: &str| shown(&[&components[..level], &[name]].concat().join("/"));
                return Err(if other == *name {
                    ManifestError::FileAndDirectory(full(name))
                } else {
                    ManifestError::Collision { first: full(other), second: full(name) }
                });
            }
            if directory {
                way.push(Directory { name, names: BTreeMap::new() });
            }
        }
    }
    Ok(())
}

fn check_links(entries: &[Entry]) -> Result<(), ManifestError> {
    for Entry { path, content } in entries {
        let Content::Link { target } = content else { continue };
        let problem = match resolve(path, target) {
            Err(problem) => Some(problem),
            Ok(named) => named_problem(entries, path, &named),
        };
        if let Some(problem) = problem {
            return Err(ManifestError::Link { path: shown(path), target: shown(target), problem });
        }
    }
    Ok(())
}

fn named_problem(entries: &[Entry], link: &str, named: &str) -> Option<LinkProblem> {
    if let Ok(at) = entries.binary_search_by(|entry| entry.path.as_str().cmp(named)) {
        return matches!(entries[at].content, Content::Link { .. }).then_some(LinkProblem::ToLink);
    }
    let below = format!("{named}/");
    if named.is_empty() || link.starts_with(&below) {
        return Some(LinkProblem::Loop);
    }
    let at = entries.partition_point(|entry| entry.path < below);
    let directory = entries.get(at).is_some_and(|entry| entry.path.starts_with(&below));
    (!directory).then_some(LinkProblem::Dangling)
}
