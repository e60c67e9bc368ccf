//! Which devices a release is for, as an expression over their attributes:
//! `site = "depot-7" and (model in ["a", "b"] or not ring = "slow")`.
//!
//! ```text
//! any    = all { "or" all }
//! all    = one { "and" one }
//! one    = "not" one | "(" any ")" | name "=" text | name "!=" text | name "in" "[" text { "," text } "]"
//! name   = a-z { a-z 0-9 _ - . }       text = '"' any characters but '"' and controls '"'
//! ```
//! An attribute that a device does not have is equal to nothing, so `!=` holds for it. `group` is equal to each of the
//! device's groups. The text is kept as it was written, since it is what was signed.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use serde::{Deserialize, Serialize};

use super::GROUP;

/// Bytes of an expression at most.
pub const MAX_EXPRESSION: usize = 1024;
/// Parentheses and `not`s within each other at most.
const MAX_DEPTH: usize = 16;

/// An expression over a device's attributes that was parsed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Expression {
    text: String,
    tree: Tree,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Tree {
    Any(Vec<Tree>),
    All(Vec<Tree>),
    Not(Box<Tree>),
    /// The attribute has one of these values, or one of the groups is among them.
    Is(String, Vec<String>),
}

/// A text that is no expression.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ExpressionError {
    /// Longer than [`MAX_EXPRESSION`].
    #[error("the expression has more than {MAX_EXPRESSION} bytes")]
    TooLong,
    /// Nested too deeply.
    #[error("the expression is nested deeper than {MAX_DEPTH}")]
    TooDeep,
    /// Something else was expected.
    #[error(
        "expected {expected} at character {at} of the expression, e.g. site = \"depot-7\" and model in [\"a\", \"b\"]"
    )]
    Expected {
        /// What, in words.
        expected: &'static str,
        /// Where, from 1, in bytes.
        at: usize,
    },
}

impl Expression {
    /// Whether it holds for a device with these attributes, in these groups.
    #[must_use]
    pub fn holds(&self, attributes: &BTreeMap<String, String>, groups: &BTreeSet<String>) -> bool {
        self.tree.holds(attributes, groups)
    }

    /// Whether it asks for groups.
    #[must_use]
    pub fn asks_for_groups(&self) -> bool {
        self.tree.asks_for_groups()
    }
}

impl Tree {
    fn asks_for_groups(&self) -> bool {
        match self {
            Self::Any(parts) | Self::All(parts) => parts.iter().any(Self::asks_for_groups),
            Self::Not(part) => part.asks_for_groups(),
            Self::Is(name, _) => name == GROUP,
        }
    }

    fn holds(&self, attributes: &BTreeMap<String, String>, groups: &BTreeSet<String>) -> bool {
        match self {
            Self::Any(parts) => parts.iter().any(|part| part.holds(attributes, groups)),
            Self::All(parts) => parts.iter().all(|part| part.holds(attributes, groups)),
            Self::Not(part) => !part.holds(attributes, groups),
            Self::Is(name, values) if name == GROUP => values.iter().any(|value| groups.contains(value)),
            Self::Is(name, values) => attributes.get(name).is_some_and(|value| values.contains(value)),
        }
    }
}

impl FromStr for Expression {
    type Err = ExpressionError;

    fn from_str(text: &str) -> Result<Self, ExpressionError> {
        if text.len() > MAX_EXPRESSION {
            return Err(ExpressionError::TooLong);
        }
        let mut parser = Parser { text, at: 0 };
        let tree = parser.any(0)?;
        if parser.rest().is_empty() {
            Ok(Self { text: text.to_owned(), tree })
        } else {
            Err(parser.expected("`and`, `or` or the end"))
        }
    }
}

impl TryFrom<String> for Expression {
    type Error = ExpressionError;

    fn try_from(text: String) -> Result<Self, ExpressionError> {
        text.parse()
    }
}

impl From<Expression> for String {
    fn from(expression: Expression) -> Self {
        expression.text
    }
}

impl fmt::Display for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

struct Parser<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Parser<'a> {
    fn any(&mut self, depth: usize) -> Result<Tree, ExpressionError> {
        let mut parts = vec![self.all(depth)?];
        while self.word("or") {
            parts.push(self.all(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::Any(parts) })
    }

    fn all(&mut self, depth: usize) -> Result<Tree, ExpressionError> {
        let mut parts = vec![self.one(depth)?];
        while self.word("and") {
            parts.push(self.one(depth)?);
        }
        Ok(if parts.len() == 1 { parts.remove(0) } else { Tree::All(parts) })
    }

    fn one(&mut self, depth: usize) -> Result<Tree, ExpressionError> {
        if depth == MAX_DEPTH {
            return Err(ExpressionError::TooDeep);
        }
        if self.word("not") {
            return Ok(Tree::Not(Box::new(self.one(depth + 1)?)));
        }
        if self.sign("(") {
            let inner = self.any(depth + 1)?;
            return if self.sign(")") { Ok(inner) } else { Err(self.expected("`)`")) };
        }
        let name = self.name()?;
        if self.sign("!=") {
            return Ok(Tree::Not(Box::new(Tree::Is(name, vec![self.value()?]))));
        }
        if self.sign("=") {
            return Ok(Tree::Is(name, vec![self.value()?]));
        }
        if !self.word("in") {
            return Err(self.expected("`=`, `!=` or `in`"));
        }
        if !self.sign("[") {
            return Err(self.expected("`[`"));
        }
        let mut values = vec![self.value()?];
        while self.sign(",") {
            values.push(self.value()?);
        }
        if self.sign("]") { Ok(Tree::Is(name, values)) } else { Err(self.expected("`,` or `]`")) }
    }

    fn name(&mut self) -> Result<String, ExpressionError> {
        let rest = self.rest();
        let length = name_length(rest);
        let name = &rest[..length];
        if length == 0 || ["and", "or", "not", "in"].contains(&name) {
            return Err(self.expected("the name of an attribute"));
        }
        self.at += length;
        Ok(name.to_owned())
    }

    fn value(&mut self) -> Result<String, ExpressionError> {
        let rest = self.rest();
        let inner = rest.strip_prefix('"').and_then(|rest| rest.split_once('"')).map(|(inner, _)| inner);
        match inner.filter(|inner| !inner.chars().any(char::is_control)) {
            Some(inner) => {
                self.at += inner.len() + 2;
                Ok(inner.to_owned())
            }
            None => Err(self.expected("a text in double quotes")),
        }
    }

    /// What follows the blanks that come next, which are passed over.
    fn rest(&mut self) -> &'a str {
        let rest = &self.text[self.at..];
        let trimmed = rest.trim_start_matches([' ', '\t', '\n']);
        self.at += rest.len() - trimmed.len();
        trimmed
    }

    fn sign(&mut self, sign: &str) -> bool {
        let found = self.rest().starts_with(sign);
        self.at += if found { sign.len() } else { 0 };
        found
    }

    fn word(&mut self, word: &str) -> bool {
        let rest = self.rest();
        let found = &rest[..name_length(rest)] == word;
        self.at += if found { word.len() } else { 0 };
        found
    }

    fn expected(&mut self, expected: &'static str) -> ExpressionError {
        self.rest();
        ExpressionError::Expected { expected, at: self.at + 1 }
    }
}

/// Bytes of the name that a text starts with.
fn name_length(text: &str) -> usize {
    if !text.starts_with(|first: char| first.is_ascii_lowercase()) {
        return 0;
    }
    let inside = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"_-.".contains(&byte);
    text.bytes().position(|byte| !inside(byte)).unwrap_or(text.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn holds(text: &str, attributes: &[(&str, &str)]) -> bool {
        let attributes = attributes.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        text.parse::<Expression>().expect("an expression").holds(&attributes, &BTreeSet::new())
    }

    #[test]
    fn a_device_may_be_in_several_groups_and_says_none_of_itself() {
        let device = |groups: &[&str]| groups.iter().map(|group| (*group).to_owned()).collect::<BTreeSet<_>>();
        let claimed = [(GROUP.to_owned(), "berlin".to_owned())].into();
        let holds = |text: &str, groups: &[&str]| {
            text.parse::<Expression>().expect("an expression").holds(&claimed, &device(groups))
        };
        assert!(holds(r#"group = "berlin" and group in ["hall-1", "hall-2"]"#, &["berlin", "hall-2"]));
        assert!(!holds(r#"group != "berlin""#, &["berlin", "hall-2"]));
        assert!(!holds(r#"group = "berlin""#, &[]) && holds(r#"not group = "berlin""#, &["bonn"]));
    }

    #[test]
    fn and_binds_closer_than_or_and_not_closest() {
        let device = [("site", "depot-7"), ("model", "b")];
        assert!(holds(r#"site = "depot-7" and model in ["a", "b"]"#, &device));
        assert!(holds(r#"site = "x" and model = "x" or model = "b""#, &device));
        assert!(!holds(r#"site = "x" and (model = "x" or model = "b")"#, &device));
        assert!(holds(r#"not site = "x" and model = "b""#, &device));
        assert!(!holds(r#"not (site = "x" or model = "b")"#, &device));
    }

    #[test]
    fn an_attribute_that_is_not_there_is_equal_to_nothing() {
        assert!(!holds(r#"ring = """#, &[]));
        assert!(holds(r#"ring != "slow""#, &[]));
        assert!(holds(r#"android = "14""#, &[("android", "14")]), "a name may start like a word");
    }

    #[test]
    fn what_is_no_expression_is_refused_with_the_place() {
        let at = |text: &str| match text.parse::<Expression>() {
            Err(ExpressionError::Expected { at, .. }) => at,
            other => panic!("{text}: {other:?}"),
        };
        assert_eq!(at(""), 1);
        assert_eq!(at("site"), 5);
        assert_eq!(at("site = depot"), 8);
        assert_eq!(at("(site = \"a\""), 12);
        assert_eq!(at("site = \"a\" site = \"b\""), 12);
        assert_eq!(at("and = \"a\""), 1);
        assert_eq!(at("a in [\"x\" \"y\"]"), 11);
        assert_eq!("(".repeat(17).parse::<Expression>(), Err(ExpressionError::TooDeep));
        assert_eq!("not ".repeat(200).parse::<Expression>(), Err(ExpressionError::TooDeep));
        assert_eq!("x".repeat(1025).parse::<Expression>(), Err(ExpressionError::TooLong));
    }
}
