//! What the table of attacks in the specification keeps to: each attack has a row, and each row has tests that are there.

use std::collections::BTreeSet;

use super::{none, read, root};

/// The attacks that a row must answer.
fn wanted() -> BTreeSet<String> {
    let numbers = (1..=11).chain(20..=47).chain([50]).chain(52..=55).chain(60..=61);
    numbers.map(|number| format!("T{number:02}")).collect()
}

/// The rows of the table: id, what stops it, and the tests.
fn rows() -> Vec<(String, String, Vec<String>)> {
    let text = read("protocol/README.md");
    let section = text.split_once("\n## 14. Attacks\n").expect("the section on attacks").1;
    let section = section.split("\n## ").next().expect("a split has a first part");
    let table = section.lines().filter(|line| line.starts_with("| ")).skip(1);
    table
        .map(|line| {
            let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
            let [id, _, stopped, tests] = cells[..] else { panic!("not four cells: {line}") };
            let tests = tests.split('`').skip(1).step_by(2).map(str::to_owned).collect();
            (id.to_owned(), stopped.to_owned(), tests)
        })
        .collect()
}

#[test]
fn every_attack_has_a_row_and_every_row_a_defence_and_a_test() {
    let rows = rows();
    let ids: Vec<String> = rows.iter().map(|(id, ..)| id.clone()).filter(|id| id.starts_with('T')).collect();
    let known: BTreeSet<String> = ids.iter().cloned().collect();
    let mut found: Vec<String> = wanted().difference(&known).map(|id| format!("{id} has no row")).collect();
    if known.len() != ids.len() {
        found.push("an attack has two rows".to_owned());
    }
    for (id, stopped, tests) in &rows {
        if stopped.is_empty() || tests.is_empty() {
            found.push(format!("{id} says not what stops it, or not which test tries it"));
        }
    }
    none(
        &found,
        "Give each attack one row in section 14 of protocol/README.md: what stops it, and which tests try it.",
    );
}

#[test]
fn every_test_that_the_table_names_is_there() {
    let mut found = Vec::new();
    for (id, _, tests) in rows() {
        for test in tests {
            let mut path: Vec<&str> = test.split("::").collect();
            let name = path.pop().expect("a split has a last part");
            let file = format!("{}/tests/all/{}.rs", path[0], path[1..].join("/"));
            let text = if root().join(&file).is_file() { read(&file) } else { String::new() };
            if !text.lines().any(|line| is_test(line, name)) {
                found.push(format!("{id}: {test}: not in {file}"));
            }
        }
    }
    none(&found, "Name a test by its crate, its module and its function, as in `node::attacks::mesh::t06_...`.");
}

fn is_test(line: &str, name: &str) -> bool {
    let line = line.trim_start();
    let function = line.strip_prefix("async ").unwrap_or(line).strip_prefix("fn ");
    function.and_then(|rest| rest.strip_prefix(name)).is_some_and(|rest| rest.starts_with('('))
}
