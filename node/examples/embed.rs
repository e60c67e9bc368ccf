//! Updates in one's own app: the node runs inside it, the app serves what is current and says that it works.
//!
//! `cargo run --example embed -- DATA APP/CHANNEL@REPOSITORY [PEER]`

use std::path::Path;

use burr_node::{
    Node,
    settings::{Resolved, Source, follow::Link},
};
use burr_protocol::fact::{Fact, UpdateStep};

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let (Some(data), Some(link)) = (arguments.next(), arguments.next()) else {
        return Err("usage: embed DATA APP/CHANNEL@REPOSITORY [PEER]".into());
    };
    let link: Link = link.parse()?;
    let mut settings = Resolved::load(Path::new(&data))?;
    let channel = link.channel.unwrap_or_else(|| "stable".to_owned());
    for (name, value) in [("repository", link.repository.to_string()), ("install", channel), ("confirm", "call".into())]
    {
        settings.set_app(&link.app, name, value, Source::Flag)?;
    }
    settings.set("peers", arguments.next().unwrap_or_default(), Source::Flag)?;

    let (node, running) = Node::start(settings.settings()?).await?;
    let mut facts = node.facts();
    tokio::spawn(async move {
        while let Ok(fact) = facts.recv().await {
            println!("{fact}");
            if let Fact::Update { app, step: UpdateStep::OnTrial, .. } = fact {
                // Here the app would load DATA/apps/APP/current and see whether it works. It does: so it stays.
                let _ = node.confirm(&app).await;
            }
        }
    });
    running.await??;
    Ok(())
}
