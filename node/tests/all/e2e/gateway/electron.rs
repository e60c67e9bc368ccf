//! Capgo's Electron plugin itself, driven in Node.js against a gateway: its own code asks, downloads, checks, unpacks,
//! reports and chooses channels. Only Electron around it is stood in for.

use std::fs;

use serde_json::{Value, json};

use super::{capgo::Project, run, until};
use crate::{
    e2e::program::{self, Shop, say},
    support::tree,
};

/// Stands in for Electron: where data goes, which version the app has, and a window that shows nothing.
const DRIVE: &str = r"
const Module = require('node:module');
const path = require('node:path');
const [, , gateway, data] = process.argv;
const nothing = () => {};
const electron = {
  app: { getPath: () => data, getVersion: () => '0.9.0', isPackaged: true, on: nothing },
  safeStorage: { isEncryptionAvailable: () => false },
  ipcMain: { handle: nothing, removeHandler: nothing },
  globalShortcut: { register: nothing, unregister: nothing },
  BrowserWindow: { getFocusedWindow: () => null },
  dialog: {}, Menu: class {}, MenuItem: class {},
};
const load = Module._load;
Module._load = (name, ...rest) => (name === 'electron' ? electron : load(name, ...rest));
for (const level of ['log', 'warn', 'info']) console[level] = (...words) => console.error(...words);
const { ElectronUpdater } = require(path.join(process.cwd(), 'node_modules/@capgo/electron-updater'));
const window = {
  on: nothing, isDestroyed: () => false, loadURL: async () => {}, loadFile: async () => {},
  webContents: { on: nothing, send: nothing, getURL: () => '' },
};
(async () => {
  const urls = { updateUrl: `${gateway}/updates`, statsUrl: `${gateway}/stats`, channelUrl: `${gateway}/channel_self` };
  const updater = new ElectronUpdater({ ...urls, appId: 'com.example.shop', version: '0.9.0', autoUpdate: false });
  await updater.initialize(window, path.join(data, 'builtin.html'));
  const said = { device: (await updater.getDeviceId()).deviceId };
  said.latest = await updater.getLatest();
  said.bundle = await updater.download(said.latest);
  await updater.set({ id: said.bundle.id });
  await updater.notifyAppReady();
  said.then = await updater.getLatest();
  said.listed = (await updater.listChannels()).channels;
  said.chosen = await updater.setChannel({ channel: 'beta' });
  said.channel = await updater.getChannel();
  said.beta = await updater.getLatest();
  await updater.unsetChannel({});
  said.unset = await updater.getChannel();
  process.stdout.write(JSON.stringify(said));
  process.exit(0);
})().catch((error) => { console.error(error); process.exit(1); });
";

#[test]
fn the_electron_plugin_itself_updates_from_a_gateway() {
    let build = |at: &std::path::Path| {
        tree(at, &[("index.html", b"<h1>shop</h1>"), ("assets/app.js", b"let a = 1;\n".repeat(900).as_slice())]);
    };
    let shop = Shop::open(build);
    say(&shop.publisher, &["channel", "add", "beta", "--app", "shop"]).ok();
    let Some(project) = Project::new(&shop.data("project"), build) else { return };
    let source = shop.source().display().to_string();
    say(&shop.publisher, &["publish", &source, "--app", "shop", "--channel", "beta", "--version", "2.0.0"]).ok();
    let node = run(&shop.publisher, &["--set", "apps.shop.app_id=com.example.shop"]);
    until("both are ready", || fs::read_dir(shop.publisher.join("gateway")).is_ok_and(|found| found.count() > 0));

    fs::write(shop.data("drive.cjs"), DRIVE).expect("scratch");
    fs::create_dir(shop.data("device")).expect("scratch");
    let mut drive = project.node(&shop.data("drive.cjs"));
    drive.arg(format!("http://{}", node.gateway())).arg(shop.data("device"));
    let said: Value = program::run(drive).json();

    assert_eq!(said["latest"]["version"], "1.0.0", "{said}");
    assert_eq!((&said["bundle"]["status"], &said["bundle"]["version"]), (&json!("success"), &json!("1.0.0")), "{said}");
    let unpacked = shop.data("device").join("capgo-bundles").join(said["bundle"]["id"].as_str().expect("an id"));
    for name in ["index.html", "assets/app.js"] {
        let found = fs::read(unpacked.join("www").join(name)).expect("unpacked");
        assert_eq!(found, fs::read(shop.source().join(name)).expect("a file of the build"), "{name}");
    }
    assert_eq!(said["then"]["kind"], "up_to_date", "{said}");
    let names: Vec<&str> =
        said["listed"].as_array().expect("a list").iter().filter_map(|one| one["name"].as_str()).collect();
    assert!(names.contains(&"stable") && names.contains(&"beta"), "{said}");
    assert_eq!((&said["chosen"]["status"], &said["channel"]["channel"]), (&json!("ok"), &json!("beta")));
    assert_eq!(said["beta"]["version"], "2.0.0", "{said}");
    assert_eq!(said["unset"]["channel"], "stable", "{said}");

    let receipts = node.ask("receipts");
    let told: Vec<&Value> = receipts.as_array().expect("a list").iter().collect();
    assert_eq!(told.len(), 1, "{receipts}");
    assert_eq!((&told[0]["via"]["device"], &told[0]["outcome"]), (&said["device"], &json!("Active")));
}
