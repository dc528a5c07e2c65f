"""The wanted configuration: put, applied, refused, guarded, taken back, and started from without a plane."""

import json
import os
import signal
import subprocess
import time

from plane_site import program_of, words_of

from .world import World, expect, wait_for


def route(to, via="10.20.0.1", **more):
    return {"destination": to, "next_hop": via, **more}


def document(routes, **more):
    return {"schema": 1, "lan": [{"interface": "eth1", "address": "10.20.0.2/24", "routes": routes}], **more}


def put(w, wanted, accept=(0,), stdin=False):
    text = wanted if isinstance(wanted, str) else json.dumps(wanted)
    return w.plane("node", "config", "branch-12", "-", stdin=text, accept=accept)


def applied(w):
    return w.plane("node", "show", "branch-12", "--json").json["configuration"]


def wait_applied(w, version, state="applied", seconds=30):
    return wait_for(f"version {version} is {state}", lambda: applied(w) if (applied(w)["applied"], applied(w)["state"])
                    == (version, state) else None, seconds)


def routes_of(w):
    return {line.strip() for line in w.run("node", "ip", "-4", "route", "show").out.splitlines()}


def has_route(w, start, *words):
    return any(line.startswith(start + " ") and all(word in line for word in words) for line in routes_of(w))


def guarded(s):
    with World(s, "conf") as w:
        node = w.node
        node.enrol()
        node.monitor_every(5)
        node.come_up()
        refused(s, w, node)
        captured = [route("10.30.0.0/16", description="the warehouse; $(id) \"it's\""), route("198.51.100.48/28"),
                    route("198.51.100.16/28"), route("172.18.0.0/16"), route("0.0.0.0/0")]
        with s.step("a configuration is put, fetched over 8443 and applied", needed=True):
            put(w, document(captured)).says("version 1")
            got = wait_applied(w, 1)
            expect(has_route(w, "10.30.0.0/16", "via 10.20.0.1", "dev eth1"), routes_of(w))
            expect(node.status()["configuration"]["in_force"] == 1, node.status()["configuration"])
        with s.step("the guard warns of what its routes capture, each in a sentence"):
            for what in ("the DNS server 198.51.100.53", "the control plane's range 198.51.100.16/28",
                         "the container network 172.18.0.0/16", "is left out: the default route is the WAN's"):
                expect([t for t in got["warnings"] if what in t], what, got["warnings"])
            node.run("status").says("the DNS server 198.51.100.53")
        with s.step("routes on the WAN keep DNS server and control plane reachable"):
            expect(has_route(w, "198.51.100.53", "via 192.0.2.1", "dev eth0"), routes_of(w))
            expect(has_route(w, "198.51.100.16/28", "via 192.0.2.1", "dev eth0"), routes_of(w))
            for address in ("198.51.100.53", "198.51.100.20"):
                way = w.run("node", "ip", "route", "get", address).out
                expect("dev eth0" in way, way)
            node.run("diag", accept=(0, 3)).says("198.51.100.20")
            time.sleep(6)
            expect(node.all_ways_open(), node.status())
        with s.step("a version that somebody else replaced meanwhile is not replaced again"):
            put(w, document([route("10.31.0.0/16")], version=0), accept=(1,)).says("somebody changed it")
            expect(applied(w)["wanted"] == 1, applied(w))
        with s.step("after a minute it is the good one", needed=True):
            wait_for("confirmed", lambda: not node.status()["configuration"]["waits_for_confirmation"], 80)
        with s.step("the plane away, and the LAN's state lost: the node starts from the last good one"):
            node.stop()
            w.kill_plane(signal.SIGKILL)
            w.run("node", "ip", "addr", "flush", "dev", "eth1")
            w.run("node", "ip", "link", "set", "eth1", "down")
            expect(not has_route(w, "10.30.0.0/16"), routes_of(w))
            node.start()
            wait_for("its routes", lambda: has_route(w, "10.30.0.0/16", "dev eth1"), 15)
            expect(node.status()["configuration"]["in_force"] == 1, node.status()["configuration"])
        with s.step("the plane killed with SIGKILL starts again, and the node comes back"):
            w.start_plane()
            wait_for("connected", lambda: w.plane("node", "show", "branch-12", "--json").json["connected"], 30)
        with s.step("the next version takes the former one's routes away"):
            put(w, document([route("10.31.0.0/16")], version=1)).says("version 2")
            wait_applied(w, 2)
            expect(has_route(w, "10.31.0.0/16", "dev eth1"), routes_of(w))
            expect(not has_route(w, "10.30.0.0/16") and not has_route(w, "198.51.100.48/28"), routes_of(w))
            expect(not has_route(w, "198.51.100.53"), "the guard's route is not needed any more", routes_of(w))


def refused(s, w, node):
    with s.step("what cannot be right is refused, with its place"):
        for wanted, words in [
                (document([route("10.30.0.0/16", "10.99.0.1")]), ["next_hop", "10.30.0.0/16"]),
                (document([route("10.30.0.1/16")]), ["destination"]),
                (document([route("10.30.0.0/16"), route("10.30.0.0/16")]), ["10.30.0.0/16"]),
                (document([], colour="red"), ["colour"]),
                ({"schema": 1, "lan": [{"interface": "eth1/../x", "address": "10.20.0.2/24", "routes": []}]}, ["interface"]),
                ({"schema": 1, "dns": ["nowhere"]}, ["dns"])]:
            put(w, wanted, accept=(64,)).says(*words)
        put(w, "{", accept=(78,)).says("not a JSON object")
        put(w, "[]", accept=(78,)).says("not a JSON object")
        expect(applied(w)["wanted"] == 0, applied(w))


def failing(s):
    with World(s, "bad") as w:
        node = w.node
        node.enrol()
        node.come_up()
        with s.step("a configuration that cannot be applied is reported as failed, with the reason"):
            put(w, {"schema": 1, "lan": [{"interface": "eth7", "address": "10.70.0.2/24", "routes": []}]})
            got = wait_applied(w, 1, "failed")
            expect("eth7" in got["error"], got)
        with s.step("and after two attempts it is an event"):
            event = wait_for("the event", lambda: next((e for e in node.events() if e["name"] == "Configuration Update Failure"),
                                                       None), 30)
            expect(event["severity"] == "ERROR" and "eth7" in event["message"], event)
            expect(node.all_ways_open(), "nothing else changed", node.status())
        with s.step("the daemon, killed and started anew, knows of it: it is not told again"):
            node.stop(signal.SIGKILL)
            node.come_up()
            time.sleep(15)  # it tries again after some 5 and 10 s
            expect(len(failures(node)) == 1, failures(node))
        with s.step("the next one ends that, and DNS servers of it are used"):
            put(w, document([], dns=["203.0.113.53"]))
            wait_applied(w, 2)
            wait_for("the event", lambda: [e["severity"] for e in failures(node)] == ["ERROR", "INFO"], 10)
            expect(node.status()["dns"]["servers"] == ["203.0.113.53"], node.status()["dns"])
            node.run("dns", "repo.grid.example").says("203.0.113.53")
            expect("198.51.100.53" not in node.run("dns", "repo.grid.example").out, "the former server")


# ---- the helper without systemd ----

def helpers(w):
    """Process ids of the supervisor and of the helper that it started; None: there is no such one."""
    pids = subprocess.run(["ip", "netns", "pids", f"gl-{w.name}-node"], check=True, capture_output=True, text=True).stdout.split()
    ours = [int(pid) for pid in pids if program_of(pid) == "gridnode-helper"]
    supervisors = [pid for pid in ours if "--supervise" in words_of(pid)]
    return (supervisors or [None])[0], next((pid for pid in ours if pid not in supervisors), None)


def helper_killed(s):
    with World(s, "help") as w:
        node = w.node
        node.enrol()
        node.come_up()
        with s.step("a helper that is killed is there again within seconds, and a configuration applies", needed=True):
            supervisor, helper = wait_for("both", lambda: all(helpers(w)) and helpers(w), 5)
            os.kill(helper, signal.SIGKILL)
            put(w, document([route("10.30.0.0/16")]))
            wait_applied(w, 1, seconds=10)
            expect(has_route(w, "10.30.0.0/16", "via 10.20.0.1", "dev eth1"), routes_of(w))
            expect(helpers(w)[0] == supervisor and helpers(w)[1] not in (helper, None), helpers(w), helper)
            expect("was ended by signal 9" in node.last_words(200), node.last_words(200))
        with s.step("its supervisor killed, it goes on"):
            _, helper = helpers(w)
            os.kill(supervisor, signal.SIGKILL)
            wait_for("the supervisor's end", lambda: helpers(w)[0] is None, 5)
            put(w, document([route("10.31.0.0/16")], version=1))
            wait_applied(w, 2, seconds=10)
            expect(has_route(w, "10.31.0.0/16") and not has_route(w, "10.30.0.0/16"), routes_of(w))
            expect(helpers(w) == (None, helper), helpers(w))
        with s.step("both killed: the failure says what brings them back, and nothing hangs"):
            os.kill(helper, signal.SIGKILL)
            put(w, document([route("10.32.0.0/16")], version=2))
            expect("starts again with the daemon" in wait_applied(w, 3, "failed")["error"], applied(w))
            expect(has_route(w, "10.31.0.0/16") and node.is_connected(), routes_of(w))
        with s.step("that does"):
            expect(node.stop() == 0, node.last_words())
            node.come_up()
            wait_applied(w, 3)
            expect(has_route(w, "10.32.0.0/16") and not has_route(w, "10.31.0.0/16"), routes_of(w))
            both = helpers(w)
            expect(all(both), both)
            node.stop()
            wait_for("both have ended with it", lambda: helpers(w) == (None, None), 5)


def failures(node):
    return [event for event in node.events() if event["name"] == "Configuration Update Failure"]


def taken_back(s):
    with World(s, "back") as w:
        node = w.node
        node.enrol()
        node.come_up()
        with s.step("without the guard a route captures the control plane: it is lost", needed=True):
            put(w, document([route("198.51.100.0/24"), route("203.0.113.0/24")], guard=False))
            wait_for("in force", lambda: node.status()["configuration"]["in_force"] == 1, 20, pause=0.1)
            began = time.monotonic()
            expect("dev eth1" in w.run("node", "ip", "route", "get", "198.51.100.21").out, routes_of(w))
            wait_for("the channel is lost", lambda: not node.is_connected(), 60)
        with s.step("after 60 s it is taken back, and the node is connected again"):
            wait_for("the routes are gone", lambda: not has_route(w, "198.51.100.0/24"), 30)
            took = time.monotonic() - began
            s.tally.note(f"taken back after {took:.0f} s")
            expect(55 <= took <= 66, f"after {took:.0f} s")
            wait_for("connected", node.is_connected, 15)
        with s.step("that is said, with the reason, on both sides"):
            got = wait_applied(w, 1, "taken-back", 15)
            expect("60 s" in got["error"], got)
            node.run("status").says("taken-back")
            wait_for("the event", lambda: [e for e in node.events() if "taken back" in e["message"]], 15)
            expect(node.status()["configuration"]["in_force"] == 0, node.status()["configuration"])
        with s.step("the same one is not tried again, a better one is"):
            node.stop()
            node.come_up()
            time.sleep(3)
            expect(not has_route(w, "198.51.100.0/24"), routes_of(w))
            put(w, document([route("198.51.100.0/24"), route("203.0.113.0/24")]))
            wait_applied(w, 2)
            expect(has_route(w, "198.51.100.0/24") and node.is_connected(), routes_of(w))


def captured(s):
    with World(s, "cap") as w:
        node = w.node
        node.enrol()
        node.monitor_every(5)
        node.come_up()
        follower, out = None, w.folder / "followed"
        with s.step("without the guard a configured LAN route captures a DNS server: an event with route.captured"):
            follower = w.start("inet", *w.plane_words("event", "list", "--follow"), log=out)
            wait_for("it follows", out.read_text)
            put(w, document([route("198.51.100.48/28")], guard=False))
            warnings = wait_applied(w, 1)["warnings"]
            expect([t for t in warnings if "198.51.100.53" in t and "the guard is off" in t], warnings)
            event = wait_for("the event", lambda: next((e for e in node.events("--severity", "WARNING")), None), 60)
            cause = event["diagnosis"]["causes"][0]
            expect(event["name"] == "DNS Resolution" and "198.51.100.53" in event["message"], event)
            expect((cause["code"], cause["interface"], cause["route"]) ==
                   ("route.captured", "eth1", "198.51.100.48/28 via 10.20.0.1"), cause)
            expect(node.is_connected(), "the rest works")
        with s.step("event list --follow shows it as it comes, with why"):
            wait_for("it is shown", lambda: event["message"] in out.read_text() and "10.20.0.1" in out.read_text(), 5)
            follower.send_signal(signal.SIGINT)
            expect(follower.wait(5) in (-signal.SIGINT, 130), "its exit status", follower.returncode)


SCENARIOS = [guarded, taken_back, failing, captured, helper_killed]
