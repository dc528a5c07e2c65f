"""Updates on a way that is open: good versions, and bad ones in each way; conffiles, Debian's security packages, a restart."""

import json
import re
import subprocess
import time

from plane_site import expect, wait_for

from .world import UPDATE


def test_good(world):
    """A newer version: asked for by a person, told once each on node and plane, and nothing is asked of anybody else."""
    before, newer = world.version, world.offer()
    told = world.update("--check")
    expect(f"{before} → {newer}" in told and world.installed() == ["ii", before], told)
    told = world.update("--dry-run")
    expect(re.search(r"[0-9.]+ MB", told) and f"{before} → {newer}" in told and world.installed() == ["ii", before], told)
    world.update("--download")
    expect(not (wrong := world.told_wrongly(world.await_end())) and world.installed() == ["ii", before], wrong)
    told = world.update("--now")
    world.expect_good(world.await_end(), newer)
    expect(f"{before} → {newer}" in told, told)
    document, = world.plane_rows("SELECT status, version_from, version_to FROM node_update WHERE node = ? ORDER BY event DESC LIMIT 1",
                                 world.id)
    expect(document == ("Completed", before, newer), document)
    history = json.loads(world.update("--history", "--json"))
    expect(any(item.get("to") == newer and item["status"] == "Completed" for item in listed(history)), history)
    told = world.update("--history", "--csv")
    expect(f'"{before}","{newer}"' in told, told)


def listed(history):
    return history["items"] if isinstance(history, dict) else history


def test_newest(world):
    """There is nothing newer: nothing happens, and that is no failure."""
    world.update("--now")
    world.expect_end(world.await_end(), "Completed", world.version)


def test_daemon_does_not_start(world):
    """Its judge puts the version before back, whose daemon goes on; the version is not offered again unless somebody asks."""
    before, bad = world.version, world.offer(defect="daemon")
    told = world.update("--now", accept=(1,))
    state = world.await_end()
    world.expect_end(state, "Failed", before)
    expect(bad in state["error"] and f"{before} is installed again" in state["error"], state["error"])
    expect(f"{bad} failed on this node" in told, told)
    expect(bad in world.read(f"{UPDATE}/refused.json"))
    severity, message = world.last_told[-1]
    expect(severity == 2 and bad in message, world.last_told)
    log, = world.plane_rows("SELECT document FROM node_update WHERE node = ? ORDER BY event DESC LIMIT 1", world.id)
    expect('"log":' in log[0] and "step restore" in log[0], log[0][-500:])
    world.await_connected()
    expect("Working" in world.machine("gridnode", "status"))
    world.update("--now")
    state = world.await_end()
    world.expect_end(state, "Completed", before)
    expect(any("not offered" in step.get("text", "") for step in state["steps"]), state["steps"])
    expect(bad in world.update("--check", "--again"))


def test_postinst_fails(world):
    before, bad = world.version, world.offer(defect="postinst")
    world.update("--now", accept=(1,))
    state = world.await_end()
    world.expect_end(state, "Failed", before)
    expect(bad in world.read(f"{UPDATE}/refused.json"))
    expect("this one was made to fail" in world.log_of_update(), state["error"])
    world.await_connected()


def test_daemon_hangs(world):
    before, bad = world.version, world.offer(defect="hang")
    world.update("--now", accept=(1,))
    world.expect_end(world.await_end(), "Failed", before)
    expect(bad in world.read(f"{UPDATE}/refused.json"))
    world.await_connected()


def test_good_after_bad(world):
    world.offer()
    world.expect_good(world.run_update(), world.offered)


def test_conffile(world):
    """Nobody is asked, and what an administrator wrote stays."""
    path = "/etc/gridnode/limits.conf"
    world.offer(conffile=f"{path}=first")
    world.expect_good(world.run_update(), world.offered)
    expect(world.read(path) == "first\n")
    world.write(path, "an administrator's\n")
    world.offer(conffile=f"{path}=second")
    world.expect_good(world.run_update(), world.offered)
    expect(world.read(path) == "an administrator's\n", world.read(path))
    expect(world.read(f"{path}.dpkg-dist") == "second\n")


def small(world, name, version, postinst=""):
    """A small package."""
    tree = world.folder / "tree" / f"{name}-{version}"
    (tree / "DEBIAN").mkdir(parents=True, exist_ok=True)
    (tree / f"usr/share/{name}").mkdir(parents=True, exist_ok=True)
    (tree / f"usr/share/{name}/version").write_text(version)
    (tree / "DEBIAN/control").write_text(f"Package: {name}\nVersion: {version}\nArchitecture: all\nSection: admin\nPriority: optional\n"
                                         "Maintainer: Grid <repo@grid.example>\nDescription: test\n")
    if postinst:
        (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\n{postinst}\n")
        (tree / "DEBIAN/postinst").chmod(0o755)
    path = world.folder / f"{name}_{version}_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, path], check=True, stdout=subprocess.DEVNULL)
    return path


def put(world, deb):
    """Installs it by hand."""
    world.path(f"root/{deb.name}").write_bytes(deb.read_bytes())
    world.machine("dpkg", "--install", f"/root/{deb.name}")


def has(world, name):
    return world.read(f"/usr/share/{name}/version")


def test_security(world):
    """Of the operating system what the security channel has, and nothing that another has."""
    for name in ("lock", "door"):
        put(world, small(world, name, "1.0"))
    world.publish(small(world, "lock", "1.1"), channel="security")
    world.publish(small(world, "door", "1.1"), channel="stable")
    world.update("--now")
    state = world.await_end()
    world.expect_end(state, "Completed", world.version)
    expect(has(world, "lock") == "1.1" and has(world, "door") == "1.0", has(world, "lock"), has(world, "door"))
    expect(["lock"] == [package["name"] for package in state["packages"]] and state["packages"][0]["security"], state["packages"])


def test_security_of_another_origin(world):
    """A channel of that name that is not signed as Debian's security origin: nothing of it is taken."""
    put(world, small(world, "lock", "1.1"))
    world.publish(small(world, "lock", "1.2"), channel="security")
    with world.release("bookworm-security", lambda text: text.replace("Label: Debian-Security", "Label: Debian")):
        world.update("--now", accept=(1,))
    state = world.await_end()
    world.expect_end(state, "Failed", world.version)
    expect(re.search("not Debian's security origin|changed its 'Label'", state["error"]) and has(world, "lock") == "1.1", state["error"])


def test_restart(world):
    """A security package wants the machine to be restarted: it is, and the update ends after that."""
    world.publish(small(world, "lock", "1.3", "touch /run/reboot-required; echo lock >>/run/reboot-required.pkgs"), channel="security")
    before, boot = world.first_process(), world.machine("cat", "/proc/sys/kernel/random/boot_id")
    identity = world.start_update()
    world.await_boot(before)
    state = world.await_end(identity)
    world.expect_end(state, "Completed", world.version)
    expect(has(world, "lock") == "1.3" and not state["restart_needed"], state)
    step = next(step for step in state["steps"] if step["name"] == "restart")
    expect(step["state"] == "done" and boot, state["steps"])
    world.publish(small(world, "lock", "1.4", "touch /run/reboot-required"), channel="security")
    pid = world.first_process()
    world.update("--now", "--no-reboot")
    state = world.await_end()
    world.expect_end(state, "Completed", world.version)
    expect(state["restart_needed"] and world.first_process() == pid, state)
    world.machine("rm", "/run/reboot-required")


# fcntl(2): an administrator who has dpkg's lock.
HOLD = """$| = 1; use Fcntl;
open(F, '+<', '/var/lib/dpkg/lock-frontend') or die;
my $l = pack('s s x4 q q i x4', F_WRLCK, 0, 0, 0, 0);
fcntl(F, F_SETLK, $l) or die;
print qq(has it\\n);
sleep 600"""


def test_another_has_dpkg(world):
    """An administrator's dpkg is at work: the update waits, says so, and goes on."""
    holder = world.start_machine("perl", "-e", HOLD)
    said = holder.stdout.readline()
    expect(said == "has it\n", said)
    world.offer()
    identity = world.start_update()
    state = world.await_waiting(identity, 30)
    expect("lock of dpkg" in state["waiting_for"], state["waiting_for"])
    world.machine("pkill", "-x", "perl")
    world.expect_good(world.await_end(identity), world.offered)


def test_keyring(world):
    """The repository's key is replaced: the node takes the next one since the one before vouches for it."""
    before = world.path("etc/gridnode/repo-keyring.gpg").read_bytes()
    world.plane("package", "key", "rotate")
    world.offer()
    world.expect_good(world.run_update(), world.offered)
    after = world.path("etc/gridnode/repo-keyring.gpg").read_bytes()
    expect(after != before and len(after) > len(before), len(before), len(after))


def windows_of(now, before_s, after_s):
    """A window of a week that has begun so long ago, and has so long to go, in UTC."""
    begin, end = (time.gmtime(now + s) for s in (-before_s, after_s))
    return f"{time.strftime('%a', begin)} {time.strftime('%H:%M', begin)}-{time.strftime('%H:%M', end)}"


def begins(world, seconds):
    """The schedule's update, if it begins within that time after the daemon's start."""
    before = world.state_of_update().get("id")
    world.machine("systemctl", "restart", "gridnode.service")
    world.await_connected()
    try:
        return wait_for("it begins", lambda: (now := world.state_of_update().get("id")) != before and now, seconds)
    except Exception:  # noqa: BLE001 - it does not
        return None


def test_schedule(world):
    """In its window the node updates itself; not where it is for people alone, nor before a date."""
    world.offer()
    window = windows_of(time.time(), 20 * 3600, 240)
    tomorrow = time.strftime("%Y-%m-%d", time.gmtime(time.time() + 2 * 86400))
    base = {"windows": [window], "manual": False, "hold_until": None, "channel": "stable", "reboot": False}
    for change in ({"manual": True}, {"hold_until": tomorrow}, {"windows": [windows_of(time.time(), 7200, -3600)]}):
        world.configure(base | change)
        expect(not begins(world, 5), change)
    world.configure(base)
    identity = begins(world, 90)
    expect(identity, "it did not begin within its window")
    state = world.await_end(identity)
    expect(state["by"] == "schedule", state["by"])
    world.expect_good(state, world.offered)
    world.configure(base | {"manual": True})
