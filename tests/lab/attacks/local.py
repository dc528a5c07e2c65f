"""On the machines themselves: symlinks in the state folders, two of one kind, files of others."""

import os
import shutil
import subprocess
import time

from plane_site import stop, wait_for

from .world import Witness

TARGET = "do not touch\n"


def attempt(site, role, *words, seconds=6):
    """A program that is expected to end at once: its exit status (None: it runs on, and was ended) and its words."""
    process = site.start(role, *words, log=subprocess.PIPE)
    try:
        out, _ = process.communicate(timeout=seconds)
        return process.returncode, out.decode(errors="replace")
    except subprocess.TimeoutExpired:
        process.terminate()
        out, _ = process.communicate(timeout=20)
        return None, out.decode(errors="replace")


class Swapped:
    """Something else stands in the place of a file while the block runs."""

    def __init__(self, path, make):
        self.path, self.make, self.aside = path, make, path.with_name(path.name + ".aside")

    def __enter__(self):
        if os.path.lexists(self.path):
            os.rename(self.path, self.aside)
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.make(self.path)

    def __exit__(self, *_):
        if self.path.is_symlink() or self.path.is_file():
            self.path.unlink()
        elif self.path.is_dir():
            shutil.rmtree(self.path)
        elif os.path.lexists(self.path):
            self.path.unlink()
        if os.path.lexists(self.aside):
            os.rename(self.aside, self.path)


def refused(name, status, words, path, target):
    """What speaks against it: it must end with one error that names the file, and leave the target alone."""
    errors = [line for line in words.splitlines() if " error " in line or line.startswith("grid")]
    if target.read_text() != TARGET:
        return f"{name}: the target was written to"
    if status in (None, 0) or status < 0:
        return f"{name}: exit status {status}: {words[-600:]}"
    if len(errors) > 2 or str(path) not in words:
        return f"{name}: {words[-600:]}"
    return ""


def try_all(site, role, command, places, target):
    """Each place in turn; what was not refused as it must be."""
    wrong = []
    for path, make, name in places:
        with Swapped(path, make):
            status, words = attempt(site, role, *command)
        problem = refused(f"{path.name}: {name}", status, words, path, target)
        if problem:
            wrong.append(problem)
    return wrong


def places_of(files, target):
    """(path, what to put there, its name) for each file."""
    def link(path):
        path.symlink_to(target)

    def dangling(path):
        path.symlink_to(target.with_name("not-there"))

    for path in files:
        yield path, link, "a symlink"
        yield path, dangling, "a symlink to nothing"
        yield path, os.mkdir, "a folder"


def node_state(scenario):
    """A node's folders."""
    site = scenario.site
    node = site.new_node("victim")
    target = site.folder / "target"
    target.write_text(TARGET)
    command = (site.gridnode, "run", "--root", node.root)
    status, words = attempt(site, "node", *command, seconds=3)
    scenario.check("it runs while nothing is wrong", "" if status is None else words)
    files = [node.state / name for name in ("state.db", "lock")]
    scenario.check("no symlink and no folder is taken for its files", try_all(site, "node", command, places_of(files, target), target))
    scenario.check("and nothing is made where a symlink to nothing leads", target.with_name("not-there").exists())
    with Swapped(node.state, lambda path: path.symlink_to(path.with_name(path.name + ".aside"))):
        status, words = attempt(site, "node", *command)
    scenario.check("a state folder that is a symlink is refused",
                   "" if status not in (None, 0) and str(node.state) in words else (status, words[-600:]))
    scenario.check("the state folder of another, or that others write to", [why for why in (
        owned(site, node, command, lambda path: os.chmod(path, 0o777), lambda path: os.chmod(path, 0o755)),
        owned(site, node, command, lambda path: os.chown(path, 1234, 1234), lambda path: os.chown(path, 0, 0))) if why])
    sockets(scenario, node, target)
    two_daemons(scenario, node)


def owned(site, node, command, spoil, mend):
    spoil(node.state)
    status, words = attempt(site, "node", *command)
    mend(node.state)
    return "" if status not in (None, 0) and str(node.state) in words else (status, words[-600:])


def sockets(scenario, node, target):
    site, path = scenario.site, node.root / "run/gridnode/control.sock"
    with Swapped(path, lambda p: p.symlink_to(target)):
        node.start()
        try:
            wait_for("it answers", lambda: "WAN IP" in site.node("status", "--root", node.root, accept=None), 6)
            how = "replaced" if not path.is_symlink() else "still a symlink"
        except Exception:  # refusing is as good
            how = "refused" if str(path) in node.words() else node.words()[-600:]
        node.stop()
    scenario.check("a symlink in the place of the control socket is replaced or refused, and not followed",
                   "" if how in ("replaced", "refused") and target.read_text() == TARGET else how)


def two_daemons(scenario, node):
    site = scenario.site
    node.start()
    wait_for("the first is connected", lambda: site.is_connected(node), 20)
    began = time.monotonic()
    status, words = attempt(site, "node", site.gridnode, "run", "--root", node.root)
    took = time.monotonic() - began
    scenario.check("a second daemon ends at once, with 69, and names the first",
                   "" if status == 69 and str(node.process.pid) in words and took < 3 else (status, words[-400:], took))
    time.sleep(0.5)
    scenario.check("the first goes on, and still answers", "" if site.is_connected(node) and
                   "WAN IP" in site.node("status", "--root", node.root) else node.words()[-400:])
    scenario.check("and ends when it is asked to", node.stop())


def plane_state(scenario):
    """The control plane's folders."""
    site = scenario.site
    witness = Witness(site)
    target = site.folder / "target"
    target.write_text(TARGET)
    command = (site.gridplane, "serve", "--root", site.plane_root, "--domain", "grid.example")
    began = time.monotonic()
    status, words = attempt(site, "inet", *command)
    took = time.monotonic() - began
    scenario.check("a second plane on one root ends at once, and says why",
                   "" if status not in (None, 0) and words.count("\n") < 12 and took < 5 else (status, words[-900:], took))
    scenario.check("the first goes on", witness.is_heard() or scenario.is_same_plane())
    site.stop_plane()
    state = site.plane_root / "var/lib/gridplane"
    files = [state / name for name in ("plane.db", "lock", "ca/root/root.key", "ca/root.crt")]
    scenario.check("no symlink and no folder is taken for its files", try_all(site, "inet", command, places_of(files, target), target))
    scenario.check("and nothing is made where a symlink to nothing leads", target.with_name("not-there").exists())
    for folder in ("ca", "services", "log", "ca/root"):
        elsewhere = site.folder / f"elsewhere-{folder.replace('/', '-')}"
        elsewhere.mkdir()
        with Swapped(state / folder, lambda path, to=elsewhere: path.symlink_to(to)):
            status, words = attempt(site, "inet", *command)
        scenario.check(f"a symlink in the place of the folder {folder} is refused",
                       "" if status not in (None, 0) and not any(elsewhere.iterdir()) else (status, words[-500:], list(elsewhere.iterdir())))
    with Swapped(state, lambda path: path.symlink_to(path.with_name(path.name + ".aside"))):
        status, words = attempt(site, "inet", *command)
    scenario.check("a state folder that is a symlink is refused", "" if status not in (None, 0) else (status, words[-600:]))
    run = site.plane_root / "run/gridplane"
    for name in ("api.sock", "admin.sock", "broker.sock"):
        with Swapped(run / name, lambda path: path.symlink_to(target)):
            status, words = attempt(site, "inet", *command, seconds=3)
        scenario.check(f"a symlink in the place of {name} is replaced, or refused, and not followed",
                       "" if target.read_text() == TARGET and (status is None or str(run / name) in words) else (status, words[-600:]))
        (run / name).unlink(missing_ok=True)
    process = site.start_plane()
    wait_for("the control plane is ready", lambda: not witness.is_heard(1), 25)
    witness.end(scenario.tally, scenario.name)
    scenario.check("it ends when it is asked to", stop(process))


SCENARIOS = {"node-state": node_state, "plane-state": plane_state}
