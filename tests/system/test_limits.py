"""Quotas: what a user may hold, that it is given back, and that it is nobody else's."""

import contextlib
import os
import socket
import sqlite3
import time

import pytest

from caller import DOMAIN, NETWORK, ROOT_PATH, Caller, CallError, domain_path, network_path
from conftest import destroyed, refused, wait_for
from fuse import LOOKUP, Fuse
from guests import Console, read_all
from rawbus import METHOD_RETURN, Closed, RawBus

KEEP_ENDED = 2


@pytest.fixture(scope="module")
def config():
    return {
        "max_networks": 2,
        "max_domains": 3,
        "max_memory": "256M",
        "max_vcpus": 4,
        "max_vcpus_per_domain": 3,
        "max_streams": 3,
        "max_connections": 4,
        "max_ended": 2,
        "keep_ended": f"{KEEP_ENDED}s",
        "start_timeout": "8s",
        "pool": "10.99.0.0/23",
    }


@pytest.fixture
def hypervisor():
    return "null"


def test_limits_are_told(alice):
    limits = alice.manager("GetLimits")
    assert limits == {"networks": 2, "domains": 3, "memory": 256 << 20, "vcpus": 4, "streams": 3, "connections": 4,
                      "vcpus_per_domain": 3}


def test_networks(alice, bob, root):
    names = [alice.create_network([])[0] for _ in range(2)]
    message = refused("QuotaExceeded", alice.create_network, [])
    assert "network" in message and "2" in message and str(alice.user.uid) in message
    # Neither root nor anybody else is touched by it.
    bob.destroy_network(bob.create_network([])[0])
    more = [root.create_network([])[0] for _ in range(4)]
    for name in more:
        root.destroy_network(name)
    # What root destroys is given back to its owner.
    root.destroy_network(names[0])
    names[0] = alice.create_network([])[0]
    for name in names:
        alice.destroy_network(name)


def test_domains(alice, network, create):
    names = [create(memory="1M", disks=[alice.user.disk(f"{n}.img")]) for n in range(3)]
    disk = alice.user.disk("one-more.img")
    assert "domain" in refused("QuotaExceeded", create, memory="1M", disks=[disk])
    alice.destroy_domain(names[1])
    assert create(memory="1M", disks=[disk]) == names[1]


def test_memory(alice, create):
    assert "memory" in refused("QuotaExceeded", create, memory="257M")
    create(memory="200M")
    disk = alice.user.disk("second.img")
    assert "memory" in refused("QuotaExceeded", create, memory="57M", disks=[disk])
    create(memory="56M", disks=[disk])


def test_vcpus(alice, create):
    assert "vcpus" in refused("QuotaExceeded", create, extra={"vcpus": 4})
    create(extra={"vcpus": 3})
    disk = alice.user.disk("second.img")
    assert "vcpus" in refused("QuotaExceeded", create, disks=[disk], extra={"vcpus": 2})
    create(disks=[disk], extra={"vcpus": 1})


def test_huge_numbers(alice, create):
    for memory in ("8388607T", "8388608T", "9007199254740992k"):
        with pytest.raises(CallError) as info:
            create(memory=memory)
        assert info.value.name in ("QuotaExceeded", "InvalidInput")
    refused("InvalidInput", create, extra={"vcpus": 2**31 - 1})


def test_no_addresses_left(alice, bob, root):
    """The pool is cut to what the networks need, and is everybody's."""
    big = [f"h{n}" for n in range(250)]
    first = root.create_network(big)[0]
    small = alice.create_network(["a"])[0]
    refused("NoAvailableIPs", bob.create_network, big)
    root.destroy_network(first)
    bob.destroy_network(bob.create_network(big)[0])
    alice.destroy_network(small)
    refused("NoAvailableIPs", root.create_network, [f"h{n}" for n in range(600)])


def test_a_large_subnet_is_not_the_pool(broker, alice, bob):
    """Who asks for all of it takes no more of it than her hosts need, also once the daemon has come back."""
    large = [alice.manager("CreateNetwork", "asa{sv}", ["a"], {"subnet": subnet})[0] for subnet in ("10.0.0.0/8", "10.99.0.0/23")]
    bob.destroy_network(bob.create_network(["b"])[0])
    broker.restart(kill=True)
    small = bob.create_network(["b"])[0]
    assert bob.get(network_path(small), NETWORK, "Subnet") == "10.99.0.0/29"
    for name in large:
        alice.destroy_network(name)
    other = bob.create_network([])[0]
    assert bob.get(network_path(other), NETWORK, "Subnet") == "10.99.0.8/29"
    for name in (small, other):
        bob.destroy_network(name)


def test_a_failed_creation_costs_nothing(alice, network, create):
    for _ in range(5):
        refused("InvalidInput", create, disks=["/dev/null"])
        refused("AccessDenied", create, disks=["/etc/shadow"])
        refused("InvalidInput", alice.create_network, ["-"])
    held = alice.usage()
    assert (held["networks"], held["domains"], held["memory"], held["vcpus"]) == (1, 0, 0, 0)


@pytest.fixture
def stuck_store(broker):
    """Until bob has a network, no record comes to its proper state, and none goes."""
    stuck = f"NOT EXISTS (SELECT * FROM network WHERE uid = {broker.people['bob'].uid})"

    def change(*commands):
        broker.daemon.kill()
        with contextlib.closing(sqlite3.connect(os.path.join(broker.daemon.runtime_dir, "state.db"))) as database:
            for command in commands:
                database.execute(command)
            database.commit()
        broker.daemon.start()
        broker.served()

    triggers = {f"{event}_{table}": f"BEFORE {event} ON {table} WHEN {stuck}{more} BEGIN SELECT RAISE(FAIL, 'stuck'); END"
                for table in ("network", "domain")
                for event, more in (("DELETE", ""), ("UPDATE", " AND NEW.state IN ('up', 'paused')"))}
    change(*(f"CREATE TRIGGER {name} {body}" for name, body in triggers.items()))
    yield
    change(*(f"DROP TRIGGER {name}" for name in triggers))


def test_what_cannot_be_unrecorded_is_shown(alice, bob, network, create, stuck_store):
    """A creation that fails and cannot be taken back is charged: its owner can see it, and destroy it by and by."""
    for make in (lambda: alice.create_network([]), create):
        with pytest.raises(CallError):
            make()
    (left,) = set(alice.network_names()) - {network.name}
    assert alice.get(network_path(left), NETWORK, "State") == "destroying"
    (domain,) = alice.domain_names()
    assert alice.get(domain_path(domain), DOMAIN, "State") == "destroying"
    unstick = bob.create_network([])[0]
    alice.destroy_network(left)
    alice.destroy_domain(domain)
    held = alice.usage()
    assert (held["networks"], held["domains"]) == (1, 0)
    alice.destroy_network(network.name)
    bob.destroy_network(unstick)


def test_charges_survive_the_daemon(broker, alice, network, create):
    create(memory="200M")
    broker.restart(kill=True)
    refused("QuotaExceeded", create, memory="57M", disks=[alice.user.disk("second.img")])
    held = alice.usage()
    assert (held["networks"], held["domains"], held["memory"]) == (1, 1, 200 << 20)


def test_streams(alice, root, create):
    name = create()
    consoles = [Console(alice.domain(name, "OpenConsole")) for _ in range(3)]
    assert "stream" in refused("QuotaExceeded", alice.domain, name, "OpenConsole")
    consoles.append(Console(root.domain(name, "OpenConsole")))  # at root's cost
    consoles.pop(0).socket.close()
    deadline = time.monotonic() + 5
    while True:
        try:
            consoles.append(Console(alice.domain(name, "OpenConsole")))
            break
        except CallError:
            assert time.monotonic() < deadline
            time.sleep(0.05)
    for console in consoles:
        console.socket.close()


def test_logs_and_pictures_are_streams(alice, create):
    """Whether they have been read or not, and of an ended domain too, they count until they are closed."""
    name = create()
    logs = [alice.domain(name, "OpenLog"), alice.domain(name, "Screenshot")]
    assert read_all(os.dup(logs[0])) == ""
    with os.fdopen(os.dup(logs[1]), "rb") as picture:
        assert picture.read()[1:4] == b"PNG"
    logs.append(alice.domain(name, "OpenLog"))
    assert "stream" in refused("QuotaExceeded", alice.domain, name, "Screenshot")
    os.close(logs.pop())
    alice.destroy_domain(name)
    logs.append(alice.manager("GetEndedDomain", "s", name)[4])
    assert "stream" in refused("QuotaExceeded", alice.manager, "GetEndedDomain", "s", name)
    for log in logs:
        os.close(log)
    deadline = time.monotonic() + 5
    while True:
        try:
            os.close(alice.manager("GetEndedDomain", "s", name)[4])
            break
        except CallError:
            assert time.monotonic() < deadline
            time.sleep(0.05)


def is_served(broker, user):
    """Whether one more connection is. (libdbus may wait for ever for an answer on one that was closed meanwhile.)"""
    connection = RawBus(broker.daemon.socket, user)
    try:
        return connection.authenticate().answer(connection.call(ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping")).kind == METHOD_RETURN
    except Closed:
        return False
    finally:
        connection.close()


def test_connections(broker, alice):
    """To the daemon's own socket: a fifth is closed, others get theirs, and one that goes makes room."""
    clients = [broker.daemon.caller(alice.user, peer=True) for _ in range(4)]
    try:
        assert all(c.manager("GetLimits") for c in clients)
        assert not is_served(broker, alice.user)
        with broker.daemon.caller(broker.people["bob"], peer=True) as other:
            assert other.manager("GetLimits")
        clients.pop().close()
        wait_for(lambda: is_served(broker, alice.user), 5)
    finally:
        for client in clients:
            client.close()


def test_silent_connections(broker, alice):
    """Connections that never say a word count too, and harm nobody."""
    sockets = []

    def open_silently():
        s = socket.socket(socket.AF_UNIX)
        s.connect(broker.daemon.socket)
        return s

    try:
        sockets = [open_silently() for _ in range(50)]  # as root, who has no limit of her own
        assert alice.manager("GetLimits")
        with broker.daemon.caller(alice.user, peer=True) as client:
            assert client.manager("GetLimits")
    finally:
        for s in sockets:
            s.close()


def test_ended_domains_are_forgotten(broker, alice, create):
    """At most two, and these for two seconds."""
    numbers = []
    for _ in range(3):
        name = create()
        numbers.append(alice.get(domain_path(name), DOMAIN, "Id"))
        alice.destroy_domain(name)
    assert sorted(row[0] for row in alice.manager("ListEndedDomains")) == numbers[1:]
    wait_for(lambda: not alice.manager("ListEndedDomains"), KEEP_ENDED + 3)
    assert os.listdir(os.path.join(broker.daemon.runtime_dir, "ended")) == []


def test_many_at_once(alice, network, create):
    """A burst of requests: as many succeed as fit, each of the others is told why, and the names are all different."""
    pending = [alice.start_domain(network.name, "1M", [alice.user.disk(f"burst{n}.img")], hypervisor="null")
               for n in range(20)]
    made, errors = [], []
    for p in pending:
        try:
            made.append(p.result())
        except CallError as error:
            errors.append(error.name)
    try:
        assert len(made) == len(set(made)) == 3
        assert errors == ["QuotaExceeded"] * 17
    finally:
        for name in made:
            destroyed(alice.destroy_domain, name)


def domains_held(who):
    return who.usage().get("domains", 0)


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no FUSE")
def test_stuck_workers_are_counted(alice, bob, network, disk, mount_point):
    """Who looks for a disk on a file system of hers whose server does not answer cannot even be killed: it counts as hers
    until it goes, else they would pile up."""
    with Fuse(mount_point, {}, alice.user, alice.user.uid, ignores=[LOOKUP]) as fuse:
        for pending in [alice.start_domain(network.name, "1M", [fuse.path(f"disk{n}")], hypervisor="null") for n in range(3)]:
            refused("Timeout", pending.result)
        assert LOOKUP in fuse.seen
        assert domains_held(alice) == 3
        assert "domains" in refused("QuotaExceeded", alice.create_domain, network.name, "1M", [disk], hypervisor="null")
        bobs = bob.create_network(["x"])[0]
        bob.destroy_domain(bob.create_domain(bobs, "1M", [bob.user.disk("d.img")], hypervisor="null"))
        bob.destroy_network(bobs)
        assert fuse.is_alive(), "its patience has ended meanwhile"
        assert domains_held(alice) == 3
    wait_for(lambda: not domains_held(alice), 5)
    alice.destroy_domain(alice.create_domain(network.name, "1M", [disk], hypervisor="null"))


def test_a_client_that_vanishes(broker, alice, network):
    """It asks for a domain and is gone before the answer: the domain is either there, owned and whole, or not at all."""
    for n in range(5):
        client = Caller(alice.user, broker.daemon.bus)
        client.start_domain(network.name, "1M", [alice.user.disk(f"gone{n}.img")], hypervisor="null")
        time.sleep(0.002 * n)
        client.close()
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            for name in alice.domain_names():
                destroyed(alice.destroy_domain, name)
            if not domains_held(alice):
                break
            time.sleep(0.02)
