//! `burr enrol` and `burr join`: how a device becomes a member of a fleet.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use burr_node::{
    control::{self, Overview, Request},
    error::{Error, Kind},
    membership::Joining,
    publisher::fleet::{DEFAULT_MEMBER_FOR, Invite},
};
use burr_protocol::{
    NodeId, Wall,
    member::{Answer, Capability, Certificate, Invitation, MAX_ANSWER, MAX_REQUEST},
};
use indicatif::ProgressBar;
use serde::Serialize;

use super::{Context, fleet, passphrase};

/// Invite a device to a fleet, or sign a request that was brought as a file.
///
/// The invitation is a line of text that works once and for a while: `burr join` takes it on the device, which reaches
/// the node that runs here. Where there is no way between the two, the request goes as a file: `burr join --request FILE`
/// there, `burr enrol FLEET --sign FILE --out ANSWER` here, `burr join --answer ANSWER` there again.
#[derive(Debug, clap::Args)]
pub(super) struct Arguments {
    /// The fleet.
    fleet: String,
    #[command(flatten)]
    of: fleet::Of,
    /// Groups of the new member, with commas between; releases may be for them: --audience 'group = "berlin"'.
    #[arg(long, value_delimiter = ',')]
    groups: Vec<String>,
    /// What it is there for; give it again for more. A device reads what is sealed for the fleet; a kiosk, gateway or
    /// operator may collect receipts; a gateway speaks for devices that are no nodes; an operator reads too. For all but
    /// plain devices, others keep a place: relay is that alone.
    #[arg(long = "capability", default_value = "device")]
    capabilities: Vec<Capability>,
    /// How long the invitation works.
    #[arg(long, default_value = "24h", value_parser = humantime::parse_duration)]
    valid: Duration,
    /// How long the member belongs to the fleet; two years without it.
    #[arg(long, value_parser = humantime::parse_duration)]
    member_for: Option<Duration>,
    /// Where the node here is reached, if not where it listens; give it again for more.
    #[arg(long = "address", value_name = "IP:PORT")]
    addresses: Vec<String>,
    /// Sign the request in this file instead.
    #[arg(long, value_name = "FILE", requires = "out")]
    sign: Option<PathBuf>,
    /// Where to write the answer.
    #[arg(long, value_name = "FILE", requires = "sign")]
    out: Option<PathBuf>,
    #[command(flatten)]
    passphrase: passphrase::Source,
}

/// Become a member of a fleet, by an invitation that `burr enrol` made. It works once.
///
/// The device makes its keys, asks the node that the invitation names, checks the answer against the publisher's keys,
/// which the invitation pins, and keeps its certificate in the data directory.
#[derive(Debug, clap::Args)]
pub(super) struct Join {
    /// The invitation.
    invitation: String,
    /// Write the request to this file instead of asking over the network.
    #[arg(long, value_name = "FILE", conflicts_with = "answer")]
    request: Option<PathBuf>,
    /// Take the answer from this file.
    #[arg(long, value_name = "FILE")]
    answer: Option<PathBuf>,
    /// Give up after this time.
    #[arg(long, default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

#[derive(Serialize)]
struct Invited {
    invitation: String,
    fleet: String,
    expires: Wall,
    addresses: Vec<String>,
}

impl fmt::Display for Invited {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "on the device, until {}, once:\n", fleet::time(self.expires))?;
        write!(f, "burr join {}", self.invitation)?;
        if self.addresses.is_empty() {
            write!(f, "\n\nno node runs here, so the request has to come as a file: burr join --request FILE")?;
        }
        Ok(())
    }
}

#[derive(Serialize)]
struct Written {
    file: PathBuf,
    #[serde(skip)]
    next: String,
}

impl fmt::Display for Written {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is written; {}", self.file.display(), self.next)
    }
}

#[derive(Serialize)]
struct Joined {
    member: Certificate,
    enroller: NodeId,
}

impl fmt::Display for Joined {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Certificate { node, fleet: name, not_after, capabilities, .. } = &self.member;
        writeln!(f, "node {node} is a member of fleet {name} as {}", fleet::words(capabilities))?;
        writeln!(f, "until {}", fleet::time(*not_after))?;
        write!(f, "to speak with members alone, set in burr.toml:\n  [mesh]\n  closed = true")
    }
}

pub(super) fn run(context: &Context, arguments: Arguments) -> Result<ExitCode, Error> {
    let mut publisher = arguments.of.publisher(context)?;
    if let (Some(sign), Some(out)) = (&arguments.sign, &arguments.out) {
        let request = read(sign, MAX_REQUEST)?;
        let answer = passphrase::retry(&arguments.passphrase, |given| publisher.enrol(&request, given))?;
        if let Answer::Refused(why) = &answer {
            return Err(Error::new(Kind::BadInput, "the request is refused").with_source(*why));
        }
        write(out, &answer.encode())?;
        let next = "on the device:  burr join INVITATION --answer FILE".to_owned();
        context.print(&Written { file: out.clone(), next })?;
        return Ok(ExitCode::SUCCESS);
    }
    let (enroller, addresses) = this_node(context, arguments.addresses)?;
    let invite = Invite {
        groups: arguments.groups.into_iter().collect(),
        capabilities: arguments.capabilities.into_iter().collect(),
        valid: arguments.valid,
        member_for: arguments.member_for.unwrap_or(DEFAULT_MEMBER_FOR),
        enroller,
        addresses,
    };
    let invitation =
        passphrase::retry(&arguments.passphrase, |given| publisher.invite(&arguments.fleet, invite.clone(), given))?;
    context.print(&Invited {
        invitation: invitation.to_string(),
        fleet: invitation.fleet,
        expires: invitation.expires,
        addresses: invitation.addresses,
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The node that runs here, and where it is reached: beyond this machine, unless there is no such way.
fn this_node(context: &Context, given: Vec<String>) -> Result<(NodeId, Vec<String>), Error> {
    if !control::is_running(&context.data) {
        return Ok((burr_node::membership::node(&context.data)?, given));
    }
    let overview: Overview = control::ask(&context.data, &Request::Status)?;
    if !given.is_empty() {
        return Ok((overview.status.node, given));
    }
    let (near, far): (Vec<_>, Vec<_>) = overview.listeners.iter().partition(|listener| listener.ip().is_loopback());
    let reached = if far.is_empty() { near } else { far };
    Ok((overview.status.node, reached.into_iter().take(8).map(ToString::to_string).collect()))
}

pub(super) fn join(context: &Context, arguments: &Join) -> Result<ExitCode, Error> {
    let invitation: Invitation = arguments
        .invitation
        .parse()
        .map_err(|error| Error::new(Kind::BadInput, "this invitation can't be used").with_source(error))?;
    let enroller = invitation.enroller;
    let joining = Joining::begin(&context.data, invitation)?;
    if let Some(file) = &arguments.request {
        write(file, &joining.request())?;
        let next = "where the invitation was made:  burr enrol FLEET --sign FILE --out ANSWER".to_owned();
        context.print(&Written { file: file.clone(), next })?;
        return Ok(ExitCode::SUCCESS);
    }
    let answer = match &arguments.answer {
        Some(file) => read(file, MAX_ANSWER)?,
        None => ask(context, &joining, arguments.timeout)?,
    };
    let member = joining.finish(&answer)?;
    context.print(&Joined { member, enroller })?;
    Ok(ExitCode::SUCCESS)
}

fn ask(context: &Context, joining: &Joining, limit: Duration) -> Result<Vec<u8>, Error> {
    let spinner = if context.is_watched() { ProgressBar::new_spinner() } else { ProgressBar::hidden() };
    spinner.set_message("asking to be enrolled");
    spinner.enable_steady_tick(Duration::from_millis(100));
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Error::new(Kind::Network, "can't start the network").with_source(error))?;
    let asked = runtime.block_on(async { tokio::time::timeout(limit, joining.ask()).await });
    spinner.finish_and_clear();
    asked.unwrap_or_else(|_| {
        Err(Error::new(Kind::Network, format!("no answer within {}", humantime::format_duration(limit)))
            .with_hint("the same invitation can be tried again; give it longer with --timeout"))
    })
}

fn read(file: &Path, limit: usize) -> Result<Vec<u8>, Error> {
    let bad = || Error::new(Kind::BadInput, format!("can't read {}", file.display()));
    let size = fs::metadata(file).map_err(|error| bad().with_source(error))?.len();
    if size > limit as u64 {
        return Err(bad().with_hint("it is larger than any such file"));
    }
    fs::read(file).map_err(|error| bad().with_source(error))
}

fn write(file: &Path, bytes: &[u8]) -> Result<(), Error> {
    fs::write(file, bytes)
        .map_err(|error| Error::new(Kind::Storage, format!("can't write {}", file.display())).with_source(error))
}
