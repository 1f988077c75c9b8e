"""pygrub for PV and PVH guests: its menu on our console and on Xen's own, anew at each boot."""

import os
import time

import pytest

import bootdisk
from caller import DOMAIN, CallError, domain_path
from guests import SERVE, Console, Guest
from xen import XlConsole, xl_list

TYPES = ["pvh", "pv"]
MENU = 60  # seconds until it is drawn, in an emulated machine


@pytest.fixture
def disk(people, image):
    """alice's, made by a function of how long its menu waits."""
    made = []

    def make(timeout):
        cmdline = image.extra(run=SERVE)["cmdline"]
        entries = [("The first one", f"{cmdline} dm.entry=first"), ("Another", f"{cmdline} dm.entry=another")]
        path = people["alice"].file("boot.img")
        made.append(bootdisk.bootable(path, image, entries, timeout=timeout))
        return path

    yield make
    for path in made:
        os.unlink(path)


@pytest.fixture
def begin(alice, network):
    """Start a domain with a boot loader: the call under way."""

    def begin(disk, machine_type, loader="pygrub", **extra):
        return alice.start_domain(network.name, "160M", [disk], network.mac("one"), "xen",
                                  extra={"bootloader": loader, "type": machine_type, **extra}, timeout=240)

    yield begin
    for name in alice.domain_names():
        alice.destroy_domain(name)


def appears(alice, timeout=60):
    deadline = time.monotonic() + timeout
    while not (names := alice.domain_names()):
        assert time.monotonic() < deadline, "no domain appears"
        time.sleep(0.1)
    (name,) = names
    assert alice.get(domain_path(name), DOMAIN, "State") == "creating"
    return name


@pytest.mark.parametrize("machine_type", TYPES)
def test_menu_is_answered_through_the_console(alice, begin, disk, machine_type):
    """And the boot after it asks again."""
    pending = begin(disk(50), machine_type)
    name = appears(alice)
    assert "p" in xl_list()[name][3]
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect("Another", MENU)
        console.send("\x1bOB\r")
        assert pending.result(240) == name
    with Guest(alice, name) as guest:
        guest.ready()
        assert "dm.entry=another" in guest.run("cat /proc/cmdline")
        first = xl_list()[name][0]
        guest.begin("reboot -f")
        guest.console.expect("rebooting", 60)
        guest.console.text = ""
        guest.console.expect("The first one", MENU)
        guest.console.send("\r")
        guest.ready()
        assert "dm.entry=first" in guest.run("cat /proc/cmdline")
        assert xl_list()[name][0] != first
    alice.destroy_domain(name)
    assert name not in xl_list()


def test_menu_is_answered_through_xl_console(alice, begin, disk):
    """It ends when the store names another terminal, as xl's own boot loaders make it, and is then attached anew."""
    pending = begin(disk(50), "pv")
    name = appears(alice)
    with XlConsole(name) as console:
        console.expect("Another", MENU)
        console.send("\x1bOB\r")
        assert pending.result(240) == name
    with XlConsole(name) as console:
        console.expect("DM-SERVES", 120)
        console.send("1 cat /proc/cmdline\n")
        console.expect("dm.entry=another")
        console.expect("DM-DID 1 0")


def test_destroyed_meanwhile(alice, begin, disk):
    pending = begin(disk(50), "pvh")
    name = appears(alice)
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect("Another", MENU)
    alice.destroy_domain(name)
    with pytest.raises(CallError) as info:
        pending.result(60)
    assert info.value.name == "InvalidState"
    assert name not in xl_list()


def test_daemon_killed_meanwhile(alice, begin, disk, daemon):
    begin(disk(50), "pv")
    name = appears(alice)
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect("Another", MENU)
    daemon.restart(kill=True)
    alice.reconnect()
    alice.wait_until_served()
    deadline = time.monotonic() + 60
    while alice.domain_names() or name in xl_list():
        assert time.monotonic() < deadline
        time.sleep(0.2)


def test_no_kernel_found(alice, begin, people):
    path = people["alice"].disk("empty.img", 4 << 20)
    with pytest.raises(CallError) as info:
        begin(path, "pvh").result(240)
    assert info.value.name == "HypervisorFailed"
    assert f'oot loader pygrub on disk "{path}": it exited with status 1: ' in info.value.message
    assert "Unable to find partition containing kernel" in info.value.message
    assert alice.domain_names() == []


def test_refusals(begin, disk):
    path = disk(0)
    for machine_type, loader in (("hvm", "pygrub"), ("pv", "nobody-knows-it")):
        with pytest.raises(CallError) as info:
            begin(path, machine_type, loader).result(60)
        assert info.value.name == "NotSupported"
