"""The daemon killed at each of its system calls in each of the four operations: what the next one finds is whole or gone.

After each point: the object is there, recorded, usable and removable, or nothing of it is; what had been answered is so;
a network and a domain that were there before live on untouched; and once what was left has been destroyed nothing is
left of it: no process, namespace, link, mount, socket, file, record, descriptor, charge.
"""

import os
import tempfile

import pytest

from conftest import BUILD
from sweep import Failure, Point, Rig, in_child, operations


def sweep(people, base, operation):
    """Runs in a process of its own. Returns the number of points."""
    with tempfile.TemporaryDirectory(prefix="k-", dir=base) as directory:
        os.chmod(directory, 0o755)
        rig = Rig(BUILD, directory, people["alice"], operation.spares)
        number = 0
        while True:
            point = Point(rig, operation, "kill", number + 1)
            if not point.hit:
                break
            number += 1
            rig.restart()
            complaints = point.judge()
            if complaints:
                raise Failure(f"{operation.title}, killed at {point.hit}:\n" + "\n".join(complaints) +
                              f"\n{rig.daemon.log()[-4000:]}")
        complaints = point.judge()
        if complaints:
            raise Failure(f"{operation.title}, not killed:\n" + "\n".join(complaints))
        if rig.close() != 0:
            raise Failure("the daemon did not end well")
        return number


@pytest.mark.parametrize("operation", operations(), ids=lambda o: o.title)
def test_killed_at_each_system_call(people, base, operation, capsys):
    points = in_child(lambda: sweep(people, base, operation))
    with capsys.disabled():
        print(f"\nkill sweep: {operation.title}: {points} points")
    assert points > 20


# Where the first daemon dies, so that the second one has something to finish or to undo: after so much of the operation.
HALF_DONE = {"createNetwork": 0.7, "createDomain qemu": 0.8, "destroyDomain null": 0.6}


def sweep_start(people, base, operation):
    """Kill the second daemon too, at each call of its start; the third one must put all in order."""
    with tempfile.TemporaryDirectory(prefix="k-", dir=base) as directory:
        os.chmod(directory, 0o755)
        rig = Rig(BUILD, directory, people["alice"], operation.spares)
        whole = Point(rig, operation, "count", 0)
        whole.judge()
        first = int(whole.calls * HALF_DONE[operation.title])
        number = 0
        while True:
            point = Point(rig, operation, "kill", first)
            rig.daemon.kill()
            hit = rig.start_killed(number + 1)
            if hit:
                number += 1
                rig.daemon.kill()
                rig.daemon.start()
            rig.connect()
            complaints = point.judge()
            if complaints:
                raise Failure(f"{operation.title}, killed at {point.hit}, and the next daemon at {hit}:\n" +
                              "\n".join(complaints) + f"\n{rig.daemon.log()[-4000:]}")
            if not hit:
                break
        if rig.close() != 0:
            raise Failure("the daemon did not end well")
        return number


@pytest.mark.parametrize("operation", [o for o in operations() if o.title in HALF_DONE], ids=lambda o: o.title)
def test_killed_at_each_system_call_of_the_start(people, base, operation, capsys):
    points = in_child(lambda: sweep_start(people, base, operation))
    with capsys.disabled():
        print(f"\nkill sweep: start after half of {operation.title}: {points} points")
    assert points > 100
