"""Full disks: a small file system of its own under the state of a node, and under that of the plane."""

import json
import os
import subprocess
import time

from plane_site import compare, wait_for

from .world import Witness

BALLAST = "ballast"


class SmallDisk:
    """A file system of so many megabytes in the place of a folder, with what is there."""

    def __init__(self, folder, megabytes):
        self.folder = folder
        aside = folder.with_name(folder.name + ".before")
        folder.rename(aside)
        folder.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=0755", "tmpfs", folder], check=True)
        subprocess.run(["cp", "-a", f"{aside}/.", folder], check=True)

    def fill(self):
        """To the last byte."""
        with open(self.folder / BALLAST, "ab", buffering=0) as file:
            for size in (1 << 20, 1 << 16, 4096, 1):
                try:
                    while True:
                        file.write(b"x" * size)
                except OSError:
                    pass

    def free_bytes(self):
        found = os.statvfs(self.folder)
        return found.f_bavail * found.f_frsize

    def empty(self):
        (self.folder / BALLAST).unlink()

    def end(self):
        subprocess.run(["umount", "-l", self.folder], check=False)


def block(site, port):
    subprocess.run(["ip", "netns", "exec", f"gl-{site.name}-fw", "nft",
                    "add table inet atk; add chain inet atk forward { type filter hook forward priority 0; };"
                    f"add rule inet atk forward tcp dport {port} drop"], check=True)


def unblock(site):
    subprocess.run(["ip", "netns", "exec", f"gl-{site.name}-fw", "nft", "delete table inet atk"], check=True)


def names(site, node):
    return [row[0] for row in site.plane_rows("SELECT name || ' ' || severity FROM events WHERE node = ? AND epoch <> 'plane' "
                                              "ORDER BY seq", node.id)]


def node_disk(scenario):
    """The node's disk is full while a way is blocked and opened: it goes on, and tells of both."""
    site = scenario.site
    node = site.new_node("victim")
    disk = SmallDisk(node.state, 8)
    try:
        node.start()
        wait_for("the node is connected", lambda: site.is_connected(node), 20)
        disk.fill()
        scenario.check("the disk is full", disk.free_bytes())
        block(site, 443)
        wait_for("the failure is told", lambda: "Repo Connectivity 2" in names(site, node), 50)
        scenario.check("a failure is told though the disk is full")
        scenario.check("the daemon lives", node.process.poll())
        status = json.loads(site.node("status", "--json", "--root", node.root))
        scenario.check("and answers", "" if status else "nothing")
        node.process.kill()
        node.process.wait()
        node.start()
        wait_for("it starts on the full disk", lambda: "the node runs" in node.words().splitlines()[-1]
                 or node.process.poll() is not None or site.is_connected(node), 10)
        time.sleep(2)
        scenario.check("kill -9 and a start on the full disk: it runs", "" if node.process.poll() is None else node.words()[-700:])
        lines = [line for line in node.words().splitlines() if "disk" in line or "stored" in line]
        scenario.check("the log is not filled with it", lines[:3] + [len(lines)] if len(lines) > 12 else "")
        disk.empty()
        unblock(site)
        wait_for("it is re-established", lambda: "Repo Connectivity 0" in names(site, node), 60)
        scenario.check("with room again it tells the end as well")
        wait_for("nothing waits", lambda: node.waiting() == 0, 40)
        wrong, count = compare(site, node)
        scenario.check(f"all of {count} are at the plane, once, in order", wrong)
        scenario.check("the daemon ends when it is asked to", node.stop())
    finally:
        node.stop()
        disk.end()


def plane_disk(scenario):
    """The plane's disk is full: nothing is acknowledged that is not stored, nothing is lost, and it recovers."""
    site = scenario.site
    witness = Witness(site)
    site.stop_plane()
    disk = SmallDisk(site.plane_root / "var/lib/gridplane", 48)
    try:
        process = site.start_plane()
        wait_for("the witness is heard", lambda: not witness.is_heard(1), 30)
        disk.fill()
        scenario.check("the disk is full", disk.free_bytes())
        wait_for("nothing more is stored", lambda: bool(witness.is_heard(2)), 40)
        stored = witness.count()
        acknowledged = stored_of(witness)
        scenario.check("what is acknowledged is stored", "" if acknowledged <= all_of(witness) else (acknowledged, all_of(witness)))
        answer = create(site, "on-a-full-disk")
        scenario.check("who wants to change something is told 507 or 503", "" if answer[0] in ("507", "503") else answer)
        health = site.run("inet", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "--unix-socket",
                          site.plane_root / "run/gridplane/admin.sock", "http://x/api/v1/nodes").strip()
        scenario.check("who only reads is answered", "" if health == "200" else health)
        time.sleep(6)
        scenario.check("still nothing is lost or acknowledged", witness.count() - stored or stored_of(witness) > all_of(witness))
        lines = scenario.lines("cannot be stored")
        scenario.check("told in the log, and not again and again", "" if 1 <= len(lines) <= 3 else lines[:2] + [len(lines)])
        scenario.check("gridplane lives", process.poll())
        process.kill()
        process.wait()
        process = site.start_plane()
        try:
            wait_for("it ends, or is ready", lambda: process.poll() is not None or len(scenario.lines("control plane is ready")) > 2, 20)
        except Exception:
            pass
        how = "ended" if process.poll() is not None else "ran on"
        scenario.check(f"kill -9 and a start on the full disk: it {how}, and said why",
                       "" if scenario.lines(" error ") else site.plane_words()[-500:])
        disk.empty()
        if process.poll() is not None:
            process = site.start_plane()
        began = time.monotonic()
        wait_for("the witness is heard again", lambda: witness.count() > stored, 45)
        scenario.check(f"with room again it takes events by itself, after {time.monotonic() - began:.0f} s")
        scenario.check("and changes", "" if create(site, "with-room")[0] == "201" else create(site, "with-room"))
        witness.end(scenario.tally, scenario.name)
        scenario.check("it ends when it is asked to", site.stop_plane() or process.poll())
    finally:
        if process.poll() is None:
            site.stop_plane()
        disk.end()


def stored_of(witness):
    """The highest number of which the node knows that the plane has it."""
    return max([seq for seq, _, _, waiting in witness.node.items() if not waiting], default=0)


def all_of(witness):
    rows = witness.site.plane_rows("SELECT max(seq) FROM (SELECT seq FROM events WHERE node = ?1 AND epoch <> 'plane' UNION ALL "
                                   "SELECT seq FROM reports WHERE node = ?1)", witness.node.id)
    return rows[0][0]


def create(site, name):
    out = site.run("inet", "curl", "-s", "-w", "\n%{http_code}", "--unix-socket", site.plane_root / "run/gridplane/admin.sock", "-H",
                   "Content-Type: application/json", "-d", json.dumps({"name": name, "site": "x"}), "http://x/api/v1/nodes", accept=None)
    body, _, status = out.rpartition("\n")
    return status.strip(), body


SCENARIOS = {"node-disk": node_disk, "plane-disk": plane_disk}
