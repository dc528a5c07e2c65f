"""The world of a software update: a lab whose node is a Debian under systemd with the node's package installed and registered, a
control plane that publishes packages, and versions of the package that are as good or as bad as a test wants them.

    with update_world.World(build, "hr") as world:
        newer = world.repack(world.deb, "--version", "0.2.0", "--programs")
        world.publish(newer)
        update = world.update()                           # asks the helper, through its socket; the end of it
        job = world.begin(); world.wait_for_step(job, "own"); update = world.wait(job)

A test that kills, blocks or cuts uses `machine_pid`, `programs`, `kill`, `lab("fault", …)`, `power_cut`. Needs root."""

import itertools
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

import debian_root
from plane_site import ROOT, Failed, Site, children, expect, wait_for

UPDATE = "/var/lib/gridnode-update"
JUDGE_MS = 25000  # in the place of 10 minutes


def debs(*words):
    """What tools/debs prints: the paths of packages."""
    done = subprocess.run([ROOT / "tools/debs", *map(str, words)], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.STDOUT, check=False)
    expect(done.returncode == 0, done.stdout)
    return [pathlib.Path(line) for line in done.stdout.split()]


def node_deb(*words):
    return next(path for path in debs(*words) if path.name.startswith("gridnode_"))


def field(deb, name):
    return subprocess.run(["dpkg-deb", "-f", deb, name], text=True, capture_output=True, check=True).stdout.strip()


def leave_to_test(site, name, run):
    """No update of this machine but those of the test: without a word of its configuration a node fetches what is there ahead of its
    next window, which is at some hours of the day and not at others. `run`: a program of the machine's, its output."""
    document = json.loads(site.plane("node", "config", name))
    document.pop("version", None)
    document.setdefault("schedule", {})["update"] = {"manual": True}
    site.plane("node", "config", name, "-", stdin=json.dumps(document))
    wait_for("the configuration is in force", lambda: json.loads(run("gridnode", "status", "--json"))["configuration"]["in_force"], 30)
    wait_for("no update is under way", lambda: not run("sh", "-c", f"ls {UPDATE}/job.json 2>/dev/null || :").strip(), 60)


class World(Site):
    """`site` of plane_site.py, whose node is a machine. `judge_ms`: how long a new daemon has to show that it is well."""

    def __init__(self, build, name, judge_ms=JUDGE_MS, deb=None):
        super().__init__(build, name)
        self.judge_ms = judge_ms
        self.deb = deb or node_deb()
        self.installed = field(self.deb, "Version")
        self.ids = itertools.count(1)

    def __enter__(self):
        try:
            self.lab("up", "--plane", "--deb", self.deb)
            self.lab("register")
            self.write("/etc/systemd/system/gridnode-update.service.d/judge.conf",
                       f"[Service]\nExecStart=\nExecStart={UPDATE}/bin/gridnode-judge --judge-ms {self.judge_ms}\n")
            self.machine("systemctl", "daemon-reload")
            wait_for("the node is connected", self.is_connected_as(self.installed), 30)
            leave_to_test(self, "branch-12", self.machine)
        except BaseException:
            self.__exit__()
            raise
        return self

    # ---- the machine ----

    @property
    def machine_pid(self):
        """Its first process, as this host sees it."""
        return self.machine_process(3)

    def machine_process(self, steps):
        """unshare, bash, unshare, systemd."""
        pid = int((self.state / f"gl-{self.name}-machine/pid").read_text())
        for _ in range(steps):
            found = children(pid)
            if not found:
                raise Failed("the node's machine is not running")
            pid = found[0]
        return pid

    def path(self, inside):
        return pathlib.Path(f"/proc/{self.machine_pid}/root{inside}")

    def read(self, inside):
        return self.path(inside).read_text(errors="replace")

    def write(self, inside, text, mode=0o644):
        path = self.path(inside)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)

    def machine(self, *words, accept=(0,), timeout=60):
        """The output of a program of the machine's, as its root."""
        return self.run("node", *words, accept=accept, timeout=timeout)

    def programs(self):
        """Of the machine: names of their programs by this host's numbers."""
        found, space = {}, os.readlink(f"/proc/{self.machine_pid}/ns/pid")
        for folder in pathlib.Path("/proc").glob("[0-9]*"):
            try:
                if os.readlink(folder / "ns/pid") == space:
                    found[int(folder.name)] = (folder / "comm").read_text().strip()
            except OSError:
                continue
        return found

    def kill(self, *names):
        """SIGKILL to every process of the machine with one of these names; how many there were."""
        count = 0
        for pid, name in self.programs().items():
            if name in names:
                try:
                    os.kill(pid, signal.SIGKILL)
                    count += 1
                except ProcessLookupError:
                    pass
        return count

    def power_cut(self):
        """Everything in the machine ends at once, and it boots again."""
        before = self.machine_pid
        os.kill(self.machine_process(2), signal.SIGKILL)
        self.await_boot(before)

    def await_boot(self, before):
        def is_up():
            try:
                return self.machine_pid != before and \
                    self.machine("systemctl", "is-system-running", accept=None).strip() in ("running", "degraded")
            except Failed:
                return False
        wait_for("the machine has booted again", is_up, 40)

    def package(self, name="gridnode"):
        """dpkg's status and version of a package of the machine."""
        return self.machine("dpkg-query", "-W", "-f", "${Status} ${Version}", name, accept=None)

    def status(self):
        """What the machine's daemon says of itself; {} while none answers."""
        try:
            return json.loads(self.machine("gridnode", "status", "--json", accept=None))
        except json.JSONDecodeError:
            return {}

    def is_connected_as(self, version):
        def look():
            status = self.status()
            return status.get("version") == version and status["control"]["state"] == "connected"
        return look

    # ---- packages ----

    def repack(self, deb, *words):
        """Another package from one: --version, --defect daemon|hang|postinst, --conffile PATH=TEXT, --replace PATH=FILE."""
        made, = debs("--repack", deb, "--output", self.folder, *words)
        return made

    def publish(self, *packages, channel="stable"):
        self.plane("package", "add", *packages, "--channel", channel, timeout=120)

    # ---- updates ----

    def ask_helper(self, request):
        """The helper's answer, as root on the machine."""
        folder = self.path("/run/gridnode-helper")
        out, end = os.pipe()
        child = os.fork()
        if child == 0:
            try:
                os.close(out)
                os.chdir(folder)
                with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as s:
                    s.settimeout(20)
                    s.connect("socket")
                    s.send(json.dumps(request).encode())
                    os.write(end, s.recv(1 << 16))
            except OSError as e:
                os.write(end, json.dumps({"ok": False, "error": repr(e)}).encode())
            os._exit(0)
        os.close(end)
        with os.fdopen(out) as f:
            text = f.read()
        os.waitpid(child, 0)
        return json.loads(text)

    def job(self, action="now", channel="stable", reboot=False, again=False, by="test"):
        return {"id": f"u-{next(self.ids)}", "action": action, "channel": channel, "reboot": reboot, "again": again, "by": by}

    def update_state(self):
        """UPDATE/state.json; {} when there is none."""
        try:
            return json.loads(self.read(f"{UPDATE}/state.json"))
        except (OSError, json.JSONDecodeError, Failed):
            return {}

    def log(self, job):
        try:
            return self.read(f"{UPDATE}/log/{job['id']}.log")
        except (OSError, Failed):
            return ""

    def is_over(self, job):
        """The update's last state, when it has ended and was tidied up."""
        state = self.update_state()
        try:
            here = self.path(f"{UPDATE}/job.json").exists()
        except Failed:
            return None
        return state if state.get("job", {}).get("id") == job["id"] and state["status"] != "In Progress" and not here else None

    def wait(self, job, seconds=180):
        try:
            return wait_for("the update has ended", lambda: self.is_over(job), seconds, 0.2)
        except Failed as e:
            raise Failed(f"{e}\n{json.dumps(self.update_state(), indent=1)}\n{self.log(job)}\n" +
                         self.machine("journalctl", "-q", "-o", "cat", "-u", "gridnode-update", accept=None)) from e

    def wait_for_step(self, job, name, states=("running", "waiting", "done"), seconds=60):
        """The step, once it is in one of these states."""
        def look():
            state = self.update_state()
            if state.get("job", {}).get("id") != job["id"]:
                return None
            return next((step for step in state["steps"] if step["name"] == name and step["state"] in states), None)
        try:
            return wait_for(f"step {name} is {' or '.join(states)}", look, seconds, 0.05)
        except Failed as e:
            raise Failed(f"{e}\n{self.log(job)}") from e

    def begin(self, **options):
        """The job of an update that the helper has begun."""
        job = self.job(**options)
        answer = self.ask_helper({"op": "update.start", "job": job})
        expect(answer["ok"], answer)
        return job

    def update(self, seconds=180, **options):
        """The whole, to its end: its last state, with the log's text as "told"."""
        job = self.begin(**options)
        state = self.wait(job, seconds)
        return {**state, "told": self.log(job)}


def steps(state):
    """{"own": "done", …}"""
    return {step["name"]: step["state"] for step in state["steps"]}


def text_of(state, step):
    return next((s.get("text", "") for s in state["steps"] if s["name"] == step), "")
