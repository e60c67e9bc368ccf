//! The node inside somebody's own app: the example is run as it stands, and a node that ended leaves nothing behind that
//! the next one would stumble over.

use std::{
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use burr_node::settings::{Resolved, Source};
use burr_protocol::fact::Fact;

use super::program::{Node, Shop, current};
use crate::support::{scratch, tree};

#[test]
fn the_example_updates_itself_and_says_that_it_works() {
    // Built by whoever runs all tests, beside the program.
    let example = Path::new(env!("CARGO_BIN_EXE_burr")).with_file_name("examples").join("embed");
    if !example.exists() {
        eprintln!("skipped: there is no {}; `cargo build --examples` makes it", example.display());
        return;
    }
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"1")])));
    let publisher = Node::start(&shop.publisher, &[]);
    let data = shop.data("embedded");
    let mut child = Command::new(&example)
        .args([data.as_os_str(), shop.link.as_ref(), publisher.address().to_string().as_ref()])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .expect("it starts");
    let told = BufReader::new(child.stdout.take().expect("piped")).lines().map_while(Result::ok);
    // The end of the output is an end of the wait.
    let active = told.inspect(|line| eprintln!("{line}")).any(|line| line.contains("1.0.0 active"));
    let _ = child.kill();
    let _ = child.wait();
    assert!(active, "the example did not install the app");
    assert!(current(&data).is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_ended_can_be_started_again_at_once() {
    let data = scratch();
    for _ in 0..5 {
        let mut resolved = Resolved::load(data.path()).unwrap();
        for (name, value) in [("listen", "127.0.0.1"), ("mdns", "false")] {
            resolved.set(name, value.to_owned(), Source::Flag).unwrap();
        }
        let (node, running) = burr_node::Node::start(resolved.settings().unwrap()).await.unwrap();
        let mut facts = node.facts();
        node.shutdown().await;
        running.await.unwrap().unwrap();
        drop(node);
        while let Ok(fact) = facts.recv().await {
            assert!(!matches!(fact, Fact::StoreRebuilt { .. }), "{fact}");
        }
    }
}
