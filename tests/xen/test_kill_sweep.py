"""The daemon killed at its system calls, and at those of its workers, in creations and destructions of Xen guests; and its
calls failing. What the next daemon finds is whole or gone, as in tests/system/test_kill_sweep.py, whose tool and judgement
these are; and nothing is left in Xen, its store and the kernel, while a domain of xl's lives on untouched (conftest.py).

A worker makes and removes the domain: it dies with its daemon, so the daemon is killed when its workers are at their N-th
hypercall, or their N-th write to the store or elsewhere. DEBMARSHAL_SWEEP=whole goes through all of them, for PV too, which
takes most of an hour; otherwise through as many of a PVH and an HVM guest's life as twenty seconds for each sweep have room for, which are
spread evenly.
"""

import contextlib
import os
import tempfile
import time

import pytest

from conftest import BUILD
from sweep import Disconnected, Failure, Operation, Point, Rig, in_child
from test_failing_calls import go_on
from tiny import TinyImage
from xen import Machine, xl_list

WHOLE = os.environ.get("DEBMARSHAL_SWEEP") == "whole"
BUDGET = None if WHOLE else 20  # seconds in which a sweep goes on to another point
POINTS_MIN = 4  # which every machine has the time for
SECONDS = None if WHOLE else 900  # of a sweep that hangs
# Where a call fails first: the first worker cannot be started.
NO_WORKER = [(1, "socketpair"), (1, "clone3")]
# By which a worker changes something outside of it.
WORKER_CALLS = ("ioctl", "write", "sendto", "sendmsg", "setns", "clone3")


class XenRig(Rig):
    warmed_up = ("null", "xen")
    deadline = 120  # of an emulated machine, on a host that has others at work
    end_deadline = 10
    config = {"start_timeout": "240s"}

    def __init__(self, directory, user):
        self.image = TinyImage(directory)
        self.machine = Machine()
        self.machine_before = None
        super().__init__(BUILD, directory, user)
        self.machine_before = self.machine.picture()

    def extra(self, hypervisor, machine_type="pvh"):
        if hypervisor != "xen":
            return {}
        return {"type": machine_type} if machine_type == "hvm" else self.image.extra(type=machine_type)

    def difference(self):
        lines = super().difference()
        if self.machine_before:
            now = self.machine.picture()
            lines += self.machine.difference(self.machine_before, now)
            lines += [f"LOST {line}" for line in self.machine.difference(now, self.machine_before)]
        return lines

    def check_domain(self, name):
        """It is whole: Xen has it, its console can be had."""
        listed = xl_list()
        if name not in listed or "p" not in listed[name][3]:
            raise FileNotFoundError(f"{name} does not stand still: {listed}")
        os.close(self.client.domain(name, "OpenConsole").take())


def operations(machine_type):
    def create(rig, _):
        memory = "32M" if machine_type == "hvm" else "16M"
        return rig.client.create_domain(rig.net, "xen", rig.disk, memory, extra=rig.extra("xen", machine_type))

    def destroy(rig, name):
        rig.client.destroy_domain(name)
        return name

    return [Operation(f"createDomain {machine_type}", True, lambda rig, _: None, create),
            Operation(f"destroyDomain {machine_type}", False, create, destroy)]


TYPES = ("pvh", "hvm", "pv") if WHOLE else ("pvh", "hvm")
OPERATIONS = [operation for machine_type in TYPES for operation in operations(machine_type)]
each_operation = pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.title)


@contextlib.contextmanager
def rig(people):
    with tempfile.TemporaryDirectory(prefix="k-", dir="/run") as directory:
        os.chmod(directory, 0o755)
        it = XenRig(directory, people["alice"])
        yield it
        if it.close() != 0:
            raise Failure("the daemon did not end well")


def judged(it, point, after=lambda point: None):
    try:
        after(point)
        complaints = point.judge()
    except (Failure, Disconnected) as error:
        complaints = [str(error)]
    if complaints:
        raise Failure(f"{point.operation.title}, {point.mode} at {point.hit}; the answer: {point.error or 'done'}\n" +
                      "\n".join(complaints) + f"\n{it.daemon.log()[-6000:]}")


def counted(it, operation, mode):
    """Not killed: the Point, of which there is nothing any more."""
    point = Point(it, operation, mode, 0)
    judged(it, point)
    return point


def spread(points):
    """In an order in which any beginning is spread evenly over all of them: by the bits of their places, the lowest first."""
    width = len(points).bit_length()
    places = sorted(range(len(points)), key=lambda place: f"{place:0{width}b}"[::-1])
    return [points[place] for place in places]


class Sweep:
    """Points of one operation, until the time is up."""

    def __init__(self, it, operation, mode):
        self.it, self.operation, self.mode = it, operation, mode
        self.begun = time.monotonic()
        self.points = []
        self.visited = self.hits = 0

    def visit(self, points, after, first=()):
        """Points are numbers of calls, each with the name of the call that counts, or None. No two runs make quite as many,
        so some are missed; but a run that makes far fewer is not what was to be killed."""
        counts = {only: number for number, only in (*first, *points)}
        self.points = [*first, *spread(points)]
        for number, only in self.points:
            if BUDGET and time.monotonic() - self.begun > BUDGET and self.visited >= POINTS_MIN:
                break
            point = Point(self.it, self.operation, self.mode, number, only=only)
            self.visited += 1
            self.hits += point.hit is not None
            judged(self.it, point, after)
            if not point.hit and point.calls < counts[only] / 2:
                raise Failure(f"{self.operation.title} made {point.calls} calls ({only or 'of any kind'}), not {counts[only]}")

    def restart(self, point):
        if point.hit:
            self.it.restart()

    def report(self, capsys):
        with capsys.disabled():
            print(f"\n{self.mode}: {self.operation.title}: {self.visited} of {len(self.points)} points, {self.hits} hit, "
                  f"{time.monotonic() - self.begun:.0f} s")
        assert self.hits >= self.visited / 2
        return self.visited


@each_operation
def test_killed_at_calls_of_its_own(people, operation, capsys):
    def sweep():
        with rig(people) as it:
            run = Sweep(it, operation, "kill")
            run.visit([(n, None) for n in range(1, counted(it, operation, "count").calls + 1)], run.restart)
            return run.report(capsys)

    assert in_child(sweep, SECONDS) >= POINTS_MIN


@each_operation
def test_killed_at_calls_of_its_workers(people, operation, capsys):
    def sweep():
        with rig(people) as it:
            calls = [call.syscall for call in counted(it, operation, "list-below").list]
            run = Sweep(it, operation, "kill-below")
            run.visit([(n, name) for name in WORKER_CALLS for n in range(1, calls.count(name) + 1)], run.restart)
            return run.report(capsys)

    assert in_child(sweep, SECONDS) >= POINTS_MIN


@each_operation
def test_calls_of_its_own_fail(people, operation, capsys):
    def sweep():
        with rig(people) as it:
            run = Sweep(it, operation, "fail")
            run.visit([(n, None) for n in range(1, counted(it, operation, "count").calls + 1)], lambda point: go_on(it, point),
                      NO_WORKER)
            return run.report(capsys)

    assert in_child(sweep, SECONDS) >= POINTS_MIN
