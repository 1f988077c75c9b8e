"""The daemon is killed in the middle of things: what it left is taken over or removed, and nothing is left behind."""

import os
import time

import pytest

from caller import DOMAIN, PRIVOPS, PRIVOPS_PATH, domain_path
from guests import SERVE, Guest
from xen import xl_list

# Seconds after the request; a creation takes some, a destruction less than one. Every step of theirs: test_kill_sweep.py.
CREATION = [0.1, 0.7, 2.0]
DESTRUCTION = [0.05, 0.4]


def kill_after(seconds, daemon, alice):
    """The answer to what was asked does not come any more."""
    time.sleep(seconds)
    daemon.restart(kill=True)
    alice.reconnect()


def settled(alice, timeout=30):
    """Nothing is being made or removed any more; what is left is what the daemon shows."""
    deadline = time.monotonic() + timeout
    while set(xl_list()) != set(alice.domain_names()):
        assert time.monotonic() < deadline, (xl_list(), alice.domain_names())
        time.sleep(0.1)
    return alice.domain_names()


@pytest.mark.parametrize("seconds", CREATION)
def test_killed_while_creating(alice, daemon, image, network, people, seconds):
    disk = people["alice"].disk("disk.img", size=1 << 20)
    alice.start_domain(network.name, "128M", [disk], network.mac("one"), "xen", "", image.extra())
    kill_after(seconds, daemon, alice)
    for name in settled(alice):
        alice.destroy_domain(name)


@pytest.mark.parametrize("seconds", DESTRUCTION)
def test_killed_while_destroying(alice, daemon, create, seconds):
    name = create("one", "pvh")
    alice.start(PRIVOPS_PATH, PRIVOPS, "destroyDomain", "ss", name, "")
    kill_after(seconds, daemon, alice)
    for left in settled(alice):
        alice.destroy_domain(left)


@pytest.mark.parametrize("seconds", [0.1, 1.0, 3.0])
def test_killed_while_rebooting(alice, daemon, create, seconds):
    name = create("one", "pvh", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
        guest.begin("reboot -f")
        time.sleep(seconds)
    daemon.restart(kill=True)
    alice.reconnect()
    with Guest(alice, name) as guest:
        guest.ready()


def test_killed_while_resetting_a_paused_guest(alice, daemon, create, tiny):
    """At the worst moment: the boot anew is marked, that it is not paused any more is not recorded."""
    name = create("one", "pvh", memory="16M", image=tiny, more={"paused": True})
    before = xl_list()[name]
    daemon.kill()
    with open(os.path.join(daemon.runtime_dir, "domains", name, "rebooting"), "wb"):
        pass
    daemon.start()
    alice.reconnect()
    deadline = time.monotonic() + 60
    while alice.get(domain_path(name), DOMAIN, "State") != "running" or name not in xl_list() or "p" in xl_list()[name][3]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert xl_list()[name][0] != before[0]


def test_ended_while_nobody_looked(alice, daemon, create):
    name = create("one", "pvh", run="sleep 3", end="poweroff")
    daemon.kill()
    deadline = time.monotonic() + 60
    while "s" not in xl_list()[name][3]:
        assert time.monotonic() < deadline
        time.sleep(0.2)
    daemon.start()
    alice.reconnect()
    deadline = time.monotonic() + 20
    while name in alice.domain_names():
        assert time.monotonic() < deadline
        time.sleep(0.1)
    reason = alice.manager("GetEndedDomain", "s", name)[1]
    assert reason == "poweroff"
