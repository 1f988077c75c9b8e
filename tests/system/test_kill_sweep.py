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
        rig = Rig(BUILD, directory, people["alice"])
        number = 0
        while True:
            point = Point(rig, operation, "kill", number + 1)
            if not point.hit:
                if point.error:
                    raise Failure(f"without being killed, {operation.title} failed: {point.error}")
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
