"""Remote tools, nodes that are removed, and many nodes that report the same."""

import datetime
import json
import time

from .world import World, expect, wait_for


def remote_tools(s):
    with World(s, "tool") as w:
        node = w.node
        node.enrol()
        node.come_up()
        called(s, w)
        strict(s, w)
        with s.step("what is silent for long ends by its timeout, which is said"):
            w.lab("fault", "drop-443")
            began = time.monotonic()
            tool(w, "--timeout", "2", "branch-12", "trace", "repo.grid.example", "443", accept=(1,)).says("its time was over")
            expect(1.9 <= time.monotonic() - began < 6, time.monotonic() - began)
        with s.step("streams end when somebody's rights change, and the tool's output goes on"):
            secret = w.folder / "password"
            secret.write_text("correct horse battery staple\n")
            w.plane("user", "add", "vera", "--role", "viewer", "--password-file", secret)
            child = w.start("inet", *w.plane_words("node", "tool", "--timeout", "4", "branch-12", "trace", "repo.grid.example", "443"))
            wait_for("it runs there", lambda: node.status()["tools_running"] == 1, 5, pause=0.05)
            w.plane("user", "remove", "vera")
            out, err = child.communicate(timeout=20)
            expect(child.returncode == 1 and "its time was over" in err, child.returncode, out, err)
        with s.step("an interrupt of `gridplane node tool` ends the tool at the node"):
            child = start_tool(w, "trace", "repo.grid.example", "443")
            wait_for("it runs there", lambda: node.status()["tools_running"] == 1, 5, pause=0.05)
            child.send_signal(2)
            expect(child.wait(10) == 130, "its exit status", child.stderr.read())
            wait_for("it runs no more", lambda: node.status()["tools_running"] == 0, 3)
        with s.step("two run at once, the third is refused and told why"):
            two = [start_tool(w, "trace", "repo.grid.example", "443") for _ in range(2)]
            wait_for("both run", lambda: node.status()["tools_running"] == 2, 5, pause=0.05)
            tool(w, "branch-12", "route", "198.51.100.20", accept=(1,)).says("2 tools run on node 'branch-12' already")
            for child in two:
                child.send_signal(2)
                child.wait(10)
            w.lab("reset")
        streamed(s, w)
        with s.step("who asked for what is in the audit log"):
            found = [e for e in w.plane("audit", "list", "--json").json["items"] if e["action"] == "request.start"]
            expect({e["actor"] for e in found} == {"local:root", "token:program"}, {e["actor"] for e in found})
            expect(all(e["object"] == node.id for e in found), "the node")
            expect([e for e in found if e["detail"]["tool"] == "tcp" and e["detail"]["arguments"] == ["$(touch /tmp/gk)", "443"]],
                   "what was asked for")
            w.plane("audit", "list").says("request.start", '"tool":"route"')
        removed(s, w, node)


def tool(w, *words, **options):
    return w.plane("node", "tool", *words, **options)


def start_tool(w, *words):
    return w.start("inet", *w.plane_words("node", "tool", "branch-12", *words))


def called(s, w):
    with s.step("each tool runs at the node, with the arguments that it has by hand and its exit status"):
        tool(w, "branch-12", "tcp", "repo.grid.example", "443").says("443 port [tcp/https] succeeded!")
        tool(w, "branch-12", "dns", "repo.grid.example", "@198.51.100.53").says("198.51.100.20")
        tool(w, "branch-12", "tls", "repo.grid.example:443").says("repo.grid.example")
        tool(w, "branch-12", "route", "198.51.100.20").says("192.0.2.1", "eth0")
        tool(w, "branch-12", "trace", "198.51.100.20", "443").says("192.0.2.1", "10.255.1.2")
        tool(w, "branch-12", "--", "diag", "--quiet")
        tool(w, "branch-12", "tcp", "198.51.100.20", "81", accept=(1,)).says("refused")
        expect(json.loads(tool(w, "branch-12", "--", "diag", "--json").out)["verdict"] == "healthy", "the verdict")
    with s.step("its output comes line by line, numbered, over HTTPS"):
        token = w.plane("token", "add", "program", "--role", "operator").out.strip()
        headers = [f"Authorization: Bearer {token}"]
        request = w.http("POST", "/api/v1/nodes/branch-12/requests", {"tool": "tcp", "arguments": ["repo.grid.example", "443"]},
                         headers).is_status(202).json["id"]
        stream = w.http("GET", f"/api/v1/requests/{request}/stream", headers=headers).is_status(200)
        lines = [json.loads(line[6:]) for line in stream.body.splitlines() if line.startswith("data: ")]
        expect(stream.body.count("event: line") == len(lines) - 1 >= 4, stream.body)
        expect(lines[-1]["end"] == "exited" and lines[-1]["status"] == 0, lines[-1])
        expect([line["text"] for line in lines[:-1]][-1].endswith("succeeded!"), lines)
        numbers = [line[4:] for line in stream.body.splitlines() if line.startswith("id: ")]
        expect(numbers[:len(lines) - 1] == [str(n) for n in range(len(lines) - 1)], numbers)
        later = w.http("GET", f"/api/v1/requests/{request}?first=2", headers=headers).is_status(200).json
        expect([line["text"] for line in later["lines"]] == [line["text"] for line in lines[2:-1]], later)


def timed(w, *words):
    """(seconds, line) of what the tool writes, by when the plane's program has written it."""
    child = start_tool(w, *words)
    lines = [(time.monotonic(), line.rstrip("\n")) for line in child.stdout]
    child.wait(10)
    return lines


def expect_streamed(lines, *order):
    """The lines that begin so come in this order, the last of them clearly after the first: it waits for silence, a second."""
    found = [next((when for when, line in lines if line.lstrip().startswith(word)), None) for word in order]
    expect(None not in found, "a line is missing", order, *lines)
    expect(found == sorted(found) and found[-1] - found[0] > 0.4, "they came together", order, *lines)


def streamed(s, w):
    with s.step("each line comes to the plane when it is known at the node, before what waits for silence"):
        w.lab("fault", "drop-range")
        near, far = "198.51.100.20:443", "203.0.113.200:443"
        expect_streamed(timed(w, "tcp", "repo.grid.example", "443"), "Lookups:", f"{near}  ok", f"{far}  no answer",
                        "Connection to repo.grid.example")
        expect_streamed(timed(w, "tls", "repo.grid.example"), f"{near}  connected", f"{near}  ok", "chain:", f"{far}  no answer")
        w.lab("fault", "drop-443-far")
        expect_streamed(timed(w, "trace", "198.51.100.20", "443"), "198.51.100.20:443", "1 ", "2 ", "3   *", "Nothing answers beyond")
        w.lab("fault", "dns1-dead")
        expect_streamed(timed(w, "dns", "repo.grid.example"), "203.0.113.53   udp  A ", "198.51.100.53  udp  A     no answer")
        w.lab("reset")


def strict(s, w):
    with s.step("arguments are data: nothing of them reaches a shell or a file of the node"):
        for argument in ("$(touch /tmp/gk)", "`touch /tmp/gk`", "; touch /tmp/gk", "a|touch /tmp/gk", "a\ntouch /tmp/gk", "'\"\\", "é"):
            tool(w, "branch-12", "tcp", argument, "443", accept=(64,)).says("neither an address nor a host name")
        expect(not w.folder.joinpath("/tmp/gk").exists(), "somebody ran it")
        for words in (["diag", "--config", "/etc/passwd"], ["diag", "--replay=/etc/passwd"], ["diag", "--capture", "/tmp/gk"],
                      ["tls", "-r", "/etc/passwd", "repo.grid.example"], ["diag", "--profile", "../../etc/passwd"],
                      ["diag", "--root", "/"]):
            refused = tool(w, "branch-12", "--", *words, accept=(64,))
            expect("root:" not in refused.out + refused.err, refused)
    with s.step("what is no tool, no node or wrong is refused with a sentence"):
        for name in ("ls", "run", "register", "renew", "probe", "../tcp", ""):
            tool(w, "branch-12", name, accept=(64,)).says("tool")
        tool(w, "nobody", "diag", accept=(1,)).says("there is no node 'nobody'")
        tool(w, "branch-12", accept=(64,)).says("TOOL")
        tool(w, "branch-12", "tcp", "--", "repo.grid.example", accept=(64,)).says("HOST PORT needed")
        tool(w, "--timeout", "0", "branch-12", "diag", accept=(64,)).says("timeout")
        tool(w, "--timeout", "601", "branch-12", "diag", accept=(64,)).says("600")


def removed(s, w, node):
    with s.step("a node that is removed is cut off at once"):
        w.plane("node", "remove", "branch-12")
        wait_for("it is not connected", lambda: not node.is_connected(), 5)
    with s.step("and for good: no channel, no configuration, no renewal, no token"):
        time.sleep(4)
        expect(not node.is_connected(), node.status()["control"])
        node.run("config", accept=(1, 69, 77))
        node.run("renew", accept=(1, 77)).says("removed")
        node.register(w.folder / "token-branch-12", "--root-ca", w.root_ca, "--again", accept=(1,))
        tool(w, "branch-12", "diag", accept=(1,)).says("there is no node")
        w.plane("node", "remove", "branch-12", accept=(1,)).says("there is no node")
        expect(w.plane("node", "list", "--json").json["items"] == [], "the list")
    with s.step("its events stay, and its name is free"):
        expect([e for e in w.plane("event", "list", "--json").json["items"] if e["node"] == node.id], "its events")
        w.plane("node", "create", "branch-12")


# ---- incidents ----

def incident(s):
    with World(s, "many") as w:
        nodes = [w.another(f"branch-{number}") for number in range(1, 7)]
        for index, node in enumerate(nodes):
            node.enrol(site=("leeds", "york")[index % 2])
            node.monitor_every(5)
            node.start()
        with s.step("six nodes of two sites are connected", needed=True):
            wait_for("all of them", lambda: sum(n["connected"] for n in listed(w)) == 6, 60)
            wait_for("all ways", lambda: all(node.all_ways_open() for node in nodes), 60)
        with s.step("many nodes that lose the same at the same time are one incident"):
            w.lab("fault", "drop-443-far")
            found = wait_for("the incident", lambda: [i for i in incidents(w) if i["nodes"] == 6], 90)
            expect(all(i["cause"] == "tcp.dropped" for i in found) and len(found) <= 2, found)
            expect(found[0]["sites"] == 2, found)
            s.tally.note(f"incident: {found[0]['summary']}")
            expect("2 sites" in found[0]["summary"] and ":443" in found[0]["summary"], found)
            w.plane("incident", "list").says(found[0]["summary"])
            w.plane("incident", "list", "--open").says(found[0]["summary"])
        with s.step("nodes are found by their cause, and each has its own event besides"):
            wait_for("all six", lambda: len(w.plane("node", "list", "--cause", "tcp.dropped", "--json").json["items"]) == 6, 60)
            expect(w.plane("node", "list", "--cause", "tcp.reset", "--json").json["items"] == [], "another cause")
            told = {e["node"] for e in w.plane("event", "list", "--cause", "tcp.dropped", "--json").json["items"]}
            expect(len(told) == 6, told)
        with s.step("it ends when they are back"):
            w.lab("reset")
            wait_for("its end", lambda: all(i["until"] for i in incidents(w)), 60)
            w.plane("incident", "list", "--open").says("No incidents")
        with s.step("nodes that are cut off together, and tell of it when it is over, make one as well, with the times of the nodes"):
            known = {i["id"] for i in incidents(w)}
            for node in nodes:
                wait_for("nothing waits", lambda node=node: node.status()["waiting_records"] == 0, 20)
            w.lab("fault", "drop-all-far")
            began = time.time()
            wait_for("all have found it out", lambda: all(node.status()["waiting_records"] >= 2 for node in nodes), 120)
            expect({i["id"] for i in incidents(w)} == known, "nobody can have told of it")
            w.lab("reset")
            opened = time.time()
            wait_for("all are back", lambda: sum(n["connected"] for n in listed(w)) == 6, 90)
            wait_for("all have told", lambda: all(node.status()["waiting_records"] == 0 and node.all_ways_open() for node in nodes), 90)
            late = [i for i in incidents(w) if i["id"] not in known]
            s.tally.note("told when it was over: " + "; ".join(i["summary"] for i in late))
            expect(late and all(i["nodes"] == 6 and i["sites"] == 2 and i["until"] for i in late), late)
            expect(len({(i["cause"], i["target"]) for i in late}) == len(late), "one each", late)
            expect(all(began - 5 < unix_time(i["since"]) < opened for i in late), began, opened, late)


def unix_time(text):
    return datetime.datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def listed(w):
    return w.plane("node", "list", "--json").json["items"]


def incidents(w):
    return w.plane("incident", "list", "--json").json["items"]


SCENARIOS = [incident, remote_tools]
