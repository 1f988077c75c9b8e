"""The Xen driver's tests, which tests/xen/suite runs in dom0: root, an ordinary user who asks, a daemon, and the leak check."""

import os
import re
import shutil
import sys
import time

import pytest
from _pytest.runner import runtestprotocol

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path.insert(0, os.path.join(HERE, "..", "system"))

import guests  # noqa: E402
import users  # noqa: E402
from caller import CallError  # noqa: E402
from daemon import Daemon  # noqa: E402
from tiny import TinyImage  # noqa: E402
from xen import FOREIGNER, Machine, XlDomain, output, xl_list  # noqa: E402

BUILD = os.environ["DEBMARSHAL_BUILD"]
GUESTS = os.environ["DEBMARSHAL_GUESTS"]
MAX_VCPUS = 8  # of one user's
POLICY = os.path.join(HERE, "..", "..", "data", "com.googlecode.debmarshal.conf")
BASE = f"/run/dmt-{os.getpid()}"


def pytest_addoption(parser):
    parser.addoption("--share", metavar="K/N", help="run every N-th test only, from the K-th on: another machine runs the others")


def pytest_collection_modifyitems(config, items):
    share = config.getoption("--share")
    if share:
        first, step = map(int, share.split("/"))
        items[:] = items[first - 1::step]


# What Xen says of a guest whose emulated processor has failed it (docs/xen.md, "Xen in QEMU").
EMULATION_FAILED = re.compile(r".*(Triple fault|Insn len emulation failed).*")


def pytest_runtest_protocol(item, nextitem):
    """A test that fails while Xen says so runs once more. A guest that we have made wrongly fails then, too; what one leaves
    behind is no matter of the processor's. CI counts them, for what fails now and then."""
    said_before = len(output("xl", "dmesg"))
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    reports = runtestprotocol(item, nextitem=nextitem, log=False)
    if any(report.failed and report.when != "teardown" for report in reports):
        reason = EMULATION_FAILED.search(output("xl", "dmesg")[said_before:])
        if reason:
            print(f"{item.nodeid}: ONCE MORE, since the emulated processor failed: {reason[0]}", file=sys.__stdout__, flush=True)
            reports = runtestprotocol(item, nextitem=nextitem, log=False)
    for report in reports:
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


class Image(guests.Image):
    """The guest that the host has made."""

    def __init__(self):  # pylint: disable=super-init-not-called
        self.kernel = os.path.join(GUESTS, "vmlinuz")
        self.initrd = os.path.join(GUESTS, "initrd.gz")

    def extra(self, run=None, end=None, console="hvc0", **more):
        """One of type hvm resets its processor when it panics, and tells Xen of a crash only if it is asked to."""
        extra = super().extra(run, end, console, **more)
        return {**extra, "cmdline": extra["cmdline"] + " xen_legacy_crash"}


@pytest.fixture(scope="session")
def image():
    return Image()


@pytest.fixture(scope="session")
def tiny(people):
    """A kernel for what does not depend on a guest."""
    assert people
    return TinyImage(BASE)


@pytest.fixture(scope="session", autouse=True)
def foreigner(tiny):
    """A domain that xl has made, beside all that the tests do: it is there afterwards as it was before."""
    it = XlDomain(FOREIGNER, tiny, BASE)
    before = xl_list(all_of_them=True)[FOREIGNER], it.entries()
    yield it
    after = xl_list(all_of_them=True)[FOREIGNER], it.entries()
    it.destroy()
    assert after == before


@pytest.fixture(scope="session")
def people():
    os.mkdir(BASE, 0o755)
    made = {}
    for nick in ("alice", "bob"):
        made[nick] = users.User(nick, nick, f"{BASE}/home-{nick}", f"{BASE}/run-{nick}")
        for directory in (made[nick].home, made[nick].runtime_dir):
            os.mkdir(directory, 0o700)
            os.chown(directory, made[nick].uid, made[nick].gid)
    yield made
    shutil.rmtree(BASE)


@pytest.fixture(scope="session")
def daemon(people):
    config = {"start_timeout": "240s", "log_level": "debug", "max_vcpus": MAX_VCPUS, "spare_networks": 0}
    it = Daemon(BUILD, BASE, config=config)
    it.log_path = os.environ.get("DEBMARSHAL_LOG", it.log_path)
    it.start(timeout=60)
    yield it
    status = it.stop(60)
    assert status == 0, it.log()[-4000:]


@pytest.fixture(scope="session")
def machine():
    return Machine()


@pytest.fixture
def alice(people, daemon):
    with daemon.caller(people["alice"]) as client:
        yield client


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item, call):
    """A failure shows what the daemon logged."""
    report = (yield).get_result()
    if report.failed and "daemon" in item.funcargs:
        report.sections.append(("daemon log", item.funcargs["daemon"].log()[-5000:]))


@pytest.fixture(autouse=True)
def no_leaks(machine, request):
    """After every test Xen, its store and the kernel have what they had before."""
    before = machine.picture()
    yield
    left = machine.left(before)
    if left and "alice" in request.fixturenames:
        pytest.fail("left behind:\n" + "\n".join(left))
    assert not left


@pytest.fixture
def network(alice):
    net = Net(alice.create_network(["one", "two", "three"]))
    yield net
    ignoring(alice.destroy_network, net.name)


@pytest.fixture
def create(alice, image, network):
    """Create a Xen guest of alice's; whatever is left of them goes at the end."""
    names = []

    def create(host="one", machine_type=None, memory="128M", disks=(), **how):
        extra = {**how.get("image", image).extra(how.get("run"), how.get("end")), **how.get("more", {})}
        if machine_type:
            extra["type"] = machine_type
        name = alice.create_domain(network.name, memory, list(disks), network.mac(host), "xen", "", extra, timeout=150)
        names.append(name)
        return name

    yield create
    for name in names:
        ignoring(alice.destroy_domain, name)


class Net:
    """The struct that createNetwork answers with, by name."""

    def __init__(self, answer):
        self.name, self.gateway, self.netmask, self.hosts = answer

    def address(self, host):
        return self.hosts[host][0]

    def mac(self, host):
        return self.hosts[host][1]


def ignoring(function, *arguments):
    try:
        function(*arguments)
    except CallError:
        pass


def gone(alice, name, timeout=60):
    deadline = time.monotonic() + timeout
    while name in alice.domain_names():
        assert time.monotonic() < deadline, f"{name} is still there"
        time.sleep(0.1)


def how_it_ended(alice, name):
    """(reason, message, the console's log)."""
    _, reason, text, _, log = alice.manager("GetEndedDomain", "s", name)
    return reason, text, guests.read_all(log)
