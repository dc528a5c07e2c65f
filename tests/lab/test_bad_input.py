#!/usr/bin/python3
"""Bad input of every kind: files, names, servers that misbehave, terminals that close, rights that are missing.
test_bad_input.py PATH-OF-GRIDNODE [NAME-PART...]

It moves into a network namespace of its own: this process is the node (192.0.2.10, eth0); behind it stands hostile.py, at all
addresses of 198.51.100.0/24 and 203.0.113.0/24. Whatever is done, the program must end in time, with the right status, without
a word from the sanitizers, and no control character of a peer's may reach the output. Ends with the line "N passed, N failed"."""

import concurrent.futures
import json
import os
import pathlib
import pty
import resource
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import traceback
import unicodedata

import hostile

ROUTER, NODE = "192.0.2.1", "192.0.2.10"
MARK = "GRIDNODE_BAD_INPUT_NAMESPACE"
ORDINARY = (0, 1, 2, 3)
BIDI = "\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"  # they reorder what is read
GRACE_S = 4  # beyond the budget: sanitizers, and a machine that is busy


class Result:
    def __init__(self, status, out, err, took_s):
        self.status, self.out, self.err, self.took_s = status, out, err, took_s

    def __str__(self):
        return f"exit status {self.status} after {self.took_s:.1f} s\n--- stdout\n{self.out[:6000]}--- stderr\n{self.err[:4000]}---"

    @property
    def json(self):
        return json.loads(self.out)

    @property
    def codes(self):
        return {cause["code"] for cause in self.json["causes"]}


def expect(condition, *facts):
    if not condition:
        raise AssertionError("\n".join(map(str, facts)))


def expect_clean(result, *facts):
    """What must be true of every run."""
    for word in ("Sanitizer", "runtime error", "Traceback", "assert"):
        expect(word not in result.err, f"'{word}' on standard error", result, *facts)
    for stream in (result.out, result.err):
        bad = {c for c in stream if (ord(c) < 32 and c != "\n") or 0x7F <= ord(c) < 0xA0 or c == "\ufffd"}
        expect(not bad, f"control characters {bad!r}", result, *facts)
    return result


def run(*words, budget=3, env=None, stdin=None, prefix=(), stdout=subprocess.PIPE):
    started = time.monotonic()
    done = subprocess.run([*prefix, PROGRAM, *map(str, words)], stdout=stdout, stderr=subprocess.PIPE, timeout=60, input=stdin,
                          env={**os.environ, **(env or {})})
    result = Result(done.returncode, (done.stdout or b"").decode(errors="replace"), done.stderr.decode(errors="replace"),
                    time.monotonic() - started)
    expect(result.took_s < budget + GRACE_S, "it must end in time", words, result)
    return expect_clean(result, words)


def expect_failure(result, status, *words):
    """One or two lines on standard error that name the facts, nothing on standard output."""
    expect(result.status == status, f"exit status must be {status}", result)
    expect(result.out == "", "standard output must be empty", result)
    expect(1 <= result.err.count("\n") <= 2 and len(result.err) < 1200, "one or two lines on standard error", result)
    for word in words:
        expect(str(word) in result.err, f"'{word}' must be named", result)
    return result


def side_by_side(function, items):
    """Each item by itself; what fails is reported together."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        futures = {item if isinstance(item, str) else str(item)[:60]: pool.submit(function, item) for item in items}
    wrong = [f"{name}: {future.exception()}" for name, future in futures.items() if future.exception()]
    expect(not wrong, f"{len(wrong)} of {len(futures)} are wrong", *wrong)


def wanted_tricks(tricks):
    """All, or those that the environment's TRICKS names."""
    return [trick for trick in tricks if trick in os.environ.get("TRICKS", trick).split()]


# ---- files ----

def write(name, text):
    path = FOLDER / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def site(name="site.conf", dns=None, extra=""):
    return write(name, f"[node]\nname = tester\n[wan]\ninterface = eth0\ndns = {dns or hostile.ADDRESSES['dns:good']}\n{extra}")


def profile_text(trick="fine", host=None, extra=""):
    asked = "probe = /hello\npayload = /payload?bytes=500000\n" if trick.startswith("http-") else ""
    return (f"[profile]\nname = test\nranges = 198.51.100.0/24\nroot-ca = root.pem\n\n[service repo]\n"
            f"host = {host or trick + '.bad.example'}\nport = 443\ntls = server\ncarries = updates\n{asked}\n"
            f"[addresses]\nrepo = {hostile.ADDRESSES['tls:' + trick]}\n{extra}")


def profile(trick="fine", host=None):
    return write(f"{trick}.profile", profile_text(trick, host))


def make_certificates():
    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=FOLDER, check=True, capture_output=True)

    def issue(name, subject, issuer, days="30", extensions="basicConstraints=critical,CA:TRUE\n"):
        write("ext", extensions)
        openssl("x509", "-new", "-subj", subject, "-force_pubkey", "public.pem", "-CA", issuer, "-CAkey", "key.pem", "-days", days,
                "-extfile", "ext", "-out", name)

    openssl("ecparam", "-name", "prime256v1", "-genkey", "-noout", "-out", "key.pem")
    openssl("pkey", "-in", "key.pem", "-pubout", "-out", "public.pem")
    openssl("req", "-x509", "-new", "-key", "key.pem", "-subj", "/O=Test/CN=Test Root", "-days", "30", "-out", "root.pem")
    leaf = "subjectAltName=DNS:*.bad.example\nextendedKeyUsage=serverAuth\n"
    issue("leaf.pem", "/CN=bad.example", "root.pem", extensions=leaf)
    previous = "root.pem"
    for i in range(98):
        issue(f"c{i}.pem", f"/O=Test/CN=CA {i}", previous)
        previous = f"c{i}.pem"
    issue("end.pem", "/CN=bad.example", previous, extensions=leaf)
    read = lambda name: (FOLDER / name).read_bytes()
    write("chain-100.pem", read("end.pem") + b"".join(read(f"c{i}.pem") for i in reversed(range(98))) + read("root.pem"))
    write("chain-1000.pem", read("leaf.pem") + read("c0.pem") * 999)
    subject = "/O=Evil " + hostile.ESCAPES + "/CN=evil" + hostile.ESCAPES
    openssl("req", "-x509", "-new", "-utf8", "-key", "key.pem", "-subj", subject, "-days", "30", "-out", "evil.pem")
    os.chmod(FOLDER / "key.pem", 0o644)


def test_site_files_that_are_wrong():
    wan = "[wan]\ninterface = eth0\n"
    cases = [
        ("unknown key", wan + "adress = 192.0.2.10/24\n", 3, "adress"),
        ("unknown section", "[wam]\ninterface = eth0\n", 1, "wam"),
        ("bad address", wan + "address = 192.0.2.300/24\n", 3, "192.0.2.300/24"),
        ("no prefix", wan + "address = 192.0.2.10\n", 3, "192.0.2.10"),
        ("bad gateway", wan + "gateway = 192.0.2\n", 3, "192.0.2"),
        ("bad server", wan + "dns = 198.51.100.53;dns.example\n", 3, "dns.example"),
        ("too many servers", wan + "dns = " + ";".join(f"198.51.100.{i}" for i in range(1, 60)) + "\n", 3, "dns"),
        ("bad route", "[lan eth1]\naddress = 10.20.0.2/24\nroutes = 10.30.0.0/33 via 10.20.0.1\n", 3, "10.30.0.0/33"),
        ("next hop elsewhere", "[lan eth1]\naddress = 10.20.0.2/24\nroutes = 10.30.0.0/16 via 10.99.0.1\n", 3, "10.99.0.1"),
        ("long interface", "[wan]\ninterface = averyveryverylonginterface\n", 2, "averyveryverylonginterface"),
        ("escape in a value", wan + "gateway = \x1b[31m\x07\n", 3, "0x1b"),
        ("escape in a key", wan + "\x1b]0;x\x07 = 1\n", 3),
        ("escape in a section", "[\x1b[2J]\n", 1),
        ("no equals sign", wan + "gateway 192.0.2.1\n", 3, "gateway"),
        ("no section", "interface = eth0\n", 1),
        ("twice", wan + "interface = eth1\n", 3, "interface"),
        ("a NUL", b"[wan]\ninterface = e\0th0\n"),
        ("not UTF-8", b"[node]\nname = \xff\xfe\xfd\n", 2, "name"),
        ("one line of a megabyte", "[wan]\ndns = " + "1" * 1000000 + "\n", 2, "dns"),
        ("proxy with a bad port", wan + "proxy = http://10.20.0.9:99999\n", 3, "99999"),
        ("proxy of another kind", wan + "proxy = gopher://10.20.0.9\n", 3, "gopher"),
    ]

    def one(case):
        name, text, *rest = case
        path = write(f"wrong-{cases.index(case)}.conf", text)
        words = [path, *(f"{path}:{rest[0]}:" if i == 0 else word for i, word in enumerate(rest))]
        expect_failure(run("diag", "--config", path, "--budget", "1", budget=1), 78, *words)

    side_by_side(one, cases)


def test_profiles_that_are_wrong():
    good = profile_text()
    change = lambda old, new: good.replace(old, new)
    cases = [
        ("unknown key", change("ranges", "rangs"), 3, "rangs"),
        ("bad range", change("198.51.100.0/24", "198.51.100.0/99"), 3, "198.51.100.0/99"),
        ("port 0", change("port = 443", "port = 0"), 8, "0"),
        ("port 65536", change("port = 443", "port = 65536"), 8, "65536"),
        ("port -1", change("port = 443", "port = -1"), 8, "-1"),
        ("port 4e2", change("port = 443", "port = 4e2"), 8, "4e2"),
        ("no port", change("port = 443\n", ""), None, "repo", "port"),
        ("host with a space", change("fine.bad.example", "fine bad"), 7, "fine bad"),
        ("host with an escape", change("fine.bad.example", "f\x1b[31mine"), 7),
        ("host with an empty label", change("fine.bad.example", "fine..example"), 7, "fine..example"),
        ("label of 64 bytes", change("fine.bad.example", "x" * 64 + ".example"), 7, "x" * 64),
        ("host of 300 bytes", change("fine.bad.example", "x." * 150 + "example"), 7),
        ("tls", change("tls = server", "tls = maybe"), 9, "maybe"),
        ("addresses of nobody", change("[addresses]\nrepo", "[addresses]\nrepp"), 13, "repp"),
        ("bad address", change(hostile.ADDRESSES["tls:fine"], "198.51.100.999"), 13, "198.51.100.999"),
        ("root that is not there", change("root.pem", "none.pem"), None, "none.pem"),
        ("root that is no certificate", change("root.pem", "site.conf"), None, "root-ca", "site.conf"),
        ("root that is a folder", change("root.pem", "."), None),
        ("no profile section", good[good.index("[service"):], None, "[profile]"),
        ("service twice", good + "\n[service repo]\nhost = a.example\nport = 1\n", 15, "repo"),
        ("nothing at all", ""),
    ]
    site()

    def one(case):
        name, text, *rest = case
        path = write(f"wrong-{cases.index(case)}.profile", text)
        words = [path, *(f"{path}:{rest[0]}:" if i == 0 else word for i, word in enumerate(rest) if i or word)]
        expect_failure(run("diag", "--config", FOLDER / "site.conf", "--profile", path, "--budget", "1", budget=1), 78, *words)

    side_by_side(one, cases)


def test_very_many():
    """10,000 ranges, 5,000 routes: taken or refused with a reason, and quickly either way."""
    ranges = ";".join(f"10.{i // 256}.{i % 256}.0/28" for i in range(10000))
    path = write("many.profile", profile_text().replace("198.51.100.0/24", ranges + ";198.51.100.0/24"))
    result = run("diag", "--config", site(), "--profile", path, "--json", "--budget", "3")
    if result.status == 78:
        expect_failure(result, 78, f"{path}:3:", "10001")
    else:
        expect(result.status in (0, 3) and result.json["services"][0]["state"] == "ok", result)
        page = FOLDER / "many.html"
        run("diag", "--config", site(), "--profile", path, "--firewall-page", page, "--quiet")
        expect(page.stat().st_size < 100000, "one page")
    routes = ";".join(f"10.{i // 256}.{i % 256}.0/28 via 10.20.0.1" for i in range(5000))
    path = site("many.conf", extra=f"[lan eth1]\naddress = 10.20.0.2/24\nroutes = {routes}\n")
    expect_failure(run("diag", "--config", path), 78, f"{path}:8:", "5000", "4096")
    services = "".join(f"[service s{i}]\nhost = h{i}.example\nport = 443\ntls = server\n" for i in range(2000))
    path = write("services.profile", "[profile]\nname = test\nroot-ca = root.pem\n" + services)
    expect(run("diag", "--config", site(), "--profile", path, "--budget", "3").status in (*ORDINARY, 78), "many services")


def test_files_that_cannot_be_read():
    folder = FOLDER / "folder"
    folder.mkdir(exist_ok=True)
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups", "--no-new-privs", "--bounding-set", "-all")
    closed = site("closed.conf")
    closed.chmod(0)
    expect_failure(run("diag", "--config", closed, prefix=nobody), 78, closed, "ermission")
    for option in ("--config", "--profile", "--replay"):
        expect_failure(run("diag", option, folder), 78, folder)
        expect_failure(run("diag", option, FOLDER / "none"), 78, FOLDER / "none", "No such file")
    fifo = FOLDER / "fifo"
    os.mkfifo(fifo)
    expect_failure(run("diag", "--config", fifo), 78, fifo)
    expect_failure(run("diag", "--config", "/dev/zero"), 78, "/dev/zero")


def test_words_on_the_command_line():
    cases = [(["tcp", "a b", "443"], 64), (["tcp", "x..y", "443"], 64), (["tcp", "x" * 300, "443"], 64), (["tcp", HOST, "0"], 64),
             (["tcp", HOST, "65536"], 64), (["tcp", HOST, "-1"], 64), (["tcp", HOST, "https"], 64), (["tcp", HOST, "443x"], 64),
             (["tcp", "", "443"], 64), (["tls", f"{HOST}:99999"], 64), (["tls", f"[{HOST}:443"], 64), (["tls", ":443"], 64),
             (["dns", "a\x1b[31m.example"], 64), (["dns", "a.example", "@x\x1b[2J"], 64), (["dns", "a.example", "@"], 64),
             (["dns", "y" * 64 + ".example"], 64), (["route", "198.51.100"], 64), (["route", "nowhere.example"], 64),
             (["trace", HOST, "99999"], 64), (["explain", "no\x1bsuch"], 64), (["dia\x1b[31mg"], 64), (["diag", "--\x1bfoo"], 64),
             (["diag", "--budget", "0"], 64), (["diag", "--budget", "-3"], 64), (["diag", "--budget", "nan"], 64),
             (["diag", "--budget", "1e999"], 64), (["diag", "--budget", "inf"], 64), (["diag", "--source", "1.2.3"], 64),
             (["diag", "--source", "x\x1b[31m"], 64), (["diag", "--interface", "none0"], 64),
             (["diag", "--interface", "x" * 400], 64), (["diag", "--interface", "\x1b[31m"], 64), (["diag", "extra"], 64),
             (["diag", "--firewall-page", "page.pdf"], 64)]

    def one(case):
        words, status = case
        result = expect_failure(run(*words, budget=1), status)
        expect(all(c.isprintable() or c == "\n" for c in result.err), repr(result.err))

    side_by_side(one, cases)


def test_source_that_is_not_here():
    for words in (["tcp", HOST, "443"], ["tls", f"{HOST}:443"], ["dns", "fine.bad.example", "@" + hostile.ADDRESSES["dns:good"]]):
        result = run(*words, "--source", "192.0.2.77")
        expect(result.status == 1 and "192.0.2.77" in result.out + result.err, words, result)
    result = run("diag", "--config", site(), "--profile", profile(), "--source", "192.0.2.77", "--json")
    expect(result.status == 1 and "address.missing" in result.codes, result)


def test_ipv6_literals():
    for words in (["tcp", "2001:db8::1", "443"], ["tls", "[2001:db8::1]:443"], ["trace", "2001:db8::1", "443"],
                  ["route", "2001:db8::1"], ["dns", "fine.bad.example", "@2001:db8::53"], ["tcp", "::1", "1"],
                  ["tcp", "::ffff:198.51.100.17", "443"], ["tcp", "fe80::1%eth0", "443"]):
        expect(run(*words, "--budget", "2").status in (0, 1, 2, 64), words)
    text = profile_text(extra="").replace("repo = ", "repo = 2001:db8::20;")
    path = write("six.profile", text.replace("ranges = ", "ranges = 2001:db8::/32;"))
    result = run("diag", "--config", site(dns="2001:db8::53;" + hostile.ADDRESSES["dns:good"]), "--profile", path, "--json")
    expect(result.status in (0, 1, 3), result)


# ---- servers ----

def test_dns_answers_made_to_hurt():
    """The servers are of no use or lie; the profile's address works, so that the service is never blocked."""
    path = profile()

    def one(trick):
        result = run("diag", "--config", site(f"{trick}.conf", dns=hostile.ADDRESSES[f"dns:{trick}"]), "--profile", path, "--json")
        rows = [m for m in result.json["measurements"] if m["kind"] == "dns" and m["target"].startswith("203.0.113.")]
        expect(rows, result)
        expect(result.json["services"][0]["addresses"][0]["state"] == "ok", "the profile's address works", result)
        expect(all(len(json.dumps(m)) < 80000 for m in rows), "a row is bounded")
        if trick in ("wrong-id", "wrong-question", "other-address", "silent", "flood", "loop", "forward", "echo", "empty"):
            expect(not [m for m in rows if m["outcome"] == "ok" and m["detail"].get("transport") == "udp"
                        and m["detail"].get("addresses")], "taken for an answer", result)
        expect(result.codes.isdisjoint({"reply.discarded", "dns.udp_blocked", "firewall.local"}), "nobody dropped anything", result)
        if trick in ("good", "escapes"):
            expect(result.status == 0 and not result.codes, result)
        else:
            expect(result.status in (2, 3), "the name cannot be looked up", result)
        text = run("diag", "--config", FOLDER / f"{trick}.conf", "--profile", path, "--verbose")
        expect(text.status == result.status, "text and JSON agree", result, text)
        tool = run("dns", "fine.bad.example", "@" + hostile.ADDRESSES[f"dns:{trick}"], "--budget", "2")
        expect(tool.status in ORDINARY and tool.out, tool)

    side_by_side(one, wanted_tricks(hostile.DNS_TRICKS))


def test_tls_and_http_made_to_hurt():
    causes = {"fine": set(), "chain-100": {"undetermined"}, "chain-1000": {"undetermined"}, "evil-subject": {"tls.intercepted"}, "banner": {"tls.not_tls"},
              "shut": {"tls.reset"}, "noise": {"tls.not_tls"}, "drip": {"tls.stalled"}, "records": None, "http-escapes": {"undetermined"}}

    def one(trick):
        result = run("diag", "--config", site(f"tls-{trick}.conf"), "--profile", profile(trick), "--json")
        wanted = causes.get(trick)
        expect(result.status in ORDINARY, result)
        if wanted is not None:
            expect(result.codes == wanted, f"must be {wanted}", result)
        for m in result.json["measurements"]:
            expect(len(json.dumps(m)) < 80000, "a row is bounded", m["kind"])
        text = run("diag", "--config", FOLDER / f"tls-{trick}.conf", "--profile", FOLDER / f"{trick}.profile", "--verbose",
                   "--firewall-page", FOLDER / f"{trick}.html")
        expect(text.status == result.status, result, text)
        page = (FOLDER / f"{trick}.html").read_text()
        bad = {c for c in page if unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") and c != "\n" or c in BIDI}
        expect(not bad, f"a page for people holds {bad!r}")
        tool = run("tls", f"{hostile.ADDRESSES['tls:' + trick]}:443", "--sni", f"{trick}.bad.example", "--root-ca",
                   FOLDER / "root.pem", "--budget", "2")
        expect(tool.status in ORDINARY and tool.out, tool)

    side_by_side(one, wanted_tricks(hostile.TLS_TRICKS))


# ---- streams, signals, time ----

def partial_words():
    return ["diag", "--config", site("partial.conf", dns=hostile.ADDRESSES["dns:silent"]), "--profile", profile("drip")]


def interrupted(words, number, after=0.6, prefix=()):
    process = subprocess.Popen([*prefix, PROGRAM, *map(str, words)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    time.sleep(after)
    process.send_signal(number)
    started = time.monotonic()
    out, err = process.communicate(timeout=30)
    took = time.monotonic() - started
    expect(took < 2.5, f"it must end at once, not after {took:.1f} s", words)
    return expect_clean(Result(process.returncode, out.decode(), err.decode(), took), words)


def validate(report):
    import jsonschema
    jsonschema.validate(report, json.loads((pathlib.Path(__file__).parents[2] / "docs" / "diag.schema.json").read_text()))


def test_signals_in_the_middle():
    for number, status in ((signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)):
        result = interrupted([*partial_words(), "--budget", "60", "--json"], number)
        expect(result.status == status, f"status must be {status}", result)
        validate(result.json)
        rows = [m for m in result.json["measurements"] if m["outcome"] == "not-tested"]
        expect(rows and all(m["status"] == "not-tested" and m["detail"]["reason"] for m in rows), result)
        expect(any(m["detail"]["reason"] == "interrupted" for m in rows), result)
    result = interrupted([*partial_words(), "--budget", "60"], signal.SIGINT)
    expect(result.status == 130 and "nterrupted" in result.out, result)
    for after in (0.0, 0.01, 0.03, 0.1, 0.2, 0.3):  # wherever it is just then
        result = interrupted([*partial_words(), "--budget", "60", "--json"], signal.SIGINT, after)
        expect(result.status in (130, -signal.SIGINT), result)
        expect(not result.out or result.json, result)


def test_little_time():
    """What was not measured is not-tested: never failed, never healthy."""
    for budget in ("0.1", "0.2"):
        result = run("diag", "--config", site("slow.conf", dns=hostile.ADDRESSES["dns:silent"]), "--profile", profile("drip"), "--json",
                     "--budget", budget, budget=0.2)
        validate(result.json)
        timeouts = [m["kind"] for m in result.json["measurements"] if m["outcome"] == "timeout"]
        expect(set(timeouts) <= {"arp"}, "nothing else has had the time to fail", timeouts, result)
        expect(result.json["verdict"] != "healthy" and not result.codes - {"undetermined"}, result)
        expect(result.json["services"][0]["state"] != "ok", result)


def test_outputs_that_fail():
    words = ["diag", "--config", site(), "--profile", profile()]
    for extra in ([], ["--json"], ["--verbose"]):
        with open("/dev/full", "w") as full:
            result = run(*words, *extra, stdout=full)
        expect(result.status == 1 and "No space left" in result.err, extra, result)
        reading, writing = os.pipe()
        os.close(reading)
        result = run(*words, *extra, stdout=writing)
        os.close(writing)
        expect(result.status in ORDINARY and result.err == "", extra, result)
        result = run(*words, *extra, prefix=("bash", "-c", 'exec "$@" >&-', "_"))
        expect(result.status == 1 and "standard output" in result.err, extra, result)
        run(*words, *extra, prefix=("bash", "-c", 'exec "$@" <&- >/dev/null 2>&-', "_"))
    result = run(*words, "--firewall-page", FOLDER / "none" / "page.md")
    expect(result.status not in (0, 3) and str(FOLDER / "none" / "page.md") in result.err, result)
    result = run(*words, "--firewall-page", "/dev/full/page.html")
    expect(result.status not in (0, 3) and "page.html" in result.err, result)
    result = run(*words, "--capture", FOLDER / "none" / "packets.pcapng")
    expect(result.status not in (0, 3) and str(FOLDER / "none" / "packets.pcapng") in result.err, result)
    result = run(*words, "--capture", "/dev/full")
    expect("/dev/full" in result.err and result.status not in (0, 3), "a capture that could not be kept must be told", result)


def test_terminal_that_closes():
    for after in (0.0, 0.1, 0.5):
        child, master = pty.fork()
        if child == 0:
            os.environ["TERM"] = "xterm"
            words = [PROGRAM, *map(str, partial_words()), "--budget", "60"]
            os.dup2(os.open(FOLDER / "closed.err", os.O_WRONLY | os.O_CREAT | os.O_APPEND), 2)
            os.execv(PROGRAM, words)
        time.sleep(after)
        os.close(master)
        deadline = time.monotonic() + 10
        done = (0, 0)
        while not done[0] and time.monotonic() < deadline:
            done = os.waitpid(child, os.WNOHANG)
            time.sleep(0.02)
        if not done[0]:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        expect(done[0], f"it must end when the terminal closes after {after} s")
    expect("Sanitizer" not in (FOLDER / "closed.err").read_text(), (FOLDER / "closed.err").read_text())


# ---- replay ----

def test_replay_of_rubbish():
    stored = run("diag", "--config", site(), "--profile", profile(), "--json")
    report = stored.json
    deep = b"[" * 100000
    cases = {
        "empty": b"", "a word": b"hello", "deep": deep, "deep object": b'{"a":' * 100000, "deep and closed": deep + b"]" * 100000,
        "NUL": b'{"schema":1}\0', "not UTF-8": b'{"schema": "\xff"}', "cut": stored.out.encode()[:-100],
        "no measurements": b'{"schema": 1}', "another schema": stored.out.encode().replace(b'"schema": 1', b'"schema": 2'),
        "measurements is a number": b'{"schema":1,"node":"","profile":"","measurements":5}',
        "huge": b'{"schema":1,"measurements":[' + b"0," * 3000000 + b"0]}",
        "huge number": stored.out.encode().replace(b'"schema": 1', b'"schema": ' + b"9" * 400),
        "too large": b" " * (70 << 20),
    }

    def rubbish(name):
        result = expect_failure(run("diag", "--replay", "-", stdin=cases[name], budget=8), 78, "standard input")
        path = write(f"replay-{name.replace(' ', '-')}", cases[name])
        expect_failure(run("diag", "--replay", path, budget=8), 78, path)
        path.unlink()
        return result

    side_by_side(rubbish, list(cases))

    # Members of the wrong type or of odd values: refused by name, or concluded from.
    odd = [None, True, -1, 1 << 62, 1e308, "", "x" * 70000, "\x1b[31m\x9b2J", [], {}, [["x"]], "198.51.100.17:443", "::1"]

    def bend(index):
        bent = json.loads(stored.out)
        row = bent["measurements"][index]
        for member in list(row):
            for value in (odd if member != "detail" else odd[:1]):
                row_before = row[member]
                row[member] = value
                yield json.dumps(bent)
                row[member] = row_before
        for member in list(row["detail"]):
            for value in odd:
                before = row["detail"][member]
                row["detail"][member] = value
                yield json.dumps(bent)
                row["detail"][member] = before

    seen = {}
    for index, row in enumerate(report["measurements"]):
        seen.setdefault(row["kind"], index)
    texts = [text for index in seen.values() for text in bend(index)]
    chosen = texts[::max(1, len(texts) // 150)]

    def one(number):
        result = run("diag", "--replay", "-", "--verbose", stdin=chosen[number].encode())
        expect(result.status in (*ORDINARY, 78), result)

    side_by_side(one, range(len(chosen)))


# ---- rights ----

NOBODY = ("setpriv", "--reuid", "65534", "--clear-groups", "--no-new-privs", "--bounding-set", "-all", "--inh-caps", "-all")


class Lab:
    """The lab beside this test: the way has routers of its own, so that refusals come from them."""

    def __init__(self):
        self.environment = {**os.environ, "LAB_NAME": f"bad-{os.getpid()}", "LAB_BUILD": str(pathlib.Path(PROGRAM).parents[2] / "lab")}
        self.folder = pathlib.Path(self.environment.get("LAB_STATE", "/run/gridnode-lab")) / self.environment["LAB_NAME"] / "node"

    def __call__(self, *words):
        return subprocess.run([pathlib.Path(__file__).parents[2] / "lab" / "lab", *map(str, words)], env=self.environment,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, timeout=60)

    def __enter__(self):
        done = self("up")
        expect(done.returncode == 0, done)
        return self

    def __exit__(self, *_):
        self("down")

    def diagnose(self, *prefix):
        # A copy of what the node may read, for a user who may not look into its folder.
        copy = FOLDER / "lab-node"
        if not copy.exists():
            shutil.copytree(self.folder, copy)
            text = (copy / "site.conf").read_text().replace(str(self.folder), str(copy))
            (copy / "site.conf").write_text(text)
            subprocess.run(["chmod", "-R", "a+rX", copy], check=True)
        started = time.monotonic()
        done = self("exec", "node", *prefix, PROGRAM, "diag", "--config", copy / "site.conf", "--json")
        return expect_clean(Result(done.returncode, done.stdout.decode(), done.stderr.decode(), time.monotonic() - started))


def test_without_rights_in_the_lab():
    """Only the causes that need packets to be watched are lost, and none is given a wrong name."""
    with Lab() as lab:
        for fault, wanted in (("healthy", {()}), ("drop-443", {("tcp.dropped",)}), ("reset-443", {("undetermined",), ("tcp.reset",)}),
                              ("prohibit-443", {("tcp.rejected",)}), ("mtu-hole", {("path.mtu_black_hole",)}),
                              ("dns1-dead", {("dns.unreachable",)}), ("gateway-dead", {("undetermined",), ("gateway.unreachable",)})):
            expect(lab("fault", fault).returncode == 0 if fault != "healthy" else True, fault)
            result = lab.diagnose(*NOBODY)
            found = tuple(sorted(result.codes))
            expect(found in wanted, f"{fault}: {found}, must be one of {wanted}", result.json["summary"],
                   *(cause["summary"] for cause in result.json["causes"]))
            if found == ("undetermined",):
                expect({"reset-443": "tcp.reset", "gateway-dead": "gateway.unreachable"}[fault]
                       in result.json["causes"][0]["candidates"], result.json["causes"])
            lab("reset")


def test_without_rights():
    words = ["diag", "--config", site(), "--profile", profile(), "--json"]
    result = run(*words, prefix=NOBODY)
    expect(result.status == 0, "healthy without rights", result)
    not_permitted = {m["kind"] for m in result.json["measurements"] if m["outcome"] == "not-permitted"}
    expect(not_permitted <= {"capture", "arp"} and "capture" in not_permitted, not_permitted, result)
    text = run(*words[:-1], prefix=NOBODY)
    expect("CAP_NET_RAW" in text.out or "permitted" in text.out, "it says what it could not see", text)
    result = run(*words, "--capture", FOLDER / "nobody.pcapng", prefix=NOBODY)
    expect_failure(result, 77, "CAP_NET_RAW")
    for tool in (["tcp", HOST, "443"], ["trace", HOST, "443"], ["tls", f"{HOST}:443"], ["route", HOST], ["dns", "fine.bad.example"]):
        expect(run(*tool, "--config", FOLDER / "site.conf", prefix=NOBODY).status in (0, 1), tool)


def test_little_memory_and_few_descriptors():
    def limited(which, value):
        def one(words):
            done = subprocess.run([PROGRAM, *map(str, words)], capture_output=True, timeout=30,
                                  env={**os.environ, "ASAN_OPTIONS": "detect_leaks=0:exitcode=99"},  # it needs descriptors itself
                                  preexec_fn=lambda: resource.setrlimit(which, (value, value)))
            return expect_clean(Result(done.returncode, done.stdout.decode(), done.stderr.decode(), 0), words)
        return one

    words = ["diag", "--config", site(), "--profile", profile(), "--json"]
    for count in (5, 6, 7, 8, 12, 20):
        result = limited(resource.RLIMIT_NOFILE, count)(words)
        expect(result.status in (*ORDINARY, 69) and (result.out or result.err), count, result)
        if result.out:
            expect(not result.codes - {"undetermined"} or result.status in (0, 3), "a shortage here is nobody else's fault", count, result)


# ---- the runner ----

def ip(*words):
    subprocess.run(["ip", *words], check=True, capture_output=True)


class Network:
    """The namespace behind the node: a router that is the whole Internet as well, and hostile."""

    def __init__(self):
        self.name = f"gbad{os.getpid()}"
        self.server = None
        ip("netns", "add", self.name)
        for words in ("link set lo up", "link add eth0 type veth peer name near netns " + self.name, f"addr add {NODE}/24 dev eth0",
                      "link set eth0 up"):
            ip(*words.split())
        for words in ("link set lo up", f"addr add {ROUTER}/24 dev near", "link set near up",
                      "route add local 198.51.100.0/24 dev lo", "route add local 203.0.113.0/24 dev lo"):
            ip("-n", self.name, *words.split())
        ip("route", "add", "default", "via", ROUTER)

    def inside(self, *words, **options):
        return subprocess.run(["ip", "netns", "exec", self.name, *words], check=True, capture_output=True, **options)

    def serve(self):
        self.server = subprocess.Popen(["ip", "netns", "exec", self.name, "/usr/bin/python3", hostile.__file__, str(FOLDER)],
                                       stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        for _ in range(200):
            try:
                socket.create_connection((hostile.ADDRESSES["tls:fine"], 443), 1).close()
                return
            except OSError:
                time.sleep(0.05)
        raise AssertionError("the servers do not come up")

    def rule(self, text):
        self.inside("nft", "-f", "-", input=("add table ip t\nadd chain ip t f { type filter hook input priority 0; }\n"
                                             f"add rule ip t f {text}\n").encode())

    def clear(self):
        self.inside("nft", "flush", "ruleset")

    def close(self):
        if self.server:
            self.server.kill()
            self.server.wait()
        subprocess.run(["ip", "netns", "del", self.name], capture_output=True)


def run_test(function, network):
    started = time.monotonic()
    try:
        network.clear()
        function(*([network] if function.__code__.co_argcount else []))
        passed = True
    except Exception:
        traceback.print_exc(file=sys.stdout)
        passed = False
    print(f"{'ok' if passed else 'FAILED':<7}{function.__name__} {time.monotonic() - started:.1f} s", flush=True)
    return passed


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    wanted = [f for f in tests if not sys.argv[2:] or any(part in f.__name__ for part in sys.argv[2:])]
    network = Network()
    try:
        FOLDER.chmod(0o755)
        make_certificates()
        network.serve()
        results = [run_test(function, network) for function in wanted]
    finally:
        network.close()
        shutil.rmtree(FOLDER)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


if MARK not in os.environ:
    os.environ[MARK] = "1"
    os.execvp("unshare", ["unshare", "--net", "/usr/bin/python3", "-B", __file__, *sys.argv[1:]])
PROGRAM = os.path.abspath(sys.argv[1])
HOST = hostile.ADDRESSES["tls:fine"]
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="gridnode-bad-"))
os.environ.setdefault("LC_ALL", "C.UTF-8")
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")
os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1:exitcode=99")
signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job is born with it ignored
sys.exit(main())
