//! Updates in one's own app: the node runs inside it, the app loads what is current and says that it works.
//!
//! `cargo run --example embed -- DATA APP/CHANNEL@REPOSITORY PEER`

use std::{env, path::Path};

use burr_node::{
    Node,
    settings::{Resolved, Source, follow::Link},
};
use burr_protocol::fact::{Fact, UpdateStep};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [data, link, peer] = arguments.try_into().map_err(|_| "usage: embed DATA APP/CHANNEL@REPOSITORY PEER")?;
    let link: Link = link.parse()?;
    let mut settings = Resolved::load(Path::new(&data))?;
    settings.install(&link, &Source::Flag)?;
    settings.set_app(&link.app, "confirm", "call".to_owned(), Source::Flag)?;
    settings.set("peers", peer, Source::Flag)?;

    let (node, _running) = Node::start(settings.settings()?).await?;
    let mut facts = node.facts();
    while let Ok(fact) = facts.recv().await {
        println!("{fact}");
        if let Fact::Update { app, step: UpdateStep::OnTrial, .. } = fact {
            // Here the app loads DATA/apps/APP/current and sees whether it works. It does, so it stays.
            node.confirm(&app).await?;
        }
    }
    Ok(())
}
