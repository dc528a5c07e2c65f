#!/usr/bin/python3
"""Drives the program as a person or a script would. test_cli.py PATH-OF-GRIDNODE [NAME-PART...]

It moves into a network namespace of its own: this process is the node (192.0.2.10, eth0), behind it stand a router
(192.0.2.1) and a host (198.51.100.20). Ends with the line "N passed, N failed"."""

import json
import os
import pathlib
import pty
import re
import shutil
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
import traceback

COMMANDS = ["diag", "tcp", "dns", "tls", "route", "trace", "explain", "help"]
HOST, ROUTER, NODE = "198.51.100.20", "192.0.2.1", "192.0.2.10"
GONE = "198.51.100.99"
MARK = "GRIDNODE_CLI_TEST_NAMESPACE"


class Result:
    def __init__(self, status, out, err):
        self.status, self.out, self.err = status, out, err

    def __str__(self):
        return f"exit status {self.status}\n--- stdout\n{self.out}--- stderr\n{self.err}---"

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def last_line(self):
        return self.out.rstrip("\n").splitlines()[-1]


def gridnode(*arguments, env=None, timeout=60, stdin=None):
    done = subprocess.run([PROGRAM, *map(str, arguments)], capture_output=True, timeout=timeout, input=stdin,
                          env={**os.environ, **(env or {})})
    return Result(done.returncode, done.stdout.decode(), done.stderr.decode())


def expect(condition, *facts):
    if not condition:
        raise AssertionError("\n".join(map(str, facts)))


def expect_status(result, status):
    expect(result.status == status, f"exit status must be {status}", result)
    return result


def expect_failure(result, status, *words):
    """One or two lines on standard error that name the facts, nothing on standard output."""
    expect_status(result, status)
    expect(result.out == "", "standard output must be empty", result)
    expect(1 <= result.err.count("\n") <= 2, "one or two lines on standard error", result)
    for word in words:
        expect(word in result.err, f"'{word}' must be named", result)


# ---- the network ----

def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


def inside(name, *words, **options):
    return subprocess.run(["ip", "netns", "exec", name, *words], check=True, capture_output=True, **options)


class Network:
    def __init__(self):
        self.router, self.host = f"gcli{os.getpid()}-r", f"gcli{os.getpid()}-h"
        for name in (self.router, self.host):
            ip("netns", "add", name)
            inside(name, "ip", "link", "set", "lo", "up")
        ip("link", "set", "lo", "up")
        ip("link", "add", "eth0", "type", "veth", "peer", "name", "near", "netns", self.router)
        ip("addr", "add", f"{NODE}/24", "dev", "eth0")
        ip("link", "set", "eth0", "up")
        inside(self.router, "ip", "addr", "add", f"{ROUTER}/24", "dev", "near")
        inside(self.router, "ip", "link", "set", "near", "up")
        inside(self.router, "ip", "link", "add", "far", "type", "veth", "peer", "name", "eth0", "netns", self.host)
        inside(self.router, "ip", "addr", "add", "198.51.100.1/24", "dev", "far")
        inside(self.router, "ip", "link", "set", "far", "up")
        inside(self.router, "sysctl", "-q", "net.ipv4.ip_forward=1")
        inside(self.host, "ip", "addr", "add", f"{HOST}/24", "dev", "eth0")
        inside(self.host, "ip", "link", "set", "eth0", "up")
        inside(self.host, "ip", "route", "add", "default", "via", "198.51.100.1")
        ip("route", "add", "default", "via", ROUTER)

    def rule(self, text):
        inside(self.router, "nft", "-f", "-", input=(
            "add table ip t\nadd chain ip t f { type filter hook forward priority 0; }\nadd rule ip t f " + text + "\n").encode())

    def clear(self):
        inside(self.router, "nft", "flush", "ruleset")

    def close(self):
        for name in (self.router, self.host):
            subprocess.run(["ip", "netns", "del", name], capture_output=True)

    def serve(self, *command):
        return subprocess.Popen(["ip", "netns", "exec", self.host, *command], stdin=subprocess.DEVNULL,
                                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


class Listener:
    """Accepts on ports of the host and sends a banner, as another process in its namespace."""

    CODE = ("import socket,sys,time\n"
            "s=[]\n"
            "for p in sys.argv[2:]:\n"
            "    l=socket.socket(); l.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
            "    l.bind(('0.0.0.0',int(p))); l.listen(64); s.append(l)\n"
            "import selectors\n"
            "e=selectors.DefaultSelector()\n"
            "[e.register(l,1) for l in s]\n"
            "keep=[]\n"
            "while True:\n"
            "    for k,_ in e.select():\n"
            "        c,_=k.fileobj.accept(); c.send(sys.argv[1].encode()); keep.append(c); keep=keep[-32:]\n")

    def __init__(self, network, banner, *ports):
        self.process = network.serve("/usr/bin/python3", "-c", self.CODE, banner, *map(str, ports))
        for port in ports:
            wait_for_port(HOST, port)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


def wait_for_port(address, port):
    for _ in range(200):
        try:
            socket.create_connection((address, port), 1).close()
            return
        except OSError:
            time.sleep(0.05)
    raise AssertionError(f"nothing listens on {address}:{port}")


class DnsServer(threading.Thread):
    """Answers over UDP on 127.0.0.53: A for open.example, two for both.example, of which nobody has the second (GONE),
    NXDOMAIN for everything else."""

    KNOWN = {b"\4open\7example\0": [HOST], b"\4both\7example\0": [GONE, HOST]}

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.53", 53))
        self.socket.settimeout(0.05)
        self.ended = False
        self.start()

    def run(self):
        while not self.ended:
            try:
                query, peer = self.socket.recvfrom(2048)
            except TimeoutError:
                continue
            end = query.index(b"\0", 12) + 5
            question, kind = query[12:end], struct.unpack("!H", query[end - 4:end - 2])[0]
            known = self.KNOWN.get(question[:-4])
            answers = known if known and kind == 1 else []
            reply = query[:2] + struct.pack("!HHHHH", 0x8180 | (0 if known else 3), 1, len(answers), 0, 0) + question
            for address in answers:
                reply += b"\xc0\x0c" + struct.pack("!HHIH", 1, 1, 300, 4) + socket.inet_aton(address)
            self.socket.sendto(reply, peer)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.ended = True
        self.join()
        self.socket.close()


def site_file(text="", dns="127.0.0.53"):
    path = FOLDER / "site.conf"
    path.write_text(f"[node]\nname = tester\n[wan]\ninterface = eth0\ndns = {dns}\n{text}")
    return path


def profile_file(extra=""):
    (FOLDER / "root.pem").write_bytes((FOLDER / "ca.pem").read_bytes())
    path = FOLDER / "test.profile"
    path.write_text("[profile]\nname = test\nranges = 198.51.100.16/28\nroot-ca = root.pem\n\n[service repo]\n"
                    "host = open.example\nport = 443\ntls = server\ncarries = updates\n\n"
                    f"[addresses]\nrepo = {HOST}\n{extra}")
    return path


def make_certificates():
    run = lambda *words: subprocess.run(["openssl", *words], cwd=FOLDER, check=True, capture_output=True)
    for name, subject in (("ca", "/O=Test/CN=Test Root"), ("other", "/O=Other/CN=Other Root")):
        run("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", "-subj", subject,
            "-keyout", f"{name}.key", "-out", f"{name}.pem")
    run("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/CN=open.example", "-keyout",
        "leaf.key", "-out", "leaf.csr")
    (FOLDER / "leaf.ext").write_text("subjectAltName=DNS:open.example\nextendedKeyUsage=serverAuth\n")
    run("x509", "-req", "-in", "leaf.csr", "-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-days", "1", "-extfile",
        "leaf.ext", "-out", "leaf.pem")


class TlsServer:
    """HTTPS on the host, with a certificate of our root for open.example."""

    CODE = ("import http.server,ssl,sys\n"
            "s=http.server.ThreadingHTTPServer(('0.0.0.0',443),http.server.SimpleHTTPRequestHandler)\n"
            "c=ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER); c.load_cert_chain(sys.argv[1],sys.argv[2])\n"
            "s.socket=c.wrap_socket(s.socket,server_side=True,do_handshake_on_connect=False)\n"
            "s.serve_forever()\n")

    def __init__(self, network):
        (FOLDER / "chain.pem").write_bytes((FOLDER / "leaf.pem").read_bytes() + (FOLDER / "ca.pem").read_bytes())
        self.process = network.serve("/usr/bin/python3", "-c", self.CODE, str(FOLDER / "chain.pem"), str(FOLDER / "leaf.key"))
        wait_for_port(HOST, 443)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait()


# ---- usage ----

def test_help_of_everything():
    for words in (["--help"], ["-h"], ["help"]):
        result = expect_status(gridnode(*words), 0)
        expect(result.err == "" and all(f"  {name} " in result.out for name in COMMANDS), result)
    for name in COMMANDS:
        result = expect_status(gridnode(name, "--help"), 0)
        expect(result.out.startswith(f"Usage: gridnode {name}") and result.err == "", result)
        expect(gridnode("help", name).out == result.out, f"help {name} differs")
        expect(max(map(len, result.out.splitlines())) <= 100, "too wide", result)
    expect(re.fullmatch(r"gridnode \d+\.\d+\.\d+\n", gridnode("--version").out), "version")


def test_wrong_usage():
    for words, name in [
            ([], "a command is needed"), (["nonsense"], "nonsense"), (["dig"], "diag"), (["--nonsense"], "--nonsense"),
            (["diag", "extra"], "extra"), (["diag", "--nonsense"], "--nonsense"), (["diag", "--budget"], "--budget"),
            (["diag", "--budget", "0"], "0"), (["diag", "--budget", "nan"], "nan"), (["diag", "--budget", "601"], "601"),
            (["diag", "--budget", "1s"], "1s"), (["diag", "--source", "here"], "here"), (["diag", "--json=yes"], "--json"),
            (["diag", "--interface", ""], "--interface"), (["diag", "--interface", "nosuch0"], "nosuch0"),
            (["diag", "--firewall-page", "page.txt"], "page.txt"), (["diag", "-Z"], "-Z"),
            (["diag", "--capture", "x", "--no-capture"], "--no-capture"), (["diag", "--quiet", "--json"], "--quiet"),
            (["tcp"], "HOST PORT"), (["tcp", HOST], "HOST PORT"), (["tcp", HOST, "0"], "'0'"), (["tcp", HOST, "65536"], "65536"),
            (["tcp", HOST, "x!"], "x!"), (["tcp", HOST, "-1"], "-1"), (["tcp", "bad host", "443"], "bad host"),
            (["tcp", HOST, "1", "2"], "'2'"), (["tcp", "a" * 300, "1"], "a"),
            (["dns"], "NAME"), (["dns", "@192.0.2.53"], "NAME"), (["dns", "a.example", "@here"], "here"),
            (["dns", "a.example", "--type", "MX"], "MX"), (["dns", "a b"], "a b"), (["dns", "a.example", "b.example"], "b.example"),
            (["tls"], "HOST:PORT"), (["tls", "open.example:0"], "'0'"), (["tls", "open.example:99999"], "99999"),
            (["tls", "bad_host!:443"], "bad_host!"), (["tls", HOST, "--sni", "a b"], "a b"),
            (["route"], "ADDRESS"), (["route", "open.example"], "open.example"), (["route", "192.0.2.300"], "192.0.2.300"),
            (["trace"], "HOST PORT"), (["trace", HOST, "none"], "none"),
            (["explain", "tcp.droped"], "tcp.dropped"), (["explain", "zzzzzzzzzz"], "zzzzzzzzzz"), (["explain", "a", "b"], "'b'"),
            (["help", "nonsense"], "nonsense")]:
        try:
            expect_failure(gridnode(*words), 64, name)
        except AssertionError as error:
            raise AssertionError(f"gridnode {' '.join(words)}\n{error}") from None


def test_options_anywhere():
    for words in (["explain", "tcp.dropped", "--json"], ["explain", "--json", "tcp.dropped"], ["--json", "explain", "tcp.dropped"],
                  ["explain", "--json", "--", "tcp.dropped"], ["explain", "-j", "tcp.dropped"]):
        expect(expect_status(gridnode(*words), 0).json["code"] == "tcp.dropped", words)
    expect_failure(gridnode("explain", "--", "--json"), 64, "--json")


def test_bad_configuration():
    for text, line, word in [("[wan]\nadress = x\n", ":2", "adress"), ("[nonsense]\nx = y\n", ":", "nonsense"),
                             ("[wan]\naddress = 300.1.1.1/24\n", ":2", "300.1.1.1"), ("rubbish\n", ":1", "")]:
        path = FOLDER / "bad.conf"
        path.write_text(text)
        for words in (["diag"], ["tcp", HOST, "443"], ["dns", "a.example"], ["tls", HOST], ["route", HOST], ["trace", HOST, "1"]):
            expect_failure(gridnode(*words, "--config", path), 78, f"{path}{line}", word)
    for path in (FOLDER / "missing.conf", FOLDER):
        expect_failure(gridnode("diag", "--config", path), 78, str(path))
    expect_failure(gridnode("diag", "--config", site_file(), "--profile", "nosuch"), 78, "nosuch")
    bad = FOLDER / "bad.profile"
    bad.write_text("[profile]\nname = bad\nranges = 192.0.2.0/28\n[service a]\nhost = a.example\nport = 70000\n")
    expect_failure(gridnode("diag", "--config", site_file(), "--profile", bad), 78, f"{bad}:6", "70000")
    expect_failure(gridnode("tls", HOST, "--config", site_file(), "--root-ca", FOLDER / "none.pem"), 78, "none.pem")


def test_explain():
    every = gridnode("explain")
    codes = [line.split()[0] for line in expect_status(every, 0).out.splitlines()]
    expect(len(codes) > 30 and "undetermined" in codes, every)
    listed = gridnode("explain", "--json").json["causes"]
    expect([cause["code"] for cause in listed] == codes, "the lists differ")
    for code in codes:
        expect(expect_status(gridnode("explain", code), 0).out.startswith(code), code)


# ---- streams ----

def test_standard_output_that_fails():
    for words in (["--help"], ["explain"], ["explain", "--json"], ["route", "127.0.0.1"]):
        with open("/dev/full", "w") as full:
            done = subprocess.run([PROGRAM, *words], stdout=full, stderr=subprocess.PIPE, timeout=30)
        expect(done.returncode == 1 and b"No space left" in done.stderr, "full disk", words, done)
        done = subprocess.run(["bash", "-c", '"$@" >&-', "_", PROGRAM, *words], stderr=subprocess.PIPE, timeout=30)
        expect(done.returncode == 1 and b"standard output" in done.stderr, "closed", words, done)
        reading, writing = os.pipe()
        os.close(reading)
        done = subprocess.run([PROGRAM, *words], stdout=writing, stderr=subprocess.PIPE, timeout=30)
        os.close(writing)
        expect(done.returncode == 1 and done.stderr == b"", "a reader that has gone", words, done)


def in_terminal(words, env=None, hang_up_after=None):
    """Everything that the program writes to a terminal, and its status; None when it did not end."""
    child, master = pty.fork()
    if child == 0:
        os.environ.update(env or {})
        os.environ["TERM"] = "xterm"
        os.execv(PROGRAM, [PROGRAM, *map(str, words)])
    seen, deadline = b"", time.monotonic() + 30
    if hang_up_after is not None:
        time.sleep(hang_up_after)
        os.close(master)
    while hang_up_after is None:
        try:
            block = os.read(master, 4096)
        except OSError:
            block = b""
        if not block:
            os.close(master)
            break
        seen += block
    while time.monotonic() < deadline:
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            return seen.decode(), status
        time.sleep(0.02)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return seen.decode(), None


def test_colour_only_where_wanted():
    words = ["diag", "--config", site_file(dns=HOST), "--budget", "1"]
    expect("\033[" in in_terminal(words)[0], "colour on a terminal")
    plain = in_terminal([*words, "--budget", "0.5"], {"NO_COLOR": "1"})[0]
    expect(not re.search(r"\033\[[0-9;]*m", plain), "NO_COLOR", repr(plain))
    expect("\033" not in gridnode(*words).out, "no colour into a pipe")
    expect("\033" in in_terminal(["tcp", HOST, "1"])[0], "hand tools as well")


def test_ascii_by_locale():
    words = ["diag", "--config", site_file(dns=HOST), "--budget", "0.5"]
    expect(gridnode(*words, env={"LC_ALL": "C"}).out.isascii(), "ASCII in the C locale")
    expect(not gridnode(*words, env={"LC_ALL": "C.UTF-8"}).out.isascii(), "UTF-8 in a UTF-8 locale")


def test_terminal_that_closes(network):
    network.rule("drop")
    _, status = in_terminal(["diag", "--config", site_file(), "--profile", profile_file(), "--budget", "30"], hang_up_after=0.3)
    expect(status is not None, "it must end")


# ---- interrupts ----

def interrupted(words, number=signal.SIGINT, after=0.5):
    process = subprocess.Popen([PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(after)
    process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=20)
    expect(time.monotonic() - started < 3, "it must end at once")
    return Result(process.returncode, out.decode(), err.decode())


def test_interrupt_gives_a_partial_report(network):
    network.rule("drop")
    words = ["diag", "--config", site_file(), "--profile", profile_file(), "--budget", "60", "--json"]
    result = expect_status(interrupted(words), 130)
    rows = result.json["measurements"]
    expect(any(row["status"] == "not-tested" for row in rows), "rows that were not tested", result)
    expect(result.err == "", result)
    expect_status(interrupted(words, signal.SIGTERM), 143)
    for words in (["tcp", HOST, "443", "--json"], ["dns", "a.example", f"@{HOST}", "--json"], ["trace", HOST, "443", "--json"],
                  ["tls", f"{HOST}:443", "--json"]):
        result = expect_status(interrupted([*words, "--config", site_file()]), 130)
        expect(isinstance(result.json, dict), words)
    result = expect_status(interrupted(["trace", HOST, "443"]), 130)
    expect(result.last_line.endswith("it was interrupted."), result)


# ---- the tools ----

def netcat(*words):
    done = subprocess.run(["nc", "-z", "-v", *words], capture_output=True, timeout=60)
    return done.stderr.decode().rstrip("\n").splitlines()[-1]


def test_tcp_says_what_netcat_says(network):
    with Listener(network, "hello", 443, 8443):
        for port in ("443", "8443", "444"):
            expect(gridnode("tcp", HOST, port).last_line == netcat(HOST, port), gridnode("tcp", HOST, port), netcat(HOST, port))
        network.rule("tcp dport 8443 reject with icmp type admin-prohibited")
        result = expect_status(gridnode("tcp", HOST, "8443"), 1)
        expect(result.last_line == netcat(HOST, "8443"), result)
        expect(f"refused by {ROUTER}" in result.out and "administratively prohibited" in result.out, result)
        attempt = gridnode("tcp", HOST, "8443", "--json").json["attempts"][0]
        expect(attempt["by"] == ROUTER and (attempt["icmp_type"], attempt["icmp_code"]) == (3, 13), attempt)
        network.clear()
        network.rule("tcp dport 443 drop")
        result = expect_status(gridnode("tcp", HOST, "443"), 1)
        expect(result.last_line == f"nc: connect to {HOST} port 443 (tcp) failed: Connection timed out", result)


def test_tcp_by_name(network):
    with Listener(network, "hello", 443), DnsServer():
        result = expect_status(gridnode("tcp", "open.example", "443", "--config", site_file()), 0)
        expect(result.last_line == f"Connection to open.example ({HOST}) 443 port [tcp/https] succeeded!", result)
        result = expect_status(gridnode("tcp", "shut.example", "443", "--config", site_file()), 1)
        expect(result.last_line == 'nc: getaddrinfo for host "shut.example" port 443: Name or service not known', result)
    network.rule("drop")
    result = expect_status(gridnode("tcp", "open.example", "443", "--config", site_file(dns=HOST)), 69)
    expect("no DNS server gave an answer" in result.out, result)


def test_source_and_interface(network):
    with Listener(network, "hello", 443):
        result = expect_status(gridnode("tcp", HOST, "443", "--source", NODE, "--json"), 0)
        expect(result.json["attempts"][0]["source"] == NODE, result)
        expect_status(gridnode("tcp", HOST, "443", "--interface", "eth0"), 0)
        expect_status(gridnode("tcp", HOST, "443", "--interface", "lo"), 1)
        result = expect_status(gridnode("tcp", HOST, "443", "--source", "203.0.113.9"), 1)
        expect("Cannot assign requested address" in result.out, result)


def test_dns():
    with DnsServer():
        site = site_file()
        result = expect_status(gridnode("dns", "open.example", "--config", site, "--json"), 3)
        rows = {(row["transport"], row["type"]): row for row in result.json["answers"]}
        expect(rows["udp", "A"]["answers"] == [HOST] and rows["udp", "A"]["ttl_s"] == 300, rows)
        expect(rows["udp", "AAAA"]["outcome"] == "no-data" and rows["tcp", "A"]["outcome"] == "reset", rows)
        result = expect_status(gridnode("dns", "shut.example", "@127.0.0.53"), 1)
        expect("NXDOMAIN" in result.out, result)
        expect_status(gridnode("dns", "open.example", "--type", "a", "--tcp", "--config", site), 1)


def test_tls(network):
    with TlsServer(network), DnsServer():
        site = site_file()
        result = expect_status(gridnode("tls", "open.example:443", "--config", site, "--root-ca", FOLDER / "ca.pem", "--json"), 0)
        target = result.json["targets"][0]
        expect(target["leads_to_pinned_root"] and target["name_matches"] and target["time_valid"], result)
        expect(target["chain"][0]["subject"] == "CN=open.example" and len(target["chain"]) == 2, result)
        result = expect_status(gridnode("tls", "open.example:443", "--config", site, "--root-ca", FOLDER / "other.pem", "--pem"), 1)
        expect("leads to the pinned root:  no" in re.sub(r"root: +no", "root:  no", result.out), result)
        expect("-----BEGIN CERTIFICATE-----" in result.out and "CN=Test Root,O=Test" in result.out, result)
        result = expect_status(gridnode("tls", f"{HOST}:443", "--sni", "wrong.example", "--root-ca", FOLDER / "ca.pem", "--json"), 1)
        expect(result.json["targets"][0]["name_matches"] is False, result)
        expect(gridnode("tls", HOST, "--json").json["targets"][0]["leads_to_pinned_root"] is None, "no root given")
    with Listener(network, "220 mail.example ESMTP\r\n", 443):
        result = expect_status(gridnode("tls", HOST), 1)
        expect("220 mail.example ESMTP" in result.out, result)


def test_route():
    result = expect_status(gridnode("route", HOST, "--json"), 0).json
    expect(result["interface"] == "eth0" and result["next_hop"] == ROUTER and result["captured"] is False, result)
    ip("link", "add", "lan0", "type", "veth", "peer", "name", "lan1")
    try:
        ip("addr", "add", "10.20.0.2/24", "dev", "lan0")
        ip("link", "set", "lan0", "up")
        ip("link", "set", "lan1", "up")
        ip("route", "add", "198.51.100.16/28", "via", "10.20.0.1")
        result = expect_status(gridnode("route", HOST, "--config", site_file()), 1)
        expect("leave by lan0 and not by the WAN eth0" in result.out and "198.51.100.16/28 via 10.20.0.1" in result.out, result)
    finally:
        ip("link", "del", "lan0")


def test_trace(network):
    with Listener(network, "hello", 443, 8443):
        result = expect_status(gridnode("trace", HOST, "443", "--json"), 0).json["traces"][0]
        expect([hop.get("address") for hop in result["hops"]] == [ROUTER, HOST] and result["result"] == "accepted", result)
        network.rule("tcp dport 443 reject with icmp type admin-prohibited")
        result = expect_status(gridnode("trace", HOST, "443", "--json"), 1).json["traces"][0]
        expect(result["result"] == "rejected" and result["by"] == {"address": ROUTER, "hop": 1}, result)
        network.clear()
        network.rule("tcp dport 443 drop")
        result = expect_status(gridnode("trace", HOST, "443", "--json"), 1).json["traces"][0]
        expect(result["result"] == "dropped" and result["by"] == {"address": ROUTER, "hop": 1}, result)
        network.clear()
        network.rule("tcp dport 443 ip ttl set 9 reject with tcp reset")
        result = expect_status(gridnode("trace", HOST, "443", "--json"), 1).json["traces"][0]
        expect(result["result"] == "reset" and result["arrival"] != "likely", result)


# ---- line by line ----

def timed(*words):
    """(seconds, line) of standard output, by when each could be read."""
    process = subprocess.Popen([PROGRAM, *map(str, words)], stdout=subprocess.PIPE, text=True)
    with process:
        return [(time.monotonic(), line.rstrip("\n")) for line in process.stdout]


def expect_streamed(words, *order):
    """The lines that begin with these words (or have them behind their indentation) come in this order, and what waits for
    silence, the last of them, clearly after the first: silence is waited for for a second."""
    lines = timed(*words)
    found = []
    for word in order:
        at = next((when for when, line in lines if line.lstrip().startswith(word)), None)
        expect(at is not None, f"no line '{word}'", words, *lines)
        found.append(at)
    expect(found == sorted(found), "the order", words, *lines)
    expect(found[-1] - found[0] > 0.4, "the first line did not come before the silence was over", words, *lines)


def test_lines_come_when_they_are_known(network):
    network.rule(f"ip daddr {GONE} drop")
    network.rule("tcp dport 8443 drop")
    network.rule("udp dport 53 drop")
    site = site_file()
    with TlsServer(network), DnsServer():
        for repetition in range(3):
            expect_streamed(["tcp", "both.example", "443", "--config", site], "127.0.0.53", f"{HOST}:443  ok", f"{GONE}:443  no answer",
                            "Connection to both.example")
            expect_streamed(["tls", "both.example", "--config", site], "127.0.0.53", f"{HOST}:443  connected", f"{HOST}:443  ok",
                            "chain:", f"{GONE}:443  no answer")
            expect_streamed(["dns", "open.example", f"@{HOST}", "@127.0.0.53"], "127.0.0.53     udp  A ", "127.0.0.53     udp  AAAA",
                            f"{HOST}  udp  A     no answer")
            expect_streamed(["trace", HOST, "8443"], f"{HOST}:8443", "1   192.0.2.1", "2   *", "Nothing answers beyond hop 1")
        found = gridnode("tcp", "both.example", "443", "--config", site, "--json").json["attempts"]
        expect({a["target"]: a["outcome"] for a in found} == {f"{HOST}:443": "ok", f"{GONE}:443": "timeout"}, found)
    with Listener(network, "", 443):
        expect_streamed(["tls", HOST], f"{HOST}:443  connected", f"{HOST}:443  no answer")


def test_what_comes_together_has_one_order():
    with DnsServer():
        site = site_file()
        orders = set()
        for _ in range(5):
            lines = gridnode("dns", "open.example", "--config", site).out.splitlines()
            orders.add(" ".join("/".join(line.split()[1:3]) for line in lines))
        expect(orders == {"udp/A udp/AAAA tcp/A tcp/AAAA"}, orders)


def test_neighbour_without_arp():
    """Nothing left this host, and that is not its firewall's doing."""
    nobody, words = "192.0.2.77", "192.0.2.77 does not answer ARP on eth0"
    for tool in (["dns", "open.example", f"@{nobody}"], ["tcp", nobody, "443"], ["tls", nobody], ["trace", nobody, "443"]):
        result = expect_status(gridnode(*tool), 1)
        expect(words in result.out and "firewall" not in result.out, result)
    attempt = gridnode("tcp", nobody, "443", "--json").json["attempts"][0]
    expect(attempt["next_hop"] == nobody and attempt["neighbour_state"] in ("incomplete", "failed"), attempt)
    ip("route", "add", "203.0.113.0/24", "via", nobody)
    try:
        result = expect_status(gridnode("tcp", "203.0.113.9", "443"), 1)
        expect(f"the next hop {words}" in result.out, result)
    finally:
        ip("route", "del", "203.0.113.0/24")
    subprocess.run(["nft", "-f", "-"], check=True, input=b"add table ip own\nadd chain ip own o { type filter hook output priority 0; }\n"
                   b"add rule ip own o tcp dport 443 drop\n")
    try:
        result = expect_status(gridnode("tcp", HOST, "443"), 1)
        expect("its own firewall?" in result.out and "ARP" not in result.out, result)
        # What ARP once failed for is not asked for anew by what the firewall drops: neither is named then.
        for _ in range(100):
            if b"FAILED" in subprocess.run(["ip", "neigh", "show", nobody], check=True, capture_output=True).stdout:
                break
            time.sleep(0.1)
        result = expect_status(gridnode("tcp", nobody, "443"), 1)
        expect("nothing left this host" in result.out and "ARP" not in result.out and "firewall" not in result.out, result)
    finally:
        subprocess.run(["nft", "delete", "table", "ip", "own"], check=True)


def test_json_purity(network):
    with Listener(network, "hello", 443):
        site = site_file(dns=HOST)
        for words in (["diag", "--profile", profile_file(), "--budget", "2"], ["tcp", HOST, "443"], ["dns", "a.example"], ["tls", HOST],
                      ["route", HOST], ["trace", HOST, "443"]):
            result = gridnode(*words, "--config", site, "--json")
            expect(isinstance(result.json, dict) and result.err == "", words, result)


# ---- diag ----

def test_diag_without_any_configuration():
    result = gridnode("diag", "--budget", "3")
    expect(result.status in (0, 1, 2, 3) and "--profile" in result.out and result.err == "", result)


def test_diag_of_a_service(network):
    with TlsServer(network), DnsServer():
        words = ["diag", "--config", site_file(), "--profile", profile_file(), "--json"]
        report = gridnode(*words).json
        service = report["services"][0]
        expect(service["name"] == "repo" and service["state"] in ("ok", "degraded"), report)
        network.rule("tcp dport 443 reject with icmp type admin-prohibited")
        result = expect_status(gridnode(*words), 1)
        expect([c["by"] for c in result.json["causes"] if c["code"] == "tcp.rejected"] == [{"address": ROUTER, "hop": 1}], result)
        expect_status(gridnode(*words[:-1], "--quiet"), 1)


def test_replay(network):
    network.rule("tcp dport 443 reject with icmp type admin-prohibited")
    stored = gridnode("diag", "--config", site_file(), "--profile", profile_file(), "--json", "--budget", "3")
    path = FOLDER / "report.json"
    path.write_text(stored.out)
    again = gridnode("diag", "--replay", path, "--json")
    expect(again.status == stored.status, stored, again)
    expect([c["code"] for c in again.json["causes"]] == [c["code"] for c in stored.json["causes"]], stored, again)
    expect(gridnode("diag", "--replay", "-", "--json", stdin=stored.out.encode()).out == again.out, "from standard input")
    for rubbish in (b"", b"{}", b"[1]", b"{\"schema\": 1", b"\0\1", b"x" * 70000):
        expect_failure(gridnode("diag", "--replay", "-", stdin=rubbish), 78, "standard input")
    expect_failure(gridnode("diag", "--replay", FOLDER / "none.json"), 78, "none.json")


def test_files_that_it_writes(network):
    network.rule("tcp dport 443 drop")
    words = ["diag", "--config", site_file(), "--profile", profile_file(), "--budget", "5"]
    for name in ("page.md", "page.html"):
        expect_status(gridnode(*words, "--firewall-page", FOLDER / name), 1)
        expect(HOST in (FOLDER / name).read_text() and "BEGIN" not in (FOLDER / name).read_text(), name)
    result = gridnode(*words, "--firewall-page", FOLDER / "none" / "page.md")
    expect(result.status == 1 and "page.md" in result.err, result)
    capture = FOLDER / "packets.pcapng"
    gridnode(*words, "--capture", capture)
    expect(capture.read_bytes()[:4] == b"\x0a\x0d\x0d\x0a", "a pcapng file")
    result = gridnode(*words, "--capture", FOLDER / "none" / "packets.pcapng")
    expect(result.status not in (0, 3) and "packets.pcapng" in result.err, result)


# ---- the runner ----

def run_test(function, network):
    try:
        network.clear()
        function(*([network] if function.__code__.co_argcount else []))
        return True
    except Exception:
        print(f"FAILED {function.__name__}")
        traceback.print_exc(file=sys.stdout)
        return False


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    wanted = [f for f in tests if not sys.argv[2:] or any(part in f.__name__ for part in sys.argv[2:])]
    network = Network()
    try:
        make_certificates()
        results = [run_test(function, network) for function in wanted]
    finally:
        network.close()
        shutil.rmtree(FOLDER)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if MARK not in os.environ:
    os.environ[MARK] = "1"
    os.execvp("unshare", ["unshare", "--net", "/usr/bin/python3", __file__, *sys.argv[1:]])
PROGRAM = os.path.abspath(sys.argv[1])
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="gridnode-cli-"))
os.environ.pop("NO_COLOR", None)
os.environ.setdefault("LC_ALL", "C.UTF-8")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
sys.exit(main())
