//! The order of version labels, as people read them: `1.9 < 1.10`, `2.0-rc.1 < 2.0`, `1 = 1.0`. For versions of the
//! form `major.minor.patch` it is the order of Semantic Versioning.

use std::cmp::Ordering;

/// Whether version `a` comes after version `b`. What follows a `+` does not count.
#[must_use]
pub fn is_newer(a: &str, b: &str) -> bool {
    compare(a, b) == Ordering::Greater
}

fn compare(a: &str, b: &str) -> Ordering {
    let (core_a, early_a) = split(a);
    let (core_b, early_b) = split(b);
    by_parts(core_a, core_b, Some("0")).then_with(|| match (early_a, early_b) {
        (None, None) => Ordering::Equal,
        (None, Some(_)) => Ordering::Greater,
        (Some(_), None) => Ordering::Less,
        (Some(a), Some(b)) => by_parts(a, b, None),
    })
}

/// The version and its pre-release part, without the build part.
fn split(text: &str) -> (&str, Option<&str>) {
    let text = text.split('+').next().unwrap_or_default();
    text.split_once('-').map_or((text, None), |(core, early)| (core, Some(early)))
}

/// Compares part by part; a part that only one side has is compared with `missing`, or makes that side the greater.
fn by_parts(a: &str, b: &str, missing: Option<&str>) -> Ordering {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        let order = match (a.next(), b.next()) {
            (None, None) => return Ordering::Equal,
            (Some(a), Some(b)) => part(a, b),
            (Some(a), None) => missing.map_or(Ordering::Greater, |b| part(a, b)),
            (None, Some(b)) => missing.map_or(Ordering::Less, |a| part(a, b)),
        };
        if order != Ordering::Equal {
            return order;
        }
    }
}

/// Numbers by value, of any length; other texts by their bytes; a number before a text.
fn part(a: &str, b: &str) -> Ordering {
    let number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    match (number(a), number(b)) {
        (true, true) => {
            let (a, b) = (a.trim_start_matches('0'), b.trim_start_matches('0'));
            a.len().cmp(&b.len()).then_with(|| a.cmp(b))
        }
        (true, false) => Ordering::Less,
        (false, true) => Ordering::Greater,
        (false, false) => a.cmp(b),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_come_in_the_order_people_expect() {
        let ascending = [
            "0.9",
            "1.0.0-alpha",
            "1.0.0-alpha.1",
            "1.0.0-alpha.beta",
            "1.0.0-beta.2",
            "1.0.0-beta.11",
            "1.0.0-rc.1",
            "1.0.0",
            "1.0.1",
            "1.9.0",
            "1.10.0",
            "2",
            "20241124",
            "20251124.99999999999999999999",
        ];
        for (at, older) in ascending.iter().enumerate() {
            for newer in &ascending[at + 1..] {
                assert!(is_newer(newer, older) && !is_newer(older, newer), "{older} {newer}");
            }
        }
        for (a, b) in [("1", "1.0.0"), ("1.0+a", "1.0+b"), ("1.01", "1.1")] {
            assert!(!is_newer(a, b) && !is_newer(b, a), "{a} {b}");
        }
    }
}
