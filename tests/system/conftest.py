"""What every system test stands on: root, users of its own, a bus of its own, a daemon of its own, and the leak check.

A module says how its daemon is to be by overriding the fixtures `config` and `scope`. The daemon lives as long as the
module; after each test everything must be as it was before the first.
"""

import contextlib
import os
import subprocess
import tempfile
import time

import pytest

import caller as callers
import users
from bus import Bus
from busctl import Busctl
from daemon import Daemon
from guests import SOURCE, Image
from leaks import LeakChecker, become_subreaper

BUILD = os.environ.get("DEBMARSHAL_BUILD", os.path.join(SOURCE, "build"))
DEADLINE = 20
POLICY = os.path.join(SOURCE, "data", "com.googlecode.debmarshal.conf")


def pytest_sessionstart():
    if os.geteuid() != 0:
        pytest.exit("the system tests need root", returncode=77)
    become_subreaper()


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what the daemon logged during the test."""
    report = (yield).get_result()
    broker = item.funcargs.get("broker")
    if report.failed and broker:
        report.sections.append(("daemon log", broker.log_since_test()[-6000:]))


@pytest.fixture(scope="session")
def base():
    """A directory on a memory file system, where paths of sockets are short; only root makes files there."""
    with tempfile.TemporaryDirectory(prefix="dmt-", dir="/run") as directory:
        os.chmod(directory, 0o755)
        yield directory


@pytest.fixture(scope="session")
def people(base):
    made = users.Users(base)
    try:
        yield {nick: made.make(nick) for nick in ("alice", "bob")} | {"root": users.root(base)}
    finally:
        made.remove_all()


@pytest.fixture(scope="session")
def system_bus(base):
    bus = Bus(base, POLICY).start()
    yield bus
    bus.stop()


@pytest.fixture(scope="session")
def image():
    """The host's own architecture's guest."""
    return Image(os.environ.get("DEBMARSHAL_GUESTS", os.path.join(SOURCE, ".cache", "guest")))


class Broker:
    """A daemon and those who talk to it."""

    def __init__(self, daemon, people, harness_pids):
        self.daemon = daemon
        self.people = people
        self._harness_pids = harness_pids
        self._callers = {}
        self._log_mark = 0
        self._standing_charges = {}
        self.leaks = LeakChecker(daemon, os.path.dirname(daemon.runtime_dir), self.known)

    def known(self):
        pids = list(self._harness_pids) + [c.pid for c in self._callers.values()]
        return pids + ([self.daemon.pid] if self.daemon.process else [])

    def caller(self, nick, peer=None):
        """The client process of that user; made once. peer: over the daemon's own socket."""
        key = (nick, peer)
        if key not in self._callers:
            self._callers[key] = self.daemon.caller(self.people[nick], peer)
        return self._callers[key]

    def forget_caller(self, nick, peer=None):
        client = self._callers.pop((nick, peer), None)
        if client:
            client.close()

    def forget_all_callers(self):
        for key in list(self._callers):
            self.forget_caller(*key)

    def busctl(self, nick):
        return Busctl(self.people[nick], self.daemon.bus or self.daemon.peer_address)

    def administrator(self):
        return self.caller("root" if self.daemon.scope == "system" else self.daemon.user.nick)

    def restart(self, kill=True):
        """Connections to the daemon's own socket end with it and are made anew; those to the bus stay."""
        self.daemon.restart(kill)
        self.served()

    def revive(self):
        """Start a daemon that has ended by itself, so that the next test has one; how it ended."""
        status = self.daemon.wait(10) if self.daemon.process else "stopped by the test"
        self.daemon.start()
        self.served()
        self.destroy_all()
        return status

    def served(self):
        """The daemon is there anew."""
        for (_, peer), client in self._callers.items():
            if peer or self.daemon.bus is None:
                client.reconnect()
        self.administrator().wait_until_served()

    def settle(self):
        """The hypervisors are probed, and what the daemon opens once and keeps is open: one network and domain have been."""
        root = self.administrator()
        root.wait_until_served()
        root.manager("Probe", timeout=60)
        network = root.create_network(["warm"])[0]
        domain = root.create_domain(network, "1M", [root.user.disk("warm.img")], hypervisor="null")
        os.close(root.domain(domain, "OpenConsole"))
        root.destroy_domain(domain)
        root.destroy_network(network)
        self.leaks.take_baseline()

    def destroy_all(self):
        """What a failed test left."""
        root = self.administrator()
        for name in root.domain_names():
            self._ignoring_errors(root.destroy_domain, name)
        for name in root.network_names():
            self._ignoring_errors(root.destroy_network, name)

    @staticmethod
    def _ignoring_errors(function, *arguments):
        try:
            function(*arguments)
        except callers.CallError:
            pass

    def _charges(self):
        held = {uid: {what: n for what, n in held.items() if n and what != "connections"}
                for uid, held in self.administrator().manager("GetUsage")}
        return {uid: what for uid, what in held.items() if what}

    def charged(self):
        """Who is charged for something when nothing exists but what stands."""
        more = {uid: {what: n for what, n in held.items() if n > self._standing_charges.get(uid, {}).get(what, 0)}
                for uid, held in self._charges().items()}
        return {uid: held for uid, held in more.items() if held}

    @contextlib.contextmanager
    def standing(self):
        """For what several tests share, which is no leak of any one of them: it is made and, at last, destroyed inside
        of this. The value is to be called when all is made."""
        before = self.leaks.baseline

        def made():
            self.leaks.take_baseline()
            self._standing_charges = self._charges()

        yield made
        self.leaks.baseline, self._standing_charges = before, {}
        left = self.leaks.left()
        assert not left, "left behind:\n" + "\n".join(left)

    def mark_log(self):
        self._log_mark = os.path.getsize(self.daemon.log_path)

    def log_since_test(self):
        return self.daemon.log()[self._log_mark:]

    def close(self):
        self.forget_all_callers()
        status = self.daemon.stop() if self.daemon.process else None
        assert status in (0, None), f"the daemon ended with status {status}:\n{self.daemon.log()[-4000:]}"


@pytest.fixture(scope="module")
def config():
    """Keys of debmarshald.conf."""
    return {}


@pytest.fixture(scope="module")
def scope():
    return "system"


@pytest.fixture(scope="module")
def broker(base, people, system_bus, config, scope):
    with tempfile.TemporaryDirectory(prefix="d-", dir=base) as directory:
        os.chmod(directory, 0o755)
        # Uids that no other run on this host uses at the same time.
        config = {"jail_uid_base": 0x60000000 + os.getpid() % 0x10000 * 0x400, "jail_uid_count": 0x400, **config}
        daemon = Daemon(BUILD, directory, config=config, scope=scope,
                        bus=system_bus.address if scope == "system" else None,
                        user=None if scope == "system" else people["alice"]).start()
        it = Broker(daemon, people, [system_bus.process.pid])
        try:
            it.settle()
            yield it
        finally:
            it.close()


@pytest.fixture(autouse=True)
def no_leaks(request):
    """After every test nothing is left: no process, namespace, link, mount, socket, file, record, descriptor, charge."""
    if "broker" not in request.fixturenames:
        yield
        return
    it = request.getfixturevalue("broker")
    it.mark_log()
    yield
    if not it.daemon.is_alive():
        status = it.revive()
        pytest.fail(f"the daemon has ended ({status}):\n{it.log_since_test()[-3000:]}")
    left = it.leaks.left()
    deadline = time.monotonic() + 2
    while it.charged() and time.monotonic() < deadline:
        time.sleep(0.05)
    left += [f"charge: uid {uid}: {held}" for uid, held in it.charged().items()]
    if left:
        it.destroy_all()
        again = it.leaks.left()
        if again:
            it.leaks.take_baseline()  # blame this test alone
        pytest.fail("left behind:\n" + "\n".join(left) +
                    ("\nand after everything was destroyed:\n" + "\n".join(again) if again else ""))


@pytest.fixture
def root(broker):
    return broker.caller("root")


@pytest.fixture
def alice(broker):
    return broker.caller("alice")


@pytest.fixture
def bob(broker):
    return broker.caller("bob")


@pytest.fixture(params=["null", "qemu"])
def hypervisor(request):
    return request.param


@pytest.fixture
def network(alice):
    """Alice's network with the hosts "one" and "two": what createNetwork answers, as a Net."""
    net = Net(alice.create_network(["one", "two"]))
    yield net
    destroyed(alice.destroy_network, net.name)


@pytest.fixture
def disk(broker):
    return broker.people["alice"].disk("alice.img")


@pytest.fixture
def mount_point(base):
    path = os.path.join(base, "fuse")
    os.mkdir(path, 0o755)
    yield path
    os.rmdir(path)


@pytest.fixture
def create(alice, hypervisor, network, disk):
    """Create a domain on alice's network: paused, with one disk of hers, unless it is said otherwise."""
    names = []

    def create(who=alice, **how):
        how.setdefault("disks", [disk])
        how.setdefault("hypervisor", hypervisor)
        how["extra"] = {"paused": True, **how.get("extra", {})}
        name = who.create_domain(how.pop("network", network.name), **how)
        names.append(name)
        return name

    yield create
    for name in names:
        destroyed(alice.destroy_domain, name)


class Net:
    """The struct that createNetwork answers with, by name."""

    def __init__(self, answer):
        self.name, self.gateway, self.netmask, self.hosts = answer

    def address(self, host):
        return self.hosts[host][0]

    def mac(self, host):
        return self.hosts[host][1]


def run_inside(broker, rig, *command, nick="alice"):
    """What the owner does with the command line in a network, or whatever has the name of one."""
    user = broker.people[nick]
    program = [os.path.join(BUILD, "debmarshal"), f"--address={broker.daemon.peer_address}"]
    return subprocess.run([*program, "network", "exec", rig.name, "--", *command], env=user.environment(), text=True,
                          capture_output=True, check=False, timeout=30, cwd="/", **user.popen_identity())


def refused(name, function, *arguments, **options):
    """The message of the error of that name that the call must end with."""
    with pytest.raises(callers.CallError) as info:
        function(*arguments, **options)
    assert info.value.name == name, f"{info.value.name} instead of {name}: {info.value.message}"
    assert info.value.message
    return info.value.message


def destroyed(function, name):
    """Destroy what the test may have destroyed already."""
    try:
        function(name)
    except callers.CallError as error:
        if error.name not in ("NetworkNotFound", "DomainNotFound"):
            raise


def wait_for(condition, timeout=DEADLINE, told=lambda: ""):
    """What condition() gives, once that is something. told() says more of what is wrong when it does not."""
    deadline = time.monotonic() + timeout
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, f"{condition} did not come true {told()}"
        time.sleep(0.01)
