"""The monitor: what makes an event, what makes none, and what it costs."""

import json
import re
import time

from .world import World, expect, wait_for

INTERVAL_S = 5  # a minute in a product


def with_daemon(w, monitor_every=INTERVAL_S):
    w.node.enrol()
    if monitor_every:
        w.node.monitor_every(monitor_every)
    w.node.come_up()
    return w.node


def failures(node, name=None):
    return [e for e in node.events("--severity", "WARNING") if name in (None, e["name"])]


def codes(event):
    return {cause["code"] for cause in (event["diagnosis"] or {"causes": []})["causes"]}


def fails_and_recovers(s, w, node, fault, name, cause, message, seconds=40):
    """A fault makes one event with its cause, and its end one more."""
    before = len(node.events())

    def fresh():
        return node.events()[before:]

    with s.step(f"{fault}: one event, {name}, with {cause} proven"):
        w.lab("fault", fault)
        event = wait_for("the event", lambda: next((e for e in fresh() if e["severity"] != "INFO"), None), seconds)
        expect(event["name"] == name, event)
        expect(event["message"] == message and cause in codes(event), event)
        expect(event["severity"] == ("ERROR" if "failed" in message and " at " not in message else "WARNING"), event)
        expect(event["report"], "it names its report", event)
        report = w.plane("report", "show", event["report"]).json
        expect(report["measurements"] and cause in {c["code"] for c in report["causes"]}, "the report has the proof")
        node.run("status").says(event["diagnosis"]["summary"])
    with s.step(f"{fault} ends: re-established, and nothing else was told"):
        w.lab("reset")
        wait_for("the end", lambda: [e for e in fresh() if e["name"] == name and e["severity"] == "INFO"
                                     and "re-established" in e["message"]], seconds)
        told = [(e["name"], e["severity"]) for e in fresh()]
        expect(len(told) == 2, told)


def blocked(s):
    with World(s, "block") as w:
        node = with_daemon(w)
        with s.step("one lost packet, and one lost probe, make no event"):
            w.nft("fw", "add table inet lab; add chain inet lab once { type filter hook forward priority 0; }; "
                        "add rule inet lab once tcp dport 443 tcp flags syn / syn,ack limit rate over 1/hour burst 1 packets accept; "
                        "add rule inet lab once tcp dport 443 tcp flags syn / syn,ack drop;")
            time.sleep(INTERVAL_S * 2)
            w.run("fw", "nft", "flush", "ruleset")
            w.lab("fault", "drop-443")
            wait_for("one probe failed", lambda: node.service("repo")["state"] == "suspect", 30, pause=0.05)
            w.lab("reset")
            wait_for("the next one is good", lambda: node.service("repo")["state"] == "ok", 15)
            expect(failures(node) == [], failures(node))
        fails_and_recovers(s, w, node, "drop-443", "Repo Connectivity", "tcp.dropped", "Repo connectivity failed")
        fails_and_recovers(s, w, node, "mitm", "Repo Connectivity", "tls.intercepted", "Repo connectivity failed", 60)
        follow(s, w, node)


def follow(s, w, node):
    with s.step("events are listed on the node too, the oldest first, and as JSON one a line"):
        lines = node.run("events", "--json").out.splitlines()
        expect(len(lines) >= 4 and '"name":' in lines[0], lines)
        text = node.run("events").out
        expect(text.index("Repo connectivity failed") < text.index("Repo connectivity re-established"), text)
    with s.step("events --follow shows the next as it comes, and ends with an interrupt"):
        out = w.folder / "followed"
        child = w.start("node", w.gridnode, "events", "--follow", "--count", "1", "--root", node.root, log=out)
        wait_for("the last one", out.read_text)
        before = len(out.read_text().splitlines())
        w.lab("fault", "reset-443")
        wait_for("the next one", lambda: len(out.read_text().splitlines()) > before and "Repo connectivity failed"
                 in out.read_text().splitlines()[before], 40)
        child.send_signal(2)
        expect(child.wait(5) == 130, "its exit status")
    with s.step("diag through the daemon says what diag by hand says"):
        asked = node.run("diag", "--json", accept=(1,)).json
        by_hand = node.run("diag", "--json", "--config", node.state / "site.conf", accept=(1,)).json
        expect({c["code"] for c in asked["causes"]} == {c["code"] for c in by_hand["causes"]} == {"tcp.reset"}, asked["causes"],
               by_hand["causes"])
        node.run("diag", accept=(1,)).says("192.0.2.1")
        w.lab("reset")


def names(s):
    with World(s, "names") as w:
        node = with_daemon(w)
        fails_and_recovers(s, w, node, "dns-dead", "DNS Resolution", "dns.unreachable", "DNS resolution failed", 120)
        fails_and_recovers(s, w, node, "nxdomain", "DNS Resolution", "dns.no_such_name", "DNS resolution failed", 120)


def control_lost(s):
    with World(s, "ctl") as w:
        node = with_daemon(w)
        with s.step("8443 is dropped: the node keeps what it finds, and the plane sees that it is gone", needed=True):
            w.lab("fault", "drop-8443")
            wait_for("the node's event", lambda: [e for e in local(node) if e["name"] == "Node Disconnect"], 75)
            wait_for("the plane's event", lambda: not connected(w), 45)
            told = [e for e in node.events() if e["name"] == "Node Disconnect"]
            expect(len(told) == 1 and not told[0]["diagnosis"], told)
            node.run("status").says("Disconnected", "tcp.dropped", "wait to be sent")
        with s.step("8443 is open again: what was kept arrives, with its cause"):
            w.lab("reset")
            event = wait_for("the node's own event at the plane", lambda: next((
                e for e in node.events() if e["name"] == "Node Disconnect" and e["diagnosis"]), None), 45)
            expect(codes(event) == {"tcp.dropped"} and event["service"] == "control", event)
            wait_for("nothing waits", lambda: node.status()["waiting_records"] == 0, 10)
        with s.step("and that it is re-established"):
            wait_for("the end", lambda: [e for e in node.events() if e["message"] == "Control plane connectivity re-established"], 40)


def local(node):
    return [json.loads(line) for line in node.run("events", "--json").out.splitlines()]


def connected(w):
    return w.plane("node", "show", "branch-12", "--json").json["connected"]


def flapping(s):
    with World(s, "flap") as w:
        node = with_daemon(w)
        with s.step("a way that flaps makes one flapping event, and no other"):
            for _ in range(7):
                w.lab("fault", "reset-443")
                wait_for("a probe failed", lambda: node.service("repo")["state"] != "ok", 20, pause=0.05)
                w.lab("reset")
                wait_for("a probe was good", lambda: node.service("repo")["state"] == "ok", 20, pause=0.05)
            wait_for("the event", lambda: failures(node, "Connection Flapping"), 10)
            told = [e for e in node.events() if e["service"] == "repo"]
            expect([e["name"] for e in told] == ["Connection Flapping"], told)
            expect(node.service("repo")["flapping"], node.service("repo"))
            node.run("status").says("flapping")


# ---- what it costs, and whom it speaks to ----

OBSERVED_S = 90
ALLOWED = "{ 198.51.100.16/28, 203.0.113.192/28, 198.51.100.53, 203.0.113.53 }"


def traffic(s):
    with World(s, "cost") as w:
        w.nft("node", "add table inet cost; add counter inet cost sent; add counter inet cost received; add counter inet cost stray; "
                      "add chain inet cost out { type filter hook output priority 0; }; "
                      "add chain inet cost in { type filter hook input priority 0; }; "
                      "add rule inet cost out oifname \"lo\" accept; add rule inet cost in iifname \"lo\" accept; "
                      f"add rule inet cost out ip daddr {ALLOWED} counter name \"sent\" accept; "
                      f"add rule inet cost in ip saddr {ALLOWED} counter name \"received\" accept; "
                      "add rule inet cost out counter name \"stray\";")
        node = with_daemon(w, None)
        with s.step(f"idle, probing costs less than 1 kB/s (observed for {OBSERVED_S} s with the default interval)"):
            before, began = counters(w), time.monotonic()
            time.sleep(OBSERVED_S)
            after, took = counters(w), time.monotonic() - began
            rate = sum(after[n]["bytes"] - before[n]["bytes"] for n in ("sent", "received")) / took
            s.tally.note(f"idle: {rate:.0f} bytes/s of IP, control channel included")
            expect(rate < 1000, f"{rate:.0f} bytes/s")
            expect(after["sent"]["packets"] > before["sent"]["packets"], "something was sent at all")
        with s.step("while idle nothing was sent to anybody outside profile and DNS servers"):
            expect(counters(w)["stray"]["packets"] == 0, counters(w))
        with s.step("while a way is blocked and diagnosed neither"):
            w.lab("fault", "drop-443")
            node.run("diag", accept=(1,)).says("dropped")
            expect(counters(w)["stray"]["packets"] == 0, counters(w))


def counters(w):
    text = w.run("node", "nft", "list", "counters").out
    return {name: {"packets": int(packets), "bytes": int(size)} for name, packets, size in
            re.findall(r"counter (\w+) \{\s+packets (\d+) bytes (\d+)", text)}


SCENARIOS = [traffic, control_lost, blocked, names, flapping]
