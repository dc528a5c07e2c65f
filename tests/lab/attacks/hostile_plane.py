"""A control plane that sends a node what it should not: by the plane's own socket at the broker, as if it were the plane."""

import json
import time

from plane_site import children, compare, program_of, wait_for

from . import mqtt
from .broker import bad_payloads


def request(number, tool="tcp", arguments=("repo.grid.example", "443"), **more):
    return json.dumps({"schema": 1, "id": f"r-{number}", "tool": tool, "arguments": list(arguments), "timeout_s": 20, "by": "m", **more})


def bad_requests():
    yield from bad_payloads("e-x").values()
    yield from (request(1, timeout_s=value) for value in (-1, 0, 1e300, "x", None))
    yield from (request(1, arguments=value) for value in (["x"] * 100, ["x" * 5000], ["a\0b"], [1], [["a"]]))
    yield from (json.dumps({"schema": 1, "id": value, "tool": "diag", "arguments": []}) for value in ("", "../x", "A B", "x" * 300, 7))


def forbidden_tools():
    for tool in ("sh", "../gridnode", "/bin/sh", "run", "register", "renew", "config", "diag; id", "help", "explain"):
        yield tool, ["--help"]
    for arguments in (["--config", "/etc/shadow"], ["--root", "/"], ["--replay", "/etc/shadow"], ["--save-page", "/tmp/x"],
                      ["-"], ["--output", "/etc/x"], ["$(id)"], ["`id`"], ["--", "--config=/etc/shadow"], ["x" * 1000] * 60):
        yield "diag", arguments
        yield "tcp", arguments


def hostile_plane(scenario):
    site = scenario.site
    node = site.new_node("victim")
    node.start()
    wait_for("the node is connected", lambda: site.is_connected(node), 20)
    plane = mqtt.Client.over_unix(site.plane_root / "run/gridplane/broker.sock", "mallory")
    plane.subscribe(f"node/{node.id}/out/+")
    before = len(node.words().splitlines())
    bad = list(bad_requests())
    for payload in bad:
        plane.publish(f"node/{node.id}/request", payload)
    time.sleep(1)
    lines = [line for line in node.words().splitlines()[before:] if "refused" in line]
    scenario.check(f"{len(bad)} bad requests: refused, and that is told once a minute", "" if 1 <= len(lines) <= 2 else lines[:3] + [len(lines)])
    before = len(node.words().splitlines())
    for payload in (*bad, *(json.dumps({"schema": 1, "version": v}) for v in (0, -1, 2**63, "7", 1.5))):
        plane.publish(f"node/{node.id}/config", payload, retain=True)
    time.sleep(1)
    lines = node.words().splitlines()[before:]
    scenario.check("bad notices of a configuration: told once", lines if len(lines) > 1 else "")
    before = len(node.words().splitlines())
    for payload in (*bad, *(json.dumps({"schema": 1, "epoch": node.epoch(), "stored": s, "refused": s}) for s in
                            ([0], [-1], [2**63], ["1"], list(range(1000)), [[1]], {"1": 1}))):
        plane.publish(f"node/{node.id}/ack", payload)
    time.sleep(0.5)
    scenario.check("bad acknowledgements: nothing is told, or once", node.words().splitlines()[before:][1:])
    unknown_versions(scenario, node, plane)
    tools(scenario, node, plane)
    scenario.check("the daemon lives, and is connected", "" if node.process.poll() is None and site.is_connected(node) else node.words()[-800:])
    for payload in (b"x" * 500_000, b"[" * 500_000):
        for kind in ("request", "config", "ack"):
            plane.publish(f"node/{node.id}/{kind}", payload)
    time.sleep(1)
    scenario.check("half a megabyte of it does not end the connection", "" if site.is_connected(node) else node.words()[-800:])
    wait_for("the node has told everything", lambda: node.waiting() == 0, 40)
    wrong, count = compare(site, node)
    scenario.check(f"the {count} events of the node are at the plane, once, in order", wrong)
    scenario.check("the daemon ends when it is asked to", node.stop())


def unknown_versions(scenario, node, plane):
    """There is no such version: the node asks, and does not ask for ever."""
    site, log = scenario.site, scenario.site.plane_root / "var/lib/gridplane/log/access.log"
    for version in range(900, 1000):
        plane.publish(f"node/{node.id}/config", json.dumps({"schema": 1, "version": version}))
    time.sleep(4)
    asked = sum("/api/v1/node/config" in line for line in log.read_text().splitlines())
    scenario.check(f"a hundred notices of versions that are not there: it asked {asked} times", asked > 10)


def tools(scenario, node, plane):
    """Only the tools of the table, with arguments that are data; two at once."""
    number, most = 1000, 0
    plane.messages.clear()
    wanted = list(forbidden_tools())
    for tool, arguments in wanted:
        number += 1
        plane.publish(f"node/{node.id}/request", request(number, tool, arguments))
    plane.listen(6, lambda: len(ends(plane)) >= len(wanted))
    answers = ends(plane)
    scenario.check("no other tool is run, and no file is named to one", {
        name: end for name, end in answers.items() if end["reason"] == "exited" and end["status"] == 0})
    scenario.check("each is answered", len(wanted) - len(answers))
    plane.messages.clear()
    for number in range(2000, 2100):
        plane.publish(f"node/{node.id}/request", request(number, "trace", ["192.0.2.77", "443"]))
        most = max(most, running(node))
    plane.listen(3)
    most = max(most, running(node))
    refused = [end for end in ends(plane).values() if end["reason"] == "refused"]
    scenario.check(f"of a hundred at once {most} run, and {len(refused)} are refused", most > 2 or len(refused) < 95)
    for number in range(2000, 2100):
        plane.publish(f"node/{node.id}/request", json.dumps({"schema": 1, "id": f"r-{number}", "cancel": True}))
    wait_for("the tools have ended", lambda: running(node) == 0, 20)


def ends(plane):
    """How each request ended, by its topic."""
    found = {}
    for topic, payload in plane.messages:
        end = json.loads(payload).get("end")
        if end:
            found[topic.rsplit("/", 1)[1]] = end
    return found


def running(node):
    return sum(program_of(pid) == "gridnode" and b"trace" in open(f"/proc/{pid}/cmdline", "rb").read()
               for pid in children(node.process.pid) if program_of(pid))


SCENARIOS = {"hostile-plane": hostile_plane}
