//! The rules of a release as arguments: given when it is published, and to change them later.

use std::time::Duration;

use burr_node::error::{Error, Kind};
use burr_protocol::{
    Wall,
    rules::{self, Expression, Halt, Rules, Urgency, WindowError, Within},
};

/// What a release asks of the devices that take it. A device judges every rule for itself.
#[derive(Debug, Default, clap::Args)]
pub(super) struct Given {
    /// The share of devices that take it, such as 10% or 2.5%. Which ones is drawn anew for each release; a growing share
    /// only adds devices.
    #[arg(long, value_name = "PERCENT", value_parser = share)]
    rollout: Option<u16>,
    /// The devices that it is for, by their attributes: `site = "depot-7" and model in ["a", "b"]`. Also: or, not, !=,
    /// parentheses; `group = "berlin"` goes by the groups that their fleet signed. Empty for all.
    #[arg(long, value_name = "EXPRESSION")]
    audience: Option<String>,
    /// The platform that it is for (the attribute `platform`); give it again for more.
    #[arg(long = "platform", value_name = "NAME")]
    platforms: Vec<String>,
    /// The least version of the native part (the attribute `native`).
    #[arg(long, value_name = "VERSION")]
    min_native: Option<String>,
    /// The active versions that it may follow, such as '>=1.2, <2'.
    #[arg(long, value_name = "VERSIONS")]
    from: Option<String>,
    /// The active versions that it may not follow.
    #[arg(long, value_name = "VERSIONS")]
    not_from: Option<String>,
    /// A stepping stone: the version that has to run first, or a later one.
    #[arg(long, value_name = "VERSION")]
    via: Option<String>,
    /// The part of the version that it never changes on a device: major, minor or patch.
    #[arg(long, value_name = "PART", value_parser = within)]
    within: Option<Within>,
    /// Not before this time, such as 2026-12-01T08:00:00Z.
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_before: Option<Wall>,
    /// Not after this time.
    #[arg(long, value_name = "TIME", value_parser = time)]
    not_after: Option<Wall>,
    /// When a device may switch to it, in its local time, such as 'mon-fri 22:00-05:00'; give it again for more. Empty for
    /// any time.
    #[arg(long = "window", value_name = "HOURS")]
    windows: Vec<String>,
    /// How soon a device that has it switches: critical (at once, whatever else is asked), normal (in a window),
    /// background (when idle, or at the next start), manual (by `burr apply`).
    #[arg(long, value_name = "HOW", value_parser = urgency)]
    urgency: Option<Urgency>,
    /// How long someone at a device may put it off at most, such as 4h; devices have a limit of their own besides.
    #[arg(long, value_name = "TIME", value_parser = humantime::parse_duration)]
    defer: Option<Duration>,
    /// When it halts by itself, as FAILURES/SHARE/OUTCOMES: 3/20%/10 once three devices failed, if they are a fifth of
    /// those that tried it, and at least ten did. Devices of the app's fleets count, each once. Empty for never.
    #[arg(long, value_name = "THRESHOLD")]
    halt_at: Option<String>,
}

impl Given {
    /// These rules, with what was given in place of what they had. An empty text takes a rule away.
    pub(super) fn on(&self, mut rules: Rules) -> Result<Rules, Error> {
        let or = |given: &Option<String>, held: Option<String>| match given {
            Some(given) => Some(given.clone()).filter(|text| !text.is_empty()),
            None => held,
        };
        rules.rollout = self.rollout.unwrap_or(rules.rollout);
        if let Some(text) = &self.audience {
            let parsed = (!text.is_empty()).then(|| text.parse::<Expression>()).transpose();
            rules.audience = parsed.map_err(|error| {
                Error::new(Kind::BadInput, format!("can't use --audience {text}")).with_source(error)
            })?;
        }
        if !self.platforms.is_empty() {
            rules.platforms = self.platforms.iter().filter(|name| !name.is_empty()).cloned().collect();
        }
        rules.min_native = or(&self.min_native, rules.min_native);
        rules.from = or(&self.from, rules.from);
        rules.not_from = or(&self.not_from, rules.not_from);
        rules.via = or(&self.via, rules.via);
        rules.within = self.within.or(rules.within);
        rules.not_before = self.not_before.or(rules.not_before);
        rules.not_after = self.not_after.or(rules.not_after);
        if !self.windows.is_empty() {
            let windows = self.windows.iter().filter(|text| !text.is_empty()).map(|text| text.parse());
            rules.windows = windows
                .collect::<Result<_, WindowError>>()
                .map_err(|error| Error::new(Kind::BadInput, "can't use --window").with_source(error))?;
        }
        rules.urgency = self.urgency.unwrap_or(rules.urgency);
        rules.defer = self.defer.map(|time| time.as_secs()).or(rules.defer);
        if let Some(text) = &self.halt_at {
            rules.halt = halt(text)?;
        }
        Ok(rules)
    }
}

/// A share of devices, in hundredths of a percent.
pub(super) fn share(text: &str) -> Result<u16, String> {
    let read = rules::share(text);
    read.ok_or_else(|| "write a share from 0% to 100%, with at most two digits after the point".to_owned())
}

/// The threshold at which a release halts; none for an empty text.
pub(super) fn halt(text: &str) -> Result<Option<Halt>, Error> {
    let parsed = (!text.is_empty()).then(|| text.parse::<Halt>()).transpose();
    parsed.map_err(|error| Error::new(Kind::BadInput, "can't use the threshold").with_source(error))
}

fn within(text: &str) -> Result<Within, String> {
    match text {
        "major" => Ok(Within::Major),
        "minor" => Ok(Within::Minor),
        "patch" => Ok(Within::Patch),
        _ => Err("write major, minor or patch".to_owned()),
    }
}

fn urgency(text: &str) -> Result<Urgency, String> {
    match text {
        "critical" => Ok(Urgency::Critical),
        "normal" => Ok(Urgency::Normal),
        "background" => Ok(Urgency::Background),
        "manual" => Ok(Urgency::Manual),
        _ => Err("write critical, normal, background or manual".to_owned()),
    }
}

fn time(text: &str) -> Result<Wall, String> {
    humantime::parse_rfc3339_weak(text)
        .ok()
        .and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok())
        .and_then(|since| i64::try_from(since.as_secs()).ok())
        .map(Wall)
        .ok_or_else(|| "write a time in UTC like 2026-12-01T08:00:00Z".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_read_as_people_write_them() {
        for (text, expected) in [("10%", 1000), ("2.5 %", 250), ("0", 0), ("100%", rules::EVERYONE), ("0.01%", 1)] {
            assert_eq!(share(text), Ok(expected), "{text}");
        }
        for bad in ["", "%", "101%", "-1", "1.234%", "all", "999999"] {
            assert!(share(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn what_is_not_given_stays_and_an_empty_text_takes_a_rule_away() {
        let held = Rules { rollout: 1000, via: Some("1.2".to_owned()), ..Rules::default() };
        let given = Given { via: Some(String::new()), from: Some(">=1".to_owned()), ..Given::default() };
        let rules = given.on(held).unwrap();
        assert_eq!((rules.rollout, rules.via, rules.from.as_deref()), (1000, None, Some(">=1")));
        let wrong = Given { audience: Some("site".to_owned()), ..Given::default() };
        assert!(wrong.on(Rules::default()).unwrap_err().to_string().contains("--audience"));
        assert_eq!(time("2026-12-01T08:00:00Z"), Ok(Wall(1_796_112_000)));
        assert!(time("tomorrow").is_err() && within("all").is_err());
    }
}
