//! What to follow, as one word for the command line: `APP@REPOSITORY` or `APP/CHANNEL@REPOSITORY`.

use std::str::FromStr;

use burr_protocol::{RepositoryId, label};

/// An app of a repository, and a channel of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    /// The app.
    pub app: String,
    /// The channel, if one is named.
    pub channel: Option<String>,
    /// The repository.
    pub repository: RepositoryId,
}

impl FromStr for Link {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let shape = "write APP/CHANNEL@REPOSITORY, as `burr init` prints it";
        let (what, repository) = text.split_once('@').ok_or_else(|| format!("there is no @ in it; {shape}"))?;
        let repository = repository.parse().map_err(|error| format!("{error}; {shape}"))?;
        let (app, channel) = match what.split_once('/') {
            Some((app, channel)) => (app, Some(channel)),
            None => (what, None),
        };
        label::check_name("app", app).map_err(|error| error.to_string())?;
        if let Some(channel) = channel {
            label::check_name("channel", channel).map_err(|error| error.to_string())?;
        }
        Ok(Self { app: app.to_owned(), channel: channel.map(str::to_owned), repository })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_is_read_and_a_wrong_one_says_how_it_is_written() {
        let name = "0f".repeat(32);
        let link: Link = format!("shop/stable@{name}").parse().unwrap();
        assert_eq!((link.app.as_str(), link.channel.as_deref()), ("shop", Some("stable")));
        assert_eq!(format!("shop@{name}").parse::<Link>().unwrap().channel, None);
        for bad in ["shop", "shop@12", &format!("Shop@{name}"), &format!("shop/@{name}")] {
            assert!(bad.parse::<Link>().is_err(), "{bad}");
        }
    }
}
