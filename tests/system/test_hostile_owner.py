"""The owner of a network as its attacker: she is its administrator, may do anything in it and to its keeper, and that
harms her alone. The daemon, the others and the host do not notice, and she (and root) can always destroy it."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest

from bystander import Bystander, resident
from caller import DOMAIN, NETWORK, CallError, domain_path, network_path
from conftest import Net, destroyed, wait_for
from leaks import Process, descendants, keeper_of, server_of

ERRORS = {"Internal", "NetworkFailed", "HypervisorFailed", "Timeout", "InvalidState", "ConnectionFailed", "NotSupported",
          "InvalidInput", "Busy"}
DESTROY_SECONDS = 5
STREAMS = 40
NETWORKS = 5
GROWTH_MAX = 4 << 20


@pytest.fixture(scope="module")
def config():
    # What she traces is told apart by its being new; her spare keepers are in test_spares.py.
    return {"max_streams": STREAMS, "max_networks": NETWORKS, "spare_networks": 0}


@pytest.fixture
def hypervisor():
    return "null"


@pytest.fixture(autouse=True)
def bystander(broker, bob):
    it = Bystander(bob, broker.daemon)
    before = resident(broker.daemon.pid)
    links = set(os.listdir("/sys/class/net"))
    yield it
    assert links <= set(os.listdir("/sys/class/net")), "a link of the host is gone"
    grown = resident(broker.daemon.pid) - before
    it.leave()
    assert grown < GROWTH_MAX, f"the daemon has grown by {grown >> 10} KiB"


class Inside:
    """Alice in her network."""

    def __init__(self, who, name):
        self.user = who.user
        self.fds = who.network(name, "OpenNamespaces")

    def command(self, *words):
        user, net = self.fds
        return ["nsenter", f"--user=/proc/self/fd/{user}", f"--net=/proc/self/fd/{net}", "--preserve-credentials", *words]

    def start(self, *words, **options):
        return subprocess.Popen(self.command(*words), pass_fds=self.fds, env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin"}, cwd="/",
                                stdin=subprocess.DEVNULL, **options, **self.user.popen_identity())

    def run(self, *words):
        process = self.start(*words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        output, _ = process.communicate(timeout=30)
        assert process.returncode == 0, f"{words}: {output}"
        return output

    def close(self):
        for fd in self.fds:
            os.close(fd)


@pytest.fixture
def processes(alice):
    """The keeper and the server of a network that is made by this: (net, keeper, server)."""
    net = Net(alice.create_network(["one", "two"]))
    yield net, keeper_of(net.name).pid, server_of(net.name)
    destroyed(alice.destroy_network, net.name)


@pytest.fixture
def inside(alice, network):
    it = Inside(alice, network.name)
    yield it
    it.close()


def as_user(user, code, *arguments, **options):
    """A little program of hers."""
    return subprocess.Popen([sys.executable, "-c", code, *map(str, arguments)], cwd="/", stdin=subprocess.DEVNULL,
                            stdout=subprocess.PIPE, text=True, **options, **user.popen_identity())


def try_everything(alice, network):
    """Each is done, or refused by name, and soon."""
    made = None
    attempts = (
        lambda: alice.create_domain(network, "1M", [alice.user.disk("try.img")], hypervisor="null"),
        lambda: alice.create_domain(network, "64M", [alice.user.disk("try2.img")], hypervisor="qemu", extra={"paused": True}),
        lambda: alice.network(network, "Listen", "q", 0),
        lambda: alice.network(network, "Connect", "sq", "127.0.0.1", 9),
        lambda: alice.network(network, "Capture", "s", ""),
        lambda: alice.network(network, "GetHosts"),
    )
    for attempt in attempts:
        begun = time.monotonic()
        try:
            made = attempt()
            if isinstance(made, int):
                os.close(made)
            elif isinstance(made, str):
                alice.destroy_domain(made)
        except CallError as error:
            assert error.name in ERRORS and error.message, error
        assert time.monotonic() - begun < 12


def destroy_soon(who, name):
    begun = time.monotonic()
    who.destroy_network(name)
    assert time.monotonic() - begun < DESTROY_SECONDS
    assert name not in who.network_names()


def bridge_of(inside):
    return inside.run("ip", "-brief", "link", "show", "type", "bridge").split()[0]


# ---- Links ----


@pytest.mark.parametrize("act", ["rename", "delete", "down", "another", "tap"])
def test_bridge(alice, network, inside, bystander, act):
    """Renamed, deleted, taken down, replaced by another and by another kind of link. (The kernel lets nobody put a bridge
    into another namespace.)"""
    bridge = bridge_of(inside)
    ip = {
        "rename": [["link", "set", bridge, "down"], ["link", "set", bridge, "name", "other"]],
        "delete": [["link", "delete", bridge]],
        "down": [["link", "set", bridge, "down"], ["address", "flush", "dev", bridge]],
        "another": [["link", "delete", bridge], ["link", "add", bridge, "type", "bridge"], ["link", "set", bridge, "up"]],
        "tap": [["link", "delete", bridge], ["tuntap", "add", bridge, "mode", "tap"], ["link", "set", bridge, "up"]],
    }[act]
    for words in ip:
        inside.run("ip", *words)
    bystander.check()
    try_everything(alice, network.name)
    bystander.check()
    assert alice.get(network_path(network.name), NETWORK, "Name") == network.name
    destroy_soon(alice, network.name)


def taps_of(inside):
    return [line.split()[0] for line in inside.run("ip", "-brief", "link", "show", "type", "tun").splitlines()]


def test_tap_put_away(alice, network, inside, bystander):
    """A guest's tap in another namespace of hers, out of the daemon's reach: the guest has no network any more, that is all."""
    name = alice.create_domain(network.name, "64M", [alice.user.disk("away.img")], hypervisor="qemu", extra={"paused": True})
    (tap,) = taps_of(inside)
    other = inside.start("unshare", "--net", "sh", "-c", "echo ready; exec sleep 100", stdout=subprocess.PIPE, text=True)
    try:
        assert other.stdout.readline().strip() == "ready"
        inside.run("ip", "link", "set", tap, "netns", str(other.pid))
        assert taps_of(inside) == []
        bystander.check()
        try_everything(alice, network.name)
        bystander.check()
        assert alice.get(domain_path(name), DOMAIN, "State") == "paused"
        alice.destroy_domain(name)
        destroy_soon(alice, network.name)
    finally:
        other.kill()
        other.communicate()
        destroyed(alice.destroy_domain, name)


def test_many_links(alice, root, network, inside, bystander):
    """Hundreds of links and addresses, and names that ours might want."""
    lines = [f"link add d{n} type bridge" for n in range(200)] + [f"tuntap add tap{n} mode tap" for n in range(100)]
    lines += [f"address add 10.{n // 250}.{n % 250}.1/24 dev d1" for n in range(300)]
    inside.run("ip", "-batch", alice.user.file("batch", "\n".join(lines).encode()))
    try_everything(alice, network.name)
    bystander.check()
    destroy_soon(root, network.name)


def test_route_to_nowhere(alice, network, inside, bystander):
    """Connections that never come to be: each has its time, their number is bounded, nobody waits for them."""
    inside.run("ip", "route", "add", "198.51.100.0/24", "dev", bridge_of(inside))
    inside.run("ip", "neigh", "add", "198.51.100.1", "lladdr", "02:00:00:00:00:01", "dev", bridge_of(inside))
    pending = [alice.start(network_path(network.name), NETWORK, "Connect", "sq", "198.51.100.1", 80) for _ in range(80)]
    bystander.check()
    for p in pending[STREAMS:]:
        with pytest.raises(CallError) as info:
            p.result(20)
        assert info.value.name == "QuotaExceeded"
    bystander.check()
    # They end with their network.
    destroy_soon(alice, network.name)
    for p in pending[:STREAMS]:
        with pytest.raises(CallError) as info:
            p.result(20)
        assert info.value.name == "NetworkNotFound"


def test_flood(alice, network, inside, bystander):
    """Of questions to the server, and of broadcasts, from processes of hers; and captures of it that nobody reads."""
    code = ("import socket,sys,os\ns=socket.socket(socket.AF_INET,socket.SOCK_DGRAM)\n"
            "s.setsockopt(socket.SOL_SOCKET,socket.SO_BROADCAST,1)\n"
            "while True:\n try:\n  s.sendto(os.urandom(int(sys.argv[2])),(sys.argv[1],int(sys.argv[3])))\n except OSError: pass")
    captures = [alice.network(network.name, "Capture", "s", "") for _ in range(4)]
    floods = [inside.start(sys.executable, "-c", code, network.gateway, "60", "53"),
              inside.start(sys.executable, "-c", code, "255.255.255.255", "1000", "67")]
    try:
        for _ in range(5):
            time.sleep(0.3)
            bystander.check()
        destroy_soon(alice, network.name)
    finally:
        for process in floods:
            process.kill()
            process.wait()
        for fd in captures:
            os.close(fd)


# ---- Its processes ----


def send_signal(user, pid, sign, may_be_gone=False):
    code = ("import os, sys\ntry:\n os.kill(int(sys.argv[1]), int(sys.argv[2]))\n"
            f"except ProcessLookupError:\n sys.exit({0 if may_be_gone else 1})")
    killer = as_user(user, code, pid, int(sign))
    killer.communicate(timeout=10)
    assert killer.returncode == 0


def test_server_killed_again_and_again(alice, processes, bystander):
    """It is restarted a few times; then the network has failed, and says so."""
    net, keeper, server = processes
    for _ in range(12):
        servers = [p.pid for p in descendants(keeper).values() if p.comm == "dnsmasq"]
        for pid in servers:
            send_signal(alice.user, pid, signal.SIGKILL, may_be_gone=True)
        time.sleep(0.1)
    wait_for(lambda: alice.get(network_path(net.name), NETWORK, "State") == "failed", 10)
    bystander.check()
    try_everything(alice, net.name)
    destroy_soon(alice, net.name)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGTERM])
def test_keeper_signalled(alice, processes, bystander, sign):
    net, keeper, _ = processes
    send_signal(alice.user, keeper, sign)
    time.sleep(0.1)
    try_everything(alice, net.name)
    bystander.check()
    destroy_soon(alice, net.name)


PTRACE_ATTACH = 16
ATTACH = (f"import ctypes,sys,time\nr=ctypes.CDLL(None,use_errno=True).ptrace({PTRACE_ATTACH},int(sys.argv[1]),None,None)\n"
          "print(r, flush=True)\ntime.sleep(60)")


def busy_seconds(pid):
    """Of processor time that it has used."""
    with open(f"/proc/{pid}/stat", encoding="ascii") as f:
        fields = f.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("which", ["keeper", "another"])
def test_keeper_traced(broker, alice, which, processes, bystander):
    """Held by a debugger of hers, itself or a process that it has to wait for as the init of its namespace: it is killed
    all the same, and a tracer that does not let go holds up nobody, nor does the daemon spin."""
    net, keeper, _ = processes
    known = set(descendants(keeper))
    child = subprocess.Popen(["nsenter", "--target", str(keeper), "--user", "--pid", "--preserve-credentials", "sleep", "100"],
                             cwd="/", stdin=subprocess.DEVNULL, **alice.user.popen_identity())
    deadline = time.monotonic() + 5
    while not (inside := [p for p in descendants(child.pid) if p not in known]) and time.monotonic() < deadline:
        time.sleep(0.02)
    tracer = as_user(alice.user, ATTACH, keeper if which == "keeper" else inside[0])
    try:
        assert tracer.stdout.readline().strip() == "0"
        try_everything(alice, net.name)
        bystander.check()
        destroy_soon(alice, net.name)
        used = busy_seconds(broker.daemon.pid)
        time.sleep(1)
        assert busy_seconds(broker.daemon.pid) - used < 0.3, "the daemon spins"
        bystander.check()
        # Another of the same name is another.
        assert alice.create_network(["x"])[0] == net.name
        alice.destroy_network(net.name)
    finally:
        tracer.kill()
        tracer.communicate()
        child.kill()
        child.wait()


def let_go(tracers, who, what):
    """What they kept from going is not hers any more."""
    for tracer in tracers:
        tracer.kill()
        tracer.communicate()
    wait_for(lambda: not who.usage()[what])


def test_traced_keepers_are_counted(broker, alice, bystander):
    """What is destroyed, but kept from going by a tracer of hers, counts as hers until it goes: else they would pile up."""
    tracers = []
    try:
        for _ in range(NETWORKS + 1):
            try:
                name = alice.create_network(["x"])[0]
            except CallError as error:
                assert error.name == "QuotaExceeded"
                break
            tracers.append(as_user(alice.user, ATTACH, keeper_of(name).pid))
            assert tracers[-1].stdout.readline().strip() == "0"
            destroy_soon(alice, name)
        else:
            pytest.fail("there is no end of it")
        assert alice.usage()["networks"] == NETWORKS == len(tracers)
        bystander.check()
    finally:
        let_go(tracers, alice, "networks")
    alice.destroy_network(alice.create_network(["x"])[0])


PTRACE_SEIZE = 0x4206  # unlike PTRACE_ATTACH it lets go on what it traces


def test_traced_captures_are_counted(alice, network, bystander):
    """A capture that has ended, but is kept from going by a tracer of hers, counts as a stream of hers until it goes."""
    tracers = []
    try:
        for _ in range(STREAMS + 1):
            before = set(descendants(os.getpid()))
            try:
                stream = alice.network(network.name, "Capture", "s", "")
            except CallError as error:
                assert error.name == "QuotaExceeded"
                break
            (capture,) = set(descendants(os.getpid())) - before
            tracers.append(as_user(alice.user, ATTACH.replace(str(PTRACE_ATTACH), str(PTRACE_SEIZE), 1), capture))
            assert tracers[-1].stdout.readline().strip() == "0"
            os.close(stream)
            wait_for(lambda pid=capture: Process(pid).state == "Z", 5)
        else:
            pytest.fail("there is no end of it")
        assert alice.usage()["streams"] == STREAMS == len(tracers)
        bystander.check()
    finally:
        let_go(tracers, alice, "streams")
    os.close(alice.network(network.name, "Capture", "s", ""))


def test_emulator_is_not_hers(alice, root, network, bystander):
    """Her guest's emulator runs as nobody she is: she can neither signal nor trace it, nor open its files."""
    name = alice.create_domain(network.name, "64M", [alice.user.disk("d.img")], hypervisor="qemu", extra={"paused": True})
    try:
        pid = json.loads(alice.domain(name, "Describe"))["pid"]
        assert os.stat(f"/proc/{pid}").st_uid not in (0, alice.user.uid)
        for code in ("import os,sys; os.kill(int(sys.argv[1]), 9)", "import os,sys; os.listdir(f'/proc/{sys.argv[1]}/fd')",
                     "import sys; open(f'/proc/{sys.argv[1]}/mem','rb')", "import os,sys; os.stat(f'/proc/{sys.argv[1]}/root/.')"):
            process = as_user(alice.user, code, pid, stderr=subprocess.DEVNULL)
            process.communicate(timeout=10)
            assert process.returncode != 0, code
        status = dict(line.split(":\t", 1) for line in open(f"/proc/{pid}/status", encoding="ascii").read().splitlines() if ":\t" in line)
        assert int(status["CapEff"], 16) == int(status["CapPrm"], 16) == int(status["CapBnd"], 16) == 0
        assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    finally:
        alice.destroy_domain(name)


# ---- Her namespaces ----


def test_process_that_stays_inside(alice, network, inside, bystander):
    """A process of hers keeps the namespaces alive; the network is gone for everybody else, and its name is free."""
    stays = inside.start("sleep", "100")
    try:
        time.sleep(0.2)
        destroy_soon(alice, network.name)
        again = Net(alice.create_network(["one"]))
        assert again.name == network.name
        alice.destroy_network(again.name)
        bystander.check()
    finally:
        stays.kill()
        stays.wait()


def test_many_processes_inside(alice, processes, bystander):
    """Her processes in the keeper's PID namespace die with it, however many."""
    net, keeper, _ = processes
    command = ["nsenter", "--target", str(keeper), "--user", "--net", "--pid", "--preserve-credentials", "sh", "-c",
               "i=0; while [ $i -lt 200 ]; do sleep 100 & i=$((i+1)); done; echo ready; wait"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd="/",
                               stdin=subprocess.DEVNULL, **alice.user.popen_identity())
    try:
        assert process.stdout.readline().strip() == "ready"
        bystander.check()
        destroy_soon(alice, net.name)
    finally:
        process.kill()
        process.communicate()


def test_another_may_not(broker, bob, processes):
    """What she may do to her network nobody else may."""
    _, keeper, server = processes
    for words in (["--user", "--net"], ["--pid"], ["--mount"]):
        result = subprocess.run(["nsenter", "--target", str(keeper), *words, "--preserve-credentials", "true"], check=False,
                                capture_output=True, cwd="/", **bob.user.popen_identity())
        assert result.returncode != 0
    for pid in (keeper, server):
        for code in ("import os,sys; os.kill(int(sys.argv[1]), 9)", "import sys; open(f'/proc/{sys.argv[1]}/mem','rb')"):
            process = as_user(bob.user, code, pid, stderr=subprocess.DEVNULL)
            process.communicate(timeout=10)
            assert process.returncode != 0
