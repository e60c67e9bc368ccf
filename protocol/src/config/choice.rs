//! What may be chosen at a device while it runs: its attributes, and which channel and version of an app it takes.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{ConfigError, MAX_ATTRIBUTE, MAX_ATTRIBUTES, bound};
use crate::{label, rules::GROUP};

/// A setting that takes another value from now on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Choice {
    /// The channel that an app is installed from.
    Channel {
        /// The app.
        app: String,
        /// The channel.
        channel: String,
    },
    /// The only version of an app that is taken; any if there is none.
    Pin {
        /// The app.
        app: String,
        /// The version.
        version: Option<String>,
    },
    /// All attributes of the device.
    Attributes(BTreeMap<String, String>),
}

impl Choice {
    /// Checks its bounds.
    ///
    /// # Errors
    /// [`ConfigError`] for the first that does not hold.
    pub fn check(&self) -> Result<(), ConfigError> {
        match self {
            Self::Channel { channel, .. } => Ok(label::check_name("channel", channel)?),
            Self::Pin { version, .. } => Ok(version.iter().try_for_each(|version| label::check_version(version))?),
            Self::Attributes(attributes) => check_attributes(attributes),
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Channel { app, channel } => write!(f, "{app} from {channel}"),
            Self::Pin { app, version: Some(version) } => write!(f, "{app} {version} and no other"),
            Self::Pin { app, version: None } => write!(f, "any version of {app}"),
            Self::Attributes(attributes) => {
                write!(f, "attributes")?;
                attributes.iter().try_for_each(|(name, value)| write!(f, " {name}={value}"))
            }
        }
    }
}

pub(super) fn check_attributes(attributes: &BTreeMap<String, String>) -> Result<(), ConfigError> {
    bound("the number of attributes", attributes.len() as u64, 0, MAX_ATTRIBUTES as u64)?;
    for (name, value) in attributes {
        label::check_name("attribute", name)?;
        if name == GROUP {
            return Err(ConfigError::OwnGroup);
        }
        bound("the length of an attribute", value.len() as u64, 0, MAX_ATTRIBUTE as u64)?;
    }
    Ok(())
}
