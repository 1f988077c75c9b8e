"""Nothing left: no space, no descriptors. Whoever asks is told by name or gets what she asked for; what is there can
always be destroyed; and when there is room again everything works, without a restart."""

import contextlib
import errno
import json
import os
import resource
import socket
import subprocess
import tempfile
import time

import pytest

from bystander import Bystander, resident
from caller import DOMAIN, CallError, domain_path
from conftest import BUILD, Broker, destroyed, refused
from daemon import Daemon
from guests import Console, read_all

PAGE = os.sysconf("SC_PAGESIZE")
SPACE = "6M"  # of the runtime directory's own file system
ERRORS = {"Internal", "HypervisorFailed", "NetworkFailed", "Timeout", "InvalidState", "ConnectionFailed", "Busy"}
# What a refusal says, one of them, by what there is no more of.
NO_SPACE = ("no space left",)
NO_DESCRIPTORS = ("Too many open files",)
NO_MEMORY = ("Cannot allocate memory", "failed to allocate", "failed to map segment", "cannot map", "was killed by signal")
# And what is refused with room for everything, too.
ALWAYS = {"Wait": "The domain has not ended within the time given", "Connect": "Connection refused"}
GROWTH_MAX = 4 << 20


@pytest.fixture(scope="module")
def broker(base, people, system_bus):
    """As the other modules' one, on a small file system, and without spare keepers, which come and go by themselves with what
    is counted here: sweeps are on them."""
    with tempfile.TemporaryDirectory(prefix="x-", dir=base) as directory:
        os.chmod(directory, 0o755)
        config = {"jail_uid_base": 0x60000000 + os.getpid() % 0x10000 * 0x400, "jail_uid_count": 0x400,
                  "console_log_size": "64k", "max_ended": 8, "spare_networks": 0}
        daemon = Daemon(BUILD, directory, config=config, bus=system_bus.address)
        os.mkdir(daemon.runtime_dir, 0o755)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SPACE},mode=755", "exhaustion", daemon.runtime_dir], check=True)
        try:
            it = Broker(daemon.start(), people, [system_bus.process.pid])
            try:
                it.settle()
                yield it
            finally:
                it.close()
        finally:
            subprocess.run(["umount", "--lazy", daemon.runtime_dir], check=True)


@pytest.fixture
def hypervisor():
    return "null"


@pytest.fixture(autouse=True)
def bounded(broker):
    before = resident(broker.daemon.pid)
    yield
    grown = resident(broker.daemon.pid) - before
    assert grown < GROWTH_MAX, f"the daemon has grown by {grown >> 10} KiB"


class Rig:
    """A network and two domains, one of them a real emulator; everything that can be asked for is asked. reasons: words of
    what may be refused for."""

    def __init__(self, who, reasons=()):
        self.who = who
        self.reasons = reasons
        self.network = who.create_network(["one", "two"])[0]
        self.null = who.create_domain(self.network, "1M", [who.user.disk("null.img")], hypervisor="null")
        self.qemu = who.create_domain(self.network, "64M", [who.user.disk("qemu.img")], hypervisor="qemu", extra={"paused": True})
        self.outcomes = {}

    def try_(self, what, function, *arguments, **options):
        """Its answer, or None when it was refused by name."""
        try:
            answer = function(*arguments, **options)
        except CallError as error:
            assert error.name in ERRORS, f"{what}: {error}"
            words = (*self.reasons, ALWAYS[what]) if what in ALWAYS else self.reasons
            assert any(word in error.message for word in words), f"{what}: {error}"
            self.outcomes.setdefault(what, set()).add(error.name)
            return None
        self.outcomes.setdefault(what, set()).add("done")
        return answer

    @staticmethod
    def close(*fds):
        for fd in fds:
            if fd is not None:
                os.close(fd)

    def everything(self):
        who = self.who
        new = self.try_("create network", who.create_network, ["a"])
        kernel = who.user.file("kernel", b"kernel")
        boot = {"kernel": kernel, "initrd": kernel, "paused": True}
        made = [self.try_("create null", who.create_domain, self.network, "1M", [who.user.disk("more.img")], hypervisor="null"),
                self.try_("create null with kernel", who.create_domain, self.network, "1M", hypervisor="null", extra=boot),
                self.try_("create qemu", who.create_domain, self.network, "64M", [who.user.disk("more2.img")], hypervisor="qemu",
                          extra={"paused": True})]
        for name in (self.null, self.qemu):
            for method in ("OpenConsole", "OpenLog", "Screenshot", "OpenVnc", "OpenAgent"):
                if name == self.qemu or method in ("OpenConsole", "OpenLog"):
                    self.close(self.try_(method, who.domain, name, method))
            for method in ("Pause", "Resume", "Pause") if name == self.null else ("Reset",):
                self.try_(method, who.domain, name, method)
            self.try_("Wait", who.domain, name, "Wait", "t", 1000)
            self.try_("Describe", who.domain, name, "Describe")
        for method, signature, arguments in (("Listen", "q", (0,)), ("Connect", "sq", ("127.0.0.1", 9)), ("Capture", "s", ("",))):
            self.close(self.try_(method, who.network, self.network, method, signature, *arguments))
        self.close(*(self.try_("OpenNamespaces", who.network, self.network, "OpenNamespaces") or ()))
        self.try_("GetHosts", who.network, self.network, "GetHosts")
        self.try_("Probe", who.manager, "Probe")
        for name in made:
            if name:
                who.destroy_domain(name)
        if new:
            who.destroy_network(new[0])

    def refused(self):
        """The kinds of creations that were refused, each of them."""
        return {what for what, outcome in self.outcomes.items() if what.startswith("create") and "done" not in outcome}

    def destroy(self):
        """Never fails, whatever there is not."""
        self.who.destroy_domain(self.null)
        self.who.destroy_domain(self.qemu)
        self.who.destroy_network(self.network)


def everything_works(who):
    """For a rig that is made now, nothing is refused."""
    rig = Rig(who)
    rig.everything()
    assert rig.outcomes.pop("Wait") == {"Timeout"} and rig.outcomes.pop("Connect") == {"ConnectionFailed"}
    assert all(outcome == {"done"} for outcome in rig.outcomes.values()), rig.outcomes
    rig.destroy()


def in_time(function, *arguments, seconds=10):
    """Once more, while the host still catches up."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return function(*arguments)
        except CallError as error:
            if error.name not in ERRORS or time.monotonic() > deadline:
                raise
        time.sleep(0.1)


# ---- Space ----


def takes(fd, size):
    """Whether the file system has room to make the file so much larger; it does so."""
    try:
        os.posix_fallocate(fd, os.fstat(fd).st_size, size)
    except OSError as error:
        assert error.errno == errno.ENOSPC
        return False
    return True


@contextlib.contextmanager
def full(directory, leave=0):
    """The file system has no room, but for so many bytes, of whole pages."""
    path = os.path.join(directory, "filler")
    fd = os.open(path, os.O_CREAT | os.O_WRONLY)
    try:
        for size in (1 << 20, 65536, PAGE):
            while takes(fd, size):
                pass
        with pytest.raises(OSError) as info:
            os.pwrite(fd, b"x", os.fstat(fd).st_size)
        assert info.value.errno == errno.ENOSPC
        os.ftruncate(fd, os.fstat(fd).st_size - leave)
        yield
    finally:
        os.close(fd)
        os.unlink(path)


@pytest.mark.parametrize("leave", [0, 1, 2, 3, 4, 6, 8, 12, 16, 32])
def test_full_file_system(broker, alice, bob, leave):
    """So many pages are left, and none in the store's log, which is what takes them: a daemon that ends in good order removes
    it, and the next one's is not yet so long that it would be written anew from its beginning."""
    broker.restart(kill=False)
    bystander = Bystander(bob, broker.daemon)
    rig = Rig(alice, NO_SPACE)
    with full(broker.daemon.runtime_dir, leave * PAGE):
        rig.everything()
        bystander.check()
        rig.destroy()
        assert alice.domain_names() == [bystander.domain] and alice.network_names() == [bystander.network]
    print(leave, rig.outcomes)
    if leave == 0:
        assert rig.refused() == {"create network", "create null", "create null with kernel", "create qemu"}, rig.outcomes
    bystander.check()
    everything_works(alice)
    bystander.leave()


def test_a_large_network_is_refused_without_space(broker, alice, bob):
    """It is more than the store's log can have room for, however long that is. Others can still be destroyed."""
    bystander = Bystander(bob, broker.daemon)
    hosts = [f"h{n:062}" for n in range(4096)]
    with full(broker.daemon.runtime_dir):
        for _ in range(3):
            assert any(word in refused("Internal", alice.create_network, hosts) for word in NO_SPACE)
        bystander.leave()
    alice.destroy_network(alice.create_network(hosts)[0])


@pytest.mark.parametrize("hosts", [50, 1000])
def test_creations_do_not_take_the_room_of_destructions(broker, alice, hosts):
    """What is kept back for destructions is for no creation, once the first of them has it given up: else the last of
    these would leave a host on which nobody can destroy anything."""
    broker.restart(kill=False)
    first, second = (alice.create_network(["a"])[0] for _ in range(2))
    left = [second]
    with full(broker.daemon.runtime_dir):
        alice.destroy_network(first)
        with pytest.raises(CallError) as info:
            for _ in range(60):  # of which a user may have so many at once
                left.append(alice.create_network([f"h{n}" for n in range(hosts)])[0])
        assert any(word in info.value.message for word in NO_SPACE), info.value
        for name in left:
            alice.destroy_network(name)
        assert alice.network_names() == []
    everything_works(alice)


def test_a_large_network_is_destroyed_without_space(broker, alice):
    name = alice.create_network([f"h{n}" for n in range(4096)])[0]
    with full(broker.daemon.runtime_dir):
        alice.destroy_network(name)
        assert alice.network_names() == []


def test_many_are_destroyed_without_space(broker, alice):
    networks = [alice.create_network(["a"])[0] for _ in range(10)]
    domains = [alice.create_domain(n, "1M", [alice.user.disk(f"{n}.img")], hypervisor="null") for n in networks]
    with full(broker.daemon.runtime_dir):
        for name in domains:
            alice.destroy_domain(name)
        for name in networks:
            alice.destroy_network(name)
        assert alice.network_names() == [] and alice.domain_names() == []


def test_console_without_space(broker, alice, network, create):
    """The log has a hole; the console goes on, and so does the log when there is room."""
    name = create(extra={"paused": False})
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.send("before\n")
        console.expect("^before$", 5)
        with full(broker.daemon.runtime_dir):
            for n in range(50):
                console.send("x" * 500 + f" {n}\n")
                console.expect(f" {n}$", 5)
        console.send("after\n")
        console.expect("^after$", 5)
    log = read_all(alice.domain(name, "OpenLog"))
    assert "before" in log and "after" in log


def test_domain_that_ends_without_space(broker, alice, network):
    """Its end is noticed and told, and it is gone."""
    kernel = alice.user.file("kernel", b"kernel")
    name = alice.create_domain(network.name, "1M", hypervisor="null",
                               extra={"kernel": kernel, "initrd": kernel, "cmdline": "poweroff-after-ms=300"})
    waiting = alice.start(domain_path(name), DOMAIN, "Wait", "t", 20_000_000)
    with full(broker.daemon.runtime_dir):
        assert waiting.result(20)[0] == "poweroff"
        deadline = time.monotonic() + 5
        while alice.domain_names() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert alice.domain_names() == []


def test_daemon_restarted_without_space(broker, alice, create, network):
    """It takes over what runs, or says why it does not start; then everything can be destroyed."""
    name = create()
    pid = json.loads(alice.domain(name, "Describe"))["pid"]
    with full(broker.daemon.runtime_dir):
        broker.daemon.kill()
        try:
            broker.daemon.start()
            started = True
        except RuntimeError as error:
            assert any(word in str(error) for word in NO_SPACE), str(error)
            started = False
        if started:
            broker.served()
            assert alice.get(domain_path(name), DOMAIN, "State") == "paused"
            alice.destroy_domain(name)
            alice.destroy_network(network.name)
    if not started:
        broker.daemon.start()
        broker.served()
        assert json.loads(alice.domain(name, "Describe"))["pid"] == pid


# ---- Descriptors ----


@contextlib.contextmanager
def few_descriptors(pid, free):
    """So many more may be opened by a process than it has now; the lowest numbers are in use, or nearly."""
    numbers = {int(n) for n in os.listdir(f"/proc/{pid}/fd")}
    limit, left = 0, free
    while left > 0 or limit in numbers:
        left -= limit not in numbers
        limit += 1
    before = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, before[1]))
    try:
        yield
    finally:
        resource.prlimit(pid, resource.RLIMIT_NOFILE, before)


@pytest.mark.parametrize("free", list(range(0, 25, 2)) + [30, 40, 60])
def test_few_descriptors(broker, alice, bob, free):
    """Every operation with so few left. What is there lives on, and can be asked and destroyed when there are some again;
    who destroys without any is told, or it is done."""
    bystander = Bystander(bob, broker.daemon)
    rig = Rig(alice, NO_DESCRIPTORS)
    with few_descriptors(broker.daemon.pid, free):
        rig.everything()
        for what, destroy, name in (("destroy null", alice.destroy_domain, rig.null), ("destroy qemu", alice.destroy_domain, rig.qemu),
                                    ("destroy network", alice.destroy_network, rig.network)):
            try:
                destroyed(destroy, name)
            except CallError as error:
                told = error.name in ERRORS and any(word in error.message for word in NO_DESCRIPTORS)
                assert told or error.name == "NetworkInUse", f"{what}: {error}"
    for destroy, name in ((alice.destroy_domain, rig.null), (alice.destroy_domain, rig.qemu), (alice.destroy_network, rig.network)):
        in_time(destroyed, destroy, name)
    if free == 0:
        assert rig.refused() == {"create network", "create null", "create null with kernel", "create qemu"}, rig.outcomes
    bystander.check()
    everything_works(alice)
    bystander.leave()


def test_connections_take_the_descriptors(broker, alice, bob):
    """Clients of the socket use up what there is: who is on the bus is told so, and nobody's rig minds. They leave, and all
    is well."""
    bystander = Bystander(bob, broker.daemon)
    sockets = []
    with few_descriptors(broker.daemon.pid, 40):
        for _ in range(100):  # as root, whose connections are not counted
            s = socket.socket(socket.AF_UNIX)
            s.settimeout(1)
            with contextlib.suppress(OSError):
                s.connect(broker.daemon.socket)
            sockets.append(s)
        time.sleep(0.5)
        bystander.check()
        with pytest.raises(CallError) as info:
            alice.create_network(["a"])
        assert info.value.name in ERRORS and any(word in info.value.message for word in NO_DESCRIPTORS), info.value
        for s in sockets:
            s.close()
        in_time(lambda: alice.destroy_network(alice.create_network(["a"])[0]))
    with broker.daemon.caller(alice.user, peer=True) as client:
        assert client.manager("GetLimits")
    bystander.leave()


def test_streams_take_the_descriptors(broker, alice, bob, create):
    """A user who opens consoles until there is nothing left is stopped by her quota or by name."""
    bystander = Bystander(bob, broker.daemon)
    name, consoles = create(), []
    with few_descriptors(broker.daemon.pid, 60):
        with pytest.raises(CallError) as info:
            for _ in range(300):
                consoles.append(Console(alice.domain(name, "OpenConsole")))
        told = info.value.name in ERRORS and any(word in info.value.message for word in NO_DESCRIPTORS)
        assert told or info.value.name == "QuotaExceeded", info.value
        bystander.check()
        for console in consoles:
            console.socket.close()
        in_time(lambda: os.close(alice.domain(name, "OpenConsole")))
    bystander.leave()


# ---- Memory ----


def test_no_memory(broker, alice, bob):
    """A limit on the daemon's address space, which its children inherit: whoever cannot have some says so or dies of it."""
    bystander = Bystander(bob, broker.daemon)
    rig = Rig(alice, NO_MEMORY)
    pid = broker.daemon.pid
    before = resource.prlimit(pid, resource.RLIMIT_AS)
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        used = int(f.read().split()[0]) * os.sysconf("SC_PAGESIZE")
    for slack in (1 << 20, 256 << 10, 64 << 10, 0):
        rig.outcomes = {}
        resource.prlimit(pid, resource.RLIMIT_AS, (used + slack, before[1]))
        try:
            rig.everything()
            bystander.check()
        finally:
            resource.prlimit(pid, resource.RLIMIT_AS, before)
    assert rig.refused(), rig.outcomes  # with a slack of nothing
    in_time(rig.destroy)
    bystander.check()
    everything_works(alice)
    bystander.leave()
