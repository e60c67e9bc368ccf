//! Health commands say what they find, end in time, and leave nothing running.

use std::{fs, path::Path, time::Duration};

use burr_node::health::{self, Health, HealthCommand, MAX_OUTPUT, Subject};
use burr_protocol::{Hash, receipt::last_words, update::Hook};

use crate::support::{scratch, small_app};

/// Longer than any honest command here takes, on the slowest machine.
const LONG: Duration = Duration::from_secs(60);

async fn run(command: HealthCommand, at: &Path, limit: Duration) -> Health {
    let (app, version) = ("shop".to_owned(), "1.2".to_owned());
    let subject = Subject { app, version, bundle: Hash::of(b"bundle"), tree: at.to_owned(), hook: None };
    health::check(&command, &subject, limit).await
}

fn shell(text: &str) -> HealthCommand {
    HealthCommand::Shell(text.to_owned())
}

/// Whether a process still does anything; one that nobody waited for yet does not.
fn is_alive(id: &str) -> bool {
    let status = fs::read_to_string(format!("/proc/{}/stat", id.trim())).unwrap_or_default();
    !matches!(status.rsplit(')').next().and_then(|rest| rest.trim().chars().next()), None | Some('Z' | 'X'))
}

/// The kernel carries out a signal on its own time, so this waits for it, but not for ever.
async fn is_ended(id: &str) -> bool {
    for _ in 0..3000 {
        if !is_alive(id) {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    false
}

#[tokio::test]
async fn a_command_runs_in_the_version_it_judges() {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    let health = run(shell("echo $BURR_APP $BURR_VERSION $BURR_BUNDLE; pwd; test -f index.html"), &source, LONG).await;
    assert!(health.healthy, "{health:?}");
    let place = fs::canonicalize(&source).unwrap();
    for word in ["shop 1.2", &Hash::of(b"bundle").to_string(), place.to_str().unwrap()] {
        assert!(health.words.contains(word), "{health:?}");
    }
    let health = run(HealthCommand::Program(vec!["bin/check".to_owned()]), &source, LONG).await;
    assert!(health.healthy, "{health:?}");
}

#[tokio::test]
async fn a_failure_is_told_with_the_end_of_what_was_written() {
    let dir = scratch();
    let health = run(shell("seq 100000; echo why >&2; exit 3"), dir.path(), LONG).await;
    assert!(!health.healthy);
    assert!(health.words.contains("exit status 3") && health.words.ends_with("why"), "{health:?}");
    assert!(health.words.len() <= MAX_OUTPUT + 80, "{}", health.words.len());
    // What fills a receipt does not push out why.
    assert!(last_words(&health.words).starts_with("the health command failed"), "{health:?}");
    let health = run(shell("kill -9 $$"), dir.path(), LONG).await;
    assert!(health.words.contains("signal 9"), "{health:?}");
    for command in [HealthCommand::Program(vec![]), HealthCommand::Program(vec!["./nowhere".to_owned()])] {
        let health = run(command, dir.path(), LONG).await;
        assert!(!health.healthy && health.words.contains("can't be run"), "{health:?}");
    }
}

#[tokio::test]
async fn a_command_that_hangs_is_ended_with_all_it_started() {
    let dir = scratch();
    // Both ignore the polite signal; the grandchild also holds the output open.
    let text =
        "trap '' TERM; (trap '' TERM; sleep 1000) & echo $! > child; sleep 1000 & echo $! > other; wait; sleep 1000";
    let health = run(shell(text), dir.path(), Duration::from_millis(500)).await;
    assert!(!health.healthy && health.words.contains("did not end"), "{health:?}");
    for name in ["child", "other"] {
        let id = fs::read_to_string(dir.path().join(name)).unwrap();
        assert!(is_ended(&id).await, "{name}");
    }
}

#[tokio::test]
async fn what_a_command_leaves_running_is_ended_too() {
    let dir = scratch();
    let health = run(shell("sleep 1000 & echo $! > child; exit 0"), dir.path(), LONG).await;
    assert!(health.healthy, "{health:?}");
    let id = fs::read_to_string(dir.path().join("child")).unwrap();
    assert!(is_ended(&id).await);
}

#[tokio::test]
async fn what_left_the_group_goes_with_a_command_that_failed_and_stays_after_one_that_did_not() {
    let dir = scratch();
    let begin =
        |name: &str| format!("setsid sh -c 'echo $$ > {name}; exec sleep 1000' & until test -s {name}; do :; done;");
    let health = run(shell(&format!("{} sleep 1000", begin("slow"))), dir.path(), Duration::from_secs(5)).await;
    assert!(health.words.contains("did not end"), "{health:?}");
    let health = run(shell(&format!("{} exit 1", begin("bad"))), dir.path(), LONG).await;
    assert!(health.words.contains("exit status 1"), "{health:?}");
    let health = run(shell(&begin("service")), dir.path(), LONG).await;
    assert!(health.healthy, "{health:?}");
    let id = |name: &str| fs::read_to_string(dir.path().join(name)).unwrap();
    for name in ["slow", "bad"] {
        assert!(is_ended(&id(name)).await, "{name}");
    }
    let service = id("service");
    assert!(is_alive(&service), "a service that was begun on purpose");
    let service = rustix::process::Pid::from_raw(service.trim().parse().unwrap()).unwrap();
    rustix::process::kill_process(service, rustix::process::Signal::KILL).unwrap();
}

#[tokio::test]
async fn a_hook_gives_its_words_and_knows_which_it_is() {
    let scratch = scratch();
    let (app, version) = ("shop".to_owned(), "1.2".to_owned());
    let tree = scratch.path().to_owned();
    let subject = Subject { app, version, bundle: Hash::of(b"bundle"), tree, hook: Some(Hook::Before) };
    let run = |command: &'static str, limit| health::hook(command, Hook::Before, &subject, limit);
    let said = run("echo $BURR_HOOK of $BURR_VERSION", LONG).await;
    assert_eq!(said, Ok("before of 1.2".to_owned()));
    let refused = run("echo not now; exit 3", LONG).await;
    assert_eq!(refused, Err("the hook `before` failed (exit status 3): not now".to_owned()));
    let slow = run("echo thinking; sleep 1000", Duration::from_millis(300)).await;
    assert_eq!(slow, Err("the hook `before` did not end within 0.3 s: thinking".to_owned()));
    let much = run("yes 0123456789abcdef | head -c 1000000", LONG).await.expect("it ends well");
    assert!(much.len() <= MAX_OUTPUT, "{}", much.len());
}
