"""A control plane with its repository, and a node that is a Debian under systemd with the package of this tree: what updates are
tried with. Each version that is published is another package made from the one of this tree, its programs say that version."""

import collections
import contextlib
import json
import os
import pathlib
import re
import subprocess

from plane_site import ROOT, Failed, Site, children, expect, program_of, wait_for

NAME = "branch-12"
UPDATE = "var/lib/gridnode-update"
JUDGE_MS = 12000  # ten minutes in a product
ENVIRONMENT = ["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL=C.UTF-8", "HOME=/root", "TERM=dumb"]
JUDGE_CONF = f"""[Service]
ExecStart=
ExecStart=/{UPDATE}/bin/gridnode-judge --judge-ms {JUDGE_MS}
"""
ENDED = re.compile(r"^(Software update|Download of an update) (completed|failed): ")
# What a node may send to: the profile's ranges, its DNS servers, its gateway, and its LAN.
ALLOWED = ["198.51.100.16/28", "203.0.113.192/28", "198.51.100.53", "203.0.113.53", "192.0.2.1", "10.20.0.0/24", "127.0.0.0/8"]
OUTSIDE = (f"(ip and not ({' or '.join('dst net ' + net for net in ALLOWED)})) or "
           "(ip6 and not (dst net ::1/128 or dst net fe80::/10 or dst net ff00::/8))")
STRANGER = "198.51.100.77"  # nobody's address


def make_package():
    """The node's package of this tree; built unless it is already."""
    done = subprocess.run([ROOT / "tools/debs"], text=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, check=False)
    if done.returncode:
        raise Failed(f"tools/debs ended with {done.returncode}:\n{done.stdout}")
    return next(pathlib.Path(line) for line in done.stdout.splitlines() if "/gridnode_" in line)


class World(Site):
    """Use as a context: it leaves nothing behind."""

    def __init__(self, build, name, deb):
        super().__init__(build, name)
        self.deb, self.count, self.mark = deb, 0, 0
        self.offered, self.last_told = None, []
        self.root = self.state / "node/root"
        self.version = deb.name.split("_")[1]
        self.first = self.version

    def __enter__(self):
        try:
            self.lab("up", "--plane", "--machine", "--deb", self.deb)
            self.capture()
            with open(self.root / "etc/gridnode/site.conf", "a", encoding="utf-8") as file:
                file.write("\n[monitor]\ninterval = 5\n")
            self.write("etc/systemd/system/gridnode-update.service.d/judge.conf", JUDGE_CONF)
            self.machine("systemctl", "daemon-reload")
            self.lab("register")
            self.id = json.loads(self.read("var/lib/gridnode/identity.json"))["node"]
            self.configure({"manual": True})
            self.await_connected()
            self.await_quiet()
        except BaseException:
            self.__exit__()
            raise
        return self

    # ---- the machine ----

    @property
    def outer(self):
        return int((self.state / f"gl-{self.name}-machine/pid").read_text())

    def process_at(self, depth):
        """unshare → bash → unshare → systemd, as this host sees them; None while it boots."""
        pid = self.outer
        for _ in range(depth):
            found = children(pid)
            if not found:
                return None
            pid = found[0]
        return pid

    def first_process(self):
        pid = self.process_at(3)
        return pid if pid and program_of(pid) == "systemd" else None

    def command(self, *words):
        pid = wait_for("the machine's first process", self.first_process, 30)
        return ["nsenter", "-t", str(pid), "-r", "-w", "-m", "-u", "-i", "-n", "-C", "-p", "--", *ENVIRONMENT, *map(str, words)]

    def machine(self, *words, accept=(0,), timeout=90, stdin=None):
        """The output of a program on the node; `accept` None: any exit status."""
        done = subprocess.run(self.command(*words), text=True, errors="replace", stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=timeout, check=False,
                              **({"input": stdin} if stdin is not None else {"stdin": subprocess.DEVNULL}))
        if accept is not None and done.returncode not in accept:
            raise Failed(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout

    def start_machine(self, *words, **options):
        process = subprocess.Popen(self.command(*words), text=True, errors="replace", stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                                   stderr=subprocess.STDOUT, start_new_session=True, **options)
        self.processes.append(process)
        return process

    def processes_of(self, program):
        """Numbers of the machine's processes that run it, as this host sees them."""
        first = self.first_process()
        if not first:
            return []
        try:
            space = os.readlink(f"/proc/{first}/ns/pid")
        except OSError:
            return []
        found = []
        for pid in pathlib.Path("/proc").iterdir():
            if pid.name.isdigit():
                try:
                    if (pid / "comm").read_text().strip() == program[:15] and os.readlink(pid / "ns/pid") == space:
                        found.append(int(pid.name))
                except OSError:
                    continue
        return found

    def power_cut(self):
        """Everything on it is gone at once (unshare(1), --kill-child); it boots again by itself."""
        first = wait_for("the machine's first process", self.first_process, 30)
        os.kill(self.process_at(2), 9)
        return first

    def await_boot(self, before):
        wait_for("the machine boots again", lambda: (pid := self.first_process()) and pid != before, 30)
        wait_for("the machine is up", lambda: self.machine("systemctl", "is-system-running", accept=None).strip()
                 in ("running", "degraded"), 30, 0.2)

    def configure(self, update):
        """The node's next configuration, with this schedule of updates."""
        document = json.loads(self.plane("node", "config", NAME))
        document.pop("version", None)
        document.setdefault("schedule", {})["update"] = update
        self.plane("node", "config", NAME, "-", stdin=json.dumps(document))

    def await_quiet(self):
        """Before its first configuration the node may have begun to look for what its next window will bring."""
        wait_for("the schedule is in force", lambda: json.loads(self.machine("gridnode", "status", "--json"))["configuration"]["in_force"],
                 30)
        wait_for("no update is under way", lambda: not self.is_under_way(), 60)
        self.mark = self.plane_rows("SELECT coalesce(max(id), 0) FROM events")[0][0]

    def path(self, inside):
        return self.root / inside.lstrip("/")

    def read(self, inside):
        return self.path(inside).read_text()

    def write(self, inside, text):
        self.path(inside).parent.mkdir(parents=True, exist_ok=True)
        self.path(inside).write_text(text)

    def nft(self, role, rules):
        subprocess.run(["nsenter", f"--net=/run/netns/gl-{self.name}-{role}", "nft", "-f", "-"], input=rules, text=True, check=True)

    def capture(self):
        """From now on each packet that the node sends to somebody outside is kept."""
        self.captured = self.folder / "outside.txt"
        with open(self.captured, "w", encoding="utf-8") as file:
            self.processes.append(subprocess.Popen(
                ["nsenter", f"--net=/run/netns/gl-{self.name}-node", "tcpdump", "-i", "any", "-Q", "out", "-n", "-l", OUTSIDE],
                stdin=subprocess.DEVNULL, stdout=file, stderr=subprocess.DEVNULL))

    def strangers(self):
        """The packets to somebody outside; and it is tried that one would be seen."""
        lines = self.captured.read_text().splitlines()
        subprocess.run(["nsenter", f"--net=/run/netns/gl-{self.name}-node", "bash", "-c", f"echo x >/dev/udp/{STRANGER}/9"], check=False)
        wait_for("the capture sees what is sent outside", lambda: STRANGER in self.captured.read_text(), 10)
        return [line for line in lines if "ARP" not in line]

    def is_node_connected(self):
        return bool(self.plane_rows("SELECT 1 FROM nodes WHERE id = ? AND connected = 1", self.id))

    def await_connected(self):
        wait_for("the node is connected", self.is_node_connected, 40)

    # ---- versions ----

    def make(self, defect=None, version=None, conffile=None, more=()):
        """A newer version's package: its path, and the version."""
        if not version:
            self.count += 1
            version = next_version(self.first, self.count)
        words = [ROOT / "tools/debs", "--repack", self.deb, "--version", version, "--programs", "--output", self.folder / "debs"]
        words += ["--defect", defect] if defect else []
        words += ["--conffile", conffile] if conffile else []
        done = subprocess.run([*map(str, words), *more], text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
        if done.returncode:
            raise Failed(done.stdout)
        return pathlib.Path(done.stdout.splitlines()[-1]), version

    def publish(self, *debs, channel="stable"):
        self.plane("package", "add", *debs, "--channel", channel)

    def offer(self, **options):
        """A newer version in the channel: which one."""
        deb, self.offered = self.make(**options)
        self.publish(deb)
        return self.offered

    @contextlib.contextmanager
    def release(self, codename, change, sign=True):
        """Meanwhile the channel's index says something else, signed again by the repository's key or not."""
        apt, = (self.plane_root / "var/lib/gridplane/apt").iterdir()
        path = (apt / "current/dists" / codename / "InRelease").resolve()
        before = path.read_bytes()
        text = change(re.search(r"\n\n(.*?)-----BEGIN PGP SIGNATURE", before.decode(), re.DOTALL)[1]) if sign else change(before.decode())
        new = path.with_suffix(".new")
        if sign:
            subprocess.run(["gpg", "--homedir", apt / "gnupg", "--batch", "--yes", "--quiet", "--clearsign", "--output", new], input=text,
                           text=True, check=True)
        else:
            new.write_text(text)
        new.chmod(0o644)
        new.rename(path)
        try:
            yield
        finally:
            new.write_bytes(before)
            new.chmod(0o644)
            new.rename(path)

    # ---- updates ----

    def update(self, *words, accept=(0,), timeout=180):
        return self.machine("gridnode", "update", *words, accept=accept, timeout=timeout)

    def start_update(self, *words):
        """An update that is asked for, and not waited for: its id."""
        return json.loads(self.update("--now", "--no-wait", "--json", *words))["id"]

    def run_update(self, seconds=120):
        return self.await_end(self.start_update(), seconds)

    def await_waiting(self, identity, seconds=60):
        """The state of an update that waits."""
        def look():
            state = self.state_of_update()
            expect(state.get("id") != identity or state["status"] == "In Progress", f"it does not wait: {state.get('error')}")
            return state.get("id") == identity and state["waiting_for"] and state
        try:
            return wait_for("the update waits", look, seconds)
        except Failed as failure:
            raise Failed(f"{failure}\n{self.log_of_update()}") from failure

    def state_of_update(self):
        """UPDATE/state.json; {} when there is none."""
        try:
            state = json.loads(self.read(f"{UPDATE}/state.json"))
        except (OSError, ValueError):
            return {}
        return {**state, "id": state["job"]["id"], "by": state["job"]["by"], "waiting_for": state.get("waiting", {}).get("for", "")}

    def is_under_way(self):
        return self.path(f"{UPDATE}/job.json").exists()

    def await_end(self, identity=None, seconds=120):
        """The state of the update that has ended."""
        def look():
            state = self.state_of_update()
            return (identity is None or state.get("id") == identity) and state.get("status") != "In Progress" and \
                not self.is_under_way() and state
        try:
            return wait_for("the update has ended", look, seconds, 0.05)
        except Failed as failure:
            raise Failed(f"{failure}\n{self.log_of_update()}") from failure

    def log_of_update(self, identity=None):
        try:
            return self.read(f"{UPDATE}/log/{identity or self.state_of_update().get('id')}.log")[-6000:]
        except OSError as e:
            return str(e)

    # ---- what must be true whenever an update has ended ----

    def installed(self):
        return self.machine("dpkg-query", "--show", "--showformat=${db:Status-Abbrev} ${Version}", "gridnode").split()

    def whole(self):
        """What is wrong with the system: it has one version, wholly."""
        wrong = []
        state, version = self.installed()
        if state != "ii":
            wrong.append(f"gridnode is {state}")
        for words in (["dpkg", "--audit"], ["dpkg", "--verify", "gridnode"]):
            said = self.machine(*words, accept=None).strip()
            said = "\n".join(line for line in said.splitlines() if " c /" not in line)
            if said:
                wrong.append(f"{' '.join(words)}: {said}")
        for program in ("/usr/bin/gridnode", "/usr/libexec/gridnode/gridnode-helper"):
            said = self.machine(program, "--version", accept=None).split()
            if said[-1:] != [version]:
                wrong.append(f"{program} says {' '.join(said)}, the package is {version}")
        left = [path.name for path in self.path("var/lib/dpkg/updates").iterdir() if path.name.isdigit()]
        if left:
            wrong.append(f"dpkg was interrupted: {left}")
        return wrong

    def events(self):
        """(severity, message) of the events about the present update, as they are at the plane: those since the one before ended."""
        return self.plane_rows("SELECT severity, message FROM events WHERE node = ? AND name = 'Software Update' AND id > ? ORDER BY id",
                               self.id, self.mark)

    def told_wrongly(self, state):
        """What is wrong with what the plane was told of an update that has ended."""
        try:
            wait_for("it is told", lambda: any(ENDED.match(row[1]) for row in self.events()), 40)
        except Failed:
            return [f"its end is not at the plane: {self.events()}"]
        told = self.last_told = self.events()
        self.mark = self.plane_rows("SELECT coalesce(max(id), 0) FROM events")[0][0]
        began = [row for row in told if " started" in row[1]]
        ended = [row for row in told if ENDED.match(row[1])]
        word = "failed" if state["status"] == "Failed" else "completed"
        wrong = []
        if len(began) != 1 or len(ended) != 1:
            wrong.append(f"begun {len(began)} times, ended {len(ended)} times: {told}")
        elif ENDED.match(ended[0][1])[2] != word:
            wrong.append(f"it is {state['status']}, and the plane has: {ended[0]}")
        return wrong

    def expect_good(self, state, version):
        self.expect_end(state, "Completed", version)
        self.version = version

    def expect_end(self, state, status, version):
        expect(state["status"] == status, f"{status} was expected, not {state['status']}: {state.get('error')}",
               self.log_of_update(state["id"]))
        expect(self.installed() == ["ii", version], self.installed(), version, self.log_of_update(state["id"]))
        expect(not (wrong := self.whole()), wrong, self.log_of_update(state["id"]))
        expect(not (wrong := self.told_wrongly(state)), wrong)


class Ends:
    """What came of the updates, and what is wrong with them."""

    def __init__(self, world):
        self.world, self.counts, self.wrong = world, collections.Counter(), []

    def judge(self, identity, before, newer):
        world = self.world
        state = world.await_end(identity, 150)
        version = world.installed()[1]
        wrong = world.whole() + world.told_wrongly(state)
        wanted = newer if state["status"] == "Completed" else before
        if version != wanted:
            wrong.append(f"{state['status']}, and {version} is installed, of {before} and {newer}: {state.get('error')}")
        if wrong:
            self.wrong.append(f"{identity}: {wrong}\n{world.log_of_update(identity)}")
        self.counts[state["status"]] += 1
        if state["status"] == "Failed":
            print(f"        failed, truly: {state.get('error')}", flush=True)
        world.version = version
        if not world.is_node_connected():
            world.await_connected()


def next_version(first, count):
    """As long as the first, so that the programs can be made to say it; newer with each."""
    digits = first.replace(".", "")
    number = str(int(digits) + count).zfill(len(digits))
    expect(len(number) == len(digits), f"there are no more versions after {first} of that length")
    taken = iter(number)
    return "".join(c if c == "." else next(taken) for c in first)
