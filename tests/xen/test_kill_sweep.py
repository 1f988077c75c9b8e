"""The daemon killed at its system calls, and at those of its workers, in creations and destructions of Xen guests; and its
calls failing. What the next daemon finds is whole or gone, as in tests/system/test_kill_sweep.py, whose tool and judgement
these are; and nothing is left in Xen, its store and the kernel, while a domain of xl's lives on untouched (conftest.py).

A worker makes and removes the domain: it dies with its daemon, so the daemon is killed when its workers are at their N-th
hypercall, or their N-th write to the store or elsewhere. DEBMARSHAL_SWEEP=whole goes through all of them, for PV too, which
takes hours; otherwise it is every so many, in a PVH guest's life.
"""

import contextlib
import os
import tempfile
import time

import pytest

from conftest import BUILD
from sweep import Failure, Operation, Point, Rig, in_child
from test_failing_calls import go_on
from tiny import TinyImage
from xen import Machine, xl_list

WHOLE = os.environ.get("DEBMARSHAL_SWEEP") == "whole"
OWN_STEP = 1 if WHOLE else 24  # of the daemon's own calls, most of which are its loop's and its record's
SECONDS = None if WHOLE else 900  # of each sweep, at the most
# By which a worker changes something outside of it, and how many are passed over.
WORKER_STEPS = {"ioctl": 2, "write": 8, "sendto": 2, "sendmsg": 2, "setns": 1, "clone3": 2}


class XenRig(Rig):
    warmed_up = ("null", "xen")

    def __init__(self, directory, user):
        self.image = TinyImage(directory)
        self.machine = Machine()
        self.machine_before = None
        super().__init__(BUILD, directory, user)
        self.machine_before = self.machine.picture()

    def extra(self, hypervisor):
        return self.image.extra() if hypervisor == "xen" else {}

    def difference(self):
        lines = super().difference()
        if self.machine_before:
            now = self.machine.picture()
            lines += self.machine.difference(self.machine_before, now)
            lines += [f"LOST {line}" for line in self.machine.difference(now, self.machine_before)]
        return lines

    def check_domain(self, name):
        """It is whole: Xen has it, its console can be had."""
        if "p" not in xl_list()[name][3]:
            raise FileNotFoundError(f"{name} does not stand still: {xl_list()}")
        os.close(self.client.domain(name, "OpenConsole").take())


def operations(machine_type):
    def create(rig, _):
        return rig.client.create_domain(rig.net, "xen", rig.disk, extra=rig.image.extra(type=machine_type))

    def destroy(rig, name):
        rig.client.destroy_domain(name)
        return name

    return [Operation(f"createDomain {machine_type}", True, lambda rig, _: None, create),
            Operation(f"destroyDomain {machine_type}", False, create, destroy)]


OPERATIONS = [operation for machine_type in (("pvh", "pv") if WHOLE else ("pvh",)) for operation in operations(machine_type)]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.title)


@contextlib.contextmanager
def rig(people):
    with tempfile.TemporaryDirectory(prefix="k-", dir="/run") as directory:
        os.chmod(directory, 0o755)
        it = XenRig(directory, people["alice"])
        yield it
        if it.close() != 0:
            raise Failure("the daemon did not end well")


def judged(it, point):
    complaints = point.judge()
    if complaints:
        raise Failure(f"{point.operation.title}, {point.mode} at {point.hit}; the answer: {point.error or 'done'}\n" +
                      "\n".join(complaints) + f"\n{it.daemon.log()[-6000:]}")


def counted(it, operation, mode):
    """Not killed: the Point, of which there is nothing any more."""
    point = Point(it, operation, mode, 0)
    if point.error:
        raise Failure(f"without being killed, {operation.title} failed: {point.error}")
    judged(it, point)
    return point


def killed_at(it, operation, mode, numbers, only=None):
    """How often it was."""
    hits = 0
    for number in numbers:
        point = Point(it, operation, mode, number, only=only)
        if point.hit:
            hits += 1
            it.restart()
        judged(it, point)
    return hits


def report(capsys, text):
    with capsys.disabled():
        print(f"\n{text}")


@each_operation
def test_killed_at_calls_of_its_own(people, operation, capsys):
    def sweep():
        with rig(people) as it:
            begun, calls = time.monotonic(), counted(it, operation, "count").calls
            numbers = range(1, calls + 1, OWN_STEP)
            killed_at(it, operation, "kill", numbers)
            report(capsys, f"kill sweep: {operation.title}: {len(numbers)} of {calls} points, {time.monotonic() - begun:.0f} s")
            return calls

    assert in_child(sweep, SECONDS) > 50


@each_operation
def test_killed_at_calls_of_its_workers(people, operation, capsys):
    def sweep():
        with rig(people) as it:
            begun, calls = time.monotonic(), counted(it, operation, "list-below").list
            hits = {}
            for name, step in WORKER_STEPS.items():
                count = sum(call.syscall == name for call in calls)
                hits[name] = killed_at(it, operation, "kill-below", range(1, count + 1, 1 if WHOLE else step), name)
            report(capsys, f"kill sweep of workers: {operation.title}: {hits}, of {len(calls)} calls, "
                           f"{time.monotonic() - begun:.0f} s")
            return sum(hits.values())

    assert in_child(sweep, SECONDS) > 10


@pytest.mark.parametrize("operation", operations("pvh"), ids=lambda o: o.title)
def test_calls_of_its_own_fail(people, operation, capsys):
    def sweep():
        with rig(people) as it:
            begun, calls = time.monotonic(), counted(it, operation, "count").calls
            numbers = range(1, calls + 1, OWN_STEP)
            for number in numbers:
                point = Point(it, operation, "fail", number)
                go_on(it, point)
                judged(it, point)
            report(capsys, f"failing calls: {operation.title}: {len(numbers)} of {calls} points, {time.monotonic() - begun:.0f} s")
            return calls

    assert in_child(sweep, SECONDS) > 50
