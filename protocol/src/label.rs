//! Labels: the short names that people give to apps, channels and versions. They become parts of paths, of target
//! names and of environment variables, so their alphabet is small.

/// Bytes of a label at most.
pub const MAX_LABEL: usize = 64;

/// A text that can't be a label.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no usable {what}: use 1 to 64 of {alphabet}, starting with a letter or digit")]
pub struct LabelError {
    /// What it was to be.
    pub what: &'static str,
    /// The text, cut to 80 characters.
    pub text: String,
    /// What is allowed, for people.
    pub alphabet: &'static str,
}

/// Checks the name of an app or a channel: `[a-z0-9][a-z0-9._-]*`, without `..`. Lower case alone, so that two names
/// never collide on a file system that folds case.
///
/// # Errors
/// [`LabelError`] if it is not one.
pub fn check_name(what: &'static str, text: &str) -> Result<(), LabelError> {
    let alphabet = "a-z 0-9 . _ -";
    check(what, text, alphabet, |byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte))
}

/// Checks a version: `[A-Za-z0-9][A-Za-z0-9._+-]*`, without `..`.
///
/// # Errors
/// [`LabelError`] if it is not one.
pub fn check_version(text: &str) -> Result<(), LabelError> {
    let alphabet = "A-Z a-z 0-9 . _ + -";
    check("version", text, alphabet, |byte| byte.is_ascii_alphanumeric() || b"._+-".contains(&byte))
}

fn check(
    what: &'static str,
    text: &str,
    alphabet: &'static str,
    allowed: impl Fn(u8) -> bool,
) -> Result<(), LabelError> {
    let starts_well = text.as_bytes().first().is_some_and(u8::is_ascii_alphanumeric);
    if starts_well && text.len() <= MAX_LABEL && text.bytes().all(allowed) && !text.contains("..") {
        Ok(())
    } else {
        Err(LabelError { what, text: text.chars().take(80).collect(), alphabet })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_in_paths() {
        for good in ["a", "shop", "com.example.shop", "v2-beta_1"] {
            assert_eq!(check_name("app", good), Ok(()));
        }
        for bad in ["", ".", "..", "a..b", "-a", "A", "a/b", "a b", "é", "a\0", &"a".repeat(65)] {
            assert!(check_name("app", bad).is_err(), "{bad:?}");
        }
        assert_eq!(check_version("1.2.3-rc.1+build5"), Ok(()));
        assert!(check_version("1/2").is_err());
    }
}
