//! Recorded contacts: who could hear whom, and when.

use crate::scenario::TraceFormat;

/// Two nodes come into contact, or go out of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Contact {
    /// When, in milliseconds.
    pub at: u64,
    /// Whether they come into contact.
    pub up: bool,
    /// One of them.
    pub a: u32,
    /// The other.
    pub b: u32,
}

/// A line that is not of its form.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the trace is not `{form}`: {text:?}")]
pub struct TraceError {
    line: usize,
    form: &'static str,
    text: String,
}

/// Reads a trace; contacts come in the order of time. Names of nodes are numbers, with letters before them or without.
///
/// # Errors
/// [`TraceError`] for the first line that is not of the form.
pub fn read(text: &str, format: TraceFormat) -> Result<Vec<Contact>, TraceError> {
    let mut contacts = Vec::new();
    for (number, line) in text.lines().enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let fields: Vec<&str> = line.split_whitespace().collect();
        let read = match format {
            TraceFormat::One => one(&fields),
            TraceFormat::Contacts => listed(&fields),
        };
        let form = match format {
            TraceFormat::One => "TIME CONN A B up|down",
            TraceFormat::Contacts => "A B START END",
        };
        let text = || line.chars().take(80).collect();
        contacts.extend(read.ok_or_else(|| TraceError { line: number + 1, form, text: text() })?);
    }
    contacts.sort_unstable();
    Ok(contacts)
}

/// A line of The ONE's connectivity report (ConnectivityONEReport): an event of a connection.
fn one(fields: &[&str]) -> Option<Vec<Contact>> {
    let [time, "CONN", a, b, way] = fields else { return None };
    let up = match *way {
        "up" => true,
        "down" => false,
        _ => return None,
    };
    Some(vec![Contact { at: millis(time)?, up, a: node(a)?, b: node(b)? }]).filter(differ)
}

/// A line of a contact list, as CRAWDAD's data sets have it (such as cambridge/haggle): a contact from start to end.
/// What follows the four fields is left out.
fn listed(fields: &[&str]) -> Option<Vec<Contact>> {
    let [a, b, start, end, ..] = fields else { return None };
    let (a, b, start, end) = (node(a)?, node(b)?, millis(start)?, millis(end)?);
    let contact = |at, up| Contact { at, up, a, b };
    (start <= end).then(|| vec![contact(start, true), contact(end, false)]).filter(differ)
}

#[allow(clippy::ptr_arg, reason = "a filter of a Vec")]
fn differ(contacts: &Vec<Contact>) -> bool {
    contacts.iter().all(|contact| contact.a != contact.b)
}

/// Seconds, with a fraction or without.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
fn millis(text: &str) -> Option<u64> {
    let seconds: f64 = text.parse().ok()?;
    (0.0..1e12).contains(&seconds).then(|| (seconds * 1000.0).round() as u64)
}

fn node(text: &str) -> Option<u32> {
    text.trim_start_matches(|c: char| c.is_ascii_alphabetic()).parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_say_the_same() {
        let one = "10.5 CONN 0 3 up\n12.0 CONN n1 n2 up\n20.0 CONN 0 3 down\n21 CONN 1 2 down\n";
        let listed = "# a b start end\n0 3 10.5 20\n1 2 12 21 1 0\n";
        let read_one = read(one, TraceFormat::One).unwrap();
        assert_eq!(read_one.len(), 4);
        assert_eq!(read_one[0], Contact { at: 10_500, up: true, a: 0, b: 3 });
        assert_eq!(read_one, read(listed, TraceFormat::Contacts).unwrap());
    }

    #[test]
    fn what_is_no_contact_is_refused_with_its_line() {
        for text in ["x CONN 0 1 up", "1 CONN 0 1 sideways", "1 CONN 0 0 up", "1 CON 0 1 up", "-1 CONN 0 1 up"] {
            let error = read(&format!("1 CONN 0 1 up\n{text}\n"), TraceFormat::One).unwrap_err();
            assert_eq!(error.line, 2, "{text}");
        }
        assert!(read("0 1 20 10", TraceFormat::Contacts).is_err());
    }
}
