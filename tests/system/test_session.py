"""The session scope: the same broker without any privilege, on its own socket, for the one user who runs it."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import time

import pytest

import bootsector
from caller import DOMAIN, MANAGER, ROOT_PATH, CallError, domain_path
from conftest import refused, wait_for
from guests import Console
from leaks import Process, spare_keepers


@pytest.fixture(scope="module")
def scope():
    return "session"


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def test_no_privilege(broker, alice):
    """Not even inside: nothing of it can have come from root."""
    with open(f"/proc/{broker.daemon.pid}/status", encoding="utf-8") as f:
        status = dict(line.split(":", 1) for line in f.read().splitlines())
    assert {int(u) for u in status["Uid"].split()} == {alice.user.uid}
    assert alice.get(ROOT_PATH, MANAGER, "Scope") == "session"
    assert alice.get(ROOT_PATH, MANAGER, "CallerUid") == alice.user.uid


def test_socket_is_the_users(broker):
    assert stat.S_IMODE(os.stat(broker.daemon.runtime_dir).st_mode) & 0o077 == 0
    with pytest.raises((ConnectionError, CallError)):
        broker.daemon.caller(broker.people["bob"]).close()


def test_networks_and_domains(alice, create, network):
    name = create(mac=network.mac("one"))
    assert alice.get(domain_path(name), DOMAIN, "State") == "paused"
    alice.domain(name, "Resume")
    refused("NetworkInUse", alice.destroy_network, network.name)
    with socket.socket(fileno=alice.network(network.name, "Listen", "q", 0)) as listener:
        assert listener.getsockname()[0] == network.gateway
    alice.destroy_domain(name)


def test_refusals(alice, create, network):
    refused("AccessDenied", create, disks=["/etc/shadow"])
    refused("InvalidInput", create, disks=["/dev/null"])
    refused("NetworkNotFound", alice.destroy_network, "debmarshal-77")


def test_daemon_killed(broker, alice, network, create):
    name = create()
    broker.restart(kill=True)
    assert alice.domain_names() == [name] and alice.network_names() == [network.name]
    alice.destroy_domain(name)
    alice.destroy_network(network.name)


def test_real_guest(alice, image, network):
    name = alice.create_domain(network.name, memory="128M", mac=network.mac("two"), hypervisor="qemu",
                               extra=image.extra(run="echo rootless", end="poweroff"))
    ended = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0, timeout=120)
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect(rf"^DM-READY two {network.address('two')}\b", 90)
        console.expect(r"^rootless\b", 20)
    assert ended.result(60)[0] == "poweroff"


def test_next_network_is_made_of_a_spare(broker, alice):
    names = [alice.create_network(["one"])[0]]
    spare = wait_for(lambda: [*spare_keepers(broker.daemon.pid)])[0]
    names.append(alice.create_network(["two"])[0])
    assert str(Process(spare)).endswith(f" {names[1]}")
    for name in names:
        os.close(alice.network(name, "Listen", "q", 0))
    spare = wait_for(lambda: [*spare_keepers(broker.daemon.pid)])[0]
    os.kill(spare, signal.SIGSTOP)
    broker.restart(kill=True)
    assert alice.network_names() == names and not os.path.exists(f"/proc/{spare}/ns/net")
    for name in names:
        alice.destroy_network(name)


def test_idle_daemon_ends(broker, people):
    """Empty, and nobody connected: it goes by itself, and in good order; with a network it stays."""
    broker.forget_all_callers()
    broker.daemon.stop_well()
    broker.daemon.write_config({"idle_timeout": "1s"})
    try:
        broker.daemon.start()
        with broker.daemon.caller(people["alice"]) as client:
            name = client.create_network([])[0]
            time.sleep(1.5)
            assert broker.daemon.is_alive()
        time.sleep(1.5)
        assert broker.daemon.is_alive()
        with broker.daemon.caller(people["alice"]) as client:
            client.destroy_network(name)
        assert broker.daemon.wait(10) == 0
    finally:
        if broker.daemon.process:
            broker.daemon.stop_well()
        broker.daemon.write_config({})
        broker.daemon.start()


@pytest.mark.skipif(not shutil.which("strace"), reason="strace is not installed")
def test_the_last_visitor_of_an_idle_daemon_is_served(broker, people):
    """Who finds the socket in the moment before it goes has found the daemon."""
    broker.forget_all_callers()
    broker.daemon.stop()
    broker.daemon.write_config({"idle_timeout": "500ms"})
    trace = people["alice"].file("trace")
    slowly = ["strace", "-f", "-o", trace, "-P", "bus", "-e", "trace=unlinkat", "-e", "inject=unlinkat:delay_enter=1000000"]
    try:
        broker.daemon.start(prefix=slowly)
        deadline = time.monotonic() + 20
        while "unlinkat(" not in read(trace):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        for _ in range(2):  # afterwards the socket is there again
            with socket.socket(socket.AF_UNIX) as visitor:
                visitor.settimeout(20)
                visitor.connect(broker.daemon.socket)
                visitor.sendall(b"\0NONSENSE\r\n")
                assert visitor.recv(100).startswith(b"ERROR")
        assert broker.daemon.wait(20) == 0
        assert not os.path.exists(broker.daemon.socket)
    finally:
        if broker.daemon.process:
            broker.daemon.stop()
        broker.daemon.write_config({})
        broker.daemon.start()


def test_jail(alice, network):
    """What the system scope gives by a foreign uid is here a user namespace: as its user, with nothing of hers."""
    disk = alice.user.file("boot.img", bootsector.disk())
    name = alice.create_domain(network.name, "32M", [disk], hypervisor="qemu")
    try:
        pid = json.loads(alice.domain(name, "Describe"))["pid"]
        with open(f"/proc/{pid}/status", encoding="utf-8") as f:
            status = dict(line.split(":", 1) for line in f.read().splitlines())
        assert all(int(status[c], 16) == 0 for c in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"))
        assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
        for kind in ("user", "mnt", "net", "pid", "ipc", "uts"):
            assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
        with open(f"/proc/{pid}/uid_map", encoding="utf-8") as f:
            assert f.read().split()[1:] == [str(alice.user.uid), "1"]
        for path in ("home", "root", "etc/passwd", "proc/self", "run", alice.user.home.lstrip("/")):
            assert not os.path.exists(f"/proc/{pid}/root/{path}"), path
        with open(f"/proc/{pid}/net/dev", encoding="utf-8") as f:
            assert re.findall(r"^\s*(\S+):", f.read(), re.MULTILINE) == ["lo"]
    finally:
        alice.destroy_domain(name)
