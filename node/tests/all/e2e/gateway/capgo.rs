//! Capgo's own command line, from npm: it makes the zips and keys that the stories publish. Where npm is missing or can't
//! reach its registry, they say so and are skipped.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
};

use serde_json::Value;

use crate::e2e::program::{Said, run};

/// What is installed: as new as it was when these stories were written, so that they tell the same each time.
const PACKAGES: [&str; 3] = ["@capgo/cli@8.68.1", "@capgo/capacitor-updater@8.51.23", "@capgo/electron-updater@0.0.6"];

/// The packages' directory, beside what cargo built.
fn modules() -> Option<&'static Path> {
    static MODULES: OnceLock<Option<PathBuf>> = OnceLock::new();
    MODULES.get_or_init(install).as_deref()
}

fn install() -> Option<PathBuf> {
    let target = Path::new(env!("CARGO_BIN_EXE_burr")).ancestors().nth(2).expect("target/debug/burr");
    let home = target.join("capgo");
    let modules = home.join("node_modules");
    let mark = home.join(PACKAGES.join(" ").replace('/', "-"));
    if !mark.exists() {
        fs::create_dir_all(&home).expect("target can be written");
        fs::write(home.join("package.json"), "{\"private\":true}").expect("target can be written");
        let mut npm = Command::new("npm");
        npm.args(["install", "--ignore-scripts", "--no-audit", "--no-fund", "--legacy-peer-deps", "--omit=peer"]);
        npm.args(PACKAGES).current_dir(&home).stdin(Stdio::null());
        match npm.output() {
            Ok(output) if output.status.success() => fs::write(&mark, "").expect("target can be written"),
            Ok(output) => {
                eprintln!("skipped: npm can't install {PACKAGES:?}: {}", String::from_utf8_lossy(&output.stderr));
                return None;
            }
            Err(error) => {
                eprintln!("skipped: Capgo's command line needs npm, which does not start: {error}");
                return None;
            }
        }
    }
    Some(modules)
}

/// An app's project, as its developers have it.
pub(super) struct Project(PathBuf);

impl Project {
    /// A project with this build; `None` without npm.
    pub(super) fn new(at: &Path, build: impl Fn(&Path)) -> Option<Self> {
        let modules = modules()?;
        fs::create_dir_all(at).expect("a scratch directory");
        std::os::unix::fs::symlink(modules, at.join("node_modules")).expect("a scratch directory");
        let config =
            r#"{"appId":"com.example.shop","appName":"Shop","webDir":"dist","plugins":{"CapacitorUpdater":{}}}"#;
        fs::write(at.join("capacitor.config.json"), config).expect("a scratch directory");
        let package = r#"{"name":"shop","version":"1.0.0","dependencies":{"@capgo/capacitor-updater":"8.51.23"}}"#;
        fs::write(at.join("package.json"), package).expect("a scratch directory");
        build(&at.join("dist"));
        Some(Self(at.to_owned()))
    }

    #[track_caller]
    fn capgo(&self, arguments: &[&str]) -> Said {
        let mut command = self.node(&self.0.join("node_modules/@capgo/cli/dist/index.js"));
        command.args(arguments);
        run(command)
    }

    /// Node.js with a script, in the project.
    pub(super) fn node(&self, script: &Path) -> Command {
        let mut command = Command::new("node");
        command
            .arg(script)
            .current_dir(&self.0)
            .stdin(Stdio::null())
            .env("CI", "1")
            .env("CAPGO_DISABLE_TELEMETRY", "1");
        command
    }

    /// `bundle zip`: the zip and its checksum.
    #[track_caller]
    pub(super) fn zip(&self, version: &str) -> (PathBuf, String) {
        let arguments = ["bundle", "zip", "com.example.shop", "--path", "dist", "--bundle", version, "--json"];
        let said: Value = self.capgo(&[&arguments[..], &["--no-code-check"]].concat()).json();
        let text = |name: &str| said[name].as_str().expect("as the command line says it").to_owned();
        (self.0.join(text("filename")), text("checksum"))
    }

    /// `key create`: the app's public key.
    #[track_caller]
    pub(super) fn key(&self) -> String {
        // It asks for more when it is done; nobody answers.
        let said = self.capgo(&["key", "create", "--force"]);
        let config = fs::read(self.0.join("capacitor.config.json")).expect("its configuration");
        let config: Value = serde_json::from_slice(&config).expect("JSON");
        let key = config["plugins"]["CapacitorUpdater"]["publicKey"].as_str();
        key.unwrap_or_else(|| panic!("no key: {said:?}")).to_owned()
    }

    /// `bundle encrypt`: the encrypted zip, its sealed checksum and session key.
    #[track_caller]
    pub(super) fn encrypt(&self, zip: &Path, checksum: &str) -> (PathBuf, String, String) {
        let name = zip.file_name().and_then(|name| name.to_str()).expect("a name");
        let said: Value = self.capgo(&["bundle", "encrypt", name, checksum, "--json"]).json();
        let text = |name: &str| said[name].as_str().expect("as the command line says it").to_owned();
        (self.0.join(text("filename")), text("checksum"), text("ivSessionKey"))
    }
}
