"""Updates as the daemon and its commands see them: with the real helper, judge and updater of root's side. What these
install on a whole machine is another test's matter: here the node is a folder, and nothing of this host changes."""

import csv
import datetime
import io
import json
import mmap
import os
import pathlib
import signal
import struct
import subprocess

from .world import World, expect, wait_for

NAME = "Software Update"


def at_noon(w):
    """The time zone in which it is about noon, and in which the node lives: far from the window that it has by itself, before
    which it downloads ahead."""
    hours = datetime.datetime.now(datetime.timezone.utc).hour - 12
    w.environment = dict(w.environment, TZ=f"LAB{hours:+d}")
    return datetime.timezone(datetime.timedelta(hours=-hours))


def await_key(w):
    """The control plane makes the repository's key after its first start; who registers before has none."""
    folder = w.plane_root / "var/lib/gridplane/apt"
    wait_for("the repository's key", lambda: list(folder.glob("*/current/keyring.gpg")), 30)


def updates(s):
    with World(s, "upd") as w:
        at_noon(w)
        node = w.node
        await_key(w)
        node.enrol()
        node.monitor_every(5)
        node.come_up()
        folder = node.root / "var/lib/gridnode-update"
        before(s, w, node)
        whose_packages(s, w, node, folder)
        limits(s, w, node)
        w.lab("fault", "drop-443")
        wait_for("443 is known to be blocked", lambda: node.service("repo")["state"] == "failed", 60)
        asked(s, w, node, folder)
        told_once(s, w, node, folder)
        from_the_plane(s, w, node, folder)
        alone(s, w, node, folder)


def state(folder):
    return json.loads((folder / "state.json").read_text())


def local_events(node):
    lines = node.run("events", "--json", "--count", "1000").out.splitlines()
    return [event for event in map(json.loads, lines) if event["name"] == NAME][getattr(node, "mark", 0):]


def before(s, w, node):
    with s.step("before the first: status says so, when the next one is, and that the daemon is fit", needed=True):
        status = wait_for("the self-test", lambda: (t := node.status())["self_test"]["ok"] and t, 15)
        expect(status["update"] is None and status["self_test"]["error"] is None, status)
        expect(status["update_schedule"]["windows"] == ["daily 02:00-04:00"], status["update_schedule"])
        expect(status["update_schedule"]["manual"], "below a root of its own a node leaves this machine's packages alone")
        node.run("status").says("Software Update:", "none was made here yet", "Next update:")
        node.run("update").says("No update was made here yet")
        expect(node.run("update", "--json").json is None, "as JSON")
        node.run("update", "--cancel").says("No update is under way")
        node.run("update", "--history").says("No update was made here")
    with s.step("wrong options are refused, each with its reason"):
        node.run("update", "--check", "--now", accept=(64,)).says("at a time")
        node.run("update", "--csv", accept=(64,)).says("--history")
        node.run("update", "--again", accept=(64,)).says("--now")
        node.run("update", "--check", "--channel", "../stable", accept=(64,)).says("a-z")
        node.run("update", "now", accept=(64,))


def packages_of_host():
    words = ["dpkg-query", "-W", "-f", "${Package} ${Version} ${Status}\n"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


def whose_packages(s, w, node, folder):
    """The packages below --root are those of this host: looked at, and left alone."""
    here = packages_of_host()
    for option in ("--check", "--dry-run", "--download"):
        with s.step(f"the control plane sees {option} to its end"):
            w.plane("node", "update", "branch-12", option).says("those of this machine", "not installed as a package", "Completed at")
            expect(state(folder)["status"] == "Completed", state(folder))
    with s.step("an update that would install is refused where the packages are this host's, and says so everywhere"):
        node.run("update", "--now", "--by", "local:early", accept=(1,)).says("would change this machine", str(node.root))
        w.plane("node", "update", "branch-12", "--now", accept=(1,)).says("would change this machine")
        told = wait_for("told", lambda: (t := [m for m in messages(node) if "would change this machine" in m]) and len(t) == 2 and t, 20)
        expect(all(m.startswith("Software update failed: below --root") for m in told), told)
        expect(not list(folder.glob("kept/*")) and not list(folder.glob("apt/*/archives/*.deb")), "something was fetched or kept")
    with s.step("nothing of this host has changed"):
        expect(packages_of_host() == here, "a package of this host is another one")
    with s.step("without apt's method an update ends at once, and says what is missing"):
        (folder / "bin/apt-method").unlink()
        (folder / "job.json").write_text(json.dumps({"id": "u-without", "action": "check", "channel": "stable", "reboot": False,
                                                     "again": False, "by": "test"}))
        w.run("node", w.build / "src/update/gridnode-judge", "--root", node.root)
        expect(state(folder)["job"]["id"] == "u-without" and state(folder)["status"] == "Failed", state(folder))
        expect("install that on this machine" in state(folder)["error"], state(folder)["error"])
    node.mark = len(messages(node))


def limits(s, w, node):
    run = node.root / "run/gridnode"
    with s.step("what the daemon knows of the ways is there for everybody to read"):
        ways = json.loads((run / "ways.json").read_text())
        expect({way["service"]: way["state"] for way in ways["services"]} == {"repo": "ok", "control": "ok"}, ways)
        expect((run / "ways.json").stat().st_mode & 0o777 == 0o644, "its mode")
    with s.step("a limit and a schedule of the configuration are in force: in the budget and in the effective site file"):
        document = {"schema": 1, "transfer": {"limit": "5Mbit/s", "fallback": "none"},
                    "schedule": {"update": {"windows": ["Sun 02:00-04:00"], "hold_until": "2099-01-01", "channel": "testing"}}}
        w.plane("node", "config", "branch-12", "-", stdin=json.dumps(document))
        wait_for("in force", lambda: node.status()["configuration"]["in_force"] == 1, 20)
        text = (node.state / "site.conf").read_text()
        expect("limit = 5Mbit/s" in text and "fallback = none" in text, text)
        wait_for("the budget", lambda: rate(run / "budget") == 625000, 5)
        schedule = node.status()["update_schedule"]
        expect(schedule["channel"] == "testing" and schedule["next"].startswith(("2099-01-0", "2098-12-31")), schedule)
        node.run("status").says("held until 2099-01-01")
    with s.step("the old form of a schedule is refused before it reaches a node"):
        document = {"schema": 1, "schedule": {"update": {"windows": ["Mon 02:00-03:00"], "days": ["mon"], "start": "02:00", "minutes": 60}}}
        w.plane("node", "config", "branch-12", "-", stdin=json.dumps(document), accept=(1, 64)).says("days")


def rate(path):
    """Of the shared bucket: after its magic number."""
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 16, prot=mmap.PROT_READ) as shared:
        return struct.unpack_from("=Q", shared, 8)[0]


def asked(s, w, node, folder):
    with s.step("an update that cannot go on is followed; an interrupt leaves it running and says so", needed=True):
        child = w.start("node", w.gridnode, "update", "--check", "--json", "--root", node.root)
        wait_for("it waits", lambda: state(folder).get("waiting"), 30)
        child.send_signal(signal.SIGINT)
        out, err = child.communicate(timeout=10)
        expect(child.returncode == 130 and "The update goes on" in err, child.returncode, err)
        lines = [json.loads(line) for line in out.splitlines()]
        expect(lines and all(line["job"]["action"] == "check" for line in lines), out)
        expect(lines[0]["job"]["channel"] == "testing" and lines[0]["job"]["by"].startswith("local:"), lines[0]["job"])
        expect(state(folder)["status"] == "In Progress", "it goes on")
    with s.step("a second one is refused, and told which is under way"):
        node.run("update", "--now", accept=(1,)).says(state(folder)["job"]["id"], "is under way")
    with s.step("status shows where it is, and since when it waits"):
        shown = wait_for("it is shown", lambda: (t := node.run("status")) and "waits since" in t.out and t, 60)
        shown.says("In Progress: connect")
        expect(node.status()["update"]["job"]["action"] == "check", "as JSON")
    with s.step("it is cancelled, which is its end: failed, and in the history"):
        node.run("update", "--cancel").says("without having installed anything")
        wait_for("its end", lambda: state(folder)["status"] == "Failed", 30)
        node.run("update", accept=(1,)).says("cancelled")
        history = node.run("update", "--history", "--json").json
        expect([u["job"]["id"] for u in history][0] == state(folder)["job"]["id"], history)
        rows = list(csv.DictReader(io.StringIO(node.run("update", "--history", "--csv").out)))
        expect(len(rows) == len(history) == 7 and rows[0]["status"] == "Failed" and rows[0]["action"] == "check", rows)
    with s.step("that somebody only looked is no event"):
        expect(local_events(node) == [], local_events(node))


def messages(node):
    return [event["message"] for event in local_events(node)]


def stored(node):
    return node.events("--name", NAME)[node.mark:]


def come_back(node):
    """Its daemon, while 443 is blocked."""
    node.start()
    wait_for("the socket", lambda: (node.root / "run/gridnode/control.sock").exists(), 30)
    wait_for("the node is connected", node.is_connected, 30)


def told_once(s, w, node, folder):
    with s.step("what is asked for in earnest is told: its beginning, that it waits, and its end", needed=True):
        node.run("update", "--now", "--no-wait", "--no-reboot", "--by", "local:anna").says("has begun")
        wait_for("told that it began", lambda: len(messages(node)) == 1, 20)
        expect(messages(node)[0] == "Software update started, asked for by local:anna", messages(node))
        wait_for("told that it waits", lambda: len(messages(node)) == 2, 90)
        event = local_events(node)[1]
        expect("waits since" in event["message"] and event["severity"] == "WARNING", event)
        expect(event["update"]["job"] == dict(state(folder)["job"]) and not event["update"]["job"]["reboot"], event["update"])
    with s.step("a daemon that is killed and comes again tells nothing twice"):
        node.stop(signal.SIGKILL)
        come_back(node)
        expect(len(messages(node)) == 2, messages(node))
    with s.step("an update that ends while no daemon runs is told by the next one, once, with the end of the log"):
        node.stop()
        node.run("update", "--cancel").says("without having installed anything")
        wait_for("its end", lambda: state(folder)["status"] == "Failed", 30)
        come_back(node)
        wait_for("told", lambda: len(messages(node)) == 3, 10)
        event = local_events(node)[2]
        expect(event["severity"] == "ERROR" and "failed" in event["message"], event)
        expect("update" in event and event["update"]["log"].strip(), sorted(event["update"]))
        node.stop()
        come_back(node)
        expect(len(messages(node)) == 3, messages(node))
    with s.step("the control plane has the same three, once each"):
        wait_for("stored", lambda: len(stored(node)) == 3, 20)
        expect([e["message"] for e in stored(node)] == messages(node), stored(node))


def from_the_plane(s, w, node, folder):
    tool = ("node", "tool", "branch-12", "update")
    with s.step("the control plane has it begun, in the name of who asked there"):
        w.plane(*tool, "--", "--now", "--no-wait").says("has begun")
        wait_for("it is under way", lambda: state(folder)["status"] == "In Progress", 10)
        expect(state(folder)["job"]["by"] == "local:root", state(folder)["job"])
        w.plane(*tool, "--", "--cancel").says("without having installed anything")
        wait_for("its end", lambda: state(folder)["status"] == "Failed", 30)
    with s.step("it may not choose whose name that is, nor another root"):
        w.plane(*tool, "--", "--now", "--by=root", accept=(64,)).says("no option --by=root")
        w.plane(*tool, "--", "--now", "--root=/", accept=(64,)).says("names a file")


def alone(s, w, node, folder):
    with s.step("without a daemon root has it begun by itself; anybody else is told to start it"):
        node.stop()
        node.run("update", "--dry-run", "--no-wait").says("has begun")
        wait_for("it is under way", lambda: state(folder)["job"]["action"] == "dry-run", 10)
        node.run("update", "--cancel").says("without having installed anything")
        wait_for("its end", lambda: state(folder)["status"] == "Failed", 30)
        done = w.run("node", "setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups", w.gridnode, "update",
                     "--check", "--root", node.root, accept=(69,))
        done.says("no daemon answers")
    with s.step("nothing of root's side is left running"):
        wait_for("the judge has gone", lambda: not any(is_of(pid, node.root) for pid in pids()), 15)


def pids():
    return [entry for entry in os.listdir("/proc") if entry.isdigit()]


def is_of(pid, root):
    try:
        words = (pathlib.Path("/proc") / pid / "cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(word.endswith((b"gridnode-judge", b"gridnode-update")) for word in words[:1]) and str(root).encode() in words


def window(s):
    """A window that is open for two minutes: what begins in it does not go on after it."""
    with World(s, "win") as w:
        zone = at_noon(w)
        node = w.node
        await_key(w)
        node.enrol()
        node.come_up()
        w.lab("fault", "drop-443")  # else it would be over at once
        folder = node.root / "var/lib/gridnode-update"
        now = datetime.datetime.now(zone).replace(tzinfo=None)
        begun = 1 if now.second < 25 else 0  # minutes ago: so that half a minute of it is left in any case
        first, last = (now + datetime.timedelta(minutes=m - begun) for m in (0, 2))
        with s.step("in its window a node begins by itself", needed=True):
            text = f"daily {first:%H:%M}-{last:%H:%M}"
            w.plane("node", "config", "branch-12", "-",
                    stdin=json.dumps({"schema": 1, "transfer": {"fallback": "none"},
                                      "schedule": {"update": {"windows": [text], "reboot": False}}}))
            wait_for("its schedule", lambda: node.status()["update_schedule"]["windows"] == [text], 20)
            wait_for("its beginning", lambda: state(folder)["job"]["by"] == "schedule", 100)
            expect(state(folder)["job"]["action"] == "now" and not state(folder)["job"]["reboot"], state(folder)["job"])
            expect(datetime.datetime.now(zone).replace(tzinfo=None) < last.replace(second=0), "before the window's end")
        with s.step("a daemon that is started anew does not begin it twice, and ends it with the window"):
            node.stop(signal.SIGKILL)
            come_back(node)
            before_end = state(folder)["job"]["id"]
            wait_for("its end", lambda: state(folder)["status"] == "Failed", 100)
            expect(state(folder)["job"]["id"] == before_end and "cancelled" in state(folder)["error"], state(folder))
            wait_for("the next is another day's", lambda: tomorrow(node, first, zone), 40)
        with s.step("its beginning and its end were told, once each"):
            wait_for("told", lambda: "Software update failed" in messages(node)[-1], 20)
            for what in ("started, asked for by schedule", "Software update failed"):
                expect(sum(what in message for message in messages(node)) == 1, messages(node))


def tomorrow(node, first, zone):
    at = node.status()["update_schedule"]["next"]
    at = datetime.datetime.fromisoformat(at.replace("Z", "+00:00")).astimezone(zone).replace(tzinfo=None)
    return at - first > datetime.timedelta(hours=20)


SCENARIOS = [window, updates]
