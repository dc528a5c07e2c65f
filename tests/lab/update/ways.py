"""Updates on ways that are closed, bad or lie: each waits with the cause or ends with a true sentence, and nothing is half installed."""

import contextlib
import json
import re
import subprocess
import sys
import time

from plane_site import ROOT, expect, wait_for

from .basic import has, put, small

REPO = "198.51.100.20, 203.0.113.200"
TRICK_PORT = 9443


def step(state, name):
    return next((s for s in state["steps"] if s["name"] == name), {})


@contextlib.contextmanager
def fault(world, *names):
    world.lab("fault", names[0])
    for name in names[1:]:
        world.lab("fault", "--also", name)
    try:
        yield
    finally:
        world.lab("reset")


@contextlib.contextmanager
def trick(world, name):
    """A server that answers like this where 443 of the repository was, and no other way."""
    for end, name_of in (("crt", "trick.chain"), ("key", "trick.key")):
        (world.folder / name_of).write_bytes((world.plane_root / f"var/lib/gridplane/ca/server/gridplane.{end}").read_bytes())
    process = subprocess.Popen(["nsenter", f"--net=/run/netns/gl-{world.name}-inet", sys.executable,
                                ROOT / "tests/lab/update/trick.py", world.folder, name, str(TRICK_PORT)], stdout=subprocess.PIPE, text=True)
    world.processes.append(process)
    expect(process.stdout.readline() == "ready\n", name)
    world.nft("inet", f"""table inet trick {{
  chain instead {{
    type nat hook prerouting priority -100
    ip daddr {{ {REPO} }} tcp dport 443 redirect to :{TRICK_PORT}
  }}
  chain closed {{
    type filter hook input priority 0
    ct state new tcp dport 8443 drop
  }}
}}
""")
    try:
        yield
    finally:
        process.kill()
        process.wait()
        time.sleep(0.5)  # its last words still go by the translation, which the reset ends
        world.lab("reset")


def waits(world, opened, what, seconds=60):
    """The update begins while `opened` holds, waits for what is said, and ends by itself afterwards."""
    world.offer()
    with opened:
        identity = world.start_update()
        state = world.await_waiting(identity, seconds)
        if not re.search(what, state["waiting_for"]):  # the first words are apt's, the cause follows
            state = wait_for(f"it waits for {what}", lambda: re.search(what, (now := world.state_of_update())["waiting_for"]) and now,
                             seconds)
        status = world.machine("gridnode", "status")
        expect("waits since" in status and re.search(what, status), status)
        expect(world.installed() == ["ii", world.version])
        time.sleep(6)  # a wait is told after 5 s
    began = time.monotonic()
    state = world.await_end(identity, 90)
    world.expect_good(state, world.offered)
    told = [row for row in world.last_told if row[0] == 1]
    expect(len(told) == 1 and re.search(what, told[0][1]) and "waits since" in told[0][1], world.last_told)
    expect([row for row in world.last_told if "goes on" in row[1]], world.last_told)
    return time.monotonic() - began


def fails(world, what, seconds=60):
    """The update ends with a sentence that says why."""
    began = time.monotonic()
    state = world.await_end(world.start_update(), seconds + 30)
    world.expect_end(state, "Failed", world.version)
    expect(re.search(what, state["error"]), state["error"])
    expect(world.last_told[-1][0] == 2 and re.search(what, world.last_told[-1][1]), world.last_told)
    expect(time.monotonic() - began < seconds)


def test_443_dropped(world):
    """Goes on by 8443."""
    world.offer()
    with fault(world, "drop-443"):
        state = world.run_update()
    world.expect_good(state, world.offered)
    expect(state["way"] == 8443, state["way"])


def test_both_dropped(world):
    waits(world, fault(world, "drop-443-8443"), r"dropped silently after 192\.0\.2\.1")


def test_interceptor(world):
    waits(world, fault(world, "mitm", "drop-8443"), r"Fortinet|intercept")


def test_name_unknown(world):
    """The profile knows the addresses, too."""
    world.offer()
    with fault(world, "nxdomain-repo"):
        state = world.run_update()
    world.expect_good(state, world.offered)


def test_cut(world):
    """Each connection is reset after 64 KiB."""
    world.offer()
    with fault(world, "transfer-reset"):
        state = world.run_update()
    world.expect_good(state, world.offered)


@contextlib.contextmanager
def loss(world):
    """Three packets of ten are lost, each way."""
    world.nft("fw", """table inet loss {
  chain forward {
    type filter hook forward priority 0
    numgen random mod 100 < 30 counter drop
  }
}
""")
    try:
        yield
    finally:
        world.lab("reset")


def test_loss(world):
    """What is small comes through; what is large goes on from where it was when the line is well again."""
    world.publish(small(world, "lock", "1.0"), channel="security")
    put(world, small(world, "lock", "0.9"))
    with loss(world):
        state = world.run_update(150)
    world.expect_end(state, "Completed", world.version)
    expect(has(world, "lock") == "1.0", has(world, "lock"))
    world.offer()
    with loss(world):
        identity = world.start_update()
        time.sleep(10)
        expect(world.installed() == ["ii", world.version])
    world.expect_good(world.await_end(identity, 90), world.offered)


def test_drip(world):
    waits(world, trick(world, "drip"), r"slower than 512 bytes/s")


def test_busy(world):
    waits(world, trick(world, "busy"), r"503")


def pool_of(world):
    apt, = (world.plane_root / "var/lib/gridplane/apt").iterdir()
    return next((apt / "public/pool").rglob(f"gridnode_{world.offered}_*.deb"))


def test_wrong_hash(world):
    """Tried three times: what is in between may have changed it."""
    world.offer()
    path = pool_of(world)
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    fails(world, "Hash Sum mismatch")


def test_missing(world):
    world.offer()
    pool_of(world).unlink()
    fails(world, "404", 10)


def test_wrong_signature(world):
    world.offer()
    with world.release("stable", lambda text: text.replace("Components: main", "Components: mein"), sign=False):
        fails(world, "BADSIG", 15)


def test_expired(world):
    world.offer()
    with world.release("stable", lambda text: re.sub("Valid-Until: .*", "Valid-Until: Sat, 01 Jan 2022 00:00:00 UTC", text)):
        fails(world, "is expired", 10)


def test_good_again(world):
    """Nothing of all that is in the way of a good one."""
    world.offer()
    world.expect_good(world.run_update(), world.offered)
    history = world.update("--history", "--json")
    expect(json.loads(history), history)
