"""How domains begin and end, with the null hypervisor, which misbehaves as its kernel command line asks."""

import json
import os
import signal
import time

import pytest

from caller import DOMAIN, NETWORK, CallError, domain_path, network_path
from conftest import destroyed, refused
from guests import Console, read_all
from leaks import keeper_of


@pytest.fixture(scope="module")
def config():
    return {"start_timeout": "8s"}  # a busy machine takes two for a worker's start


@pytest.fixture
def hypervisor():
    return "null"


@pytest.fixture
def boot(alice, network):
    """Create a null guest with these words on its command line."""
    kernel, initrd = alice.user.file("vmlinuz", b"kernel"), alice.user.file("initrd", b"initrd")
    names = []

    def boot(words="", **extra):
        name = alice.create_domain(network.name, memory="16M", hypervisor="null",
                                   extra={"kernel": kernel, "initrd": initrd, "cmdline": words, **extra})
        names.append(name)
        return name

    yield boot
    for name in names:
        destroyed(alice.destroy_domain, name)


def end_of(alice, name, timeout=20):
    """Wait for it; the reason. It may be over already."""
    pending = alice.start(domain_path(name), DOMAIN, "Wait", "t", timeout * 1_000_000, timeout=timeout + 5)
    try:
        return pending.result()[0]
    except CallError as error:
        assert error.name.endswith("UnknownObject")
        log = alice.manager("GetEndedDomain", "s", name)
        os.close(log[4])
        return log[1]


# ---- A start that fails leaves nothing (the leak check sees that) and says why ----


@pytest.mark.parametrize("step", ["exec", "record", "start"])
def test_start_fails(alice, network, boot, step):
    message = refused("HypervisorFailed" if step != "record" else "Internal", boot, f"fail={step}")
    assert message
    assert alice.domain_names() == []
    alice.destroy_network(network.name)


def test_start_hangs(alice, boot):
    begun = time.monotonic()
    refused("Timeout", boot, "hang=start")
    assert 1 < time.monotonic() - begun < 10
    assert alice.domain_names() == []


def test_slow_start_holds_up_nobody(alice, bob, network, boot):
    kernel, initrd = (os.path.join(alice.user.home, n) for n in ("vmlinuz", "initrd"))
    alice.user.file("vmlinuz", b"k")
    alice.user.file("initrd", b"i")
    slow = alice.start_domain(network.name, "16M", hypervisor="null",
                              extra={"kernel": kernel, "initrd": initrd, "cmdline": "delay-ms=5000"})
    begun = time.monotonic()
    bob.destroy_network(bob.create_network(["x"])[0])
    assert time.monotonic() - begun < 4
    # It exists already as far as its network goes, and may not be taken away half way.
    refused("NetworkInUse", alice.destroy_network, network.name)
    assert alice.domain_names() == []
    name = slow.result()
    assert alice.domain_names() == [name]
    alice.destroy_domain(name)


# ---- The guest's own end ----


def test_poweroff_destroys(alice, boot):
    name = boot("poweroff-after-ms=200")
    assert end_of(alice, name) == "poweroff"
    assert alice.domain_names() == []


def test_end_hidden_by_anothers_domain(alice, bob, root, boot):
    """A name that is free again may be given to somebody else: who asks for the end of hers is told it all the same."""
    name = boot("poweroff-after-ms=200")
    assert end_of(alice, name) == "poweroff"
    network = bob.create_network([])[0]
    try:
        assert bob.create_domain(network, "1M", [bob.user.disk("heir.img")], hypervisor="null") == name
        assert alice.domain(name, "Wait", "t", 0)[0] == "poweroff"
        refused("AccessDenied", alice.domain, name, "OpenLog")
        for who in (bob, root):  # for whom the living one is theirs
            refused("Timeout", who.domain, name, "Wait", "t", 50_000)
    finally:
        destroyed(bob.destroy_domain, name)
        bob.destroy_network(network)
    assert boot() == name
    refused("Timeout", alice.domain, name, "Wait", "t", 50_000)  # her own, however many have ended


def test_poweroff_restarts(alice, boot):
    name = boot("poweroff-after-ms=200", on_poweroff="restart")
    refused("Timeout", alice.domain, name, "Wait", "t", 1_000_000)
    assert alice.domain_names() == [name]


def test_reboot_restarts(alice, boot):
    name = boot("reboot-after-ms=200")
    refused("Timeout", alice.domain, name, "Wait", "t", 1_000_000)
    assert alice.domain_names() == [name]


def test_reboot_destroys(alice, boot):
    name = boot("reboot-after-ms=200", on_reboot="destroy")
    assert end_of(alice, name) == "reboot"


@pytest.mark.parametrize("words", ["crash-after-ms=200", "die-after-ms=200"])
def test_crash(alice, boot, words):
    for extra in ({}, {"on_poweroff": "restart", "on_reboot": "restart"}):
        assert end_of(alice, boot(words, **extra)) == "crash"


def test_emulator_killed(alice, boot):
    """From outside: noticed at once, cleaned, told."""
    name = boot()
    waiting = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0)
    os.kill(json.loads(alice.domain(name, "Describe"))["pid"], signal.SIGKILL)
    assert waiting.result(5)[0] == "crash"


def test_emulator_killed_while_the_daemon_is_away(broker, alice, boot):
    name = boot()
    pid = json.loads(alice.domain(name, "Describe"))["pid"]
    broker.daemon.kill()
    os.kill(pid, signal.SIGKILL)
    broker.daemon.start()
    broker.served()
    assert end_of(alice, name) in ("lost", "crash")
    assert alice.domain_names() == []


def test_keeper_killed(alice, root, network, boot):
    """The network has failed, says so, and can only be destroyed; its domain first."""
    name = boot()
    alice.take_signals()
    os.kill(keeper_of(network.name).pid, signal.SIGKILL)
    alice.take_signals(until=lambda s: s[0] == network_path(network.name) and s[2] == "PropertiesChanged" and
                       s[3][1].get("State") == "failed")
    assert alice.get(network_path(network.name), NETWORK, "Reason")
    refused("InvalidState", alice.network, network.name, "Listen", "q", 0)
    refused("NetworkInUse", alice.destroy_network, network.name)
    alice.destroy_domain(name)
    alice.destroy_network(network.name)


def test_destroyed_while_it_ends(alice, boot):
    """Whoever destroys a domain that is ending by itself gets a plain answer."""
    for delay in (0, 50, 100, 150):
        name = boot("poweroff-after-ms=100")
        time.sleep(delay / 1000)
        destroyed(alice.destroy_domain, name)
        assert alice.domain_names() == []


# ---- Console: the null guest echoes ----


def test_console_echo_replay_and_log(broker, alice, boot):
    name = boot()
    with Console(alice.domain(name, "OpenConsole")) as first:
        first.send("hello\n")
        first.expect("^hello$", 5)
        with Console(alice.domain(name, "OpenConsole")) as second:
            second.expect("^hello$", 5)
            second.send("both\n")
            first.expect("^both$", 5)
            second.expect("^both$", 5)
    assert "hello\nboth\n" in read_all(alice.domain(name, "OpenLog"))
    broker.restart(kill=True)
    with Console(alice.domain(name, "OpenConsole")) as again:
        again.send("after\n")
        again.expect("^after$", 5)
    log = read_all(alice.domain(name, "OpenLog"))
    assert "hello" in log and "after" in log
    alice.destroy_domain(name)
    assert read_all(alice.manager("GetEndedDomain", "s", name)[4]) == log


def test_console_slow_reader(alice, boot):
    """One client never reads while 2 MiB go by: the other, which keeps up, has all of it, the log its newest half, and the
    daemon no trouble."""
    name = boot()
    with Console(alice.domain(name, "OpenConsole")) as slow, Console(alice.domain(name, "OpenConsole")) as quick:
        chunk = ("x" * 1023 + "\n") * 16
        for n in range(128):
            quick.send(chunk)
            while len(quick.text) < (n + 1) * len(chunk):
                assert quick.read(10), "nothing comes"
        assert (quick.text == chunk * 128) is True
        slow.expect(r"^\[debmarshal: \d+ bytes skipped\]", 5)
    log = read_all(alice.domain(name, "OpenLog"))
    assert 512 * 1024 <= len(log) <= 1024 * 1024
