"""The control channel: half-dead connections, dead DNS, every address, and at once when a way is back."""

import time

from .world import CONTROL, World, expect, wait_for


def half_dead(s):
    with World(s, "dead") as w:
        node = w.node
        node.enrol()
        with s.step("with DNS dead from the start the addresses that are known do", needed=True):
            w.lab("fault", "dns-dead")
            node.start()
            wait_for("connected", node.is_connected, 15)
            w.lab("reset")
        with s.step("a connection that is half dead is noticed within 45 s"):
            former = node.status()["control"]["address"]
            address, port = former.split(":")
            # Both ways, and without a word: neither end hears of it.
            w.nft("fw", f"add table inet lab; add chain inet lab half {{ type filter hook forward priority 0; }}; "
                        f"add rule inet lab half ip daddr {address} tcp dport {port} drop; "
                        f"add rule inet lab half ip saddr {address} tcp sport {port} drop;")
            began = time.monotonic()
            wait_for("noticed", lambda: node.status()["control"]["address"] != former or not node.is_connected(), 60)
            took = time.monotonic() - began
            s.tally.note(f"half dead: noticed after {took:.0f} s")
            expect(took <= 45.5, f"noticed after {took:.1f} s")
        with s.step("and then the node is connected by another address"):
            wait_for("connected", node.is_connected, 30)
            expect(node.status()["control"]["address"].split(":")[0] == next(a for a in CONTROL if a != address),
                   node.status()["control"])
        with s.step("the plane was told of both, in this order"):
            names = wait_for("Disconnect and Connect", lambda: connects(node) if len(connects(node)) >= 3 else None, 20)
            expect(names == ["Node Connect", "Node Disconnect", "Node Connect"], names)


def comes_and_goes(s):
    with World(s, "come") as w:
        node = w.node
        node.enrol()
        with s.step("a node that comes and goes ten times is flapping", needed=True):
            for turn in range(5):
                node.start()
                wait_for("it is there", lambda: shown(w)["connected"], 20)
                node.stop()
                wait_for("it is not", lambda: not shown(w)["connected"], 20)
            away, names = time.monotonic(), told_by_plane(node)
            expect(names == ["Node Connect", "Node Disconnect"] * 4 + ["Node Connect", "Connection Flapping"], names)
        with s.step("and when it then stays away, that is told once, with the reason it gave"):
            last = wait_for("told", lambda: told_by_plane(node)[10:], 110)
            took = time.monotonic() - away
            s.tally.note(f"told {took:.0f} s after it went for good")
            expect(last == ["Node Disconnect"] and 85 <= took, last, took)
            event = node.events("--name", "Node Disconnect")[-1]
            expect(event["severity"] == "ERROR"
                   and "stayed so after its connection had flapped: gridnode was stopped" in event["message"], event)
        with s.step("it comes back: one Node Connect, as soon as it stays"):
            node.start()
            names = wait_for("told", lambda: told_by_plane(node)[11:], 110)
            expect(names == ["Node Connect"], names)


def told_by_plane(node):
    return [event["name"] for event in node.events() if ".plane." in event["id"]]


def connects(node):
    return [event["name"] for event in node.events() if event["name"] in ("Node Connect", "Node Disconnect")]


def reconnect(s):
    with World(s, "rec") as w:
        node = w.node
        node.enrol()
        text = node.site.read_text()  # the WAN as the machine has it
        node.site.write_text(text.replace("address = 192.0.2.10/24\ngateway = 192.0.2.1\n", "address = none\n", 1))
        with s.step("the node is connected", needed=True):
            node.come_up()
        with s.step("every address of every range is tried, and it never ends"):
            rules = "".join(f"add rule inet lab tried ip daddr {a} tcp dport 8443 tcp flags syn / syn,ack counter name \"{n}\" "
                            "reject with tcp reset; " for n, a in enumerate_names())
            w.nft("fw", "add table inet lab; " + "".join(f"add counter inet lab {n}; " for n, _ in enumerate_names())
                  + "add chain inet lab tried { type filter hook forward priority 0; }; " + rules)
            break_connection(w, node)
            wait_for("both addresses had tries", lambda: all(n >= 2 for n in tries(w)), 30)
        with s.step("the delay between tries grows, with jitter"):
            wait_for("the next try is far away", lambda: node.status()["control"]["next_attempt_s"] > 6, 60)
        with s.step("it connects at once when the link comes back"):
            link_bounces(w, before=lambda: w.run("fw", "nft", "flush", "ruleset"))
            began = time.monotonic()
            wait_for("connected", node.is_connected, 20, pause=0.1)
            took = time.monotonic() - began
            s.tally.note(f"connected {took:.1f} s after the link came back")
            expect(took < 4, f"connected {took:.1f} s after the link came back")
        with s.step("a link that is away for a moment costs no connection"):
            since = node.status()["control"]["since"]
            link_bounces(w)
            time.sleep(2)
            expect(node.is_connected() and node.status()["control"]["since"] == since, node.status()["control"])
        with s.step("when the WAN has another address the connection is made anew from that"):
            for words in (("addr", "flush", "dev", "eth0"), ("addr", "add", "192.0.2.11/24", "dev", "eth0"),
                          ("route", "replace", "default", "via", "192.0.2.1", "dev", "eth0")):
                w.run("node", "ip", *words)
            wait_for("connected anew", lambda: node.status()["control"]["since"] != since and node.is_connected(), 10)
            expect(node.status()["wan"]["address"] == "192.0.2.11", node.status()["wan"])
            wait_for("the plane knows it", lambda: shown(w)["address"] == "192.0.2.11" and shown(w)["connected"], 10)


def shown(w):
    return w.plane("node", "show", "branch-12", "--json").json


def enumerate_names():
    return [(f"try{index}", address) for index, address in enumerate(CONTROL)]


def tries(w):
    text = w.run("fw", "nft", "list", "counters").out.split()
    return [int(text[index + 1]) for index, word in enumerate(text) if word == "packets"]


def break_connection(w, node):
    port = node.status()["control"]["address"].rpartition(":")[2]
    w.run("node", "ss", "-K", "dport", "=", port, accept=None)
    if node.is_connected():  # a kernel without INET_DIAG_DESTROY: the plane's end of it is closed
        w.run("inet", "ss", "-K", "sport", "=", port, accept=None)
    try:
        wait_for("disconnected", lambda: not node.is_connected(), 3)
    except AssertionError:
        w.kill_child("nginx")
        wait_for("disconnected", lambda: not node.is_connected(), 20)


def link_bounces(w, before=lambda: None):
    w.run("node", "ip", "link", "set", "eth0", "down")
    time.sleep(0.3)
    before()
    w.run("node", "ip", "link", "set", "eth0", "up")
    w.run("node", "ip", "route", "replace", "default", "via", "192.0.2.1", "dev", "eth0")


SCENARIOS = [half_dead, comes_and_goes, reconnect]
