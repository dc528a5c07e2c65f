#!/usr/bin/python3
"""The repository of packages: the real gridplane with its reprepro, gpg and nginx, and the real apt of a Debian root.
test_repository.py BUILD [NAME-PART...]

One lab with a control plane; the scenarios follow one another, since each leaves packages to the next. Needs root and mmdebstrap.
Ends with the line "N passed, N failed"."""

import base64
import contextlib
import email.utils
import hashlib
import json
import os
import pathlib
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import debian_root  # noqa: E402
import plane_site  # noqa: E402
from plane_site import expect, program_of, wait_for, words_of  # noqa: E402

REPO = "https://repo.grid.example"
SITE_CONF = plane_site.SITE_CONF
KILLS = int(os.environ.get("KILLS", "12"))


def deb(folder, name, version, architecture="all", content="", fields="Section: misc\nPriority: optional\n", fill=0):
    """A package that has one file; the path of it."""
    root = folder / f"{name}-{version}-{architecture}"
    shutil.rmtree(root, ignore_errors=True)
    (root / "DEBIAN").mkdir(parents=True)
    (root / "usr/share/doc" / name).mkdir(parents=True)
    (root / "DEBIAN/control").write_text(f"Package: {name}\nVersion: {version}\nArchitecture: {architecture}\n"
                                         f"Maintainer: Lab <lab@grid.example>\n{fields}Description: for a test\n")
    with open(root / "usr/share/doc" / name / "text", "wb") as file:
        file.write(f"{name} {version} {content}\n".encode() + os.urandom(fill))
    path = folder / f"{name}_{version}_{architecture}{'-' + content if content else ''}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "-b", root, path], check=True, stdout=subprocess.DEVNULL)
    return path


class Debian:
    """The cached Debian root, with what this test writes in an overlay of its own; its apt runs in the node's network."""

    def __init__(self, site):
        self.site, self.folder = site, site.folder / "debian"
        self.root = self.folder / "root"

    def __enter__(self):
        lower = debian_root.debian_root("node", debian_root.NODE)
        self.folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512m,mode=755", "tmpfs", self.folder], check=True)
        for name in ("upper", "work", "root"):
            (self.folder / name).mkdir()
        subprocess.run(["mount", "-t", "overlay", "-o", f"lowerdir={lower},upperdir={self.folder}/upper,workdir={self.folder}/work",
                        "overlay", self.root], check=True)
        shutil.rmtree(self.root / "etc/apt/sources.list.d", ignore_errors=True)
        (self.root / "etc/apt/sources.list.d").mkdir()
        (self.root / "etc/apt/sources.list").write_text("")
        (self.root / "etc/resolv.conf").unlink(missing_ok=True)
        (self.root / "etc/resolv.conf").write_text("nameserver 198.51.100.53\n")
        return self

    def __exit__(self, *_):
        for path in (self.root, self.folder):
            subprocess.run(["umount", "-l", path], check=False)

    def trust(self, node, keyring, suite="stable", uri=f"{REPO}/debian"):
        """As docs/plane.md tells somebody whose apt is no node's: root, certificate and key of a node, keyring."""
        for source, name, mode in ((self.site.state / "node/grid-root.pem", "root.pem", 0o644), (node.certificate, "node.crt", 0o644),
                                   (node.key, "node.key", 0o600)):
            path = self.root / "etc/apt" / name
            shutil.copyfile(source, path)
            path.chmod(mode)
        subprocess.run(["chroot", self.root, "chown", "_apt", "/etc/apt/node.key"], check=True)
        (self.root / "etc/apt/grid.gpg").write_bytes(keyring)
        (self.root / "etc/apt/apt.conf.d/90grid").write_text(
            'Acquire::https::CAInfo "/etc/apt/root.pem";\nAcquire::https::SslCert "/etc/apt/node.crt";\n'
            'Acquire::https::SslKey "/etc/apt/node.key";\nAcquire::Retries "0";\n')
        (self.root / "etc/apt/sources.list.d/grid.sources").write_text(
            f"Types: deb\nURIs: {uri}\nSuites: {suite}\nComponents: main\nSigned-By: /etc/apt/grid.gpg\n")

    def forget(self):
        shutil.rmtree(self.root / "var/lib/apt/lists", ignore_errors=True)

    def run(self, *words, **options):
        return self.site.run("node", "chroot", self.root, "env", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive",
                             "PATH=/usr/sbin:/usr/bin:/sbin:/bin", *words, **options)

    def update(self, **options):
        return self.run("apt-get", "update", "--error-on=any", **options)

    def versions(self, name):
        return self.run("apt-cache", "madison", name)


class World:
    def __init__(self, site, debian):
        self.site, self.debian = site, debian
        self.debs = site.folder / "debs"
        self.debs.mkdir()
        self.apt = next((site.plane_root / "var/lib/gridplane/apt").glob("o-*"))
        site.plane("org", "add", "acme")
        self.node = site.new_node("branch-12")
        self.stranger = site.new_node("stranger", organisation="acme")

    def deb(self, *words, **options):
        return deb(self.debs, *words, **options)

    def package(self, *words, **options):
        return self.site.plane("package", *words, **options)

    def items(self, *words):
        return json.loads(self.package("list", *words, "--json"))["items"]

    def keyring(self):
        return base64.b64decode(json.loads(self.package("key", "show", "--json"))["keyring"])

    def ask(self, path, *words, node="own", host=REPO):
        """(status, headers, body) by curl from the node's network."""
        node = self.node if node == "own" else node
        head, body = self.debs / "head", self.debs / "body"
        body.write_bytes(b"")
        identity = ["--cert", node.certificate, "--key", node.key] if node else []
        out = self.site.run("node", "curl", "-sS", "-D", head, "-o", body, "-w", "%{http_code} %{http_version}", "--path-as-is", "--cacert",
                            self.site.state / "node/grid-root.pem", "--resolve", "repo.grid.example:443:198.51.100.20", "--resolve",
                            "repo.grid.example:8443:198.51.100.20", *identity, *words, host + path, accept=None)
        headers = {}
        for line in head.read_text().splitlines():
            name, colon, value = line.partition(":")
            if colon:
                headers[name.lower()] = value.strip()
        last = out.strip().splitlines()[-1:]
        status, _, version = (last[0] if last else "0 0").partition(" ")
        return int(status) if status.isdigit() else 0, dict(headers, version=version), body.read_bytes()

    def gpgv(self, keyring, *files):
        path = self.debs / "keyring.gpg"
        path.write_bytes(keyring)
        return subprocess.run(["gpgv", "--keyring", path, *files], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)

    def wait_for_plane(self):
        self.site.start_plane("ASAN_OPTIONS=detect_leaks=0")
        wait_for("the plane answers", lambda: "default" in self.site.plane("org", "list", accept=None) and
                 self.ask("/debian/keyring.gpg", node=self.stranger)[0] == 200, 30, 0.2)

    def agents(self):
        return [pid for pid in os.listdir("/proc") if pid.isdigit() and program_of(pid) == "gpg-agent" and
                any(str(self.site.plane_root) in word for word in words_of(pid))]


def fields(text):
    return dict(line.split(": ", 1) for line in text.splitlines() if ": " in line and not line.startswith(" "))


def inrelease(world, suite="stable"):
    return world.ask(f"/debian/dists/{suite}/InRelease")[2].decode()


# ---- scenarios, in this order ----


def add_and_list(w):
    first = w.deb("hello", "1.0", "amd64")
    said = w.package("add", first, w.deb("plain", "1", fields=""))
    expect("hello 1.0 amd64 is in stable" in said and "plain 1 all is in stable" in said, said)
    items = {item["package"]: item for item in w.items()}
    expect(set(items) == {"hello", "plain"}, items)
    hello = items["hello"]
    expect(hello["sha256"] == hashlib.sha256(first.read_bytes()).hexdigest() and hello["size_bytes"] == first.stat().st_size, hello)
    expect(hello["added_by"] == "local:root" and hello["channel"] == "stable" and hello["added"].endswith("Z"), hello)
    expect("hello" in w.package("list", "hello") and "plain" not in w.package("list", "hello"))
    expect("nothing" not in w.package("add", first), "the same again is fine")
    w.package("add", first, "--channel", "security")
    audit = w.site.plane("audit", "list", "--json")
    expect("package.add" in audit and hello["sha256"] in audit, audit)


def release_says_what_it_should(w):
    for suite, origin, label, codename in (("stable", "gridplane", "gridplane", "stable"), ("testing", "gridplane", "gridplane", "testing"),
                                           ("security", "Debian", "Debian-Security", "bookworm-security")):
        said = fields(inrelease(w, suite))
        expect((said["Origin"], said["Label"], said["Codename"], said["Suite"]) == (origin, label, codename, suite), said)
        expect(said["Acquire-By-Hash"] == "yes", said)
        began, until = (email.utils.parsedate_to_datetime(said[name].replace("UTC", "+0000")).timestamp() for name in ("Date", "Valid-Until"))
        expect(until - began == 7 * 86400 and abs(time.time() - began) < 120, said)
    status, _, body = w.ask("/debian/keyring.gpg")
    expect(status == 200 and body == w.keyring())


def apt_of_a_debian(w):
    for port in ("", ":8443"):
        w.debian.forget()
        w.debian.trust(w.node, w.keyring(), uri=f"{REPO}{port}/debian")
        w.debian.update()
        log = (w.site.plane_root / "var/lib/gridplane/log/access.log")
        wait_for("by-hash in the log", lambda: "by-hash/SHA256" in log.read_text(), 3)
    said = w.debian.run("apt-get", "install", "-y", "hello", "plain")
    expect("Setting up hello (1.0)" in said and "Setting up plain (1)" in said, said)
    expect("hello 1.0" in (w.debian.root / "usr/share/doc/hello/text").read_text())
    w.debian.forget()
    w.debian.trust(w.node, w.keyring(), suite="security")
    said = w.debian.update()
    expect("Conflicting" not in said, said)
    policy = w.debian.run("apt-cache", "policy", "hello") + w.debian.run("apt-cache", "policy")
    expect("o=Debian" in policy and "n=bookworm-security" in policy and "l=Debian-Security" in policy, policy)
    w.debian.trust(w.node, w.keyring())


def only_nodes_of_the_organisation(w):
    file = next(item["file"] for item in w.items("hello"))
    for port in (443, 8443):
        host = f"{REPO}:{port}"
        expect(w.ask(f"/debian/{file}", host=host)[0] == 200)
        expect(w.ask(f"/debian/{file}", host=host, node=None)[0] == 403)
        expect(w.ask("/debian/dists/stable/InRelease", host=host, node=None)[0] == 403)
        # Another organisation's has its own repository, in which there is nothing of this one.
        expect(w.ask(f"/debian/{file}", host=host, node=w.stranger)[0] == 404)
    wait_for("the other's repository", lambda: w.ask("/debian/dists/stable/InRelease", node=w.stranger)[0] == 200, 15, 0.3)
    theirs = w.ask("/debian/dists/stable/main/binary-amd64/Packages", node=w.stranger)
    expect(theirs[0] == 200 and theirs[2] == b"", theirs)
    expect(w.ask("/debian/keyring.gpg", node=w.stranger)[2] != w.keyring())
    for path in ("conf/distributions", "../conf/distributions", "%2e%2e/keys.json", "../keys.json", "..%2fkeys.json", "db/packages.db",
                 "dists/../../conf/distributions", "../gnupg/pubring.kbx", "gnupg/pubring.kbx", "../incoming/", "../../",
                 f"../../{w.apt.name}/keys.json", "dists/", "pool/", "", "pool/../../keys.json"):
        status, _, body = w.ask(f"/debian/{path}")
        expect(status in (400, 403, 404) and b"fingerprint" not in body and b"Codename" not in body, path, status, body[:200])
    expect(w.ask("/debian/keyring.gpg", "-X", "DELETE")[0] == 405)
    gone = w.site.new_node("gone")
    expect(w.ask("/debian/keyring.gpg", node=gone)[0] == 200)
    w.site.plane("node", "remove", "gone")
    wait_for("a removed node is refused", lambda: w.ask("/debian/keyring.gpg", node=gone)[0] in (400, 403), 15, 0.3)


def ranges_and_times(w):
    path = "/debian/" + next(item["file"] for item in w.items("hello"))
    _, whole, body = w.ask(path)
    expect(whole["version"] == "2", whole)
    status, part, some = w.ask(path, "-r", "10-19", "-H", f"If-Range: {whole['last-modified']}")
    expect(status == 206 and some == body[10:20] and part["content-range"] == f"bytes 10-19/{len(body)}", status, part)
    expect(w.ask(path, "-H", f"If-Modified-Since: {whole['last-modified']}")[0] == 304)
    index = "/debian/dists/stable/main/binary-amd64/Packages.xz"
    _, before, _ = w.ask(index)
    seen = set()
    for number in range(3):  # within a second or two: what clients tell InRelease apart by must move all the same
        w.package("add", w.deb("other", f"1.{number}"), "--channel", "testing")
        _, headers, _ = w.ask("/debian/dists/testing/InRelease")
        seen.add(headers["last-modified"])
    expect(len(seen) == 3, seen)
    _, after, _ = w.ask(index)
    expect((before["last-modified"], before["etag"]) == (after["last-modified"], after["etag"]), before, after)


def wrong_things(w):
    before = w.items()
    hello = w.deb("hello", "1.0", "amd64", content="other")
    broken = w.debs / "broken.deb"
    broken.write_bytes(w.deb("large", "1", fill=300000).read_bytes()[:150000])
    control = w.debs / "huge.deb"
    control.write_bytes(b"!<arch>\n" + os.urandom(5000))
    empty = w.debs / "empty.deb"
    empty.write_bytes(b"")
    for file, status, words in ((hello, 1, "other content"), (w.deb("hello", "0.9", "amd64"), 1, "newer than 0.9"),
                                (w.deb("hello", "2", "s390x"), 64, "s390x"), (broken, 64, "damaged"), (control, 64, "no Debian package"),
                                (empty, 64, "missing"), (pathlib.Path("/etc/hostname"), 64, "not a Debian format archive"),
                                (w.debs, 1, "not a regular file"), (w.debs / "none.deb", 1, "No such file")):
        said = w.package("add", file, accept=(status,))
        expect(words in said and "incoming/" not in said, file, said)
    expect("stable, testing and security" in w.package("add", hello, "--channel", "unstable", accept=(1,)))
    expect("no package nothing" in w.package("remove", "nothing", accept=(1,)))
    expect("no package hello 7" in w.package("remove", "hello=7", accept=(1,)))
    w.package("remove", "HELLO), Name (% *", accept=(64,))
    w.package("promote", "stable", "security", accept=(64,))
    w.package("promote", "testing", "stable", "absent", accept=(1,))
    w.package("key", "drop", accept=(64,))
    sparse = w.debs / "sparse.deb"
    with open(sparse, "wb") as file:
        file.truncate((512 << 20) + 1)
    expect("bytes" in w.package("add", sparse, accept=(64, 69)))
    sparse.unlink()
    expect(w.items() == before, "nothing of it is there")
    expect(not list((w.apt / "incoming").iterdir()), "no upload is left")


def by_the_http_api(w):
    tokens = {}
    for role in ("viewer", "operator"):
        path = w.debs / f"{role}.token"
        w.site.plane("token", "add", role, "--role", role, "--output", path)
        tokens[role] = path.read_text().strip()
    file = w.deb("api", "1")
    where = "/api/v1/packages?channel=testing"
    deb_type = "Content-Type: application/vnd.debian.binary-package"

    def post(role, body=file, kind=deb_type):
        words = ["-H", f"Authorization: Bearer {tokens[role]}"] if role else []
        return w.ask(where, "-X", "POST", "--data-binary", f"@{body}", "-H", kind, *words, node=None)

    expect(post(None)[0] == 401 and post("viewer")[0] == 403 and post("operator", kind="Content-Type: application/json")[0] == 415)
    status, headers, body = post("operator")
    expect(status == 201 and json.loads(body)["items"][0]["added_by"] == "token:operator", status, body)
    status, headers, body = post("operator", w.deb("api", "1", content="changed"))
    expect(status == 409 and headers["content-type"] == "application/problem+json" and json.loads(body)["code"] == "package.exists", body)
    large = w.deb("large", "2", fill=40 << 20)  # more than nginx takes elsewhere, and than the API keeps in memory
    expect(post("operator", large)[0] == 201)
    status, _, body = w.ask("/api/v1/packages?package=large", "-H", f"Authorization: Bearer {tokens['viewer']}", node=None)
    expect(status == 200 and json.loads(body)["items"][0]["sha256"] == hashlib.sha256(large.read_bytes()).hexdigest(), body)
    expect(w.ask("/api/v1/packages/key/rotate", "-X", "POST", "-H", f"Authorization: Bearer {tokens['operator']}", node=None)[0] == 403)
    metrics = w.ask("/metrics", "-H", f"Authorization: Bearer {tokens['viewer']}", node=None)[2].decode()
    expect('gridplane_packages{organisation="default",channel="testing"}' in metrics and "gridplane_repository_jobs_total" in metrics, metrics)


def no_update_sees_a_broken_state(w):
    w.debian.forget()
    w.debian.update()
    done, failed, rounds = threading.Event(), [], 0

    def add():
        try:
            for number in range(12):
                w.package("add", w.deb("moving", f"1.{number}", "amd64"))
            w.package("remove", "moving")
        finally:
            done.set()

    thread = threading.Thread(target=add)
    thread.start()
    while not done.is_set():
        if rounds % 2:
            w.debian.forget()
        said = w.debian.run("apt-get", "update", "--error-on=any", accept=None)
        if any(word in said for word in ("Err:", "E:", "W:")):
            failed.append(said)
        rounds += 1
    thread.join()
    expect(not failed and rounds >= 5, rounds, *failed[:2])


def promote_and_remove(w):
    w.package("add", w.deb("step", "1"), w.deb("step2", "1"), "--channel", "testing")
    expect("step 1 all is in stable" in w.package("promote", "testing", "stable", "step"))
    said = w.package("promote", "testing", "stable")
    expect("step2 1 all is in stable" in said and "step 1" not in said, said)
    expect("nothing new" in w.package("promote", "testing", "stable"))
    file = next(item["file"] for item in w.items("step"))
    w.package("remove", "step=1", "--channel", "testing")
    expect(w.ask(f"/debian/{file}")[0] == 200, "stable still has it")
    w.package("remove", "step:all")
    expect(not w.items("step") and w.ask(f"/debian/{file}")[0] == 404)
    expect(not (w.apt / "public" / file).exists())
    w.debian.update()
    expect("step2" in w.debian.versions("step2") and "step " not in w.debian.versions("step"))


def registration_trusts_the_repository(w):
    root = w.site.folder / "apt-root"
    (root / "etc/apt").mkdir(parents=True)
    conf = root / "etc/gridnode/site.conf"
    conf.parent.mkdir(parents=True)
    conf.write_text(SITE_CONF.format(name="with-apt"))
    node = plane_site.Node(w.site, "with-apt", root)
    w.site.nodes.append(node)
    node.register()
    keyring, sources = root / "etc/gridnode/repo-keyring.gpg", root / "etc/apt/sources.list.d/gridnode.sources"
    expect(keyring.read_bytes() == w.keyring() and keyring.stat().st_mode & 0o777 == 0o644 and keyring.stat().st_uid == 0)
    text = sources.read_text()
    expect("URIs: gridnode://repo.grid.example/debian\nSuites: stable\nComponents: main\n" in text and f"Signed-By: {keyring}" in text, text)
    for change, stays in ((lambda: None, False), (lambda: sources.write_text(text.replace("stable", "testing")), True)):
        change()
        before = sources.read_text()
        keyring.unlink()
        token = w.site.folder / "again.token"
        w.site.plane("node", "token", node.id, "--output", token)
        said = w.site.node("register", REPO, "--again", "--token-file", token, "--root-ca", w.site.state / "node/grid-root.pem", "--root", root)
        expect(sources.read_text() == before and keyring.read_bytes() == w.keyring())
        expect(("changed by hand" in said) == stays, said)


def keys_rotate(w):
    old = w.keyring()
    fingerprints = [key["fingerprint"] for key in json.loads(w.package("key", "--json"))["keys"]]
    w.package("key", "rotate")
    keys = json.loads(w.package("key", "--json"))["keys"]
    expect(len(keys) == 2 and keys[0]["fingerprint"] == fingerprints[0] and keys[1]["retires"] is None, keys)
    new = w.keyring()
    release, keyring, signature = w.debs / "InRelease", w.debs / "keyring", w.debs / "keyring.sig"
    for suite in ("stable", "testing", "security"):
        release.write_text(inrelease(w, suite))
        expect(w.gpgv(new, release).stdout.count("Good signature") == 2, w.gpgv(new, release).stdout)
        expect(w.gpgv(old, release).stdout.count("Good signature") == 1, w.gpgv(old, release).stdout)
    keyring.write_bytes(w.ask("/debian/keyring.gpg")[2])
    signature.write_bytes(w.ask("/debian/keyring.gpg.sig")[2])
    expect(keyring.read_bytes() == new and new != old)
    expect("Good signature" in w.gpgv(old, signature, keyring).stdout, w.gpgv(old, signature, keyring).stdout)
    for ring in (old, new):  # a client that has not heard of the new key yet, and one that has
        w.debian.forget()
        w.debian.trust(w.node, ring)
        w.debian.update()
    conf = w.site.plane_root / "etc/gridplane/gridplane.conf"
    conf.write_text(conf.read_text() + "\n[repository]\nkey-overlap-days = 0\n")
    w.site.stop_plane()
    w.wait_for_plane()
    w.package("key", "rotate")
    keys = json.loads(w.package("key", "--json"))["keys"]
    expect(len(keys) == 1 and keys[0]["fingerprint"] not in fingerprints, "all former keys are gone at once", keys)
    release.write_text(inrelease(w))
    expect("Good signature" not in w.gpgv(new, release).stdout and "Good signature" in w.gpgv(w.keyring(), release).stdout)
    secret = list((w.apt / "gnupg/private-keys-v1.d").iterdir())
    expect(len(secret) == 1, secret)
    w.debian.forget()
    w.debian.trust(w.node, new)
    expect("NO_PUBKEY" in w.debian.update(accept=None), "apt refuses what the former keys did not sign")
    w.debian.trust(w.node, w.keyring())
    w.debian.update()


def no_agent_is_left(w):
    wait_for("gpg's agents have ended", lambda: not w.agents(), 10)
    for path in (w.apt / "gnupg", w.apt):
        expect(path.stat().st_mode & 0o077 == 0, path)


def a_signature_is_renewed(w):
    w.site.stop_plane()
    stale = time.time() - 2 * 86400
    release = w.apt / "current/dists/stable/InRelease"
    os.utime(release, (stale, stale))
    number = os.readlink(w.apt / "current")
    w.wait_for_plane()
    wait_for("another generation", lambda: os.readlink(w.apt / "current") != number, 20)
    expect(abs((w.apt / "current/dists/stable/InRelease").stat().st_mtime - time.time()) < 60)
    w.debian.update()


def whole(w):
    """What reprepro says, what is published, and what the store has are one."""
    w.debian.forget()
    w.debian.update()
    check = subprocess.run(["reprepro", "--silent", "-b", w.apt, "--outdir", "+b/public", "--distdir", "+b/dists", "check"], text=True,
                           stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    expect(check.returncode == 0, check.stdout)
    packages = w.ask("/debian/dists/stable/main/binary-amd64/Packages")[2].decode()
    published = set()
    for paragraph in packages.split("\n\n"):
        if paragraph.strip():
            f = fields(paragraph)
            published.add((f["Package"], f["Version"], f["SHA256"]))
            data = (w.apt / "public" / f["Filename"]).read_bytes()
            expect(hashlib.sha256(data).hexdigest() == f["SHA256"], f)
    stored = {(i["package"], i["version"], i["sha256"]) for i in w.items("--channel", "stable") if i["architecture"] in ("all", "amd64")}
    expect(published == stored, published ^ stored)


def kill_at_any_moment(w):
    randomness = random.Random(1)
    lost = []
    for number in range(KILLS):
        file = w.deb("killed", f"1.{number}", "amd64", fill=2_000_000)
        added = w.site.start("inet", w.site.gridplane, "package", "add", file, "--root", w.site.plane_root)
        time.sleep(randomness.uniform(0, 0.7))
        victims = [w.site.plane_pid]
        if number % 2:
            victims = [int(pid) for pid in os.listdir("/proc") if pid.isdigit() and program_of(pid) in ("reprepro", "gpg") and
                       plane_site.works_in(pid, [w.apt])] or victims
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if w.site.plane_pid in victims:
            wait_for("the plane has ended", lambda: not program_of(w.site.plane_pid), 20, 0.02)
        status = added.wait(60)
        if not program_of(w.site.plane_pid):
            for process in w.site.processes:
                process.poll()
            w.wait_for_plane()
        wait_for("it is at rest", lambda: not (w.apt / "busy").exists(), 90, 0.1)
        whole(w)
        version = [i["version"] for i in w.items("killed")]
        if status == 0 and version != [f"1.{number}"]:
            lost.append((number, version))
    expect(not lost, "acknowledged, and yet not there", lost)
    expect(not plane_site.sanitizer_words(w.site.plane_words()), plane_site.sanitizer_words(w.site.plane_words()))


def a_ruined_database_is_made_anew(w):
    before = {(i["package"], i["version"], i["channel"], i["architecture"], i["sha256"], i["added_by"]) for i in w.items()}
    w.site.stop_plane(signal.SIGKILL)
    for name in ("packages.db", "checksums.db", "references.db"):
        (w.apt / "db" / name).write_bytes(os.urandom(20000))
    (w.apt / "busy").write_text("")
    w.wait_for_plane()
    wait_for("it is at rest", lambda: not (w.apt / "busy").exists(), 90, 0.1)
    after = {(i["package"], i["version"], i["channel"], i["architecture"], i["sha256"], i["added_by"]) for i in w.items()}
    expect(before == after, before ^ after)
    whole(w)


def check_tells_of_it(w):
    said = w.site.plane("check", "--domain", "grid.example", accept=None)
    expect("repository." not in said.replace(str(w.site.plane_root), ""), said)
    keys = w.apt / "keys.json"
    text = json.loads(keys.read_text())
    kept = keys.read_text()
    text["keys"][-1]["created"] = "2020-01-01T00:00:00.000Z"
    keys.write_text(json.dumps(text))
    said = w.site.plane("check", "--domain", "grid.example", accept=None)
    expect("package key rotate" in said, said)
    keys.write_text(kept)


SCENARIOS = [add_and_list, release_says_what_it_should, apt_of_a_debian, only_nodes_of_the_organisation, ranges_and_times, wrong_things,
             by_the_http_api, no_update_sees_a_broken_state, promote_and_remove, registration_trusts_the_repository, keys_rotate,
             no_agent_is_left, a_signature_is_renewed, kill_at_any_moment, a_ruined_database_is_made_anew, check_tells_of_it]


def main():
    if len(sys.argv) < 2:
        print(__doc__, file=sys.stderr)
        return 64
    passed = failed = 0
    with plane_site.Site(sys.argv[1], os.environ.get("LAB_NAME", "repository")) as site, Debian(site) as debian:
        world = World(site, debian)
        for scenario in SCENARIOS:
            if sys.argv[2:] and scenario is not add_and_list and not any(word in scenario.__name__ for word in sys.argv[2:]):
                continue
            began = time.monotonic()
            try:
                scenario(world)
                passed += 1
                word = "ok"
            except Exception:
                failed += 1
                word = "FAILED"
                traceback.print_exc(file=sys.stdout)
            print(f"{word:6} {scenario.__name__.replace('_', ' ')} ({time.monotonic() - began:.1f} s)", flush=True)
        if failed:
            print("".join(site.plane_words().splitlines(True)[-30:]))
    print(f"{passed} passed, {failed} failed")
    return 1 if failed or not passed else 0


sys.exit(main())
