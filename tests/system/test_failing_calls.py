"""Each system call of the daemon's, in each of the four operations, failing in its turn: the operation gives an error or
succeeds, the daemon lives, nothing leaks and nothing recorded is lost.

A call fails once, with the errno of a host that is short of something (see sweep.c). What such a failure leaves may
need a moment (a removal that is tried again) or a second request (a record that could not be taken back).
"""

import os
import re
import tempfile

import pytest

from conftest import BUILD
from sweep import Disconnected, Failure, Point, Rig, in_child, operations

# Where the daemon may end, since its event loop itself cannot go on. Points there are not counted, but judged after a
# restart like those of a killed daemon.
LOOP_CALLS = {
    ("epoll_wait", r"\[eventpoll\]"): "without it no event comes any more",
    ("timerfd_settime", r"\[timerfd\]"): "the loop arms its clock before it sleeps, and would never wake",
    ("read", r"\[timerfd\]"): "the loop's clock would go off again and again",
}


def is_loop_call(hit):
    return any(hit.syscall == call and re.search(target, hit.target) for call, target in LOOP_CALLS)


def daemon_ends(rig):
    """A loop that fails takes the daemon along, though not at once."""
    return not rig.wait_until(rig.daemon.is_alive, rig.end_deadline)


def go_on(rig, point):
    """Judge the point with a live daemon and a connection to it. Returns whether it counts."""
    hit = point.hit
    if hit and is_loop_call(hit) and daemon_ends(rig):
        rig.daemon.process = None
        rig.start()
        point.mode = "kill"
        return False
    if not rig.daemon.is_alive():
        raise Failure("the daemon has ended")
    if isinstance(point.error, Disconnected):
        rig.connect()
    return bool(hit and hit.error)


def sweep(people, base, operation, mode="fail", only=""):
    """Runs in a process of its own. Returns how many points counted. mode "hold": what fails is not the call, but what
    the daemon has started by then."""
    with tempfile.TemporaryDirectory(prefix="f-", dir=base) as directory:
        os.chmod(directory, 0o755)
        rig = Rig(BUILD, directory, people["alice"], operation.spares)
        number = counted = 0
        while True:
            number += 1
            act = (lambda: rig.orphan(only)) if mode == "hold" else (lambda: None)
            point = Point(rig, operation, mode, number, act)
            try:
                counted += go_on(rig, point)
                complaints = point.judge()
            except (Failure, Disconnected) as error:
                complaints = [str(error)]
            if complaints:
                raise Failure(f"{operation.title}, {point.hit}; the answer: {point.error or 'done'}\n" +
                              "\n".join(complaints) + f"\n{rig.daemon.log()[-4000:]}")
            if not point.hit:
                break
        if rig.close() != 0:
            raise Failure("the daemon did not end well")
        return counted if mode == "fail" else rig.killed


@pytest.mark.parametrize("operation", operations(), ids=lambda o: o.title)
def test_each_system_call_fails(people, base, operation, capsys):
    points = in_child(lambda: sweep(people, base, operation))
    with capsys.disabled():
        print(f"\nfailing calls: {operation.title}: {points} points")
    assert points > 20


@pytest.mark.parametrize("operation", operations(), ids=lambda o: o.title)
def test_children_killed_at_each_system_call(people, base, operation, capsys):
    """The keeper, the emulator, a worker, or a child that has not become any of them yet, each as soon as it is there and
    at all times after."""
    killed = in_child(lambda: sweep(people, base, operation, "hold"))
    with capsys.disabled():
        print(f"\nchildren killed: {operation.title}: {killed} of them")
    assert killed > 5


@pytest.mark.parametrize("operation", operations()[:3], ids=lambda o: o.title)
def test_server_killed_at_each_system_call(people, base, operation, capsys):
    """dnsmasq, which is the keeper's child: of the network that is being made, or destroyed."""
    killed = in_child(lambda: sweep(people, base, operation, "hold", "dnsmasq"))
    with capsys.disabled():
        print(f"\nservers killed: {operation.title}: {killed} of them")
    assert killed > 5
