"""kill -9 of every process that has to do with updates, at random points: each update ends in the old version or the new one, wholly,
as it says, and is told once."""

import collections
import os
import threading
import time

from plane_site import Failed, children, expect, program_of, wait_for

from .world import Ends

KILLS = 100
A_TURN = 8  # of updates that are killed: how many kills each takes
# How often each is chosen, of the sum.
ON_NODE = {"gridnode-update": 4, "gridnode-judge": 4, "gridnode-daemon": 3, "gridnode-helper": 1, "apt-get": 4, "method": 4, "dpkg": 6}
ON_PLANE = {"nginx": 2, "gridplane": 2}
RESTART_S = 0.3


class Plane(threading.Thread):
    """Keeps gridplane running, as systemd would."""

    def __init__(self, world):
        super().__init__(daemon=True)
        self.world, self.is_over = world, threading.Event()
        world.stop_plane()
        self.process = world.start_plane()

    def run(self):
        while not self.is_over.wait(0.05):
            if self.process.poll() is not None:
                self.is_over.wait(RESTART_S)
                self.process = self.world.start_plane()

    def victims(self, program):
        if program == "gridplane":
            return [self.process.pid] if self.process.poll() is None else []
        masters = [pid for pid in children(self.process.pid) if program_of(pid) == "nginx"]
        return masters + [worker for master in masters for worker in children(master)]


class Killer:
    """Kills one after the other while an update goes on."""

    def __init__(self, world, plane):
        self.world, self.plane, self.chance = world, plane, world.chance
        self.killed, self.steps = collections.Counter(), collections.Counter()

    def victims(self, name):
        if name in ON_PLANE:
            return self.plane.victims(name)
        if name == "method":
            return [pid for pid in self.world.processes_of("gridnode") if "/apt/methods/" in exe_of(pid)]
        if name == "dpkg":  # and what it runs
            return [pid for one in ("dpkg", "dpkg-deb", "gridnode.postins", "gridnode.prerm") for pid in self.world.processes_of(one)]
        return self.world.processes_of(name)

    def kill(self, name, until):
        """False: there was none of them any more before the update ended."""
        while self.world.is_under_way() and time.monotonic() < until:
            found = self.victims(name)
            if found:
                time.sleep(self.chance.choice((0, self.chance.uniform(0, 0.3))))
                step = next((s["name"] for s in self.world.state_of_update().get("steps", []) if s["state"] in ("running", "waiting")), "")
                try:
                    os.kill(self.chance.choice(found), 9)
                except ProcessLookupError:
                    continue
                self.killed[name] += 1
                self.steps[step] += 1
                return True
            time.sleep(0.005)
        return False

    def turn(self, count):
        """While one update goes on: how many were killed."""
        weights = ON_NODE | ON_PLANE
        done = 0
        for name in self.chance.choices(list(weights), list(weights.values()), k=count):
            time.sleep(self.chance.uniform(0, 0.6))
            done += self.kill(name, time.monotonic() + 2)
        return done


def exe_of(pid):
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def test_kill(world):
    plane = Plane(world)
    plane.start()
    try:
        killer, ends, done, began = Killer(world, plane), Ends(world), 0, time.monotonic()
        while done < KILLS:
            wait_for("the plane answers", lambda: offers(world), 30)
            before = world.version
            identity = world.start_update()
            done += killer.turn(min(A_TURN, KILLS - done))
            ends.judge(identity, before, world.offered)
            print(f"        {done} kills, {dict(ends.counts)}, {time.monotonic() - began:.0f} s", flush=True)
        print(f"        killed: {dict(killer.killed)}, at {dict(killer.steps)}; updates: {dict(ends.counts)}", flush=True)
        expect(not ends.wrong, *ends.wrong)
        expect(ends.counts["Completed"] > ends.counts["Failed"], ends.counts)
        missing = [name for name in ON_NODE | ON_PLANE if not killer.killed[name]]
        expect(not missing, f"never killed: {missing}")
    finally:
        plane.is_over.set()
        plane.join()


def offers(world):
    try:
        return world.offer()
    except Failed:
        return None
