//! TLS with a certificate of the operator's: what holds over it, and what is said when it can't be used.

use std::{fs, path::Path};

use rcgen::{CertifiedKey, generate_simple_self_signed};
use serde_json::{Value, json};
use ureq::{
    Agent,
    tls::{Certificate, RootCerts, TlsConfig},
};

use super::until;
use crate::{
    e2e::{
        http::raw,
        program::{DEADLINE, Node, Shop, burr, run},
    },
    support::{scratch, tree},
};

/// Writes a certificate for `localhost` and its key, as PEM, and returns the certificate.
fn certify(certificate: &Path, key: &Path) -> String {
    let CertifiedKey { cert, key_pair } = generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    fs::write(certificate, cert.pem()).expect("writable");
    fs::write(key, key_pair.serialize_pem()).expect("writable");
    cert.pem()
}

/// The settings of a gateway over TLS.
fn settings(certificate: &Path, key: &Path) -> Vec<String> {
    let values = [
        "gateway.listen=127.0.0.1:0".to_owned(),
        "gateway.transport=tls".to_owned(),
        format!("gateway.certificate={}", certificate.display()),
        format!("gateway.key={}", key.display()),
    ];
    values.into_iter().flat_map(|value| ["--set".to_owned(), value]).collect()
}

/// A client that trusts these certificates alone.
fn client(trusted: &[&str]) -> Agent {
    let read = |pem: &&str| Certificate::from_pem(pem.as_bytes()).expect("a certificate");
    let roots = RootCerts::new_with_certs(&trusted.iter().map(read).collect::<Vec<_>>());
    let tls = TlsConfig::builder().root_certs(roots).build();
    Agent::config_builder().tls_config(tls).timeout_global(Some(DEADLINE)).build().into()
}

#[test]
fn an_app_is_served_over_tls_and_nobody_without_it() {
    let shop = Shop::open(|at| drop(tree(at, &[("index.html", b"<h1>shop</h1>")])));
    let (certificate, key) = (shop.data("certificate.pem"), shop.data("key.pem"));
    let trusted = certify(&certificate, &key);
    let given = settings(&certificate, &key);
    let mut arguments: Vec<&str> = given.iter().map(String::as_str).collect();
    arguments.extend(["--set", "apps.shop.app_id=com.example.shop"]);
    let node = Node::start(&shop.publisher, &arguments);
    let (client, port) = (client(&[&trusted]), node.gateway().port());
    let base = format!("https://localhost:{port}");

    let device = json!({
        "app_id": "com.example.shop",
        "device_id": "6f9619ff-8b86-d011-b42d-00cf4fc964ff",
        "platform": "android",
        "version_name": "builtin",
        "version_build": "0.9.0",
        "defaultChannel": "",
    });
    let mut offer = Value::Null;
    until("1.0.0 is offered", || {
        let sent = client.post(format!("{base}/updates")).content_type("application/json").send(device.to_string());
        // On a slow machine this asks so often that it is told to wait.
        let Ok(mut sent) = sent else { return false };
        let text = sent.body_mut().read_to_string().expect("text");
        offer = serde_json::from_str(&text).expect("JSON");
        offer["url"].is_string()
    });
    // The bundle is below the address that the device knows, over TLS as well.
    let url = offer["url"].as_str().expect("an address");
    assert!(url.starts_with(&base), "{url}");
    let zip = client.get(url).call().expect("the bundle").body_mut().read_to_vec().expect("its bytes");
    assert_eq!(zip.get(..4), Some(b"PK\x03\x04".as_slice()));

    // Whoever trusts others gets nothing, and neither does plain HTTP.
    let elsewhere = certify(&shop.data("other.pem"), &shop.data("other.key"));
    assert!(self::client(&[&elsewhere]).get(url).call().is_err());
    let plain = raw(node.gateway(), b"GET / HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    assert!(plain.is_none(), "{plain:?}");
}

#[test]
fn a_certificate_that_can_not_be_used_is_named() {
    let dir = scratch();
    let (certificate, key) = (dir.path().join("certificate.pem"), dir.path().join("key.pem"));
    let data = dir.path().join("node");
    let refused = |given: Vec<String>| {
        let mut command = burr(&data);
        command.args(["run", "--listen", "127.0.0.1", "--no-mdns"]).args(given);
        let said = run(command);
        assert!(said.code.is_some_and(|code| code != 0), "{said:?}");
        said.err
    };
    let missing = refused(settings(&certificate, &key));
    assert!(missing.contains(&certificate.display().to_string()), "{missing}");
    assert!(missing.contains("PEM"), "{missing}");

    // A key that is another certificate's.
    certify(&certificate, &key);
    certify(&dir.path().join("other.pem"), &key);
    let mixed = refused(settings(&certificate, &key));
    assert!(mixed.contains(&certificate.display().to_string()), "{mixed}");

    let none = refused(vec![
        "--set".into(),
        "gateway.listen=127.0.0.1:0".into(),
        "--set".into(),
        "gateway.transport=tls".into(),
    ]);
    assert!(none.contains("gateway.certificate"), "{none}");
}
