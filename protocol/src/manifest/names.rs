//! Names that every device can hold: what a path and a link's target may be (`protocol/README.md` §2.3 to §2.5).

use unicode_normalization::UnicodeNormalization as _;

use super::{MAX_COMPONENT, MAX_DEPTH, MAX_PATH, ManifestError};

/// What is wrong with a path, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PathProblem {
    /// Starts at a root, a drive or a server.
    #[error("is absolute; give paths relative to the bundle's top")]
    Absolute,
    /// Holds a backslash.
    #[error("contains a backslash, which separates directories on Windows; rename it")]
    Backslash,
    /// Holds a control character.
    #[error("contains a control character; rename it")]
    Control,
    /// Holds `.` or `..` as a component.
    #[error("contains a `.` or `..` component; give the plain path")]
    Dots,
    /// Holds an empty component, or is empty.
    #[error("has an empty component; remove the doubled, leading or trailing `/`")]
    Empty,
    /// Longer than [`MAX_PATH`].
    #[error("is longer than 1024 bytes; shorten it")]
    TooLong,
    /// A component is longer than [`MAX_COMPONENT`].
    #[error("has a component of more than 255 bytes; shorten it")]
    ComponentTooLong,
    /// Deeper than [`MAX_DEPTH`].
    #[error("is more than 64 directories deep; flatten it")]
    TooDeep,
    /// Holds a character that Windows reserves.
    #[error("contains one of < > : \" | ? *, which Windows does not allow; rename it")]
    Reserved,
    /// A component ends in a dot or a space.
    #[error("has a component that ends in a dot or a space, which Windows drops; rename it")]
    Trailing,
    /// A component is the name of a Windows device.
    #[error("has a component that names a Windows device (CON, NUL, COM1, ...); rename it")]
    Device,
}

/// What is wrong with a link, and what to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum LinkProblem {
    /// Not a plain relative path.
    #[error("is no plain relative path (`../` only in front, no `.` or empty component); make it relative")]
    NotPlain,
    /// Out of the bundle.
    #[error("leaves the bundle; copy what it points to into the bundle")]
    Leaves,
    /// To nothing, or through a link.
    #[error("names no file or directory of the bundle; remove it or add what it points to")]
    Dangling,
    /// To another link.
    #[error("points to another link; point it to the file itself")]
    ToLink,
    /// To a directory that holds the link.
    #[error("points to a directory that contains it; remove it")]
    Loop,
}

/// Checks that a path is relative, plain, and a name that Linux, macOS and Windows all can hold.
///
/// # Errors
/// [`ManifestError::Path`] with the first rule that does not hold.
pub fn check_path(path: &str) -> Result<(), ManifestError> {
    match problem(path) {
        None => Ok(()),
        Some(problem) => Err(ManifestError::Path { path: shown(path), problem }),
    }
}

fn problem(path: &str) -> Option<PathProblem> {
    let drive = matches!(path.as_bytes(), [letter, b':', ..] if letter.is_ascii_alphabetic());
    if drive || path.starts_with(['/', '\\']) {
        return Some(PathProblem::Absolute);
    }
    if path.len() > MAX_PATH {
        return Some(PathProblem::TooLong);
    }
    if path.split('/').count() > MAX_DEPTH {
        return Some(PathProblem::TooDeep);
    }
    path.split('/').find_map(component_problem)
}

fn component_problem(name: &str) -> Option<PathProblem> {
    if name.is_empty() {
        return Some(PathProblem::Empty);
    }
    if name == "." || name == ".." {
        return Some(PathProblem::Dots);
    }
    if name.contains('\\') {
        return Some(PathProblem::Backslash);
    }
    if name.chars().any(char::is_control) {
        return Some(PathProblem::Control);
    }
    if name.len() > MAX_COMPONENT {
        return Some(PathProblem::ComponentTooLong);
    }
    if name.contains(['<', '>', ':', '"', '|', '?', '*']) {
        return Some(PathProblem::Reserved);
    }
    if name.ends_with(['.', ' ']) {
        return Some(PathProblem::Trailing);
    }
    is_device(name).then_some(PathProblem::Device)
}

/// Windows opens a device for these names, whatever extension follows, and drops spaces in front of it.
fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or_default().trim_end().to_ascii_uppercase();
    if matches!(stem.as_str(), "CON" | "PRN" | "AUX" | "NUL" | "CONIN$" | "CONOUT$") {
        return true;
    }
    let number = stem.strip_prefix("COM").or_else(|| stem.strip_prefix("LPT"));
    number.is_some_and(|number| {
        let mut chars = number.chars();
        matches!((chars.next(), chars.next()), (Some('0'..='9' | '¹' | '²' | '³'), None))
    })
}

/// The form in which names that some file system takes for one are equal: NFC, case folded, without the characters
/// that such file systems ignore. Folding through upper case also joins what differs in lower case only (`ß`, `ss`).
pub(super) fn fold(name: &str) -> String {
    let ignored = |c: &char| {
        matches!(c, '\u{00ad}' | '\u{034f}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}'
            | '\u{2060}'..='\u{206f}' | '\u{fe00}'..='\u{fe0f}' | '\u{feff}')
    };
    let folded = name.nfd().filter(|c| !ignored(c)).flat_map(char::to_uppercase).flat_map(char::to_lowercase);
    folded.nfc().collect()
}

/// The path in the bundle that a link names: its target taken from the directory that holds the link.
pub(super) fn resolve(link: &str, target: &str) -> Result<String, LinkProblem> {
    if target.len() > MAX_PATH || target.contains('\\') || target.chars().any(char::is_control) {
        return Err(LinkProblem::NotPlain);
    }
    let mut at: Vec<&str> = link.split('/').collect();
    at.pop();
    let mut descending = false;
    for component in target.split('/') {
        match component {
            "" | "." => return Err(LinkProblem::NotPlain),
            ".." if descending => return Err(LinkProblem::NotPlain),
            ".." => {
                at.pop().ok_or(LinkProblem::Leaves)?;
            }
            name => {
                descending = true;
                at.push(name);
            }
        }
    }
    Ok(at.join("/"))
}

/// A text from outside, short enough for a message.
pub(super) fn shown(text: &str) -> String {
    text.chars().take(200).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn devices_are_known_in_every_disguise() {
        for name in ["con", "NUL.txt", "Com1", "lpt9.tar.gz", "COM¹", "conin$", "aux .c", "COM0"] {
            assert!(is_device(name), "{name}");
        }
        for name in ["console", "COM10", "com", "nul-1", "lptx", "a.con"] {
            assert!(!is_device(name), "{name}");
        }
    }

    #[test]
    fn folding_joins_what_some_file_system_joins() {
        for (a, b) in [
            ("A", "a"),
            ("é", "e\u{301}"),
            ("É", "e\u{301}"),
            ("straße", "STRASSE"),
            ("K", "\u{212a}"),
            ("a\u{200d}", "a"),
        ] {
            assert_eq!(fold(a), fold(b), "{a} {b}");
        }
        assert_ne!(fold("a"), fold("ä"));
    }

    #[test]
    fn links_resolve_from_their_directory() {
        assert_eq!(resolve("a/b/link", "../x/y").as_deref(), Ok("a/x/y"));
        assert_eq!(resolve("link", "x").as_deref(), Ok("x"));
        assert_eq!(resolve("a/link", "../../x"), Err(LinkProblem::Leaves));
        for target in ["", "/x", "x/../y", "./x", "x/", "x\\y", "x\0"] {
            assert_eq!(resolve("a/link", target), Err(LinkProblem::NotPlain), "{target:?}");
        }
    }
}
