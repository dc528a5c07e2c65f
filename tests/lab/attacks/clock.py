"""Clocks that jump while programs run: a day ahead, a year behind, and right again."""

import json
import os
import time

from plane_site import compare, wait_for

from . import pki
from .web import CONTROL_443, exchange, request, statuses
from .world import Witness

DAY, YEAR = 86400, 365 * 86400
AT_ONCE_S = 5  # by the kernel's word; by the daemon's own looking it may be 30 s
LEAST_CPU_S = 1.5  # in the time that is watched: more is a busy loop


class Clock:
    """What a program that is started with its environment takes for the time of day."""

    def __init__(self, site, name):
        self.path = site.folder / f"{name}.clock"
        self.path.write_text(" " * 31 + "0")
        sanitizer = os.environ.get("ASAN_OPTIONS", "")
        self.environment = (f"LD_PRELOAD={site.build / 'lab/clock.so'}", f"LAB_CLOCK_FILE={self.path}",
                            f"ASAN_OPTIONS={sanitizer}:verify_asan_link_order=0")

    def set(self, seconds):
        """Gives how long a program may take to see it. The kernel tells of a clock that is set, and this one is set to what it
        shows: programs are woken as by a jump, and the machine keeps its time. Without that right they have to look."""
        with open(self.path, "r+b", buffering=0) as file:
            file.write(b"%32d" % seconds)
        try:
            time.clock_settime_ns(time.CLOCK_REALTIME, time.clock_gettime_ns(time.CLOCK_REALTIME))
            return AT_ONCE_S
        except PermissionError:
            return 40


def cpu_s(pid):
    fields = open(f"/proc/{pid}/stat", encoding="utf-8").read().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def told(site, node, name):
    return site.plane_rows("SELECT message FROM events WHERE node = ? AND name = ? ORDER BY id", node.id, name)


def node_clock(scenario):
    site = scenario.site
    node, clock = site.new_node("victim"), Clock(scenario.site, "node")
    node.start(*clock.environment)
    wait_for("the node is connected", lambda: site.is_connected(node), 20)
    time.sleep(2)
    used, began = cpu_s(node.process.pid), time.monotonic()
    within_s = clock.set(DAY)
    wait_for(f"the jump is told within {within_s} s", lambda: len(told(site, node, "Clock Changed")) == 1, within_s)
    messages = told(site, node, "Clock Changed")
    scenario.check("a day ahead is told", "" if "+86400" in messages[0][0] else messages)
    within_s = clock.set(-YEAR)
    wait_for(f"the second jump is told within {within_s} s", lambda: len(told(site, node, "Clock Changed")) == 2, within_s)
    messages = told(site, node, "Clock Changed")
    scenario.check("a year back is told", "" if "-31622400" in messages[1][0] else messages)
    scenario.check("the connection is kept", "" if site.is_connected(node) else node.words()[-500:])
    status = json.loads(site.node("status", "--json", "--root", node.root))
    scenario.check("status answers", "" if status else "nothing")
    clock.set(0)
    used, took = cpu_s(node.process.pid) - used, time.monotonic() - began
    scenario.check(f"no busy loop: {used:.2f} s of {took:.0f} s", used > LEAST_CPU_S)
    rows = site.plane_rows("SELECT seq FROM events WHERE node = ? AND epoch = ? ORDER BY id", node.id, node.epoch())
    scenario.check("the order is that of the numbers, not of the times", "" if rows == sorted(rows) else rows)
    wait_for("nothing waits", lambda: node.waiting() == 0, 30)
    wrong, count = compare(site, node)
    scenario.check(f"all of {count} are at the plane, once, in order", wrong)
    scenario.check("the daemon ends when it is asked to", node.stop())


def plane_clock(scenario):
    site = scenario.site
    witness, clock = Witness(site), Clock(scenario.site, "plane")
    site.stop_plane()
    process = site.start_plane(*clock.environment)
    wait_for("the witness is heard", lambda: not witness.is_heard(1), 30)
    (site.folder / "password").write_text("correct horse battery staple\n")
    site.plane("user", "add", "alice", "--role", "operator", "--password-file", site.folder / "password")
    token = site.plane("token", "add", "reader", "--role", "viewer").split()[-1]
    for name in ("early", "late", "again"):
        site.plane("node", "create", name, "--output", site.folder / f"{name}.token")
    cookie = sign_in(site)
    scenario.check("session and token are good", "" if as_session(site, cookie) == [200] and as_token(site, token) == [200] else "no")
    used, began = cpu_s(process.pid), time.monotonic()
    clock.set(DAY + 60)
    time.sleep(1)
    scenario.check("a day ahead: the witness is heard", witness.is_heard())
    scenario.check("the session is over, the token without an end is not",
                   "" if as_session(site, cookie) == [401] and as_token(site, token) == [200] else "no")
    answer = register(site, "early")
    scenario.check("a registration token of yesterday has expired", "" if b"token.expired" in answer else answer[:400])
    scenario.check("who signs in anew is let in", "" if as_session(site, sign_in(site)) == [200] else "no")
    clock.set(-YEAR)
    time.sleep(1)
    scenario.check("a year back: the witness is heard", witness.is_heard())
    # Certificates are not yet in force for such a plane: it must live, and say so, no more.
    scenario.check("it lives, and its own tools work", process.poll() or "witness" not in site.plane("node", "list"))
    clock.set(0)
    time.sleep(1)
    used, took = cpu_s(process.pid) - used, time.monotonic() - began
    scenario.check("right again: the witness is heard", witness.is_heard())
    scenario.check(f"no busy loop: {used:.2f} s of {took:.0f} s with {witness.count()} events", used > LEAST_CPU_S + witness.count() / 400)
    scenario.check("a token that waits is taken", "" if statuses(register(site, "late")) == [200] else register(site, "again")[:400])
    scenario.check("a new session is good", "" if as_session(site, sign_in(site)) == [200] else "no")
    scenario.check("no service was restarted", [line for line in scenario.lines("state=waiting")])
    witness.end(scenario.tally, scenario.name)


def sign_in(site):
    body = json.dumps({"name": "alice", "password": "correct horse battery staple"}).encode()
    answer = exchange(site, request("/api/v1/session", "Content-Type: application/json", f"Content-Length: {len(body)}", method="POST",
                                    body=body), address=CONTROL_443)
    for line in answer.decode(errors="replace").split("\r\n"):
        if line.lower().startswith("set-cookie:"):
            return line.split(":", 1)[1].split(";")[0].strip()
    return answer.decode(errors="replace")[:100].replace("\r\n", " ")


def as_session(site, cookie):
    return statuses(exchange(site, request("/api/v1/nodes", f"Cookie: {cookie}")))


def as_token(site, token):
    return statuses(exchange(site, request("/api/v1/nodes", f"Authorization: Bearer {token}")))


def register(site, name):
    key = pki.new_key(site.folder / f"{name}.key")
    pki.openssl("req", "-new", "-key", key, "-subj", "/CN=x", "-out", site.folder / f"{name}.csr")
    token = (site.folder / f"{name}.token").read_text().split()[0]
    body = json.dumps({"schema": 1, "token": token, "csr": (site.folder / f"{name}.csr").read_text()}).encode()
    return exchange(site, request("/api/v1/node/register", "Content-Type: application/json", f"Content-Length: {len(body)}",
                                  method="POST", body=body))


SCENARIOS = {"node-clock": node_clock, "plane-clock": plane_clock}
