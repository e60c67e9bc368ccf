//! Every setting: its name, its default in text, what it is for. The environment variable of `a.b` is `BURR_A_B`.

/// One setting.
#[derive(Debug)]
pub struct Key {
    /// Its dotted name.
    pub name: &'static str,
    /// Its default, in the notation of the file.
    pub default: &'static str,
    /// What it is for, with its notation.
    pub help: &'static str,
}

impl Key {
    /// The environment variable that sets it.
    #[must_use]
    pub fn variable(&self) -> String {
        format!("BURR_{}", self.name.to_uppercase().replace('.', "_"))
    }
}

/// `BURR_*` variables without the prefix that are no settings: flags' own, and what a health command is given.
pub(super) const OTHER_VARIABLES: &[&str] =
    &["DATA", "PASSPHRASE", "LOG", "APP", "VERSION", "BUNDLE", "SLOT", "HOOK", "RUN"];

/// Settings of the node.
pub const KEYS: &[Key] = &[
    Key { name: "listen", default: "0.0.0.0", help: "IP address to listen on" },
    Key { name: "port", default: "0", help: "port for QUIC (UDP) and TCP alike; 0 lets the system choose" },
    Key { name: "mdns", default: "true", help: "find nodes on the LAN, and be found" },
    Key { name: "peers", default: "", help: "nodes to connect to, as ip:port or multiaddress" },
    Key {
        name: "max_connections",
        default: "128",
        help: "nodes connected at most; a quarter is kept for those chosen here",
    },
    Key { name: "mesh.closed", default: "false", help: "speak with members of this node's fleet alone (`burr join`)" },
    Key {
        name: "mesh.fleets",
        default: "",
        help: "fleets whose members may speak, as FLEET@REPOSITORY; the node's own if empty and it has one",
    },
    Key {
        name: "site",
        default: "",
        help: "name of the site whose uplink this node shares; empty: whoever is on its LAN",
    },
    Key { name: "collect", default: "false", help: "collect receipts here (a kiosk, a gateway, a publisher)" },
    Key { name: "serve", default: "true", help: "give others what this node holds" },
    Key {
        name: "quota",
        default: "10 GiB",
        help: "bytes of disk that payloads may take, with all that the store keeps beside them",
    },
    Key {
        name: "budget.lan_down",
        default: "unlimited",
        help: "rate of what is taken from nodes of this site: 500 kB/s, unlimited or none; behind semicolons, others at hours of local time, as in unlimited; mon-fri 08:00-18:00 500 kB/s",
    },
    Key { name: "budget.lan_up", default: "unlimited", help: "rate of what is given to nodes of this site" },
    Key { name: "budget.wan_down", default: "unlimited", help: "rate of what is taken from other sites" },
    Key { name: "budget.wan_up", default: "unlimited", help: "rate of what is given to other sites" },
    Key {
        name: "budget.metered",
        default: "false",
        help: "whether the uplink is paid for by the byte, unless the device says so itself (`burr device`)",
    },
    Key {
        name: "budget.metered_down",
        default: "unlimited",
        help: "rate of what is taken from other sites while it is metered",
    },
    Key { name: "budget.metered_up", default: "none", help: "rate of what is given to them while it is metered" },
    Key {
        name: "budget.month",
        default: "unlimited",
        help: "bytes exchanged with other sites in a calendar month (UTC) at most, such as 2 GB; others get three quarters",
    },
    Key { name: "attributes", default: "", help: "what this device is, for the rules of releases: NAME=VALUE, ..." },
    Key { name: "max_receipts", default: "4096", help: "receipts kept at most, 1 to 1048576; the oldest go first" },
    Key {
        name: "tell_attributes",
        default: "closed",
        help: "whether receipts tell this device's attributes and its fleet's groups, which all who carry them can read: closed (in a closed mesh alone), always or never",
    },
    Key {
        name: "flight_recorder",
        default: "",
        help: "directory for recordings of all that this node is told, which `burr-sim replay` runs again: the newest 16 files of 16 MiB; off if empty",
    },
    Key {
        name: "control.http",
        default: "",
        help: "ip:port on loopback where apps on this device may ask and say things over HTTP; off if empty",
    },
    Key {
        name: "conditions.command",
        default: "",
        help: "shell command that measures how the device stands and writes words such as power=battery battery=80 metered=no busy; what `burr device` said goes before it; none if empty",
    },
    Key { name: "conditions.interval", default: "1m", help: "how long after its end it runs again, 1s to 1day" },
    Key { name: "conditions.timeout", default: "10s", help: "time for one run; then nothing is known" },
    Key {
        name: "upstream.urls",
        default: "",
        help: "web servers to take from when no peer has what is needed, such as https://updates.example.com/burr: what a gateway serves or `burr export` writes",
    },
    Key {
        name: "upstream.ca",
        default: "",
        help: "PEM file of the authorities that alone vouch for them, such as your own; those that browsers trust if empty",
    },
    Key { name: "upstream.interval", default: "15m", help: "how often they are asked for news, 1s or more" },
    Key {
        name: "metrics.listen",
        default: "",
        help: "ip:port where Prometheus finds /metrics, such as 127.0.0.1:7451; whoever reaches it may read; off if empty",
    },
    Key {
        name: "gateway.listen",
        default: "",
        help: "ip:port for HTTP: apps with Capgo's plugin, curl, CDNs; off if empty",
    },
    Key {
        name: "gateway.transport",
        default: "tls",
        help: "tls (with gateway.certificate and gateway.key), proxy (one in front does TLS and says X-Forwarded-For), or plain (anybody between can read and alter what no signature covers: for a LAN)",
    },
    Key { name: "gateway.certificate", default: "", help: "PEM file of the certificate chain" },
    Key { name: "gateway.key", default: "", help: "PEM file of the certificate's private key" },
    Key {
        name: "gateway.url",
        default: "",
        help: "its address as devices know it, such as https://updates.example.com; if empty, the one that they ask",
    },
    Key { name: "gateway.channel", default: "stable", help: "channel of devices that name none" },
    Key { name: "gateway.self_assign", default: "true", help: "whether devices may choose their channel" },
    Key {
        name: "gateway.quota",
        default: "10 GiB",
        help: "disk for what apps take, made of payloads: zips and their files; or unlimited",
    },
    Key { name: "gateway.rate", default: "50", help: "requests a second that one address may make, 1 to 1000000" },
    Key { name: "tuning.provider_bytes", default: "32 MiB", help: "bytes asked of one provider at a time at most" },
    Key { name: "tuning.requests_per_job", default: "256", help: "requests under way for one payload, 1 to 1024" },
    Key {
        name: "tuning.request_bytes",
        default: "16 MiB",
        help: "bytes of one request at most, 64 KiB to 16 MiB; 256 KiB while others fetch the same",
    },
    Key { name: "tuning.patience", default: "10s", help: "longest rest of a provider that failed or held things up" },
    Key { name: "tuning.dial_backoff", default: "1s", help: "shortest wait between two dials of one address" },
    Key { name: "tuning.dial_backoff_max", default: "5m", help: "longest wait between two dials of one address" },
    Key { name: "tuning.metadata_patience", default: "10s", help: "time before another peer is asked for metadata" },
    Key {
        name: "tuning.search_interval",
        default: "5s",
        help: "how often providers are searched while there are none",
    },
    Key { name: "tuning.map_interval", default: "50ms", help: "how often others are told what arrived" },
    Key { name: "tuning.sync_interval", default: "5m", help: "how often peers compare what they hold" },
    Key { name: "tuning.retry_backoff", default: "5s", help: "shortest wait before an install is tried again" },
    Key {
        name: "tuning.max_trial_starts",
        default: "3",
        help: "starts of a new version before it is confirmed, 1 to 100; interrupted more often, the device goes back",
    },
    Key { name: "tuning.retry_backoff_max", default: "1h", help: "longest wait before an install is tried again" },
];

/// Settings of one app, under `[apps.NAME]`.
pub const APP_KEYS: &[Key] = &[
    Key { name: "repository", default: "", help: "the repository's name, as `burr init` prints it" },
    Key { name: "app_id", default: "", help: "its id in the requests of its Capacitor app; its name if empty" },
    Key { name: "install", default: "", help: "the channel to install; nothing is installed if empty" },
    Key { name: "pin", default: "", help: "the only version that is installed; any if empty" },
    Key { name: "cache", default: "all", help: "payloads to keep for others: all, none, or a channel" },
    Key { name: "health", default: "", help: "shell command that says whether a new version works (exit code 0)" },
    Key {
        name: "confirm",
        default: "auto",
        help: "who confirms a new version: none, command, call (the app, by `burr confirm`, control.http or the library), or auto: command if there is one, else none",
    },
    Key { name: "confirm_timeout", default: "30s", help: "time for that; then the device goes back" },
    Key { name: "freshness", default: "180days", help: "strict, or how long past its expiry metadata still installs" },
    Key {
        name: "since",
        default: "",
        help: "metadata signed before this time is refused; for a factory image: when its newest was signed, as in 2026-11-24T12:00:00Z",
    },
    Key {
        name: "before",
        default: "",
        help: "shell command before a switch, in the new version's files; unless it exits with 0, nothing is switched",
    },
    Key {
        name: "after",
        default: "",
        help: "shell command after a switch, before `health`; unless it exits with 0, the device goes back",
    },
    Key { name: "hook_timeout", default: "60s", help: "time for each of the two" },
    Key {
        name: "download_if",
        default: "",
        help: "what the device must say of itself before it fetches: mains, battery>=30, unmetered, idle (`burr device`)",
    },
    Key { name: "activate_if", default: "", help: "the same before it switches; it holds for critical releases too" },
    Key { name: "defer", default: "1day", help: "how long a release may be put off in all by `burr defer`" },
    Key { name: "keep", default: "1", help: "earlier versions kept to go back to, 0 to 16" },
    Key {
        name: "keep_bytes",
        default: "unlimited",
        help: "bytes that the files of these may have together, such as 500 MB, the newest first; the first version that was ever confirmed stays besides",
    },
    Key {
        name: "attempts",
        default: "3",
        help: "tries of an install that fails for a reason of this machine, 1 to 100",
    },
];
