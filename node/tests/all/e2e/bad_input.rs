//! Bad input at the command line: each gets an error that says what to do, an exit code, and changes nothing.

use std::{
    fs::{self, File},
    os::unix::{
        fs::{FileExt as _, PermissionsExt as _, symlink},
        net::UnixListener,
    },
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use rustix::{
    fs::{CWD, Mode, mkfifoat},
    process::geteuid,
};

use super::program::{burr, publish, run, say, set_up, snapshot};
use crate::{
    hostile::{FILE, archive, bomb, million},
    support::{SmallDisk, noise, scratch, tree},
};

/// Wrong arguments or settings; what failed otherwise; the disk.
const BAD: i32 = 2;
const FAILED: i32 = 1;
const BUSY: i32 = 4;
const DISK: i32 = 5;

/// A publisher with version 1.0.0 of `shop`.
struct Desk {
    dir: tempfile::TempDir,
    data: PathBuf,
}

impl Desk {
    fn new() -> Self {
        let dir = scratch();
        let data = dir.path().join("data");
        set_up(&data);
        let desk = Self { dir, data };
        publish(&desk.data, &desk.build(), "1.0.0");
        desk
    }

    fn build(&self) -> PathBuf {
        tree(&self.dir.path().join("build"), &[("index.html", b"<h1>shop</h1>"), ("app.js", b"shop()")])
    }

    /// Makes a source of this name and returns where.
    fn at(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Tries to publish and is told so; nothing may change.
    #[track_caller]
    fn refused(&self, source: &Path, version: &str, code: i32, words: &[&str]) {
        let source = source.display().to_string();
        self.refused_with(&["publish", &source, "--app", "shop", "--version", version], code, words);
    }

    #[track_caller]
    fn refused_with(&self, arguments: &[&str], code: i32, words: &[&str]) {
        let before = snapshot(&self.data);
        let said = say(&self.data, arguments);
        assert_eq!(said.code, Some(code), "{arguments:?}: {said:?}");
        assert!(said.out.is_empty() && said.err.starts_with("error: "), "{arguments:?}: {said:?}");
        for word in words {
            assert!(said.err.contains(word), "{arguments:?}: {word:?} is not in {:?}", said.err);
        }
        assert_eq!(snapshot(&self.data), before, "{arguments:?}");
    }
}

#[test]
fn wrong_arguments_are_told_as_json_to_a_program() {
    let dir = scratch();
    for wrong in [&["publish", "--json"][..], &["--json", "publsh"], &["status", "--json", "--no-such-flag"]] {
        let said = say(dir.path(), wrong);
        let told: serde_json::Value = serde_json::from_str(&said.err).unwrap_or_else(|_| panic!("{wrong:?}: {said:?}"));
        assert_eq!((said.code, said.out.as_str()), (Some(BAD), ""), "{wrong:?}");
        assert!(told["error"].is_string() && told["hint"].as_str().unwrap().contains("--help"), "{told}");
    }
}

#[test]
fn bombs_cost_a_publisher_little_memory() {
    let desk = Desk::new();
    for (name, bytes) in [("bomb.zip", bomb()), ("million.zip", million())] {
        let source = desk.at(name);
        fs::write(&source, bytes).unwrap();
        let mut command = burr(&desk.data);
        command.args(["publish", "--app", "shop", "--version", "2.0.0"]).arg(&source);
        let mut publishing = command.stderr(Stdio::null()).spawn().unwrap();
        // The most that a process ever had resident is told until it ends, which is a while after it has read.
        let mut peak = 0;
        let code = loop {
            let status = fs::read_to_string(format!("/proc/{}/status", publishing.id())).unwrap_or_default();
            if let Some(told) = status.lines().find_map(|line| line.strip_prefix("VmHWM:")) {
                peak = told.split_whitespace().next().unwrap().parse::<u64>().unwrap() << 10;
            }
            match publishing.try_wait().unwrap() {
                Some(code) => break code,
                None => thread::sleep(Duration::from_millis(1)),
            }
        };
        eprintln!("{name}: {} KiB at most", peak >> 10);
        assert_eq!(code.code(), Some(BAD), "{name}");
        assert!((1 << 20..64 << 20).contains(&peak), "{name}: {peak}");
    }
}

#[test]
fn hostile_names_in_an_archive() {
    let desk = Desk::new();
    let long = "a".repeat(300);
    let cases: [(&[&str], &[&str]); 8] = [
        (&["../../evil"], &["../../evil", "give the plain path"]),
        (&["/etc/cron.d/evil"], &["/etc/cron.d/evil", "give paths relative to the bundle's top"]),
        (&["a/../../evil"], &["a/../../evil", "give the plain path"]),
        (&["..\\evil"], &["evil", "backslash", "rename it"]),
        (&["readme", "ReadMe"], &["readme", "ReadMe", "rename one"]),
        (&["caf\u{e9}", "cafe\u{301}"], &["Unicode", "rename one"]),
        (&["assets/CON"], &["assets/CON", "Windows device", "rename it"]),
        (&[&long], &["255 bytes", "shorten it"]),
    ];
    for (names, words) in cases {
        let entries: Vec<_> = names.iter().map(|name| (name.as_bytes(), FILE, 0)).collect();
        let source = desk.at("hostile.zip");
        fs::write(&source, archive(&entries)).unwrap();
        desk.refused(&source, "2.0.0", BAD, words);
    }
    assert!(!desk.at("evil").exists() && !desk.dir.path().join("../evil").exists());
    fs::write(desk.at("torn.zip"), &archive(&[(b"index.html", FILE, 0)])[..40]).unwrap();
    desk.refused(&desk.at("torn.zip"), "2.0.0", BAD, &["torn.zip", "make the archive anew"]);
    publish(&desk.data, &desk.build(), "2.0.0");
}

#[test]
fn hostile_names_in_a_directory() {
    let desk = Desk::new();
    let colliding = tree(&desk.at("colliding"), &[("logo.svg", b"a"), ("Logo.svg", b"b")]);
    desk.refused(&colliding, "2.0.0", BAD, &["logo.svg", "Logo.svg", "rename one"]);
    let device = tree(&desk.at("device"), &[("sub/nul.txt", b"a")]);
    desk.refused(&device, "2.0.0", BAD, &["sub/nul.txt", "Windows device", "rename it"]);
    let backslash = tree(&desk.at("backslash"), &[("a\\b", b"a")]);
    desk.refused(&backslash, "2.0.0", BAD, &["backslash", "rename it"]);
    for (name, target) in [("up", "../data/publish/shop/keys/root.key"), ("absolute", "/etc/passwd")] {
        let leaving = tree(&desk.at(name), &[("index.html", b"a")]);
        symlink(target, leaving.join("link")).unwrap();
        desk.refused(&leaving, "2.0.0", BAD, &["link", target, "bundle"]);
    }
    let dangling = tree(&desk.at("dangling"), &[("index.html", b"a")]);
    symlink("nothing", dangling.join("link")).unwrap();
    desk.refused(&dangling, "2.0.0", BAD, &["link", "nothing", "remove it or add what it points to"]);
    fs::create_dir(desk.at("empty")).unwrap();
    desk.refused(&desk.at("empty"), "2.0.0", BAD, &["empty", "at least one file"]);
}

#[test]
fn a_file_that_can_not_be_read() {
    let desk = Desk::new();
    desk.refused(&desk.at("nowhere"), "2.0.0", BAD, &["nowhere", "give the finished build"]);
    let pipe = tree(&desk.at("pipe"), &[("index.html", b"a")]);
    mkfifoat(CWD, pipe.join("fifo"), Mode::RWXU).unwrap();
    desk.refused(&pipe, "2.0.0", BAD, &["fifo", "named pipe", "remove it"]);
    desk.refused(&pipe.join("fifo"), "2.0.0", BAD, &["fifo", "neither a directory nor a file"]);
    symlink("itself", desk.at("itself")).unwrap();
    desk.refused(&desk.at("itself"), "2.0.0", BAD, &["cannot read", "itself"]);
    let locked = tree(&desk.at("locked"), &[("index.html", b"a"), ("secret", b"b")]);
    fs::set_permissions(locked.join("secret"), fs::Permissions::from_mode(0o000)).unwrap();
    let mut publish = burr(&desk.data);
    if geteuid().is_root() {
        // Root reads a file of any mode, but for one without that right.
        let plain = publish;
        publish = Command::new("setpriv");
        publish.arg("--bounding-set=-dac_override,-dac_read_search").arg(plain.get_program()).args(plain.get_args());
    }
    publish.arg("publish").arg(&locked).args(["--app", "shop", "--version", "2.0.0"]);
    let before = snapshot(&desk.data);
    let said = run(publish);
    assert_eq!(said.code, Some(BAD), "{said:?}");
    for word in ["cannot read", "secret", "make it readable"] {
        assert!(said.err.contains(word), "{word:?}: {said:?}");
    }
    assert_eq!(snapshot(&desk.data), before);
}

#[test]
fn a_file_that_changes_while_it_is_published() {
    let desk = Desk::new();
    let source = tree(&desk.at("growing"), &[("data", &noise(1, 16 << 20)), ("index.html", b"a")]);
    let done = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            let file = File::options().write(true).open(source.join("data")).unwrap();
            for number in 0_u64.. {
                if done.load(Ordering::Relaxed) {
                    return;
                }
                file.write_all_at(&number.to_le_bytes(), number % (16 << 20)).unwrap();
                thread::yield_now();
            }
        });
        let result = std::panic::catch_unwind(|| {
            desk.refused(&source, "2.0.0", FAILED, &["data", "changed while it was being published", "publish again"]);
        });
        done.store(true, Ordering::Relaxed);
        result.unwrap();
    });
    publish(&desk.data, &source, "2.0.0");
}

#[test]
fn a_version_that_is_not_newer() {
    let desk = Desk::new();
    let build = desk.build();
    for version in ["1.0.0", "0.9.9", "1.0.0-rc.1"] {
        desk.refused(&build, version, BAD, &[version, "not newer than version 1.0.0", "give a higher version"]);
    }
    desk.refused(&build, "one/two", BAD, &["one/two", "no usable version"]);
    let build = build.display().to_string();
    let arguments = ["publish", &build, "--app", "shop", "--version", "2.0.0", "--channel", "nightly"];
    desk.refused_with(&arguments, BAD, &["no channel \"nightly\"", "hint: it has stable"]);
    let arguments = ["publish", &build, "--app", "shopp", "--version", "2.0.0"];
    desk.refused_with(&arguments, BAD, &["shopp is not set up", "burr init --app shopp"]);
    desk.refused_with(&["init", "--app", "shop"], BAD, &["already set up", "move it away first"]);
}

#[test]
fn a_key_that_is_missing_or_wrong() {
    let desk = Desk::new();
    let keys = desk.data.join("publish/shop/keys");
    for name in ["channel.stable.key", "snapshot.key", "timestamp.key"] {
        let (key, away) = (keys.join(name), desk.at(name));
        fs::rename(&key, &away).unwrap();
        desk.refused(&desk.build(), "2.0.0", FAILED, &[name, "is missing", "back in its place"]);
        fs::copy(keys.join("root.key"), &key).unwrap();
        desk.refused(&desk.build(), "2.0.0", FAILED, &["not the one that the repository names", "`burr init` made"]);
        fs::write(&key, "scribble").unwrap();
        desk.refused(&desk.build(), "2.0.0", FAILED, &[name, "is damaged", "back in its place"]);
        fs::rename(&away, &key).unwrap();
    }
    publish(&desk.data, &desk.build(), "2.0.0");
}

#[test]
fn a_wrong_passphrase() {
    let dir = scratch();
    let data = dir.path().join("data");
    let desk = Desk { dir, data };
    let file = desk.at("passphrase");
    fs::write(&file, "correct horse\n").unwrap();
    let file = file.display().to_string();
    say(&desk.data, &["init", "--app", "shop", "--passphrase-file", &file]).ok();
    let build = desk.build().display().to_string();
    let arguments = ["publish", &build, "--app", "shop", "--version", "1.0.0"];
    desk.refused_with(&arguments, FAILED, &["sealed by a passphrase", "hint: "]);
    fs::write(desk.at("wrong"), "battery staple").unwrap();
    let wrong = desk.at("wrong").display().to_string();
    let with_file = |file| [&arguments[..], &["--passphrase-file", file]].concat();
    desk.refused_with(&with_file(&wrong), FAILED, &["does not open the keys", "passphrase that they were made with"]);
    desk.refused_with(&with_file("/nowhere"), BAD, &["can't read the passphrase file /nowhere"]);
    let mut by_environment = burr(&desk.data);
    by_environment.args(arguments).env("BURR_PASSPHRASE", "battery staple");
    assert_eq!(run(by_environment).code, Some(FAILED));
    say(&desk.data, &with_file(&file)).ok();
}

#[test]
fn a_full_disk_at_the_publisher() {
    let Some(small) = SmallDisk::new() else { return };
    let desk = Desk { dir: scratch(), data: small.path().join("data") };
    set_up(&desk.data);
    publish(&desk.data, &desk.build(), "1.0.0");
    let large = tree(&desk.at("large"), &[("data", &noise(1, 2 << 20))]);
    desk.refused(&large, "2.0.0", DISK, &["free some space", "nothing was changed"]);
    publish(&desk.data, &desk.build(), "2.0.0");
}

#[test]
fn a_setting_that_does_not_exist() {
    let desk = Desk::new();
    desk.refused_with(&["run", "--set", "colour=red"], BAD, &["no setting colour", "known are: ", "quota"]);
    desk.refused_with(&["run", "--set", "apps.shop.colour=red"], BAD, &["apps.shop.colour", "known are: ", "health"]);
    desk.refused_with(&["run", "--set", "quota=many"], BAD, &["quota", "\"many\"", "flag", "10 GiB"]);
    desk.refused_with(&["run", "--set", "quota"], BAD, &["has no =", "NAME=VALUE"]);
    desk.refused_with(&["run", "--port", "99999"], BAD, &["port", "99999", "flag", "whole number"]);
    desk.refused_with(&["run", "--health", "true"], BAD, &["--health", "required", "--install <LINK>"]);
    desk.refused_with(&["config", "set", "colour", "red"], BAD, &["no setting colour", "known are: ", "quota"]);
    desk.refused_with(&["config", "set", "quota", "many"], BAD, &["quota", "\"many\"", "10 GiB"]);
    desk.refused_with(&["config", "set", "apps.shop.colour", "red"], BAD, &["apps.shop.colour", "health"]);
    desk.refused_with(&["config", "set", "apps.bank.keep", "2"], BAD, &["apps.bank"]);
    desk.refused_with(&["config", "unset", "apps.bank.keep"], BAD, &["apps.bank.keep", "`burr config` shows"]);
    let mut misspelt = burr(&desk.data);
    misspelt.arg("config").env("BURR_QUOTTA", "1 GiB");
    let said = run(misspelt);
    assert_eq!(said.code, Some(BAD), "{said:?}");
    assert!(said.err.contains("BURR_QUOTTA") && said.err.contains("`burr config` lists them all"), "{said:?}");
    for (text, words) in [
        ("colour = 1", ["burr.toml", "no setting colour", "quota"]),
        ("[apps.shop]\ncolour = 1", ["burr.toml", "apps.shop.colour", "repository"]),
        ("quota = ", ["burr.toml", "quota", "1"]),
    ] {
        fs::write(desk.data.join("burr.toml"), text).unwrap();
        desk.refused_with(&["config"], BAD, &words);
        desk.refused_with(&["run"], BAD, &words);
    }
    fs::write(desk.data.join("burr.toml"), "quota = \"2 GiB\"\n").unwrap();
    assert!(say(&desk.data, &["config"]).ok().contains("2 GiB"));
}

#[test]
fn an_address_that_is_none() {
    let desk = Desk::new();
    for peer in ["foo", "192.168.1.5", "example.com:7447"] {
        let said = say(&desk.data, &["run", "--listen", "127.0.0.1", "--no-mdns", "--peer", peer]);
        assert_eq!(said.code, Some(BAD), "{said:?}");
        assert!(said.err.contains(peer) && said.err.contains("192.168.1.5:7447"), "{said:?}");
    }
    desk.refused_with(&["run", "--listen", "everywhere"], BAD, &["listen", "everywhere", "IP address"]);
    let link = "shop/stable@12";
    desk.refused_with(&["run", "--install", link], BAD, &[link, "APP/CHANNEL@REPOSITORY, as `burr init` prints it"]);
}

#[test]
fn two_that_publish_at_once() {
    let desk = Desk::new();
    let lock = File::create(desk.data.join("publish/shop/lock")).unwrap();
    lock.lock().unwrap();
    desk.refused(&desk.build(), "2.0.0", BUSY, &["another process is publishing", "try again"]);
    lock.unlock().unwrap();
    publish(&desk.data, &desk.build(), "2.0.0");
}

#[test]
fn a_node_that_does_not_take_what_was_published() {
    let desk = Desk::new();
    // Something that listens where a node would, and says nothing.
    let listener = UnixListener::bind(desk.data.join("control.sock")).unwrap();
    thread::spawn(move || listener.incoming().for_each(drop));
    let build = desk.build().display().to_string();
    let said = say(&desk.data, &["publish", &build, "--app", "shop", "--version", "2.0.0"]);
    assert_eq!(said.code, Some(FAILED), "{said:?}");
    for words in ["what was signed holds", "did not take it", "`burr run` takes it when it is started again"] {
        assert!(said.err.contains(words), "{words:?}: {said:?}");
    }
    fs::remove_file(desk.data.join("control.sock")).unwrap();
    desk.refused(&desk.build(), "2.0.0", BAD, &["not newer than version 2.0.0"]);
}

#[test]
fn the_command_line_says_json_to_programs_when_it_fails() {
    let desk = Desk::new();
    let said = say(&desk.data, &["--json", "publish", "/nowhere", "--app", "shop", "--version", "2.0.0"]);
    let error: serde_json::Value = serde_json::from_str(&said.err).unwrap();
    assert!(error["error"].as_str().unwrap().contains("/nowhere") && error["hint"].is_string(), "{error}");
}
