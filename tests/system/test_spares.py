"""Spare keepers: who has made a network has the next one's processes waiting, and nothing of that is ever in the way, left
behind, or anybody else's.
"""

import os
import signal
import subprocess
import time

import pytest

from caller import PRIVOPS, PRIVOPS_PATH
from conftest import destroyed, refused, wait_for
from leaks import Process, at_rest, descendants, keeper_of, server_of, spare_keepers
from test_hostile_owner import ATTACH, as_user

ALLOWED = 2
TIME_ENOUGH = 0.5  # seconds, in which one is made that should not be: it takes some hundredths


@pytest.fixture(scope="module")
def config():
    return {"max_networks": 3, "spare_networks": ALLOWED}


def uid_of(pid):
    return os.stat(f"/proc/{pid}").st_uid


def spares_of(broker, user):
    """Pids of those whose server has been executed: they wait, or are about to."""
    def loaded(pid):
        return any(p.comm == "dnsmasq" and p.state != "Z" for p in descendants(pid).values())

    return [pid for pid in spare_keepers(broker.daemon.pid) if uid_of(pid) == user.uid and loaded(pid)]


def spare_of(broker, user):
    """The pid of the one that there is by and by."""
    pids = wait_for(lambda: spares_of(broker, user))
    assert len(pids) == 1
    return pids[0]


def gone(pid):
    try:
        return Process(pid).state == "Z"
    except ProcessLookupError:
        return True


def network_is_whole(who, name):
    os.close(who.network(name, "Listen", "q", 0))
    assert server_of(name)


def test_next_network_is_made_of_it(broker, alice):
    first = alice.create_network(["one"])[0]
    spare = spare_of(broker, alice.user)
    server, namespaces = list(descendants(spare)), Process(spare).namespaces()
    assert alice.usage()["networks"] == 1

    second, _, _, hosts = alice.create_network(["two"])
    assert keeper_of(second).pid == spare and server_of(second) == server[0]
    assert Process(spare).namespaces() == namespaces
    network_is_whole(alice, second)
    assert list(hosts) == ["two"]
    # And there is one for the third, which does not count, and none for a fourth, which she may not have.
    assert spare_of(broker, alice.user) != spare
    third = alice.create_network([])[0]
    assert alice.usage()["networks"] == 3
    time.sleep(TIME_ENOUGH)
    assert not spare_keepers(broker.daemon.pid)
    assert "network" in refused("QuotaExceeded", alice.create_network, [])
    for name in (first, second, third):
        alice.destroy_network(name)


def test_goes_with_the_last_network(broker, alice):
    names = [alice.create_network([])[0] for _ in range(2)]
    spare = spare_of(broker, alice.user)
    server = list(descendants(spare))
    alice.destroy_network(names[0])
    assert spares_of(broker, alice.user) == [spare]
    alice.destroy_network(names[1])
    wait_for(lambda: not spare_keepers(broker.daemon.pid))
    wait_for(lambda: gone(spare) and gone(server[0]))


def test_is_no_leak(broker, alice):
    """Another one, or none, makes no difference to the leak checker; as long as somebody has a network."""
    name = alice.create_network([])[0]
    spare = spare_of(broker, alice.user)
    before = at_rest(broker.leaks.snapshot)
    alice.destroy_network(alice.create_network([])[0])
    assert spare_of(broker, alice.user) != spare
    assert at_rest(broker.leaks.snapshot).parts == before.parts
    os.kill(spare_of(broker, alice.user), signal.SIGKILL)
    wait_for(lambda: not spare_keepers(broker.daemon.pid))
    assert at_rest(broker.leaks.snapshot).parts == before.parts
    alice.destroy_network(name)


def test_goes_with_two_that_go_at_once(broker, alice):
    names = [alice.create_network([])[0] for _ in range(2)]
    spare_of(broker, alice.user)
    calls = [alice.start(PRIVOPS_PATH, PRIVOPS, "destroyNetwork", "s", name) for name in names]
    for call in calls:
        call.result()
    wait_for(lambda: not spare_keepers(broker.daemon.pid))


def test_wanted_before_it_is_there(alice):
    """Without a pause between, a spare is wanted before it has been begun. (While it is being made: test-keeper.c)"""
    for _ in range(20):
        names = [alice.create_network(["a", "b"])[0] for _ in range(2)]
        for name in names:
            network_is_whole(alice, name)
            alice.destroy_network(name)


def test_one_for_each_of_so_many(broker, alice, bob, root):
    made = [(who, who.create_network([])[0]) for who in (alice, alice, bob, root)]
    spare_of(broker, alice.user)
    spare_of(broker, bob.user)
    time.sleep(TIME_ENOUGH)
    assert sorted(uid_of(pid) for pid in spare_keepers(broker.daemon.pid)) == sorted([alice.user.uid, bob.user.uid])
    for who, name in made:
        who.destroy_network(name)


def test_dies_with_the_daemon(broker, alice):
    """Whatever kills that, and also when its owner has stopped it."""
    for end, stop in (("kill", False), ("kill", True), ("stop", True)):
        name = alice.create_network(["one"])[0]
        spare = spare_of(broker, alice.user)
        server = list(descendants(spare))[0]
        if stop:
            subprocess.run(["kill", "-STOP", str(spare), str(server)], check=True, **alice.user.popen_identity())
            wait_for(lambda: Process(spare).state == "T")
        if end == "kill":
            broker.daemon.kill()
        else:
            broker.daemon.stop_well()
        wait_for(lambda: gone(spare) and gone(server))
        broker.daemon.start()
        broker.served()
        network_is_whole(alice, name)
        assert not spare_keepers(broker.daemon.pid)
        alice.destroy_network(name)


@pytest.mark.parametrize("victim", ["spare", "server"])
def test_is_killed_by_its_owner(broker, alice, victim):
    first = alice.create_network(["one"])[0]
    spare = spare_of(broker, alice.user)
    server = list(descendants(spare))[0]
    pid = spare if victim == "spare" else server
    subprocess.run(["kill", "-KILL", str(pid)], check=True, **alice.user.popen_identity())
    wait_for(lambda: gone(pid))
    if victim == "spare":
        wait_for(lambda: not spare_keepers(broker.daemon.pid))

    second = alice.create_network(["two"])[0]
    assert (keeper_of(second).pid == spare) == (victim == "server")
    for name in (first, second):
        network_is_whole(alice, name)
    spare_of(broker, alice.user)
    for name in (first, second):
        alice.destroy_network(name)


def test_is_stopped_by_its_owner(broker, alice):
    """That delays her next network until it is let go, and nobody else's."""
    first = alice.create_network(["one"])[0]
    spare = spare_of(broker, alice.user)
    os.kill(spare, signal.SIGSTOP)
    wait_for(lambda: Process(spare).state == "T")
    call = alice.start(PRIVOPS_PATH, PRIVOPS, "createNetwork", "as", ["two"])
    bob = broker.caller("bob")
    bob.destroy_network(bob.create_network(["his"])[0])
    os.kill(spare, signal.SIGCONT)
    second = call.result()[0]
    for name in (first, second):
        network_is_whole(alice, name)
        alice.destroy_network(name)


def test_server_is_traced_by_its_owner(broker, alice, bob):
    """The spare cannot go then. That takes no network from her, and nothing from anybody; but there is no other for her."""
    name = alice.create_network(["one"])[0]
    spare = spare_of(broker, alice.user)
    tracer = as_user(alice.user, ATTACH, list(descendants(spare))[0])
    try:
        assert tracer.stdout.readline().strip() == "0"
        alice.destroy_network(name)
        assert alice.network_names() == [] and alice.usage()["networks"] == 0
        bob.destroy_network(bob.create_network(["his"])[0])
        names = [alice.create_network([])[0]]
        time.sleep(TIME_ENOUGH)
        assert not spares_of(broker, alice.user)
        names += [alice.create_network([])[0] for _ in range(2)]
        assert "network" in refused("QuotaExceeded", alice.create_network, [])
        alice.destroy_network(names.pop())
    finally:
        tracer.kill()
        tracer.communicate()
    wait_for(lambda: not os.path.exists(f"/proc/{spare}"))  # reaped, so nothing is held any more
    alice.destroy_network(names.pop())
    names += [alice.create_network([])[0]]
    spare_of(broker, alice.user)
    for name in names:
        alice.destroy_network(name)


def test_has_the_daemons_memory_and_shows_it_to_nobody(broker, alice):
    """It is a fork of the daemon's that has executed nothing yet."""
    name = alice.create_network(["one"])[0]
    spare = spare_of(broker, alice.user)
    for nick in ("alice", "bob"):
        for file in ("mem", "environ", "maps", "fd/3"):
            took = subprocess.run(["head", "-c", "1", f"/proc/{spare}/{file}"], capture_output=True, text=True, check=False,
                                  **broker.people[nick].popen_identity())
            assert took.returncode != 0 and "Permission denied" in took.stderr, (nick, file, took)
    script = "import ctypes, sys; sys.exit(ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), 0, 0) == 0)"  # PTRACE_SEIZE
    subprocess.run(["/usr/bin/python3", "-c", script, str(spare)], check=True, **alice.user.popen_identity())
    alice.destroy_network(name)


def test_nobody_has_one(broker, alice):
    broker.daemon.stop_well()
    broker.daemon.write_config({"spare_networks": 0})
    broker.daemon.start()
    broker.served()
    names = [alice.create_network([])[0] for _ in range(2)]
    assert alice.network_names() == names
    time.sleep(TIME_ENOUGH)
    assert not spare_keepers(broker.daemon.pid)
    for name in names:
        destroyed(alice.destroy_network, name)
