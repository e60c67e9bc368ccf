//! What `burr config set` chose: a file of its own, so that `burr.toml` stays as it was written.

use std::{fs, io, path::Path};

use super::{APP_KEYS, KEYS, Resolved, Source, unknown};
use crate::{
    error::{Error, Kind},
    store::home::write_atomically,
};

/// The file in the data directory; what it says comes after `burr.toml` and before the environment.
pub(super) const FILE: &str = "chosen.toml";

impl Resolved {
    /// Keeps a setting's text in the data directory, from the next start on; with `None`, what was chosen is forgotten.
    /// Returns what holds from then on.
    ///
    /// # Errors
    /// [`Kind::Config`] if there is no such setting, or it can't be that; then nothing is kept. [`Kind::Storage`] if it
    /// can't be written.
    pub fn choose(data: &Path, name: &str, text: Option<&str>) -> Result<Self, Error> {
        let (key, keys) = match name.strip_prefix("apps.").and_then(|rest| rest.rsplit_once('.')) {
            Some((_, key)) => (key, APP_KEYS),
            None => (name, KEYS),
        };
        if !keys.iter().any(|known| known.name == key) {
            return Err(unknown(name, keys.iter().map(|key| key.name)));
        }
        let path = data.join(FILE);
        let mut chosen: toml::Table = match fs::read_to_string(&path) {
            Ok(text) => text.parse().map_err(|error: toml::de::Error| {
                Error::new(Kind::Config, format!("{}: {error}", path.display())).with_hint("remove the file")
            })?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => toml::Table::new(),
            Err(error) => return Err(Error::file("read", &path, error)),
        };
        match text {
            Some(text) => chosen.insert(name.to_owned(), text.into()),
            None => chosen.remove(name),
        };
        let text = chosen.to_string();
        let resolved = Self::load_with(data, Some(&text))?;
        resolved.settings()?;
        if resolved.find(name).is_none() {
            return Err(Error::new(
                Kind::Config,
                format!("no app has the setting {name}: none is configured by that name"),
            )
            .with_hint("`burr config` shows those that are"));
        }
        write_atomically(&path, text.as_bytes()).map_err(|error| Error::file("write", &path, error))?;
        Ok(resolved)
    }

    /// Where a setting's text comes from, and the text.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<(&str, &Source)> {
        let found = self.list().into_iter().find(|(known, _)| known == name)?.1;
        Some((found.text.as_str(), &found.source))
    }
}
