//! `burr publish`: a directory or zip becomes the newest version of a channel.

use std::{
    fmt,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use burr_node::{
    error::Error,
    publisher::{Publication, Publisher, Source},
};
use burr_protocol::{release::Release, rules::Rules};
use bytesize::ByteSize;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use super::{Context, passphrase, rules};

/// Pack, sign and publish a directory, a zip archive or a single file as the newest version of a channel.
///
/// A node that runs on the same data directory announces it at once; otherwise the next `burr run` does.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The finished build: a directory, a .zip archive, or any single file such as a firmware image.
    source: PathBuf,
    /// The app, as in `burr init`.
    #[arg(long)]
    app: String,
    /// The channel.
    #[arg(long, default_value = "stable")]
    channel: String,
    /// The version; newer than every one before it on this channel.
    #[arg(long)]
    version: String,
    /// Seal it, so that the devices of this fleet alone can read it; caches, kiosks and couriers carry it all the same.
    #[arg(long, value_name = "FLEET")]
    encrypt_to: Option<String>,
    #[command(flatten)]
    rules: rules::Given,
    #[command(flatten)]
    form: Form,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// A zip that stays as it is.
#[derive(Debug, clap::Args)]
pub(super) struct Form {
    /// Publish a .zip byte for byte, as `npx @capgo/cli bundle zip` or `bundle encrypt` made it, for apps with Capgo's
    /// plugin.
    #[arg(long)]
    as_is: bool,
    /// The checksum that Capgo's command line printed for it.
    #[arg(long, requires = "as_is")]
    checksum: Option<String>,
    /// What `bundle encrypt` printed as ivSessionKey.
    #[arg(long, requires = "checksum", value_name = "IV:KEY")]
    session_key: Option<String>,
}

impl Form {
    /// A source in this form.
    pub(super) fn of<'a>(&'a self, source: &'a Path) -> Source<'a> {
        if !self.as_is {
            return Source::Build(source);
        }
        let (checksum, session_key) = (self.checksum.as_deref(), self.session_key.as_deref());
        Source::Capacitor { zip: source, checksum, session_key }
    }
}

#[derive(Serialize)]
struct Published {
    #[serde(flatten)]
    release: Release,
    /// Whether a running node has it already.
    announced: bool,
    took_ms: u128,
}

impl fmt::Display for Published {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Release { app, channel, version, files, unpacked, payload, .. } = &self.release;
        let (unpacked, packed) = (ByteSize::b(*unpacked), ByteSize::b(payload.size));
        writeln!(
            f,
            "{app} {version} is on {channel}: {files} files, {unpacked}, packed {packed}, in {} ms",
            self.took_ms
        )?;
        if let Some(sealed) = &self.release.enc {
            writeln!(f, "sealed for fleet {}, epoch {}", sealed.fleet, sealed.epoch)?;
        }
        f.write_str(if self.announced {
            "the running node announced it"
        } else {
            "no node runs on this data directory: `burr run` serves it"
        })
    }
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    let begun = Instant::now();
    let mut publisher = Publisher::open(&context.data, &arguments.app)?;
    let bar = ProgressBar::with_draw_target(None, ProgressDrawTarget::hidden());
    if context.is_watched() {
        bar.set_draw_target(ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("packing {bar:40} {bytes}/{total_bytes} {bytes_per_sec}");
        bar.set_style(style.expect("the template is well formed"));
    }
    let progress = |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    };
    let publication = Publication {
        rules: arguments.rules.on(Rules::default())?,
        encrypt_to: arguments.encrypt_to.as_deref(),
        ..Publication::new(arguments.form.of(&arguments.source), &arguments.channel, &arguments.version)
    };
    let published = passphrase::retry(&arguments.passphrase, |given| publisher.publish(&publication, given, &progress));
    bar.finish_and_clear();
    let release = published?;
    let announced = context.tell_node(&arguments.app)?;
    context.print(&Published { release, announced, took_ms: begun.elapsed().as_millis() })?;
    Ok(ExitCode::SUCCESS)
}
