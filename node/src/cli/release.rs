//! `burr release`: what an app has released, by which rules, and everything that happens to a release after it was made.

use std::{fmt, path::PathBuf, process::ExitCode};

use burr_node::{
    error::{Error, Kind},
    publisher::{Publication, Publisher},
};
use burr_protocol::{
    release::Release,
    rules::Rules,
    trust::write::{Difference, Draft},
};
use clap::Subcommand;
use serde::Serialize;

use super::{
    Context,
    draft::{self, Standing},
    passphrase,
    publish::Form,
    rules,
};

/// Releases: list them, steer who takes them, and make them together.
///
/// A changed rule is signed anew by the channel's keys and travels like any news; the bundle stays as it is. Where one
/// machine does not hold enough keys, the change becomes a file that others sign with `burr release sign`.
#[derive(Debug, Subcommand)]
pub(super) enum Arguments {
    List(List),
    Show(Which),
    SetRollout(SetRollout),
    SetHalt(SetHalt),
    SetRules(SetRules),
    /// Hold a release back for now: no device begins to take it.
    Pause(Change),
    /// Let devices take a paused release again. Its threshold for halting by itself goes, as it may be passed still;
    /// `burr release set-halt` sets another.
    Resume(Change),
    Yank(Yank),
    Promote(Promote),
    /// Go back to an earlier version: it is released once more, under a new number and without copying its bundle, so
    /// that devices on a later version take it.
    Rollback(Change),
    Propose(Propose),
    Sign(draft::Sign),
    Submit(draft::Submit),
}

/// List the releases of an app, the newest first.
#[derive(Debug, clap::Args)]
pub(super) struct List {
    /// The app.
    #[arg(long)]
    app: String,
    /// This channel alone.
    #[arg(long)]
    channel: Option<String>,
}

/// Show one release with its rules.
#[derive(Debug, clap::Args)]
pub(super) struct Which {
    /// Its version, or its number as #7.
    release: String,
    /// The app.
    #[arg(long)]
    app: String,
    /// The channel.
    #[arg(long, default_value = "stable")]
    channel: String,
}

/// A change of one release.
#[derive(Debug, clap::Args)]
pub(super) struct Change {
    #[command(flatten)]
    which: Which,
    #[command(flatten)]
    how: How,
}

/// How a change is signed.
#[derive(Debug, clap::Args)]
struct How {
    /// Where to write the draft if signatures of others are missing.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Set the share of devices that take a release.
#[derive(Debug, clap::Args)]
pub(super) struct SetRollout {
    /// The share, such as 25%; a smaller one than before stops others, and leaves it where it is.
    #[arg(value_parser = rules::share)]
    share: u16,
    #[command(flatten)]
    change: Change,
}

/// Set the failures at which a release halts by itself.
///
/// Devices tell each other how a release fared, and those that hear of too many failures do not begin to take it, even
/// where nobody reaches the publisher; the publisher's node pauses it when it hears of it.
#[derive(Debug, clap::Args)]
pub(super) struct SetHalt {
    /// FAILURES/SHARE/OUTCOMES, such as 3/20%/10, or `never`.
    threshold: String,
    #[command(flatten)]
    change: Change,
}

/// Change the rules of a release; those that are not named stay.
#[derive(Debug, clap::Args)]
pub(super) struct SetRules {
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    rules: rules::Given,
}

/// Take a release back for good: no device begins to take it any more. Devices that have it keep it until there is
/// something newer; `burr release rollback` gives them that.
#[derive(Debug, clap::Args)]
pub(super) struct Yank {
    /// Why, for people.
    #[arg(long)]
    reason: String,
    #[command(flatten)]
    change: Change,
}

/// Release what one channel has on another channel too, without copying its bundle.
#[derive(Debug, clap::Args)]
pub(super) struct Promote {
    /// The other channel.
    #[arg(long)]
    to: String,
    #[command(flatten)]
    change: Change,
    #[command(flatten)]
    rules: rules::Given,
}

/// Pack a bundle and write the draft of its release to a file, for the channel's keys to sign.
#[derive(Debug, clap::Args)]
pub(super) struct Propose {
    /// The finished build: a directory, a .zip archive, or any single file.
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
    #[command(flatten)]
    form: Form,
    /// The file to write.
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Seal it, so that the devices of this fleet alone can read it.
    #[arg(long, value_name = "FLEET")]
    encrypt_to: Option<String>,
    #[command(flatten)]
    rules: rules::Given,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

pub(super) fn run(context: &Context, arguments: &Arguments) -> Result<ExitCode, Error> {
    match arguments {
        Arguments::List(arguments) => list(context, arguments)?,
        Arguments::Show(which) => context.print(&Listed(vec![find(&open(context, which)?, which)?]))?,
        Arguments::SetRollout(SetRollout { share, change }) => {
            with_rules(context, change, |rules| Ok(Rules { rollout: *share, ..rules }))?;
        }
        Arguments::SetHalt(SetHalt { threshold, change }) => {
            let halt = rules::halt(if threshold == "never" { "" } else { threshold })?;
            with_rules(context, change, |rules| Ok(Rules { halt, ..rules }))?;
        }
        Arguments::SetRules(SetRules { change, rules: given }) => with_rules(context, change, |rules| given.on(rules))?,
        Arguments::Pause(change) => with_rules(context, change, |rules| Ok(Rules { paused: true, ..rules }))?,
        Arguments::Resume(change) => {
            with_rules(context, change, |rules| Ok(Rules { paused: false, halt: None, ..rules }))?;
        }
        Arguments::Yank(Yank { reason, change }) => {
            with_rules(context, change, |rules| Ok(Rules { yanked: Some(reason.clone()), ..rules }))?;
        }
        Arguments::Promote(Promote { to, change, rules }) => {
            let rules = rules.on(Rules::default())?;
            make(context, change, |publisher, release, passphrase| {
                publisher.promote(&release.channel, release.seq, to, &rules, passphrase)
            })?;
        }
        Arguments::Rollback(change) => make(context, change, |publisher, release, passphrase| {
            publisher.bring_back(&release.channel, release.seq, passphrase)
        })?,
        Arguments::Propose(arguments) => propose(context, arguments)?,
        Arguments::Sign(arguments) => draft::sign(context, arguments)?,
        Arguments::Submit(arguments) => draft::submit(context, arguments)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Releases as a table, or as JSON.
#[derive(Serialize)]
struct Listed(Vec<Release>);

impl fmt::Display for Listed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.is_empty() {
            return f.write_str("nothing was released yet");
        }
        for (at, release) in self.0.iter().enumerate() {
            let Release { channel, seq, version, files, unpacked, payload, rules, .. } = release;
            let line = if at == 0 { "" } else { "\n" };
            let (unpacked, size) = (bytesize::ByteSize::b(*unpacked), bytesize::ByteSize::b(payload.size));
            write!(f, "{line}{channel} #{seq}: {version}, {files} files, {unpacked}, packed {size}\n  {rules}")?;
        }
        Ok(())
    }
}

fn open(context: &Context, which: &Which) -> Result<Publisher, Error> {
    Publisher::open(&context.data, &which.app)
}

fn list(context: &Context, arguments: &List) -> Result<(), Error> {
    let publisher = Publisher::open(&context.data, &arguments.app)?;
    let wanted = |release: &&Release| arguments.channel.as_ref().is_none_or(|channel| *channel == release.channel);
    let mut releases: Vec<Release> = publisher.releases().filter(wanted).cloned().collect();
    releases.sort_by_key(|release| (release.channel.clone(), std::cmp::Reverse(release.seq)));
    context.print(&Listed(releases))
}

/// The release of this version, the newest if it came twice, or of this number.
fn find(publisher: &Publisher, which: &Which) -> Result<Release, Error> {
    let number = which.release.strip_prefix('#').and_then(|number| number.parse::<u64>().ok());
    let is = |release: &&Release| {
        release.channel == which.channel && number.map_or(release.version == which.release, |seq| release.seq == seq)
    };
    publisher.releases().filter(is).last().cloned().ok_or_else(|| {
        let Which { release, app, channel } = which;
        Error::new(Kind::BadInput, format!("{app} has no release {release} on {channel}"))
            .with_hint(format!("burr release list --app {app} shows those that it has"))
    })
}

fn with_rules(context: &Context, change: &Change, new: impl Fn(Rules) -> Result<Rules, Error>) -> Result<(), Error> {
    make(context, change, |publisher, release, passphrase| {
        publisher.change_rules(&release.channel, release.seq, &new, passphrase)
    })
}

/// Makes a change, and says where it stands.
fn make(
    context: &Context,
    change: &Change,
    how: impl Fn(&mut Publisher, &Release, Option<&str>) -> Result<(Draft, bool), Error>,
) -> Result<(), Error> {
    let Change { which, how: How { out, passphrase: source } } = change;
    let mut publisher = open(context, which)?;
    let release = find(&publisher, which)?;
    let (draft, done) = passphrase::retry(source, |passphrase| how(&mut publisher, &release, passphrase))?;
    draft::settle(context, &which.app, &draft, done, out.as_deref())
}

fn propose(context: &Context, arguments: &Propose) -> Result<(), Error> {
    let Propose { source, app, channel, version, form, out, encrypt_to, rules, passphrase } = arguments;
    let mut publisher = Publisher::open(&context.data, app)?;
    let publication = Publication {
        rules: rules.on(Rules::default())?,
        encrypt_to: encrypt_to.as_deref(),
        ..Publication::new(form.of(source), channel, version)
    };
    let proposed = passphrase::retry(passphrase, |given| publisher.propose_release(&publication, given, &|_, _| ()))?;
    draft::write(out, &proposed)?;
    let mut standing = Standing::of(&proposed, Some(out.clone()), false);
    if let [Difference::Release { release, .. }, ..] = proposed.differences() {
        standing = standing.with_payload(publisher.drafted(release));
    }
    context.print(&standing)
}
