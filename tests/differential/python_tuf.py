"""python-tuf beside `burr tuf`: same repository in, same verdict and same trusted versions out.

    python_tuf.py walk METADATA_URL TARGETS_URL ROOT.json TARGET DIR   python-tuf alone: refresh from a root, download a target
    python_tuf.py compare BURR CASES SEED                              both, over repositories that are bent at random

Needs the packages tuf and securesystemslib[crypto]. Exit code 0 if all is as it should be.
"""

import hashlib
import http.server
import json
import os
import random
import subprocess
import sys
import tempfile
import threading
from datetime import datetime, timedelta, timezone

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from securesystemslib.formats import encode_canonical
from securesystemslib.signer import CryptoSigner
from tuf.ngclient import Updater

TOP = ["root", "timestamp", "snapshot", "targets"]
TARGET = "dir/file"
BODY = b"what the target holds"


def signer(number):
    return CryptoSigner(Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"%d" % number).digest()))


class Repository:
    """The `signed` parts as plain JSON, so that they can be bent in ways that no library writes."""

    def __init__(self, rng):
        self.rng = rng
        self.files, self.signed, self.signers, self.next_key = {}, {}, {}, 0
        self.rotated = self.rolled_back = False
        self.pins = rng.random() < 0.5
        later = (datetime.now(timezone.utc) + timedelta(days=30)).strftime("%Y-%m-%dT%H:%M:%SZ")
        for role in [*TOP, "d"]:
            kind = role if role in TOP else "targets"
            self.signed[role] = {"_type": kind, "spec_version": "1.0.31", "version": 0, "expires": later}
        self.signed["root"] |= {"consistent_snapshot": rng.random() < 0.8, "keys": {}, "roles": {}}
        self.signed["snapshot"]["meta"] = {}
        self.signed["targets"] |= {"targets": {}, "delegations": {"keys": {}, "roles": []}}
        body = {"length": len(BODY), "hashes": {"sha256": hashlib.sha256(BODY).hexdigest()}}
        self.signed["d"]["targets"] = {TARGET: body}
        for role in TOP:
            self.name_keys(role, rng.choice([1, 1, 2]))
        self.signers["d"] = [self.new_signer()]
        key = self.signers["d"][0].public_key
        self.signed["targets"]["delegations"]["keys"][key.keyid] = key.to_dict()
        self.signed["targets"]["delegations"]["roles"].append(
            {"name": "d", "keyids": [key.keyid], "threshold": 1, "terminating": True, "paths": ["dir/*"]}
        )
        for _ in range(3):
            self.publish(["d", "targets", "snapshot", "timestamp"])
        self.publish(["root"])

    def new_signer(self):
        self.next_key += 1
        return signer(self.next_key)

    def name_keys(self, role, count):
        """Gives a top-level role new keys, all of them needed."""
        self.signers[role] = [self.new_signer() for _ in range(count)]
        keys = [signer.public_key for signer in self.signers[role]]
        self.signed["root"]["keys"] |= {key.keyid: key.to_dict() for key in keys}
        self.signed["root"]["roles"][role] = {"keyids": [key.keyid for key in keys], "threshold": count}

    def publish(self, roles, bump=True):
        for role in roles:
            self.signed[role]["version"] += bump
            self.serve(role)

    def serve(self, role, bend=None):
        signed = self.signed[role]
        message = encode_canonical(signed).encode()
        signatures = [signer.sign(message).to_dict() for signer in self.signers[role]]
        document = {"signatures": signatures, "signed": signed}
        if bend:
            bend(document)
        data = json.dumps(document, indent=self.rng.choice([None, 1])).encode()
        version, pin = signed["version"], {"version": signed["version"]}
        if self.pins:
            pin |= {"length": len(data), "hashes": {"sha256": hashlib.sha256(data).hexdigest()}}
        if role == "snapshot":
            self.signed["timestamp"]["meta"] = {"snapshot.json": pin}
        elif role not in TOP or role == "targets":
            self.signed["snapshot"]["meta"][f"{role}.json"] = pin
        self.files[self.name(role, version)] = data

    def name(self, role, version):
        plain = role == "timestamp" or (role != "root" and not self.signed["root"]["consistent_snapshot"])
        return f"metadata/{role}.json" if plain else f"metadata/{version}.{role}.json"

    def target_name(self):
        prefix = hashlib.sha256(BODY).hexdigest() + "." if self.signed["root"]["consistent_snapshot"] else ""
        return f"targets/dir/{prefix}file"

    def above(self, role):
        """This role and those that must be signed anew with it."""
        if role == "root":
            return ["root"]
        chain = ["d", "targets", "snapshot", "timestamp"]
        return chain[chain.index(role):]


def bend(repository, rng):
    """One change; some are honest. Its name."""
    role = rng.choice([*TOP, "d"])
    signed = repository.signed[role]
    lower = [name for name in repository.signed if name != "root"]

    def document(change):
        repository.signed[role]["version"] += 1
        repository.serve(role, change)
        rest = repository.above(role)[1:]
        repository.publish(rest)

    def in_signed(change):
        change(signed)
        repository.publish(repository.above(role))

    def signatures(change):
        document(lambda value: change(value["signatures"]))

    def flip(values):
        at = rng.randrange(len(values))
        values[at]["sig"] = ("0" if values[at]["sig"][0] != "0" else "1") + values[at]["sig"][1:]

    def rotate():
        top = rng.choice(TOP)
        old = list(repository.signers[top])
        repository.rotated |= top in ("timestamp", "snapshot")
        repository.name_keys(top, rng.choice([1, 2]))
        if top == "root" and rng.random() < 0.7:
            repository.signers["root"] += old
        repository.publish(["root", "targets", "snapshot", "timestamp"])
        repository.signers[top] = [one for one in repository.signers[top] if one not in old]

    def roll_back():
        name = rng.choice(lower)
        if not repository.rotated and repository.signed[name]["version"] > 2:
            repository.rolled_back = True
            repository.signed[name]["version"] -= 2
            repository.publish(repository.above(name))

    def pin(change):
        parent = rng.choice(["snapshot", "timestamp"])
        repository.publish(["d", "targets", "snapshot"])
        pins = repository.signed[parent]["meta"]
        change(pins[rng.choice(list(pins))])
        repository.publish(["snapshot", "timestamp"] if parent == "snapshot" else ["timestamp"])

    def forget_role():
        if not repository.rotated:
            repository.signed["snapshot"]["meta"].pop("d.json", None)
            repository.publish(["snapshot", "timestamp"])

    def skip_root():
        repository.signed["root"]["version"] += 1
        repository.publish(["root"])
        last = repository.signed["root"]["version"]
        if f"metadata/{last - 1}.root.json" not in repository.files:
            repository.files[f"metadata/{last - 1}.root.json"] = repository.files[f"metadata/{last}.root.json"]

    def cut():
        name = repository.name(role, signed["version"])
        repository.files[name] = repository.files.get(name, b"{}")[:-1] + rng.choice([b"", b" ", b"}}", b"}\n "])

    past = (datetime.now(timezone.utc) - timedelta(days=rng.choice([1, 400]))).strftime("%Y-%m-%dT%H:%M:%SZ")
    changes = {
        "publish": lambda: repository.publish(repository.above(role)),
        "expire": lambda: in_signed(lambda value: value.update(expires=past)),
        "roll back": roll_back,
        "rotate": rotate,
        "drop a signature": lambda: signatures(lambda values: values.pop(rng.randrange(len(values)))),
        "flip a signature": lambda: signatures(flip),
        "sign twice": lambda: signatures(lambda values: values.append(dict(values[0]))),
        "sign as a stranger": lambda: signatures(lambda values: values.append({"keyid": "ff", "sig": "00"})),
        "no signature": lambda: signatures(lambda values: values.clear()),
        "pin another version": lambda: pin(lambda value: value.update(version=value["version"] + rng.choice([-1, 1, 5]))),
        "pin another length": lambda: pin(lambda value: value.update(length=rng.choice([1, 10_000]))),
        "pin another hash": lambda: pin(lambda value: value.update(hashes={"sha256": "0" * 64})),
        "pin no hash": lambda: pin(lambda value: value.update(hashes={})),
        "forget a role": forget_role,
        "skip a root": skip_root,
        "cut": cut,
        "lose": lambda: repository.files.pop(repository.name(role, signed["version"]), None),
        "another type": lambda: in_signed(lambda value: value.update(_type="mirrors")),
        "a future specification": lambda: in_signed(lambda value: value.update(spec_version="2.0.0")),
        "unknown fields": lambda: in_signed(lambda value: value.update({"x-field": {"a": [1, None, "é\n\\\""]}})),
        "sign another thing": lambda: document(lambda value: value["signed"].update({"x-late": 1})),
        "no threshold": lambda: in_signed(
            lambda value: [part.update(threshold=0) for part in value.get("roles", {}).values()]
        ),
        "a high threshold": lambda: in_signed(
            lambda value: [
                part.update(threshold=9) for part in value.get("delegations", {}).get("roles", []) if rng.random() < 0.8
            ]
        ),
        "other paths": lambda: in_signed(
            lambda value: [
                part.update(paths=[rng.choice(["*", "dir/f*", "dir/?ile", "d[a-i]r/[!x]ile", "dir/[x", "**/file"])])
                for part in value.get("delegations", {}).get("roles", [])
            ]
        ),
        "another target": lambda: repository.files.update({repository.target_name(): BODY + b"!"}),
    }
    name = rng.choice(sorted(changes))
    changes[name]()
    return f"{name} ({role})"


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    files = {}


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        data = self.server.files.get(self.path.lstrip("/"))
        self.send_response(404 if data is None else 200)
        self.send_header("Content-Length", str(len(data or b"")))
        self.end_headers()
        self.wfile.write(data or b"")

    def log_message(self, *_):
        pass


def python_tuf(at, url, download):
    try:
        updater = Updater(
            f"{at}/metadata", f"{url}/metadata/", f"{at}/targets", f"{url}/targets/", bootstrap=None
        )
        updater.refresh()
        if download:
            found = updater.get_targetinfo(TARGET)
            if found is None:
                return False, "not found"
            if not updater.find_cached_target(found):
                updater.download_target(found)
        return True, ""
    except Exception as error:  # Whatever it raises is its verdict.
        return False, f"{type(error).__name__}: {error}"


def burr_tuf(burr, at, url, download):
    command = [burr, "tuf", "--metadata-dir", f"{at}/metadata", "--metadata-url", f"{url}/metadata"]
    if download:
        more = ["--target-name", TARGET, "--target-base-url", f"{url}/targets", "--target-dir", f"{at}/targets"]
        command += [*more, "download"]
    else:
        command.append("refresh")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done
    return done.returncode == 0, done.stderr.strip()


def trusted(at):
    """The versions that a client keeps."""
    versions = {}
    for role in [*TOP, "d"]:
        try:
            with open(f"{at}/metadata/{role}.json", "rb") as file:
                versions[role] = json.load(file)["signed"]["version"]
        except FileNotFoundError:
            pass
    return versions


def keeps_another(at):
    """Whether the snapshot that a client keeps has the version that its timestamp names, and is another one: python-tuf does
    not hold what it keeps against the hash and length that the newest timestamp gives; burr does, and asks for the other."""
    try:
        with open(f"{at}/metadata/timestamp.json", "rb") as file:
            pin = json.load(file)["signed"]["meta"]["snapshot.json"]
        with open(f"{at}/metadata/snapshot.json", "rb") as file:
            data = file.read()
    except (FileNotFoundError, KeyError):
        return False
    same_hash = pin.get("hashes", {}).get("sha256", "") in ("", hashlib.sha256(data).hexdigest())
    same_length = pin.get("length", len(data)) == len(data)
    return json.loads(data)["signed"]["version"] == pin["version"] and not (same_hash and same_length)


def compare(burr, cases, seed):
    server = Server(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_address[1]}"
    steps, accepted, differences = 0, 0, []
    for case in range(seed, seed + cases):
        rng = random.Random(case)
        repository = Repository(rng)
        repository.files[repository.target_name()] = BODY
        server.files = repository.files
        with tempfile.TemporaryDirectory() as at:
            for client in ("python", "burr"):
                os.makedirs(f"{at}/{client}/metadata")
                os.makedirs(f"{at}/{client}/targets")
                with open(f"{at}/{client}/metadata/root.json", "wb") as file:
                    file.write(repository.files["metadata/1.root.json"])
            story = []
            for step in range(3):
                if step > 0 or rng.random() < 0.3:
                    for _ in range(rng.choice([1, 1, 2])):
                        if not repository.rolled_back:
                            story.append(bend(repository, rng))
                download = rng.random() < 0.6
                steps += 1
                theirs, why = python_tuf(f"{at}/python", url, download)
                ours, because = burr_tuf(burr, f"{at}/burr", url, download)
                accepted += ours
                kept = trusted(f"{at}/burr")
                expected = trusted(f"{at}/python")
                if repository.rotated:
                    # What a revoked key signed is removed here (TUF 5.3.11); python-tuf leaves the file, unused.
                    for role in ("timestamp", "snapshot"):
                        if role not in kept:
                            expected.pop(role, None)
                if keeps_another(f"{at}/python"):
                    break
                if ours != theirs or kept != expected:
                    roles = sorted(set(kept) | set(expected))
                    other = [role for role in roles if kept.get(role) != expected.get(role)]
                    differences.append(f"case {case}: {story}\n  python-tuf {theirs} {why}\n  burr {ours} {because}\n"
                                       f"  kept otherwise: {[(role, expected.get(role), kept.get(role)) for role in other]}")
                    break
                if repository.rolled_back:
                    # From here on a version comes twice.
                    break
    server.shutdown()
    print(f"{cases} repositories, {accepted} of {steps} steps accepted, {len(differences)} differences")
    for difference in differences[:20]:
        print(difference)
    # A comparison in which nothing or everything is accepted compares nothing.
    sane = cases < 20 or 0.2 < accepted / steps < 0.95
    return 0 if sane and not differences else 1


def walk(metadata_url, targets_url, root, target, directory):
    with open(root, "rb") as file:
        bootstrap = file.read()
    metadata = f"{directory}/metadata"
    os.makedirs(metadata)
    updater = Updater(metadata, metadata_url + "/", directory, targets_url + "/", bootstrap=bootstrap)
    updater.refresh()
    found = updater.get_targetinfo(target)
    assert found is not None, f"python-tuf finds no {target}"
    updater.download_target(found, f"{directory}/target")
    return 0


if __name__ == "__main__":
    if sys.argv[1] == "walk":
        sys.exit(walk(*sys.argv[2:]))
    sys.exit(compare(sys.argv[2], int(sys.argv[3]), int(sys.argv[4])))
