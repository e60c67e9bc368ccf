//! Others check a repository from outside: what `burr publish` wrote, served as static files, is walked by `burr tuf` and
//! by python-tuf, which also agrees with `burr tuf` about repositories that are bent at random.

use std::{
    env, fs,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{Arc, Mutex},
    thread,
};

use burr_node::{
    Kind,
    publisher::{Publication, Publisher},
    tuf,
};
use burr_protocol::trust::client::MAX_TIMESTAMP;
use tempfile::TempDir;

use crate::support::{scratch, small_app};

/// Serves a directory as static files until it is dropped, and remembers what was asked for.
struct Server {
    address: SocketAddr,
    asked: Arc<Mutex<Vec<String>>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Server {
    fn start(root: PathBuf) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        let thread = thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut head = Vec::new();
                let mut byte = [0];
                while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
                    head.push(byte[0]);
                }
                let head = String::from_utf8(head).unwrap();
                let Some(path) = head.split(' ').nth(1) else { return };
                log.lock().unwrap().push(path.to_owned());
                answer(&mut stream, &root.join(path.trim_start_matches('/')));
            }
        });
        Self { address, asked, thread: Some(thread) }
    }

    fn url(&self, path: &str) -> String {
        format!("http://{}/{path}", self.address)
    }

    fn asked(&self) -> Vec<String> {
        std::mem::take(&mut self.asked.lock().unwrap())
    }
}

fn answer(stream: &mut TcpStream, file: &Path) {
    // The client may have heard enough and left.
    let _ = match fs::read(file) {
        Ok(body) => write!(stream, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {}\r\n\r\n", body.len())
            .and_then(|()| stream.write_all(&body)),
        Err(_) => stream.write_all(b"HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"),
    };
}

impl Drop for Server {
    fn drop(&mut self) {
        // A connection without a request ends the loop.
        drop(TcpStream::connect(self.address));
        self.thread.take().unwrap().join().unwrap();
    }
}

/// A published app: its directory, the repository within, and the payload's target path and file.
fn published() -> (TempDir, PathBuf, String, PathBuf) {
    let dir = scratch();
    let source = small_app(&dir.path().join("source"), "1");
    Publisher::init(dir.path(), "shop", &["stable", "beta"], None).unwrap();
    let mut publisher = Publisher::open(dir.path(), "shop").unwrap();
    let release = publisher.publish(&Publication::new(&source, "stable", "1.0"), None, &|_, _| ()).unwrap();
    let payload = publisher.payload_path(&release).unwrap();
    let repository = dir.path().join("publish/shop/repository");
    (dir, repository, release.target_path(), payload)
}

fn burr(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_burr")).arg("tuf").args(arguments).output().unwrap()
}

/// The name under which a payload is served.
fn target_file(repository: &Path, payload: &Path) -> String {
    let name = payload.strip_prefix(repository).unwrap().file_name().unwrap();
    name.to_str().unwrap().to_owned()
}

#[test]
fn a_published_repository_is_walked_from_its_first_root() {
    let (dir, repository, path, payload) = published();
    let server = Server::start(repository.clone());
    let (metadata, targets) = (dir.path().join("trusted"), dir.path().join("downloads"));
    let root = repository.join("metadata/1.root.json");
    let (metadata, targets) = (metadata.to_str().unwrap(), targets.to_str().unwrap());
    let (url, base) = (server.url("metadata/"), server.url("targets"));

    let done = burr(&["--metadata-dir", metadata, "init", root.to_str().unwrap()]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert!(server.asked().is_empty());
    let done = burr(&["refresh", "--metadata-dir", metadata, "--metadata-url", &url]);
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    let names = ["2.root.json", "timestamp.json", "2.snapshot.json", "1.targets.json"];
    assert_eq!(server.asked(), names.map(|name| format!("/metadata/{name}")));
    for (kept, served) in [("root", "1.root"), ("timestamp", "timestamp"), ("snapshot", "2.snapshot")] {
        let read = |path: PathBuf| fs::read(path).unwrap();
        let kept = read(Path::new(metadata).join(format!("{kept}.json")));
        assert_eq!(kept, read(repository.join(format!("metadata/{served}.json"))));
    }

    let download = |name: &str| {
        let places = ["--target-base-url", &base, "--target-dir", targets];
        let more = ["--metadata-dir", metadata, "--metadata-url", &url, "--target-name", name];
        burr(&[&more[..], &places[..], &["download"]].concat())
    };
    for first in [true, false] {
        let done = download(&path);
        assert_eq!(done.status.code(), Some(0), "{done:?}");
        let file = Path::new(targets).join(path.replace('/', "%2F"));
        assert_eq!(fs::read(&file).unwrap(), fs::read(&payload).unwrap());
        // What is new, the one role that may sign for the path, and the target; of what is there already nothing.
        let asked = server.asked();
        let news = ["/metadata/2.root.json", "/metadata/timestamp.json"];
        assert_eq!(asked[..2], news, "{asked:?}");
        let more = asked[2..].iter().map(|path| path.rsplit('/').next().unwrap()).collect::<Vec<_>>();
        let expected = ["2.app.shop.stable.json".to_owned(), target_file(&repository, &payload)];
        assert_eq!(more, if first { &expected[..] } else { &[] });
    }
    let done = download("app/shop/stable/none");
    assert_eq!(done.status.code(), Some(1), "{done:?}");
    assert_eq!(fs::read_dir(targets).unwrap().count(), 1);
}

#[test]
fn whatever_goes_wrong_the_exit_code_is_1() {
    let dir = scratch();
    let at = dir.path().to_str().unwrap();
    let wrong: [&[&str]; 5] = [
        &[],
        &["--metadata-dir", at, "refresh", "--no-such-flag"],
        &["refresh"],
        &["--metadata-dir", at, "init"],
        &["--metadata-dir", at, "refresh", "--metadata-url", "http://127.0.0.1:9"],
    ];
    for arguments in wrong {
        let done = burr(arguments);
        assert_eq!(done.status.code(), Some(1), "{arguments:?}: {done:?}");
        assert!(!done.stderr.is_empty() && done.stdout.is_empty(), "{arguments:?}: {done:?}");
    }
    assert_eq!(burr(&["--help"]).status.code(), Some(0));
}

#[test]
fn a_root_is_replaced_by_nobody_and_one_that_is_none_is_refused() {
    let (dir, repository, ..) = published();
    let root = fs::read(repository.join("metadata/1.root.json")).unwrap();
    let (_other, other, ..) = published();
    let other = fs::read(other.join("metadata/1.root.json")).unwrap();
    let metadata = dir.path().join("trusted");
    assert_eq!(tuf::refresh(&metadata, "http://127.0.0.1:9").unwrap_err().kind(), Kind::BadInput);
    assert_eq!(tuf::init(&metadata, b"{}").unwrap_err().kind(), Kind::BadInput);
    assert_eq!(tuf::init(&metadata, &root).unwrap(), 1);
    assert_eq!(tuf::init(&metadata, &root).unwrap(), 1);
    assert_eq!(tuf::init(&metadata, &other).unwrap_err().kind(), Kind::BadInput);
    assert_eq!(fs::read(metadata.join("root.json")).unwrap(), root);
}

#[test]
fn endless_and_altered_files_are_cut_off_and_leave_nothing() {
    let (dir, repository, path, payload) = published();
    let server = Server::start(repository.clone());
    let metadata = dir.path().join("trusted");
    tuf::init(&metadata, &fs::read(repository.join("metadata/1.root.json")).unwrap()).unwrap();
    let url = server.url("metadata");

    let honest = fs::read(repository.join("metadata/timestamp.json")).unwrap();
    let length = usize::try_from(MAX_TIMESTAMP).unwrap() + 1;
    fs::write(repository.join("metadata/timestamp.json"), vec![b' '; length]).unwrap();
    assert_eq!(tuf::refresh(&metadata, &url).unwrap_err().kind(), Kind::Network);
    assert!(!metadata.join("timestamp.json").exists());

    fs::write(repository.join("metadata/timestamp.json"), honest).unwrap();
    let mut refreshed = tuf::refresh(&metadata, &url).unwrap();
    assert_eq!(tuf::refresh(&metadata, &url).unwrap_err().kind(), Kind::Busy);
    let whole = fs::read(&payload).unwrap();
    let mut altered = whole.clone();
    altered[0] ^= 1;
    let targets = dir.path().join("downloads");
    for (bytes, kind) in
        [(altered, Kind::NotWhole), (whole[1..].to_vec(), Kind::NotWhole), ([&whole[..], b"!"].concat(), Kind::Network)]
    {
        fs::write(&payload, bytes).unwrap();
        let error = refreshed.download(&path, &server.url("targets"), &targets).unwrap_err();
        assert_eq!(error.kind(), kind, "{error}");
        assert_eq!(fs::read_dir(&targets).unwrap().count(), 0);
    }
    fs::write(&payload, whole).unwrap();
    assert!(!refreshed.download(&path, &server.url("targets"), &targets).unwrap().was_there);
}

/// A Python with python-tuf: the one that `.ci/run` makes, or the machine's. `None` without.
fn python() -> Option<PathBuf> {
    let made = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/python-tuf/bin/python3");
    let found = [made, PathBuf::from("python3")].into_iter().find(|python| {
        let import = "import tuf.ngclient, cryptography";
        Command::new(python).args(["-c", import]).output().is_ok_and(|output| output.status.success())
    });
    if found.is_none() {
        eprintln!("skipped: there is no Python with the packages tuf and securesystemslib[crypto]");
    }
    found
}

fn script() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/differential/python_tuf.py")
}

#[test]
fn python_tuf_walks_a_published_repository_and_downloads_a_payload() {
    let Some(python) = python() else { return };
    let (dir, repository, path, payload) = published();
    let server = Server::start(repository.clone());
    let out = dir.path().join("python");
    let done = Command::new(python)
        .arg(script())
        .args(["walk", &server.url("metadata"), &server.url("targets")])
        .arg(repository.join("metadata/1.root.json"))
        .arg(&path)
        .arg(&out)
        .output()
        .unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(fs::read(out.join("target")).unwrap(), fs::read(payload).unwrap());
}

/// `BURR_DIFFERENTIAL_CASES` and `BURR_DIFFERENTIAL_SEED` ask for more and other repositories.
#[test]
fn python_tuf_gives_the_same_verdict_on_repositories_that_are_bent() {
    let Some(python) = python() else { return };
    let setting = |name: &str, default: &str| env::var(name).unwrap_or_else(|_| default.to_owned());
    let done = Command::new(python)
        .arg(script())
        .args(["compare", env!("CARGO_BIN_EXE_burr")])
        .arg(setting("BURR_DIFFERENTIAL_CASES", "60"))
        .arg(setting("BURR_DIFFERENTIAL_SEED", "1"))
        .output()
        .unwrap();
    assert!(done.status.success(), "{done:?}");
}
