#!/usr/bin/python3
"""apt's method for gridnode:// addresses, driven by the apt-get of a real Debian. test_apt.py BUILD [NAME-PART...]

The lab's site; in its Internet nginx serves a repository that reprepro made and signed, to nodes with a certificate only. apt
runs in a Debian of its own, in the node's network namespace. Needs root. Ends with the line "N passed, N failed"."""

import ctypes
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import traceback

sys.dont_write_bytecode = True

import debian_root  # noqa: E402
import plane_site  # noqa: E402
from debian_root import expect, wait_until  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LAB = ROOT / "lab/lab"
STATE = pathlib.Path(os.environ.get("LAB_STATE", "/run/gridnode-lab"))
REPO = ["198.51.100.20", "203.0.113.200"]
METHOD = "/usr/lib/apt/methods/gridnode"
SOURCE = "gridnode://repo.grid.example/debian"
DEADLINE_S = 4  # in place of 30: how long apt waits for a way here

NGINX = """daemon on; user root; pid {lab}/pids/nginx-repo.pid; error_log {folder}/nginx.log; worker_processes 1;
events {{ worker_connections 512; }}
http {{
  log_format told '$status $body_bytes_sent $server_port $connection $server_protocol $uri "$http_range" $msec';
  access_log {folder}/access told;
  client_body_temp_path {folder}/t1; proxy_temp_path {folder}/t2; fastcgi_temp_path {folder}/t3; uwsgi_temp_path {folder}/t4;
  scgi_temp_path {folder}/t5;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_certificate {pki}/repo.chain; ssl_certificate_key {pki}/repo.key;
  ssl_client_certificate {pki}/client-ca.pem; ssl_verify_depth 3;
  server {{
    {listen}
    ssl_verify_client on;
    {more}
    location /debian/ {{ alias {folder}/repo/; }}
    location /debian/conf/ {{ deny all; }}
    location /debian/db/ {{ deny all; }}
  }}
}}
"""
SITE = """[node]
name = branch-12
profile = /etc/gridnode/grid.profile
[wan]
interface = eth0
address = 192.0.2.10/24
gateway = 192.0.2.1
dns = 198.51.100.53;203.0.113.53
[lan eth1]
address = 10.20.0.2/24
"""
DISTRIBUTIONS = """Origin: Grid
Codename: stable
Suite: stable
Architectures: amd64
Components: main
ValidFor: 7d
SignWith: {key}
"""
SOURCES = """Types: deb
URIs: {uri}
Suites: stable
Components: main
Signed-By: /usr/share/keyrings/grid.gpg
"""
APT_CONF = """Acquire::Languages "none";
Acquire::gridnode::Deadline "{deadline}";
Acquire::Retries::Delay "false";
APT::Install-Recommends "false";
"""
# Serves in the place of nginx: "silent" accepts and says nothing, "drip" sends a byte a second of what it announced.
TRICK = """
import socket, ssl, sys, threading, time
folder, trick, *addresses = sys.argv[1:]
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(folder + "/repo.chain", folder + "/repo.key")
def serve(plain):
    try:
        if trick == "silent":
            time.sleep(600)
        s = context.wrap_socket(plain, server_side=True)
        s.recv(4096)
        s.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 100000\\r\\n\\r\\n")
        while True:
            s.sendall(b"x")
            time.sleep(1)
    except OSError:
        pass
def listen(server):
    while True:
        threading.Thread(target=serve, args=(server.accept()[0],), daemon=True).start()
for a in addresses:
    for port in (443, 8443):
        threading.Thread(target=listen, args=(socket.create_server((a, port)),), daemon=True).start()
print("ready", flush=True)
time.sleep(600)
"""


def run(*words, check=True, **options):
    done = subprocess.run([str(w) for w in words], text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, **options)
    expect(not check or done.returncode == 0, words, done.stdout)
    return done


class World:
    """The lab, the repository and the Debian with apt."""

    def __init__(self, build):
        self.build, self.name = pathlib.Path(build).resolve(), f"apt{os.getpid()}"
        self.lab = STATE / self.name
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gridnode-apt-", dir="/var/tmp"))
        self.debian, self.debs, self.repo = self.folder / "root", self.folder / "debs", self.folder / "repo"
        self.gnupg = self.folder / "gnupg"
        self.log_at = 0

    def open(self):
        self.drive("up", "--delay-ms", "2")
        self.pki = next(p for p in sorted((STATE / ".shared").glob("pki-*"), key=os.path.getmtime, reverse=True) if p.is_dir())
        self.make_repository()
        self.serve()
        self.make_debian()

    def close(self):
        run("gpgconf", "--homedir", self.gnupg, "--kill", "all", check=False)
        self.drive("down", check=False)
        for at in ("proc", "dev"):
            run("umount", "-R", "-l", self.debian / at, check=False)
        run("umount", "-l", self.debian, check=False)
        run("umount", "-l", self.folder / "layer", check=False)
        shutil.rmtree(self.folder, ignore_errors=True)

    def drive(self, *words, check=True):
        return run(LAB, "--name", self.name, *words, check=check, env=dict(os.environ, LAB_BUILD=str(self.build / "lab")))

    def inside(self, role):
        return ["ip", "netns", "exec", f"gl-{self.name}-{role}"]

    # ---- the repository ----

    def make_repository(self):
        for folder in (self.debs, self.repo / "conf", self.gnupg):
            folder.mkdir(parents=True)
        self.gnupg.chmod(0o700)
        self.gpg("--passphrase", "", "--quick-gen-key", "Grid <repo@grid.example>", "ed25519", "sign", "5y")
        listed = self.gpg("--list-keys", "--with-colons").stdout
        self.key = next(line.split(":")[9] for line in listed.splitlines() if line.startswith("fpr"))
        (self.repo / "conf/distributions").write_text(DISTRIBUTIONS.format(key=self.key))
        self.publish("edge-agent", "1.0")

    def gpg(self, *words):
        return run("gpg", "--homedir", self.gnupg, "--batch", "--yes", "--quiet", *words)

    def make_deb(self, name, version, size=1000):
        tree = self.folder / "tree"
        shutil.rmtree(tree, ignore_errors=True)
        (tree / "DEBIAN").mkdir(parents=True)
        (tree / "usr/share/grid").mkdir(parents=True)
        (tree / f"usr/share/grid/{name}").write_text(version)
        (tree / f"usr/share/grid/{name}.data").write_bytes(os.urandom(size))
        (tree / "DEBIAN/control").write_text(f"Package: {name}\nVersion: {version}\nArchitecture: all\nSection: admin\nPriority: optional\n"
                                             "Maintainer: Grid <repo@grid.example>\nDescription: test\n")
        path = self.debs / f"{name}_{version}_all.deb"
        run("dpkg-deb", "--root-owner-group", "-Znone", "-b", tree, path)
        return path

    def publish(self, name, version, size=1000):
        self.make_deb(name, version, size)
        self.publish_made(name)

    def publish_made(self, *names):
        debs = [max(self.debs.glob(f"{name}_*.deb"), key=os.path.getmtime) for name in names]
        run("reprepro", "-s", "-b", self.repo, "includedeb", "stable", *debs, env=dict(os.environ, GNUPGHOME=str(self.gnupg)))

    def pool(self, name):
        return next((self.repo / "pool").rglob(f"{name}_*.deb"))

    def serve(self, more=""):
        """nginx anew, with this in its server block."""
        self.stop_serving()
        listen = " ".join(f"listen {a}:{p} ssl http2;" for a in REPO for p in (443, 8443))
        config = self.folder / "nginx.conf"
        config.write_text(NGINX.format(lab=self.lab, folder=self.folder, pki=self.pki, listen=listen, more=more))
        run(*self.inside("inet"), "nginx", "-e", self.folder / "nginx.log", "-c", config)

    def stop_serving(self):
        path = self.lab / "pids/nginx-repo.pid"
        if not path.exists():
            return
        pid = int(path.read_text())

        def is_gone():  # one that is just starting does not hear yet
            try:
                os.kill(pid, signal.SIGTERM)
            except ProcessLookupError:
                return True
        wait_until("nginx's end", is_gone)

    def requests(self):
        """What was asked of nginx since the last call: lists of words."""
        text = (self.folder / "access").read_text()
        new, self.log_at = text[self.log_at:], len(text)
        return [line.split() for line in new.splitlines()]

    # ---- the Debian ----

    def make_debian(self):
        base = debian_root.debian_root("node", debian_root.NODE)
        layer = self.folder / "layer"
        for folder in (layer, self.debian):
            folder.mkdir()
        run("mount", "-t", "tmpfs", "-o", "mode=755", "tmpfs", layer)
        for folder in ("upper", "work"):
            (layer / folder).mkdir()
        run("mount", "-t", "overlay", "-o", f"lowerdir={base},upperdir={layer}/upper,workdir={layer}/work", "overlay", self.debian)
        run("mount", "-t", "proc", "proc", self.debian / "proc")
        run("mount", "--rbind", "/dev", self.debian / "dev")
        self.install()

    def install(self):
        for source, target in (("src/apt/gridnode", METHOD), ("src/cli/gridnode", "/usr/bin/gridnode")):
            shutil.copy(self.build / source, self.path(target))
        for folder in ("etc/gridnode", "var/lib/gridnode", "run/gridnode/transfers"):
            (self.debian / folder).mkdir(parents=True)
        self.write("/etc/gridnode/site.conf", SITE)
        self.write("/etc/gridnode/grid.profile", (self.lab / "node/grid.profile").read_text())
        self.write("/etc/gridnode/grid-root.pem", (self.lab / "node/grid-root.pem").read_text())
        self.write("/var/lib/gridnode/node.crt", (self.pki / "node.chain").read_text())
        self.write("/var/lib/gridnode/node.key", (self.pki / "node.key").read_text(), 0o600)
        self.gpg("--export", "--output", self.path("/usr/share/keyrings/grid.gpg"), self.key)
        self.path("/usr/share/keyrings/grid.gpg").chmod(0o644)
        self.path("/etc/apt/sources.list").unlink(missing_ok=True)
        self.write("/etc/apt/sources.list.d/grid.sources", SOURCES.format(uri=SOURCE))
        self.write("/etc/apt/apt.conf.d/99grid", APT_CONF.format(deadline=DEADLINE_S))

    def path(self, inside):
        return self.debian / inside.lstrip("/")

    def write(self, inside, text, mode=0o644):
        self.path(inside).write_text(text)
        self.path(inside).chmod(mode)

    def words(self, *words):
        # The search for leaks needs ptrace, which is not permitted to who gave up rights.
        return [*self.inside("node"), "chroot", str(self.debian), "env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8",
                "DEBIAN_FRONTEND=noninteractive", "ASAN_OPTIONS=detect_leaks=0:exitcode=99", "UBSAN_OPTIONS=halt_on_error=1",
                *map(str, words)]

    def apt(self, *words, check=True):
        done = run(*self.words("apt-get", *words), check=False, timeout=120)
        expect("Sanitizer" not in done.stdout and "runtime error" not in done.stdout, done.stdout)
        expect(not check or done.returncode == 0, words, done.stdout)
        return done

    def update(self, *words, check=True):
        return self.apt("update", "--error-on=any", *words, check=check)

    def forget(self):
        """As if nothing was ever fetched or installed."""
        for folder in ("var/lib/apt/lists", "var/cache/apt/archives"):
            for path in self.path(folder).rglob("*"):
                if path.is_file() and path.name != "lock":
                    path.unlink()

    def purge(self, *names):
        run(*self.words("dpkg", "--purge", *names))

    def method(self, user=None):
        """The method alone: a process with pipes."""
        words = self.words(*(["setpriv", f"--reuid={user}", "--clear-groups"] if user else []), METHOD)
        return subprocess.Popen(words, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def find_method(self):
        """The method's process that apt has started."""
        for status in pathlib.Path("/proc").glob("[0-9]*/exe"):
            try:
                if os.path.samefile(status, self.path(METHOD)):
                    return int(status.parent.name)
            except OSError:
                continue
        return None


# ---- the tests, in the order in which they build upon each other ----

def test_update_install_upgrade(world):
    told = world.update().stdout
    expect("Get:1 gridnode://repo.grid.example/debian stable InRelease" in told, told)
    asked = world.requests()
    expect(all(line[2] == "443" and line[4] == "HTTP/2.0" for line in asked), asked)
    world.apt("install", "-y", "edge-agent")
    expect(world.path("/usr/share/grid/edge-agent").read_text() == "1.0")
    world.publish("edge-agent", "1.1")
    world.update()
    told = world.apt("upgrade", "-y").stdout
    expect("Setting up edge-agent (1.1)" in told, told)
    expect(world.path("/usr/share/grid/edge-agent").read_text() == "1.1")


def test_hit(world):
    world.update()
    lists = {p.name: p.stat().st_mtime for p in world.path("/var/lib/apt/lists").iterdir() if p.is_file() and p.name != "lock"}
    expect(len(lists) >= 2, lists)
    world.requests()
    told = world.update().stdout
    asked = world.requests()
    expect("Hit:1 gridnode://repo.grid.example/debian stable InRelease" in told and "Get:" not in told, told)
    expect([line[0] for line in asked] == ["304"], asked)
    expect({p.name: p.stat().st_mtime for p in world.path("/var/lib/apt/lists").iterdir() if p.is_file() and p.name != "lock"} == lists,
           "the lists changed")


def test_side_by_side(world):
    """Eight files, each of which the server takes a second over, by one connection."""
    names = [f"part-{i}" for i in range(8)]
    for name in names:
        world.make_deb(name, "1.0", 60000)
    world.publish_made(*names)
    world.update()
    world.serve("limit_rate 60k;")
    world.requests()
    began = time.monotonic()
    world.apt("install", "-y", "--download-only", *names)
    took = time.monotonic() - began
    asked = world.requests()
    world.serve()
    expect(len(asked) == 8 and len({line[3] for line in asked}) == 1, asked)
    expect(took < 5, f"{took:.1f} s for what takes a second each", asked)
    world.apt("install", "-y", *names)
    expect(not world.requests(), "what was there was fetched again")
    world.purge(*names)


def status_of(pid):
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return {line.split(":", 1)[0]: line.split(":", 1)[1].split() for line in lines}


def wait_for_method(world, process):
    """The method in `process`, once it said what it can do."""
    line = process.stdout.readline()
    expect(line == "100 Capabilities\n", line)
    return process.pid


def test_rights(world):
    """Nobody has written a byte to it yet: it is _apt already, for good, and holds no file of root's but those that it needs."""
    apt = next(line.split(":") for line in world.path("/etc/passwd").read_text().splitlines() if line.startswith("_apt:"))
    process = world.method()
    status = status_of(wait_for_method(world, process))
    expect(status["Uid"] == [apt[2]] * 4 and status["Gid"] == [apt[3]] * 4, status["Uid"], status["Gid"])
    expect(status["Groups"] == [apt[3]], status["Groups"])
    for name in ("CapInh", "CapPrm", "CapEff", "CapAmb"):
        expect(int(status[name][0], 16) == 0, name, status[name])
    expect(status["NoNewPrivs"] == ["1"], status["NoNewPrivs"])
    # What it holds of the node's key is out of reach for what else runs as _apt.
    expect(os.stat(f"/proc/{process.pid}/mem").st_uid == 0, "another process of _apt's could read its memory")
    process.stdin.close()
    expect(process.wait(10) == 0, "the end of its input is no failure")


def test_no_such_user(world):
    """Who cannot give up rights does nothing."""
    passwd = world.path("/etc/passwd").read_text()
    world.write("/etc/passwd", "".join(line for line in passwd.splitlines(True) if not line.startswith("_apt:")))
    try:
        process = world.method()
        told, _ = process.communicate(f"600 URI Acquire\nURI: {SOURCE}/dists/stable/InRelease\nFilename: /tmp/x\n\n", timeout=10)
    finally:
        world.write("/etc/passwd", passwd)
    expect(told.startswith("401 General Failure\nMessage: there is no user '_apt'") and process.returncode == 100, told)
    expect(not world.path("/tmp/x").exists())


def talk(world, text, user=None, wait_s=0.0):
    """What the method says to these messages, and its exit status."""
    process = world.method(user)
    wait_for_method(world, process)
    try:
        process.stdin.write(text)
        process.stdin.flush()
        time.sleep(wait_s)
        told, _ = process.communicate(timeout=20)
    except BrokenPipeError:  # it had enough
        told = process.stdout.read()
        process.wait(20)
    expect("Sanitizer" not in told and "runtime error" not in told, told)
    return told, process.returncode


def acquire(uri, filename="/tmp/x", *more):
    return "".join(line + "\n" for line in ("600 URI Acquire", f"URI: {uri}", f"Filename: {filename}", *more, ""))


def test_another_user(world):
    """With what it may read: no key, which is what the answer says."""
    told, status = talk(world, acquire(f"{SOURCE}/dists/stable/InRelease", "/tmp/y"), user=65534, wait_s=2)
    expect("400 URI Failure" in told and "HttpError400" in told and "node.key" in told and "Transient" not in told, told)
    expect(status == 0, status)


def test_bad_input(world):
    for text in ("hello\n\n", "99\n\n", "600 URI Acquire\nno colon\n\n", "600 URI Acquire\nFilename: /tmp/x\n\n", "a" * 3000000):
        told, status = talk(world, text)
        expect("401 General Failure\nMessage: " in told and status == 100, text[:60], told, status)
    for uri, fault in ((f"{SOURCE}", "relative"), (f"{SOURCE}/a b", "/tmp/x"), ("http://repo.grid.example/x", "/tmp/x"),
                       ("gridnode:///x", "/tmp/x"), ("gridnode://repo.grid.example:99999/x", "/tmp/x"),
                       ("gridnode://root@repo.grid.example/x", "/tmp/x"), (f"{SOURCE}/x#y", "/tmp/x"),
                       (f"{SOURCE}/dists/stable/InRelease", "/nonexistent/x"), (f"{SOURCE}/dists/stable/InRelease", "/etc/passwd")):
        told, status = talk(world, acquire(uri, fault), wait_s=0.2)
        expect(f"400 URI Failure\nURI: {uri}\nMessage: " in told and "Transient" not in told and status == 0, uri, told, status)
    expect("root:" in world.path("/etc/passwd").read_text())
    # Messages that mean nothing to it, and options that are no options, are passed over.
    told, status = talk(world, "\n\n603 Media Changed\nMedia: x\n\n601 Configuration\nConfig-Item: Acquire::gridnode::Deadline=soon\n\n")
    expect(told.count("104 Warning") == 1 and "Deadline: 'soon' is no number" in told and status == 0, told, status)


def test_nobody_listens(world):
    """apt is gone: its end of either pipe ends the method, in the middle of a transfer, too."""
    for close in ("stdout", "stdin"):
        process = world.method()
        wait_for_method(world, process)
        process.stdin.write(acquire(f"{SOURCE}/dists/stable/InRelease", f"/tmp/{close}"))
        getattr(process, close).close()
        if close == "stdout":
            process.stdin.flush()
        expect(process.wait(10) == (100 if close == "stdout" else 0), close, process.returncode)
        for stream in (process.stdin, process.stdout):
            stream.close()


def test_as_root(world):
    """apt that is told to work as root: the method is _apt all the same, and says what that means."""
    world.forget()
    partial = world.path("/var/lib/apt/lists/partial")
    shutil.rmtree(partial)
    done = world.update("-o", "APT::Sandbox::User=root", check=False)
    told = "Permission denied; gridnode:// is fetched as user '_apt', whatever APT::Sandbox::User says"
    expect(done.returncode == 100 and told in done.stdout, done.stdout)
    world.update()


def test_other_hosts(world):
    """Nothing but the profile's repository is asked."""
    world.write("/etc/apt/sources.list.d/grid.sources", SOURCES.format(uri="gridnode://deb.example.org/debian"))
    world.requests()
    try:
        began = time.monotonic()
        done = world.update(check=False)
        took = time.monotonic() - began
    finally:
        world.write("/etc/apt/sources.list.d/grid.sources", SOURCES.format(uri=SOURCE))
    expect(done.returncode == 100 and "deb.example.org is not this node's repository" in done.stdout, done.stdout)
    expect(took < 3 and not world.requests(), took)


def test_kill_and_resume(world):
    """The method dies in the middle: what came is not fetched again."""
    size = 3000000
    world.publish("large", "1.0", size)
    world.update()
    world.serve("limit_rate 1000k;")
    partial = world.path("/var/cache/apt/archives/partial/large_1.0_all.deb")
    apt = subprocess.Popen(world.words("apt-get", "install", "-y", "--download-only", "large"), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    wait_until("half of it", lambda: partial.exists() and partial.stat().st_size > size // 3)
    os.kill(world.find_method(), signal.SIGKILL)
    expect(apt.wait(20) != 0, "apt is content without its method")
    there = partial.stat().st_size
    world.serve()
    world.requests()
    world.apt("install", "-y", "large")
    asked = [line for line in world.requests() if "large" in line[5]]
    whole = world.pool("large").stat().st_size
    expect([line[0] for line in asked] == ["206"] and asked[0][6] == f'"bytes={there}-"', asked, there)
    expect(int(asked[0][1]) == whole - there, asked, whole, there)
    world.purge("large")


def test_cut(world):
    """The firewall ends each connection after 64 KiB."""
    world.publish("cut", "1.0", 300000)
    world.update()
    world.drive("fault", "transfer-reset")
    world.requests()
    world.apt("install", "-y", "cut", "-o", "Acquire::gridnode::Deadline=20")
    world.drive("reset")
    asked = [line for line in world.requests() if "cut" in line[5]]
    expect(world.path("/usr/share/grid/cut.data").stat().st_size == 300000)
    expect([line[0] for line in asked].count("206") >= 1, asked)
    world.purge("cut")


def test_other_way(world):
    """443 is dropped: by 8443, and apt sees nothing of it."""
    world.forget()
    world.drive("fault", "drop-443")
    world.requests()
    world.update("-o", "Acquire::gridnode::Deadline=20")
    world.drive("reset")
    asked = world.requests()
    expect(asked and all(line[2] == "8443" for line in asked), asked)


def test_no_way(world):
    """443 and 8443 are dropped: apt-get says which hop does it."""
    world.drive("fault", "drop-443-8443")
    began = time.monotonic()
    done = world.update("-o", "Acquire::Retries=1", check=False)
    took = time.monotonic() - began
    plain = world.apt("update", "-o", "Acquire::Retries=0", "-o", "Acquire::gridnode::Deadline=1", check=False)
    world.drive("reset")
    expect(done.returncode == 100, done.stdout)
    expect(re.search(r"443 to .* dropped silently after 192\.0\.2\.1", done.stdout), done.stdout)
    expect("W: Failed to fetch" in plain.stdout and "192.0.2.1" in plain.stdout, plain.stdout)
    expect(took < 25, f"{took:.0f} s with a deadline of {DEADLINE_S} s")


def test_goes_on_when_the_way_opens(world):
    """While apt waits, the way is opened."""
    world.drive("fault", "drop-443-8443")
    opener = threading.Timer(6, lambda: world.drive("reset"))
    opener.start()
    world.forget()
    told = world.update("-o", "Acquire::gridnode::Deadline=30").stdout
    opener.join()
    expect("Get:1" in told and "Err:" not in told, told)


def test_wrong_hash(world):
    world.publish("changed", "1.0", 5000)
    world.update()
    deb = world.pool("changed")
    data = bytearray(deb.read_bytes())
    data[-10] ^= 1
    deb.write_bytes(data)
    done = world.apt("install", "-y", "changed", check=False)
    expect(done.returncode == 100 and "Hash Sum mismatch" in done.stdout, done.stdout)
    expect(not world.path("/usr/share/grid/changed").exists(), "it was installed")


def change_release(world, change, sign):
    """Changes InRelease; gives what undoes it."""
    path = world.repo / "dists/stable/InRelease"
    release = world.repo / "dists/stable/Release"
    before, text, date = path.read_bytes(), release.read_text(), path.stat()
    if sign:
        (world.folder / "changed").write_text(change(text))
        world.gpg("--clearsign", "--output", path, world.folder / "changed")
    else:
        path.write_text(change(before.decode()))
    return lambda: (path.write_bytes(before), os.utime(path, (date.st_atime, date.st_mtime)))


def test_wrong_signature(world):
    world.forget()
    undo = change_release(world, lambda text: text.replace("Origin: Grid", "Origin: Grim"), sign=False)
    done = world.update(check=False)
    undo()
    expect(done.returncode == 100 and "BADSIG" in done.stdout, done.stdout)


def test_expired(world):
    world.forget()
    past = "Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC"
    undo = change_release(world, lambda text: re.sub(r"Valid-Until: .*", past, text), sign=True)
    done = world.update(check=False)
    undo()
    expect(done.returncode == 100 and "is expired" in done.stdout, done.stdout)


def test_missing(world):
    """404 is for good: asked once, and told so."""
    world.publish("gone", "1.0")
    world.update()
    world.pool("gone").unlink()
    world.requests()
    done = world.apt("install", "-y", "gone", check=False)
    asked = world.requests()
    expect(done.returncode == 100 and "status 404" in done.stdout, done.stdout)
    expect([line[0] for line in asked] == ["404"], asked)
    told, _ = talk(world, acquire(f"{SOURCE}/nothing"), wait_s=1)
    expect("FailReason: HttpError404\n" in told and "Transient-Failure" not in told, told)


def test_busy(world):
    """503: when Retry-After says so; not at all when that is beyond the deadline."""
    world.forget()
    busy = world.folder / "busy"
    world.serve(f'add_header Retry-After 1 always; if (-f {busy}) {{ return 503; }}')
    busy.touch()
    freer = threading.Timer(1.5, busy.unlink)
    freer.start()
    world.requests()
    world.update()
    freer.join()
    asked = world.requests()
    refused = [float(line[7]) for line in asked if line[0] == "503"]
    expect(1 <= len(refused) <= 3 and asked[-1][0] == "200", asked)
    expect(all(after - before >= 1 for before, after in zip(refused, refused[1:])), "it does not wait as it is asked to", asked)
    world.serve('location = /debian/later { add_header Retry-After 3600 always; return 503; }')
    began = time.monotonic()
    told, _ = talk(world, acquire(f"{SOURCE}/later"), wait_s=2)
    world.serve()
    expect("400 URI Failure" in told and "Transient-Failure: true" in told and "HttpError503" in told, told)
    expect(time.monotonic() - began < 5, told)


def trick(world, name):
    """Runs a server of TRICK in the place of nginx; gives what ends it."""
    world.stop_serving()
    process = subprocess.Popen([*world.inside("inet"), sys.executable, "-c", TRICK, str(world.pki), name, *REPO], stdout=subprocess.PIPE,
                               text=True)
    expect(process.stdout.readline() == "ready\n")

    def end():
        process.kill()
        process.wait()
        world.serve()
    return end


def ends_soon(world, what, *words):
    world.forget()
    began = time.monotonic()
    done = world.update("-o", "Acquire::Retries=0", "-o", "Acquire::gridnode::Deadline=4", *words, check=False)
    took = time.monotonic() - began
    expect(done.returncode == 100 and re.search(what, done.stdout), done.stdout)
    expect(took < 15, f"{took:.0f} s", done.stdout)
    return done.stdout


def test_drip(world):
    """A byte a second does not hold it."""
    end = trick(world, "drip")
    try:
        ends_soon(world, r"slower than 512 bytes/s")
    finally:
        end()


def test_silence(world):
    """Accepts, and says nothing."""
    end = trick(world, "silent")
    try:
        ends_soon(world, r"repo\.grid\.example")
    finally:
        end()


def test_interceptor(world):
    """The root is pinned: mitmproxy is named, and sees no request."""
    world.drive("fault", "mitm")
    world.drive("fault", "--also", "drop-8443")
    world.requests()
    try:
        ends_soon(world, r"Fortinet")
    finally:
        world.drive("reset")
    expect(not world.requests())


def test_loss(world):
    """Three packets of ten are lost, each way."""
    world.forget()
    rules = "add table inet loss\nadd chain inet loss forward { type filter hook forward priority 0; }\n" \
            "add rule inet loss forward numgen random mod 100 < 30 counter drop\n"
    subprocess.run([*world.inside("fw"), "nft", "-f", "-"], input=rules, text=True, check=True)
    try:
        world.update("-o", "Acquire::gridnode::Deadline=60")
    finally:
        run(*world.inside("fw"), "nft", "delete", "table", "inet", "loss")


def test_status(world):
    """What is being fetched is posted for `gridnode status`."""
    world.publish("shown", "1.0", 1000000)
    world.update()
    world.serve("limit_rate 500k;")
    apt = subprocess.Popen(world.words("apt-get", "install", "-y", "--download-only", "shown"), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL)
    folder = world.path("/run/gridnode/transfers")
    expect(len(list(folder.iterdir())) <= 2, "what was left behind is not taken away", list(folder.iterdir()))

    def posted():
        pid = world.find_method()
        path = folder / f"apt-{pid}"
        return pid and path.exists() and "moving" in (text := path.read_text()) and text
    text = wait_until("a post", posted, 10)
    told = json.loads(text)
    expect((told["name"], told["job"], told["way"], told["service"]) == ("shown_1.0_all.deb", "updates", 443, "repo"), told)
    expect(told["address"] in [f"{a}:443" for a in REPO] and 0 < told["bytes"] < told["size"], told)
    expect(apt.wait(20) == 0)
    world.serve()


def test_plane(world):
    """The control plane's own repository, by-hash, to a node that it registered; in another root, which the environment names."""
    with plane_site.Site(world.build, f"aptp{os.getpid()}") as site:
        site.plane("package", "add", world.make_deb("planed", "1.0"))  # there is a key then, that the registration brings
        node = site.new_node("branch-12")
        shutil.copytree(node.root, world.path("/opt/grid"), symlinks=True)
        shutil.move(world.path("/etc/gridnode"), world.path("/etc/no-gridnode"))
        world.write("/etc/apt/sources.list.d/grid.sources",
                    SOURCES.format(uri=SOURCE).replace("/usr/share/keyrings/grid.gpg", "/opt/grid/etc/gridnode/repo-keyring.gpg"))
        world.forget()
        name, world.name = world.name, site.name
        try:
            apt = world.words("env", "GRIDNODE_ROOT=/opt/grid", "apt-get")
            told = run(*apt, "update", "--error-on=any", "-o", "Debug::pkgAcquire::Worker=1").stdout
            expect("dists/stable/main/binary-amd64/by-hash/SHA256/" in told, told)
            told = run(*apt, "install", "-y", "planed").stdout
            expect("Setting up planed (1.0)" in told, told)
            told = run(*apt, "update", "--error-on=any").stdout
            expect("Hit:1" in told and "Get:" not in told, told)
        finally:
            world.name = name
            shutil.move(world.path("/etc/no-gridnode"), world.path("/etc/gridnode"))
            world.write("/etc/apt/sources.list.d/grid.sources", SOURCES.format(uri=SOURCE))


def main():
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    if os.environ.get("GRIDNODE_APT_INSIDE") != "1":  # its mounts go with it
        os.execvpe("unshare", ["unshare", "-m", "--propagation", "private", sys.executable, *sys.argv],
                   dict(os.environ, GRIDNODE_APT_INSIDE="1"))
    ctypes.CDLL(None).umask(0o022)
    tests = [(name[5:], value) for name, value in globals().items() if name.startswith("test_")]
    if sys.argv[2:]:
        tests = [t for t in tests if any(part in t[0] for part in sys.argv[2:])]
    passed = failed = 0
    world = World(sys.argv[1])
    try:
        world.open()
        for name, test in tests:
            began = time.monotonic()
            try:
                test(world)
                passed += 1
                print(f"ok      {name} ({time.monotonic() - began:.1f} s)", flush=True)
            except Exception:  # noqa: BLE001 - told, and counted
                failed += 1
                print(f"FAILED  {name}\n{traceback.format_exc()}", flush=True)
                world.drive("reset", check=False)
                world.serve()
    finally:
        if not os.environ.get("KEEP"):
            world.close()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


sys.exit(main())
