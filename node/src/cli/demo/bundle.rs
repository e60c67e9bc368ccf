//! What the demo publishes: the app that this binary carries, or any directory, each with a `version.json` of its own.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use burr_node::error::{Error, Kind};

/// Says whether a version works, run by each device in the files that it has just switched to: the file that names the
/// version must be whole and name this one.
pub(super) const HEALTH: &str = r#"grep -qx "{\"version\":\"$BURR_VERSION\"}" version.json || {
    echo "version.json of $BURR_VERSION is damaged: $(cat version.json)"
    exit 1
}"#;
const VERSION: &str = "version.json";

macro_rules! carried {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_bytes!(concat!(env!("CARGO_MANIFEST_DIR"), "/demo/app/", $name)).as_slice())),*]
    };
}

/// The files of `node/demo/app`, so that the demo runs wherever the binary is.
const APP: &[(&str, &[u8])] = carried![
    "app.js",
    "data/categories.js",
    "data/guides.js",
    "data/products.js",
    "data/stores.js",
    "data/words.js",
    "icons/app.svg",
    "icons/care.svg",
    "icons/cook.svg",
    "icons/food.svg",
    "icons/light.svg",
    "icons/map.svg",
    "icons/metal.svg",
    "icons/rope.svg",
    "icons/sleep.svg",
    "icons/wear.svg",
    "index.html",
    "manifest.webmanifest",
    "scripts/basket.js",
    "scripts/shelves.js",
    "scripts/shop.js",
    "style.css",
    "worker.js",
];

/// The tree that is published, version after version.
#[derive(Debug)]
pub(super) struct Bundle {
    /// The app's name on the mesh.
    pub(super) app: &'static str,
    tree: PathBuf,
}

impl Bundle {
    /// Writes the app that the binary carries to `tree`, or makes `tree` a likeness of the given directory.
    ///
    /// # Errors
    /// [`Kind::BadInput`] if the directory can't be read, [`Kind::Storage`] if the likeness can't be written.
    pub(super) fn make(given: Option<&Path>, tree: PathBuf) -> Result<Self, Error> {
        let Some(given) = given else {
            for (name, bytes) in APP {
                write(&tree.join(name), bytes)?;
            }
            return Ok(Self { app: "shop", tree });
        };
        if !given.is_dir() {
            let words = format!("--bundle {} is no directory", given.display());
            return Err(Error::new(Kind::BadInput, words).with_hint("give the directory of a finished build"));
        }
        liken(given, &tree)?;
        Ok(Self { app: "app", tree })
    }

    /// Turns the tree into another version, whole or with a `version.json` that was cut off.
    ///
    /// # Errors
    /// [`Kind::Storage`] if it can't be written.
    pub(super) fn turn_into(&self, version: &str, whole: bool) -> Result<&Path, Error> {
        let text = format!("{{\"version\":\"{version}\"}}\n");
        let text = if whole { &text[..] } else { &text[..text.len() / 2] };
        let path = self.tree.join(VERSION);
        // Never through a link that leads to the given directory's own file.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("replace", &path, error)),
            _ => write(&path, text.as_bytes())?,
        }
        Ok(&self.tree)
    }
}

/// Rebuilds a tree of directories with links to the same files, or copies where the file system can't link.
fn liken(source: &Path, tree: &Path) -> Result<(), Error> {
    let mut left = vec![(source.to_owned(), tree.to_owned())];
    while let Some((from, to)) = left.pop() {
        fs::create_dir_all(&to).map_err(|error| failed("create", &to, error))?;
        for entry in fs::read_dir(&from).map_err(|error| unreadable(&from, error))? {
            let entry = entry.map_err(|error| unreadable(&from, error))?;
            let (at, copy) = (entry.path(), to.join(entry.file_name()));
            let kind = entry.file_type().map_err(|error| unreadable(&at, error))?;
            if kind.is_dir() {
                left.push((at, copy));
            } else if kind.is_symlink() {
                let target = fs::read_link(&at).map_err(|error| unreadable(&at, error))?;
                std::os::unix::fs::symlink(target, &copy).map_err(|error| failed("create", &copy, error))?;
            } else if kind.is_file() && fs::hard_link(&at, &copy).is_err() {
                fs::copy(&at, &copy).map_err(|error| failed("copy", &at, error))?;
            }
        }
    }
    Ok(())
}

fn write(path: &Path, bytes: &[u8]) -> Result<(), Error> {
    let parent = path.parent().map_or(Ok(()), fs::create_dir_all);
    parent.and_then(|()| fs::write(path, bytes)).map_err(|error| failed("write", path, error))
}

fn failed(what: &str, path: &Path, error: io::Error) -> Error {
    Error::new(Kind::Storage, format!("can't {what} {}", path.display())).with_source(error)
}

fn unreadable(path: &Path, error: io::Error) -> Error {
    Error::new(Kind::BadInput, format!("can't read {}", path.display())).with_source(error)
}

#[cfg(test)]
mod tests {
    use std::{
        collections::BTreeMap,
        process::{Command, ExitStatus},
    };

    use super::*;

    fn files(tree: &Path) -> BTreeMap<String, Vec<u8>> {
        let mut found = BTreeMap::new();
        let mut left = vec![tree.to_owned()];
        while let Some(directory) = left.pop() {
            for entry in fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    left.push(path);
                } else {
                    let name = path.strip_prefix(tree).unwrap().to_str().unwrap().to_owned();
                    found.insert(name, fs::read(path).unwrap());
                }
            }
        }
        found
    }

    #[test]
    fn the_binary_carries_the_whole_app() {
        let shipped = files(&Path::new(env!("CARGO_MANIFEST_DIR")).join("demo/app"));
        let carried: BTreeMap<_, _> = APP.iter().map(|(name, bytes)| ((*name).to_owned(), bytes.to_vec())).collect();
        let names = |files: &BTreeMap<String, Vec<u8>>| files.keys().cloned().collect::<Vec<_>>();
        assert_eq!(names(&carried), names(&shipped), "name every file of node/demo/app in APP");
        assert_eq!(carried, shipped);
    }

    #[test]
    fn a_given_directory_is_left_as_it_is() {
        let home = tempfile::tempdir().unwrap();
        let given = home.path().join("given");
        fs::create_dir_all(given.join("deep")).unwrap();
        fs::write(given.join("deep/file"), "content").unwrap();
        fs::write(given.join(VERSION), "its own").unwrap();
        let before = files(&given);
        let bundle = Bundle::make(Some(&given), home.path().join("tree")).unwrap();
        let tree = files(bundle.turn_into("1.0.0", true).unwrap());
        assert_eq!(tree["deep/file"], b"content");
        assert_eq!(tree[VERSION], b"{\"version\":\"1.0.0\"}\n");
        assert_eq!(files(&given), before);
    }

    #[test]
    fn the_health_command_tells_a_whole_version_from_a_damaged_one() {
        let home = tempfile::tempdir().unwrap();
        let bundle = Bundle::make(None, home.path().join("tree")).unwrap();
        let check = |version: &str, whole| -> ExitStatus {
            let tree = bundle.turn_into(version, whole).unwrap();
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", HEALTH]).current_dir(tree).env("BURR_VERSION", version);
            shell.output().unwrap().status
        };
        assert!(check("2.0.0", true).success());
        assert!(!check("3.0.0", false).success());
    }
}
