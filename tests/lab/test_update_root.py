#!/usr/bin/python3
"""The root side of software updates on a real Debian under systemd: what is asked for through the helper's socket, done by
gridnode-update and seen to its end by gridnode-judge, from the control plane's repository by apt's method.
test_update_root.py BUILD-FOLDER [NAME-PART...]

One world of update_world.py; the tests stand on each other, in their order: each begins with the version that the one before left.
Needs root. Ends with the line "N passed, N failed"."""

import json
import pathlib
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from plane_site import expect, wait_for  # noqa: E402
from runner import run_test  # noqa: E402
from update_world import UPDATE, World, field, steps, text_of  # noqa: E402

INSTALLED = "install ok installed"


def publish(world, version, *defect):
    """A version of the package in the channel stable; the programs in it say it, too."""
    deb = world.repack(world.deb, "--version", version, *(defect if "--defect" in defect else ("--programs", *defect)))
    world.publish(deb)
    return deb


def expect_installed(world, version):
    expect(world.package() == f"{INSTALLED} {version}", world.package())
    wait_for(f"the daemon of {version} is connected", world.is_connected_as(version), 30)


# ---- asking ----

def test_wrong_requests(world):
    job = world.job()
    for wrong in ({**job, "id": "../x"}, {**job, "channel": "a b"}, {**job, "action": "erase"}, {**job, "run": "/bin/sh"}, "now"):
        answer = world.ask_helper({"op": "update.start", "job": wrong})
        expect(not answer["ok"] and answer["code"].startswith("json."), wrong, answer)
    answer = world.ask_helper({"op": "update.cancel", "id": "u-none"})
    expect(not answer["ok"] and answer["code"] == "update.none", answer)
    expect(not world.path(f"{UPDATE}/job.json").exists(), "nothing was begun")


def test_nothing_newer(world):
    update = world.update()
    expect(update["status"] == "Completed" and steps(update)["own"] == "skipped", update)
    expect("is the newest" in text_of(update, "own"), update)


def test_check_changes_nothing(world):
    publish(world, "0.1.1")
    update = world.update(action="check")
    expect(update["status"] == "Completed" and (update["from"], update["to"]) == ("0.1.0", "0.1.1"), update)
    own, = [p for p in update["packages"] if p["name"] == "gridnode"]
    expect(own["bytes"] > 100000 and update["size"] >= own["bytes"] and not own["security"], update)
    expect(update["needs_bytes"] > update["size"] and update["free_bytes"] > update["needs_bytes"], update)
    expect("download" not in steps(update) and world.package() == f"{INSTALLED} 0.1.0", update)


def test_download_installs_nothing(world):
    update = world.update(action="download")
    expect(update["status"] == "Completed" and steps(update)["download"] == "done", update)
    expect(update["bytes"] == update["size"] > 100000, update)
    expect(list(world.path(f"{UPDATE}/apt/own/archives").glob("gridnode_0.1.1_*.deb")), "it is there")
    expect(world.package() == f"{INSTALLED} 0.1.0", world.package())


# ---- a good version ----

def test_a_good_version(world):
    started = time.monotonic()
    job = world.begin(reboot=False)
    answer = world.ask_helper({"op": "update.start", "job": world.job(by="second")})
    expect(not answer["ok"] and answer["code"] == "update.busy" and job["id"] in answer["error"] and "test" in answer["error"], answer)
    update = world.wait(job)
    print(f"updated and judged within {time.monotonic() - started:.1f} s")
    expect(update["status"] == "Completed", update, world.log(job))
    expect_installed(world, "0.1.1")
    for step in ("prepare", "look-up", "connect", "download", "keep", "own", "judge"):
        expect(steps(update)[step] == "done", step, update)
    expect([s["from"] for s in update["steps"]] == sorted(s["from"] for s in update["steps"]), "one after the other", update["steps"])
    expect(field(world.path(f"{UPDATE}/kept/gridnode_0.1.0_amd64.deb"), "Version") == "0.1.0", "what ran before is kept")
    history = json.loads(world.read(f"{UPDATE}/history/{job['id']}.json"))
    expect(history["status"] == "Completed" and history["to"] == "0.1.1", history)
    for left in ("job.json", "judge.json", "decided.json"):
        expect(not world.path(f"{UPDATE}/{left}").exists(), left)
    expect("systemctl" not in world.machine("systemctl", "--failed", "--plain", "--no-legend"), "no unit has failed")


def test_no_other_source(world):
    """What the machine's own sources name is not asked for: one that can never answer is in nobody's way."""
    world.write("/etc/apt/sources.list.d/other.list", "deb http://other.example/debian bookworm main\n")
    update = world.update(action="check")
    expect(update["status"] == "Completed" and "other.example" not in update["told"], update["told"])
    world.path("/etc/apt/sources.list.d/other.list").unlink()


# ---- versions that are no good ----

def expect_put_back(world, update, version, bad, why):
    expect(update["status"] == "Failed" and why in update["error"] and f"{version} is installed again" in update["error"], update)
    expect(steps(update)["restore"] == "done" and update["log"], update)
    expect_installed(world, version)
    refused = json.loads(world.read(f"{UPDATE}/refused.json"))["versions"]
    expect(bad in [item["version"] for item in refused], refused)


def test_a_daemon_that_does_not_start(world):
    publish(world, "0.1.2", "--defect", "daemon")
    update = world.update()
    expect_put_back(world, update, "0.1.1", "0.1.2", "does not answer")


def test_it_is_not_offered_again(world):
    update = world.update()
    expect(update["status"] == "Completed" and steps(update)["own"] == "skipped", update)
    expect("0.1.2 failed on this node" in text_of(update, "own"), update)
    expect_installed(world, "0.1.1")


def test_a_postinst_that_fails(world):
    publish(world, "0.1.3", "--defect", "postinst")
    update = world.update()
    expect_put_back(world, update, "0.1.1", "0.1.3", "gridnode")
    expect("was made to fail" in update["told"], update["told"])


def test_a_conffile_that_changed_on_both_sides(world):
    name = "/etc/gridnode/example.conf"
    publish(world, "0.1.4", "--conffile", f"{name}=first")
    expect(world.update()["status"] == "Completed", world.update_state())
    world.write(name, "ours\n")
    publish(world, "0.1.5", "--conffile", f"{name}=second")
    update = world.update()
    expect(update["status"] == "Completed", update)
    expect(world.read(name) == "ours\n" and world.read(f"{name}.dpkg-dist") == "second\n", "no question, and ours is kept")
    expect_installed(world, "0.1.5")


# ---- the operating system ----

def newer_of_debian(world, name, version):
    """A Debian package as it is on the machine, as another version: what Debian's security team would publish."""
    world.machine("sh", "-c", f"rm -rf /var/tmp/repack; mkdir /var/tmp/repack && cd /var/tmp/repack && dpkg-repack {name}")
    made, = world.path("/var/tmp/repack").glob("*.deb")
    copy = world.folder / made.name
    copy.write_bytes(made.read_bytes())
    tree = world.folder / f"{name}-tree"
    subprocess.run(["dpkg-deb", "-R", copy, tree], check=True)
    control = (tree / "DEBIAN/control").read_text().splitlines()
    (tree / "DEBIAN/control").write_text("\n".join(f"Version: {version}" if line.startswith("Version:") else line for line in control) + "\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, world.folder], check=True, stdout=subprocess.DEVNULL)
    return world.folder / f"{name}_{version}_{field(copy, 'Architecture')}.deb"


def test_security_packages(world):
    """Those of the channel "security", and not those of another."""
    world.publish(newer_of_debian(world, "libpcap0.8", "1.99-security"), channel="security")
    world.publish(newer_of_debian(world, "procps", "99-stable"), channel="stable")
    before = world.package("procps")
    update = world.update()
    expect(update["status"] == "Completed" and steps(update)["security"] == "done", update)
    expect(world.package("libpcap0.8") == f"{INSTALLED} 1.99-security", world.package("libpcap0.8"))
    expect(world.package("procps") == before, "what is no security package stays")
    changed, = update["packages"]
    expect(changed["name"] == "libpcap0.8" and changed["security"], update)


# ---- interrupted ----

def test_dpkg_that_was_interrupted(world):
    world.machine("sh", "-c", "cd /var/tmp && apt-get --version >/dev/null && dpkg --unpack /var/tmp/repack/*.deb")
    expect("half" in world.package("procps") or "unpacked" in world.package("procps"), world.package("procps"))
    update = world.update()
    expect(update["status"] == "Completed" and "it is repaired" in update["told"], update["told"])
    expect(world.package("procps").startswith(INSTALLED), world.package("procps"))


def test_no_cancelling_while_it_installs(world):
    publish(world, "0.1.6")
    job = world.begin()
    world.wait_for_step(job, "own")
    answer = world.ask_helper({"op": "update.cancel", "id": job["id"]})
    expect(not answer["ok"] and answer["code"] == "update.installing", answer)
    expect(world.wait(job)["status"] == "Completed", world.update_state())
    expect_installed(world, "0.1.6")


def test_killed_at_each_step(world):
    """The updater, the judge, apt, dpkg: somebody goes on."""
    version = -1
    for victims, step in ((("gridnode-update",), "connect"), (("gridnode-judge",), "connect"), (("gridnode-update", "apt-get"), "download"),
                          (("gridnode-judge", "gridnode-update", "apt-get", "dpkg", "gridnode"), "own"), (("gridnode-judge",), "judge")):
        version += 1
        publish(world, f"0.2.{version}")
        job = world.begin()
        world.wait_for_step(job, step)
        count = world.kill(*victims)
        update = world.wait(job)
        expect(count > 0 and update["status"] == "Completed", victims, step, count, update, world.log(job))
        expect_installed(world, f"0.2.{version}")


def test_a_power_cut(world):
    for version, step in (("0.3.0", "own"), ("0.3.1", "judge")):
        publish(world, version)
        job = world.begin()
        world.wait_for_step(job, step)
        world.power_cut()
        update = world.wait(job)
        expect(update["status"] == "Completed", step, update, world.log(job))
        expect_installed(world, version)


def test_restart_of_the_machine(world):
    """Where something needs it and the update may."""
    world.write("/run/reboot-required", "*** System restart required ***\n")
    update = world.update(reboot=False)
    expect(update["status"] == "Completed" and update["restart_needed"] and steps(update)["restart"] == "skipped", update)
    before = world.machine_pid
    job = world.begin(reboot=True)
    world.await_boot(before)
    update = world.wait(job)
    expect(update["status"] == "Completed" and steps(update)["restart"] == "done" and not update["restart_needed"], update)


# ---- waiting ----

def test_cancelled_while_it_waits(world):
    world.write("/etc/gridnode/site.conf", world.read("/etc/gridnode/site.conf") + "\n[transfer]\nfallback = none\n")
    world.machine("systemctl", "restart", "gridnode")
    publish(world, "0.4.0")
    world.lab("fault", "drop-443")
    job = world.begin()
    world.wait_for_step(job, "connect", ("waiting",), 60)
    state = world.update_state()
    expect("443" in state["waiting"]["for"] and state["waiting"]["since"], state)
    answer = world.ask_helper({"op": "update.cancel", "id": job["id"]})
    expect(answer["ok"], answer)
    update = world.wait(job, 20)
    expect(update["status"] == "Failed" and "cancelled" in update["error"], update)


def test_goes_on_when_the_way_opens(world):
    before = world.package()
    job = world.begin()
    world.wait_for_step(job, "connect", ("waiting",), 60)
    expect(world.package() == before, "nothing was changed")
    world.lab("reset")
    opened = time.monotonic()
    update = world.wait(job)
    print(f"completed {time.monotonic() - opened:.1f} s after the way was opened")
    expect(update["status"] == "Completed", update)
    expect_installed(world, "0.4.0")


def main():
    tests = [f for name, f in globals().items() if name.startswith("test_")]
    wanted = [f for f in tests if not sys.argv[2:] or any(part in f.__name__ for part in sys.argv[2:])]
    started = time.monotonic()
    with World(sys.argv[1], "rootup") as world:
        print(f"up within {time.monotonic() - started:.1f} s", flush=True)
        results = [run_test(function, world) for function in wanted]
    print(f"{sum(results)} passed, {len(results) - sum(results)} failed")
    return 0 if all(results) else 1


sys.exit(main())
