#!/usr/bin/python3
"""`gridnode probe`: what it says, how long it takes, and what it costs on the wire, counted by nft.
test_probe.py PATH-OF-GRIDNODE [NAME-PART...]

A host and, behind its gateway, unbound and TLS servers. Ends with the line "N passed, N failed"."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

HOST, NET = f"gprb{os.getpid()}-h", f"gprb{os.getpid()}-n"
GOOD, OTHER, SILENT, DROPPED = "198.51.100.20", "203.0.113.200", "198.51.100.22", "198.51.100.30"
DNS, DROPPED_DNS = "198.51.100.53", "198.51.100.54"
MOST_BYTES, MOST_SECONDS = 12000, 3.3

UNBOUND = """server:
  interface: {dns}
  access-control: 0.0.0.0/0 allow
  username: ""
  chroot: ""
  directory: "{folder}"
  pidfile: ""
  use-syslog: no
  do-daemonize: no
  local-zone: "grid.example." static
  local-data: "repo.grid.example. A {good}"
  local-data: "control.grid.example. A 10.66.66.66"
remote-control:
  control-enable: no
"""
PROFILE = """[profile]
name = grid
ranges = 198.51.100.16/28;203.0.113.192/28
root-ca = root.pem
[service repo]
host = repo.grid.example
port = 443
tls = server
carries = updates
[service control]
host = control.grid.example
port = 8443
tls = mutual
carries = control
[addresses]
repo = 198.51.100.20;203.0.113.200
"""
SILENT_SERVER = "import socket,time; s=socket.create_server(('{address}', 443)); time.sleep(600)"


def expect(condition, *facts):
    if not condition:
        raise AssertionError("\n".join(map(str, facts)))


def run(*words, check=True):
    return subprocess.run([str(w) for w in words], check=check, capture_output=True, text=True)


def make_certificates(folder):
    def key(name):
        run("openssl", "ecparam", "-genkey", "-name", "prime256v1", "-out", folder / f"{name}.key")

    def sign(name, subject, issuer, extension):
        key(name)
        (folder / "ext").write_text(extension)
        run("openssl", "req", "-new", "-key", folder / f"{name}.key", "-subj", subject, "-out", folder / f"{name}.csr")
        run("openssl", "x509", "-req", "-in", folder / f"{name}.csr", "-CA", folder / f"{issuer}.pem", "-CAkey",
            folder / f"{issuer}.key", "-CAcreateserial", "-days", "2", "-extfile", folder / "ext", "-out",
            folder / f"{name}.pem")

    for name in ("root", "stranger"):
        key(name)
        run("openssl", "req", "-x509", "-new", "-key", folder / f"{name}.key", "-subj", f"/O=Grid/CN={name}", "-days", "2",
            "-out", folder / f"{name}.pem")
    sign("intermediate", "/O=Grid/CN=intermediate", "root", "basicConstraints=critical,CA:TRUE\n")
    sign("leaf", "/CN=repo", "intermediate", "subjectAltName=DNS:repo.grid.example,DNS:control.grid.example\n")
    sign("false", "/CN=repo", "stranger", "subjectAltName=DNS:repo.grid.example\n")


class World:
    def __init__(self, gridnode):
        self.gridnode = gridnode
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="gridnode-probe-"))
        self.children = []
        make_certificates(self.folder)
        (self.folder / "grid.profile").write_text(PROFILE)
        (self.folder / "site.conf").write_text(f"[node]\nprofile = {self.folder}/grid.profile\n[wan]\ndns = {DNS}\n")
        (self.folder / "unbound.conf").write_text(UNBOUND.format(dns=DNS, good=GOOD, folder=self.folder))
        for name in (HOST, NET):
            run("ip", "netns", "add", name)
            run("ip", "-n", name, "link", "set", "lo", "up")
        run("ip", "link", "add", "eth0", "netns", HOST, "type", "veth", "peer", "name", "near", "netns", NET)
        for line in ("addr add 192.0.2.10/24 dev eth0", "link set eth0 up", "route add default via 192.0.2.1"):
            run("ip", "-n", HOST, *line.split())
        run("ip", "-n", NET, "addr", "add", "192.0.2.1/24", "dev", "near")
        run("ip", "-n", NET, "link", "set", "near", "up")
        for address in (GOOD, OTHER, SILENT, DROPPED, DNS, DROPPED_DNS):
            run("ip", "-n", NET, "addr", "add", f"{address}/32", "dev", "lo")
        self.nft(NET, "add table ip f; add chain ip f i { type filter hook input priority 0; };"
                      f"add rule ip f i ip daddr {{ {DROPPED}, {DROPPED_DNS} }} drop")
        self.nft(HOST, "add table ip f; add counter ip f n; add chain ip f i { type filter hook input priority 0; };"
                       "add chain ip f o { type filter hook output priority 0; };"
                       "add rule ip f i counter name n; add rule ip f o counter name n")
        self.start("unbound", "-c", self.folder / "unbound.conf")
        self.serve(GOOD, "leaf", 443)
        self.serve(GOOD, "leaf", 8443, "-Verify", "2", "-CAfile", self.folder / "root.pem")
        self.serve(OTHER, "false", 443)
        self.start("/usr/bin/python3", "-c", SILENT_SERVER.format(address=SILENT))
        for _ in range(100):
            heard = run("ip", "netns", "exec", NET, "ss", "-Hlnut").stdout
            if all(w in heard for w in (f"{DNS}:53", f"{GOOD}:443", f"{GOOD}:8443", f"{OTHER}:443", f"{SILENT}:443")):
                break
            time.sleep(0.05)

    @staticmethod
    def nft(namespace, rules):
        run("ip", "netns", "exec", namespace, "nft", rules)

    def start(self, *words):
        self.children.append(subprocess.Popen(["ip", "netns", "exec", NET, *map(str, words)], stdin=subprocess.DEVNULL,
                                              stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))

    def serve(self, address, name, port, *more):
        self.start("openssl", "s_server", "-accept", f"{address}:{port}", "-cert", self.folder / f"{name}.pem", "-key",
                   self.folder / f"{name}.key", "-cert_chain", self.folder / "intermediate.pem", "-quiet", "-www", *more)

    def probe(self, *words, status):
        """The answer; checks exit status, time, and the bytes that really went over the wire."""
        run("ip", "netns", "exec", HOST, "nft", "reset", "counters")
        began = time.monotonic()
        p = run("ip", "netns", "exec", HOST, self.gridnode, "probe", *words, "--json", "--config", self.folder / "site.conf",
                check=False)
        took = time.monotonic() - began
        expect(p.returncode == status, p.returncode, p.stdout, p.stderr)
        expect(took < MOST_SECONDS, f"{took:.2f} s")
        answer = json.loads(p.stdout)
        counted = json.loads(run("ip", "netns", "exec", HOST, "nft", "-j", "list", "counters").stdout)
        counted = [c["counter"]["bytes"] for c in counted["nftables"] if "counter" in c][0]
        expect(counted < MOST_BYTES, f"{counted} bytes")
        expect(counted * 0.9 <= answer["bytes"] <= counted * 1.6 + 1000, "estimate", answer["bytes"], "counted", counted)
        return answer

    def done(self):
        for child in self.children:
            child.kill()
            child.wait()
        for name in (HOST, NET):
            run("ip", "netns", "del", name, check=False)
        shutil.rmtree(self.folder, ignore_errors=True)


def test_a_healthy_service(w):
    a = w.probe("repo", status=0)
    expect(a["schema"] == 1 and a["dns"]["server"] == DNS and a["dns"]["outcome"] == "ok", a)
    expect(a["dns"]["addresses"] == [GOOD], a)
    s = a["service"]
    expect((s["name"], s["address"], s["port"], s["state"], s["stage"]) == ("repo", GOOD, 443, "ok", "tls"), a)


def test_the_pinned_root_judges(w):
    a = w.probe("repo", "--address", OTHER, status=3)
    expect(a["service"]["state"] == "failed" and a["service"]["reason"] == "untrusted", a)


def test_a_certificate_is_wanted(w):
    a = w.probe("control", "--address", GOOD, status=1)
    expect(a["service"]["stage"] == "tls" and a["service"]["reason"] == "alert", a)


def test_a_false_answer_is_not_followed(w):
    a = w.probe("control", status=1)
    expect(a["dns"]["outcome"] == "wrong-address" and a["dns"]["addresses"] == [] and a["service"] is None, a)


def test_dns_alone(w):
    a = w.probe("--server", DNS, status=0)
    expect(a["dns"]["outcome"] == "ok" and a["service"] is None, a)
    expect(w.probe("repo", "--dns-only", status=0)["service"] is None)
    expect(w.probe("--server", DROPPED_DNS, status=1)["dns"]["outcome"] == "timeout")


def test_known_addresses_when_dns_is_dead(w):
    a = w.probe("repo", "--server", DROPPED_DNS, status=3)
    expect(a["dns"]["outcome"] == "timeout" and a["service"]["state"] == "ok" and a["service"]["address"] == GOOD, a)


def test_everything_dropped(w):
    a = w.probe("repo", "--server", DROPPED_DNS, "--address", DROPPED, status=1)
    s = a["service"]
    expect((s["state"], s["stage"], s["reason"]) == ("failed", "tcp", "timeout"), a)


def test_a_server_that_accepts_and_stays_silent(w):
    s = w.probe("repo", "--address", SILENT, status=3)["service"]
    expect((s["state"], s["stage"], s["reason"]) == ("failed", "tls", "timeout"), s)


def test_wrong_usage(w):
    for words in ((), ("nobody",), ("repo", "--server", "name"), ("repo", "--address", "1.2.3")):
        p = run(w.gridnode, "probe", *words, "--config", w.folder / "site.conf", check=False)
        expect(p.returncode == 64 and p.stdout == "" and p.stderr.startswith("gridnode probe: "), words, p)


def main():
    tests = [(n, f) for n, f in globals().items() if n.startswith("test_")]
    parts, passed, failed = sys.argv[2:], 0, 0
    w = World(pathlib.Path(sys.argv[1]).resolve())
    try:
        for name, function in tests:
            if parts and not any(part in name for part in parts):
                continue
            try:
                function(w)
                passed += 1
            except Exception:  # one failure hides no other
                failed += 1
                print(f"FAILED {name}\n{traceback.format_exc()}")
    finally:
        w.done()
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
