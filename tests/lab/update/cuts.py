"""Power cuts at random points of an update: the machine boots again, and what was begun ends in the old version or the new one."""

import time

from plane_site import expect

from .world import Ends

CUTS = 10
AN_UPDATE_S = 6  # from what is asked for to the judge


def test_power_cut(world):
    ends = Ends(world)
    for number in range(CUTS):
        world.offer()
        before = world.version
        identity = world.start_update()
        # Each part of an update once, and within it anywhere.
        time.sleep(AN_UPDATE_S / CUTS * (number + world.chance.random()))
        world.await_boot(world.power_cut())
        ends.judge(identity, before, world.offered)
    print(f"        power cuts: {CUTS}; updates: {dict(ends.counts)}", flush=True)
    expect(not ends.wrong, *ends.wrong)
    expect(ends.counts["Completed"] > ends.counts["Failed"], ends.counts)
