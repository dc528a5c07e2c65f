#!/usr/bin/python3
"""`gridnode diag` with no configuration at all, on an ordinary host: what it says must be true and of use.
test_ordinary_host.py PATH-OF-GRIDNODE [NAME-PART...]

The host is a namespace with a static address, a gateway and its own /etc/resolv.conf; the gateway's namespace runs unbound.
Ends with the line "N passed, N failed"."""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time
import traceback

HOST, NET = f"gord{os.getpid()}-h", f"gord{os.getpid()}-n"
ADDRESS, GATEWAY, NEAR_DNS, FAR_DNS = "192.0.2.10", "192.0.2.1", "192.0.2.53", "198.51.100.53"
ETC = pathlib.Path("/etc/netns") / HOST

UNBOUND = """server:
  directory: "{folder}"
  chroot: ""
  username: ""
  use-syslog: no
  logfile: "{folder}/unbound.log"
  pidfile: ""
  interface: 0.0.0.0
  interface-automatic: yes
  access-control: 0.0.0.0/0 {access}
  do-daemonize: no
  module-config: "iterator"
  {zone}
remote-control:
  control-enable: no
"""
GOOD = 'local-zone: "." static\n  local-data: ". 300 IN NS a.root.example."\n  local-data: "a.root.example. 300 IN A 198.51.100.1"'


def expect(condition, *facts):
    if not condition:
        raise AssertionError("\n".join(map(str, facts)))


def ip(*words, check=True):
    return subprocess.run(["ip", *words], check=check, capture_output=True)


class Host:
    """Everything anew for each test."""

    def __init__(self):
        self.resolvers = []
        for name in (HOST, NET):
            ip("netns", "add", name)
            ip("-n", name, "link", "set", "lo", "up")
        ip("link", "add", "eth0", "netns", HOST, "type", "veth", "peer", "name", "near", "netns", NET)
        for line in (f"addr add {ADDRESS}/24 dev eth0", "link set eth0 up"):
            ip("-n", HOST, *line.split())
        for line in (f"addr add {GATEWAY}/24 dev near", f"addr add {NEAR_DNS}/24 dev near", "link set near up",
                     f"addr add {FAR_DNS}/32 dev lo"):
            ip("-n", NET, *line.split())
        ip("-n", HOST, "route", "add", "default", "via", GATEWAY)
        ETC.mkdir(parents=True, exist_ok=True)
        self.nameservers(NEAR_DNS)
        for _ in range(100):
            if b"state UP" in ip("-n", HOST, "link", "show", "eth0").stdout:
                break
            time.sleep(0.02)

    def nameservers(self, *addresses):
        (ETC / "resolv.conf").write_text("".join(f"nameserver {a}\n" for a in addresses))

    def resolver(self, zone=GOOD, access="allow", where=NET):
        path = FOLDER / f"unbound-{where}.conf"
        path.write_text(UNBOUND.format(folder=FOLDER, zone=zone, access=access))
        self.resolvers.append(subprocess.Popen(["ip", "netns", "exec", where, "unbound", "-d", "-c", path],
                                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        for _ in range(200):
            shown = subprocess.run(["ip", "netns", "exec", where, "ss", "-Hlnt", "sport", "=", ":53"], capture_output=True)
            if shown.stdout:
                return
            time.sleep(0.02)
        raise AssertionError("unbound does not come up")

    def filter(self, text):
        rules = f"table ip t {{\n chain i {{\n  type filter hook input priority 0\n  {text}\n }}\n}}\n"
        subprocess.run(["ip", "netns", "exec", NET, "nft", "-f", "-"], input=rules.encode(), check=True, capture_output=True)

    def gridnode(self, *words, prefix=()):
        done = subprocess.run(["ip", "netns", "exec", HOST, *prefix, PROGRAM, *words], capture_output=True, timeout=60, text=True)
        expect("Sanitizer" not in done.stderr and "runtime error" not in done.stderr, done.stderr)
        return done

    def diagnose(self, status, *codes, says=(), prefix=()):
        """Both forms of the report: codes, status, and what the text must say."""
        done = self.gridnode("diag", "--json", prefix=prefix)
        report = json.loads(done.stdout)
        found = [cause["code"] for cause in report["causes"]]
        expect(sorted(found) == sorted(codes), f"must be {codes}", done.stdout[:4000])
        expect(done.returncode == status, f"exit status {done.returncode}, must be {status}", report["summary"])
        expect(report["services"] == [] and done.stderr == "", done)
        text = self.gridnode("diag", prefix=prefix)
        flat = " ".join(text.stdout.split())
        expect(text.returncode == status, text)
        for words in (*says, "No profile: this is this host's own network only"):
            expect(words in flat, f"'{words}' must be said", text.stdout)
        expect(max(map(len, text.stdout.splitlines())) <= 80, "80 columns", text.stdout)
        return report

    def close(self):
        for resolver in self.resolvers:
            resolver.kill()
            resolver.wait()
        for name in (HOST, NET):
            ip("netns", "del", name, check=False)
        shutil.rmtree(ETC, ignore_errors=True)


# ---- nothing is wrong ----

def test_healthy(host):
    host.resolver()
    report = host.diagnose(0, says=("link, address, gateway and DNS server work", f"node {ADDRESS} (eth0) ── gateway {GATEWAY}",
                                    "no control plane was tested"))
    expect(report["source"] == {"interface": "eth0", "address": ADDRESS}, report["source"])


def test_without_rights(host):
    host.resolver()
    nobody = ("setpriv", "--reuid", "65534", "--clear-groups", "--no-new-privs", "--bounding-set", "-all")
    host.diagnose(0, says=("no control plane was tested",), prefix=nobody)


def test_other_interfaces_do_not_confuse(host):
    host.resolver()
    for name, address in (("docker0", "172.17.0.1/16"), ("tun0", "10.8.0.2/24"), ("br-0123", "172.18.0.1/16")):
        ip("-n", HOST, "link", "add", name, "type", "bridge")
        ip("-n", HOST, "addr", "add", address, "dev", name)
        ip("-n", HOST, "link", "set", name, "up")
    report = host.diagnose(0)
    expect(report["source"]["interface"] == "eth0", report["source"])


def test_own_resolver(host):
    """127.0.0.53 in the manner of systemd-resolved."""
    host.nameservers("127.0.0.53")
    host.resolver(where=HOST)
    host.diagnose(0, says=("DNS 127.0.0.53:53",))


# ---- DNS ----

def test_own_resolver_is_not_running(host):
    host.nameservers("127.0.0.53")
    report = host.diagnose(3, "dns.refused", says=("nothing listens on port 53 there", "this host's own resolver"))
    expect(report["causes"][0]["fixed_by"] == "node", report["causes"])


def test_own_resolver_cannot_reach_its_forwarder(host):
    host.nameservers("127.0.0.53")
    host.resolver(zone='forward-zone:\n  name: "."\n  forward-addr: 127.0.0.99', where=HOST)
    host.diagnose(3, "dns.server_failure", says=("SERVFAIL",))


def test_server_that_is_gone(host):
    host.diagnose(3, "dns.refused", says=(f"{NEAR_DNS}:53 refuses",))


def test_server_that_is_silent(host):
    host.filter("meta l4proto { tcp, udp } th dport 53 drop")
    host.diagnose(3, "dns.unreachable", says=(f"{NEAR_DNS}:53 answers neither",))


def test_one_of_two_servers_is_silent(host):
    host.resolver()
    host.nameservers(NEAR_DNS, FAR_DNS)
    host.filter(f"ip daddr {FAR_DNS} meta l4proto {{ tcp, udp }} th dport 53 drop")
    report = host.diagnose(3, "dns.unreachable")
    expect(report["causes"][0]["targets"] == [f"{FAR_DNS}:53"], report["causes"])


def test_udp_is_blocked(host):
    host.resolver()
    host.filter("udp dport 53 drop")
    host.diagnose(3, "dns.udp_blocked")


def test_server_that_refuses_us(host):
    host.resolver(access="refuse")
    host.diagnose(3, "dns.refused")


def test_server_that_denies_the_root(host):
    """A private server that knows its own domain only answers, and that is all that is asked here."""
    host.resolver(zone='local-zone: "." always_nxdomain')
    done = host.gridnode("diag", "--json")
    expect(json.loads(done.stdout)["verdict"] in ("healthy", "degraded"), done.stdout[:3000])


def test_no_server_at_all(host):
    host.nameservers()
    host.diagnose(3, says=("no DNS server is configured",))


# ---- the way out ----

def test_no_default_route(host):
    ip("-n", HOST, "route", "del", "default")
    host.diagnose(1, "route.missing", says=("This host has no default route", "node ──✗ no route"))


def test_dead_gateway(host):
    host.nameservers(FAR_DNS)
    ip("-n", NET, "addr", "del", f"{GATEWAY}/24", "dev", "near")
    host.diagnose(1, "gateway.unreachable", says=(f"The default gateway {GATEWAY} does not answer on eth0",))


def test_nothing_beyond_the_gateway(host):
    host.nameservers("203.0.113.5", "203.0.113.6")
    done = host.gridnode("diag", "--json")
    report = json.loads(done.stdout)
    codes = {cause["code"] for cause in report["causes"]}
    expect(codes and codes <= {"dns.unreachable", "upstream.dead"}, report["summary"], codes)


def test_interface_that_is_off(host):
    ip("-n", HOST, "link", "set", "eth0", "down")
    host.diagnose(1, "link.down", says=("The WAN interface eth0 is switched off",))


def test_no_carrier(host):
    ip("-n", NET, "link", "set", "near", "down")
    ip("-n", HOST, "route", "flush", "dev", "eth0")  # as network managers do
    host.diagnose(1, "link.down", says=("without a carrier",))


def test_no_address(host):
    ip("-n", HOST, "addr", "flush", "dev", "eth0")
    host.diagnose(1, "address.missing", says=("The WAN interface eth0 has no usable IPv4 address",))


def test_little_time(host):
    host.nameservers("203.0.113.5")
    done = host.gridnode("diag", "--json", "--budget", "0.1")
    expect(done.returncode == 2 and json.loads(done.stdout)["causes"] == [], done)


# ---- the runner ----

def run_test(function):
    host = None
    started = time.monotonic()
    try:
        host = Host()
        function(host)
        passed = True
    except Exception:
        traceback.print_exc(file=sys.stdout)
        passed = False
    finally:
        if host:
            host.close()
    print(f"{'ok' if passed else 'FAILED':<7}{function.__name__} {time.monotonic() - started:.1f} s", flush=True)
    return passed


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    wanted = [f for f in tests if not sys.argv[2:] or any(part in f.__name__ for part in sys.argv[2:])]
    try:
        results = [run_test(function) for function in wanted]
    finally:
        shutil.rmtree(FOLDER)
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


PROGRAM = os.path.abspath(sys.argv[1])
FOLDER = pathlib.Path(tempfile.mkdtemp(prefix="gridnode-host-"))
for variable in ("https_proxy", "HTTPS_PROXY", "NO_COLOR"):
    os.environ.pop(variable, None)
os.environ["LC_ALL"] = "C.UTF-8"
os.environ.setdefault("ASAN_OPTIONS", "detect_leaks=1:exitcode=99")
os.environ.setdefault("UBSAN_OPTIONS", "halt_on_error=1:print_stacktrace=1:exitcode=99")
sys.exit(main())
