"""The command line in the system scope: several users, and root, at one daemon. Needs root."""

import json
import os
import re
import socket
import subprocess
import tempfile
import time

import pytest

import users as system_users
from conftest import BUILD, Cli
from daemon import Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="the system scope needs root")


@pytest.fixture(scope="module")
def system(base):
    d = Daemon(BUILD, tempfile.mkdtemp(dir=base), scope="system")
    os.chmod(os.path.dirname(d.runtime_dir), 0o755)
    d.start()
    yield d
    d.stop_well()


@pytest.fixture(scope="module")
def alice(system, user):
    return Cli(user, system.peer_address)


@pytest.fixture(scope="module")
def mallory(system, stranger):
    return Cli(stranger, system.peer_address)


@pytest.fixture(scope="module")
def root(system, base):
    return Cli(system_users.root(base), system.peer_address)


@pytest.fixture
def rig(alice, kernel):
    """Alice's network and domain."""
    network = alice("network", "create", "web").strip()
    domain = alice("domain", "create", "-n", network, "--host", "web", "-k", kernel[0], "-i", kernel[1], "--hypervisor",
                   "null").strip()
    yield network, domain
    alice.run("network", "destroy", "--domains", network)


def test_own_is_listed_and_all_on_demand(alice, mallory, root, rig):
    other = mallory("network", "create", "web").strip()
    names = lambda text: {n["name"] for n in json.loads(text)}  # noqa: E731
    assert names(alice("network", "list", "--json")) == {rig[0]}
    assert names(mallory("network", "list", "--json")) == {other}
    assert names(mallory("network", "list", "--all", "--json")) == names(root("network", "list", "--json")) == {rig[0], other}
    assert names(mallory("domain", "list", "--json")) == set()
    assert names(root("domain", "list", "--json")) == {rig[1]}
    assert re.search(rf"^{rig[1]} .* {alice.user.name}$", mallory("domain", "list", "-a"), re.M)
    mallory("network", "destroy", other)


def test_others_see_and_do_not_touch(mallory, rig):
    network, domain = rig
    assert "hosts" not in json.loads(mallory("network", "show", "--json", network))
    assert "spec" not in json.loads(mallory("domain", "show", "--json", domain))
    assert "HOST" not in mallory("network", "show", network)
    for words in (["network", "destroy", network], ["network", "destroy", "--domains", network],
                  ["network", "exec", network, "--", "true"], ["network", "shell", network],
                  ["network", "capture", network], ["domain", "destroy", domain], ["domain", "console", domain],
                  ["domain", "log", domain], ["domain", "log", "-f", domain], ["domain", "pause", domain],
                  ["domain", "wait", domain], ["domain", "reset", domain], ["domain", "shutdown", domain],
                  ["domain", "screenshot", domain, "x.png"], ["connect", network, "web", "22"], ["listen", network, "0"]):
        assert f"uid {mallory.user.uid}" in mallory.fails(*words), words
    assert not os.path.exists(os.path.join(mallory.user.home, "x.png"))
    mallory.fails("domain", "show", "web")  # host names are looked up among one's own


def test_owner_and_root_inside(alice, root, rig):
    network = rig[0]
    address = json.loads(alice("network", "show", "--json", network))["hosts"][0]["address"]
    for who in (alice, root):
        assert who("network", "exec", network, "--", "id", "-u") == "0\n"
        assert who("network", "exec", network, "--", "cat", "/proc/self/uid_map").split() == ["0", str(alice.user.uid), "1"]
        assert who("network", "exec", network, "--", "getent", "ahostsv4", "web").split()[0] == address
        who("network", "exec", network, "--", "ip", "link", "set", "br0", "mtu", "1400")
        assert who.run("network", "exec", network, "--", "cat", "/etc/shadow").returncode != 0  # root of nothing else
    assert not [n for n in os.listdir("/tmp") if n.startswith("debmarshal-dns")]


def test_root_destroys_anything(root, alice, rig):
    assert root("network", "destroy", "--domains", rig[0]) == ""
    assert alice("network", "list", "--json") == "[]\n"
    assert json.loads(root("domain", "wait", "--json", rig[1]))["reason"] == "destroyed"


def test_end_hidden_by_anothers_domain(alice, mallory, root, rig, kernel):
    """The name of one that has ended may be somebody else's by now, here root's: whose has ended is shown hers."""
    create = ["domain", "create", "-k", kernel[0], "-i", kernel[1], "--hypervisor", "null", "-n"]
    name = rig[1]
    with alice.popen("domain", "console", name, stdin=subprocess.PIPE) as console:
        console.stdin.write(b"farewell\n")
        console.stdin.flush()
        assert b"farewell" in console.stdout.readline()
        alice("domain", "destroy", name)
    network = root("network", "create").strip()
    try:
        assert root(*create, network).strip() == name
        assert alice("domain", "wait", name) == "destroyed\n"
        for words in (["log"], ["log", "-f"], ["console"]):
            assert "farewell" in alice("domain", *words, name), words
            assert f"uid {mallory.user.uid}" in mallory.fails("domain", *words, name), words
        assert f"uid {mallory.user.uid}" in mallory.fails("domain", "wait", name)
        assert "farewell" not in root("domain", "log", name)
        root.fails("domain", "wait", "-t", "1s", name)
    finally:
        root("network", "destroy", "--domains", network)


def test_doctor_tells_who_holds_what(alice, root, rig):
    text = root.run("doctor", timeout=120).stdout
    assert re.search(r"^ok +daemon +scope system", text, re.M)
    assert re.search(rf"^ok +quota +{alice.user.name} holds 1 networks, 1 domains, 512 MiB memory", text, re.M)
    text = alice.run("doctor", timeout=120).stdout
    assert re.search(rf"^ok +quota +{alice.user.name} holds 1 of 64 networks, 1 of 256 domains", text, re.M)


def test_quota(system, alice):
    names = []
    for _ in range(65):
        result = alice.run("network", "create")
        if result.returncode:
            assert "64" in result.stderr
            break
        names.append(result.stdout.strip())
    assert len(names) == 64
    assert re.search(rf"^warn +quota +{alice.user.name} holds 64 of 64 networks", alice.run("doctor", timeout=120).stdout, re.M)
    alice("network", "destroy", *names)


# As systemd does: descriptor 3 is the socket, and the environment says so to this process alone.
PASS = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.set_inheritable(3, True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS="1")
os.execv(sys.argv[2], sys.argv[2:])
"""


def refuses_descriptors(client):
    try:
        socket.send_fds(client, [b"\0"], [0])
    except PermissionError:
        return True
    return tuple(map(int, os.uname().release.split(".")[:2])) < (6, 16)


def test_a_socket_of_the_service_manager(base, user):
    """Who calls while there is no daemon, before the first one or between two, is served by the next."""
    d = Daemon(BUILD, tempfile.mkdtemp(dir=base), scope="system")
    os.chmod(os.path.dirname(d.runtime_dir), 0o755)
    os.mkdir(d.runtime_dir, 0o755)
    cli = Cli(user, d.peer_address)
    with socket.socket(socket.AF_UNIX) as listener, socket.socket(socket.AF_UNIX) as early, \
            socket.socket(socket.AF_UNIX) as late:
        listener.bind(d.socket)
        os.chmod(d.socket, 0o666)
        listener.listen()

        def start():
            return d.start(prefix=["/usr/bin/python3", "-c", PASS, str(listener.fileno())], pass_fds=[listener.fileno()])

        try:
            early.connect(d.socket)
            waiting = cli.popen("network", "list", "--json")
            start()
            assert waiting.communicate(timeout=60) == (b"[]\n", b"")
            assert refuses_descriptors(early)
            for end in (d.stop, d.kill):
                end()
                waiting = cli.popen("network", "create", "web")
                time.sleep(0.5)
                assert waiting.poll() is None
                if end == d.kill:
                    late.connect(d.socket)
                    assert refuses_descriptors(late)
                start()
                out, err = waiting.communicate(timeout=60)
                assert (waiting.returncode, err) == (0, b"")
                cli("network", "destroy", out.decode().strip())
        finally:
            d.stop()
        assert os.path.exists(d.socket)
