"""PV and PVH guests of an ordinary user, through D-Bus."""

import time

import pytest

from caller import DOMAIN, MANAGER, ROOT_PATH, domain_path
from conftest import gone, how_it_ended
from guests import SERVE, Guest
from xen import LoopDevice, XlConsole, output, xl_list

TYPES = ["pvh", "pv"]


def test_xen_works_here(alice):
    found = {name: (usable, reason) for name, usable, reason in alice.get(ROOT_PATH, MANAGER, "Hypervisors")}
    assert found["xen"] == (True, ""), found


@pytest.mark.parametrize("machine_type", TYPES)
def test_boots_with_network_console_and_disk(alice, create, network, people, machine_type):
    disk = people["alice"].disk("disk.img", size=4 << 20)
    begun = time.monotonic()
    name = create("one", machine_type, run=SERVE, disks=[disk])
    print(f"create {machine_type}: {time.monotonic() - begun:.1f} s")
    with Guest(alice, name) as guest:
        guest.ready()
        print(f"ready {machine_type}: {time.monotonic() - begun:.1f} s")
        assert (guest.host, guest.address) == ("one", network.address("one"))
        assert guest.run("cat /sys/hypervisor/guest_type").strip().lower() == machine_type
        guest.run("ping -c 1 -W 5 " + network.gateway)
        guest.run("echo persists | dd of=/dev/xvda bs=512 seek=3 conv=fsync")
        domid, memory, vcpus, _ = xl_list()[name]
        assert (memory, vcpus) == (128, 1)
        assert output("xl", "domname", str(domid)).strip() == name
    begun = time.monotonic()
    alice.destroy_domain(name)
    print(f"destroy {machine_type}: {time.monotonic() - begun:.1f} s")
    assert name not in xl_list()
    with open(disk, "rb") as f:
        f.seek(3 * 512)
        assert f.read(8) == b"persists"


def test_guests_reach_one_another_by_name(alice, create, network, image):
    """Those of Xen and one of QEMU's, which is emulated in an emulated machine and takes its time."""
    pc = alice.create_domain(network.name, "128M", [], network.mac("three"), "qemu", "", image.extra(SERVE, console="ttyS0"),
                             timeout=300)
    try:
        first, second = create("one", "pvh", run=SERVE), create("two", "pv", run=SERVE)
        with Guest(alice, first) as one, Guest(alice, second) as two, Guest(alice, pc) as three:
            for guest in (one, two, three):
                guest.ready(900)
            for guest, others in ((one, ("two", "three")), (two, ("one", "three")), (three, ("one", "two"))):
                for other in others:
                    guest.run(f"ping -c 1 -W 20 {other}", timeout=120)
        assert set(xl_list()) == {first, second}
    finally:
        alice.destroy_domain(pc)


@pytest.mark.parametrize("machine_type", TYPES)
def test_poweroff_ends_it(alice, create, machine_type):
    name = create("one", machine_type, end="poweroff")
    gone(alice, name)
    reason, _, log = how_it_ended(alice, name)
    assert reason == "poweroff"
    assert "DM-READY one" in log


def test_reboot_boots_it_again(alice, create):
    name = create("one", "pvh", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
        before = xl_list()[name][0]
        guest.begin("reboot -f")
        guest.ready()
        guest.run("true")
        assert xl_list()[name][0] != before


def test_reset(alice, create):
    name = create("one", "pv", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
        alice.domain(name, "Reset", timeout=100)
        guest.console.text = ""
        guest.ready()


def test_actions(alice, create):
    """Those that are not the defaults."""
    name = create("one", "pvh", end="reboot", more={"on_reboot": "destroy"})
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "reboot"

    name = create("one", "pvh", run="sleep 2", end="poweroff", more={"on_poweroff": "restart"})
    with Guest(alice, name) as guest:
        for _ in range(2):
            guest.console.expect("^DM-READY one", 120)
            guest.console.text = ""
    alice.destroy_domain(name)


def test_created_paused(alice, create):
    name = create("one", "pvh", run=SERVE, more={"paused": True})
    assert alice.get(domain_path(name), DOMAIN, "State") == "paused"
    assert "p" in xl_list()[name][3]
    alice.domain(name, "Resume")
    with Guest(alice, name) as guest:
        guest.ready()


def test_crash_is_told(alice, create):
    name = create("one", "pvh", end="panic")
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "crash"


# What a kernel runs that Xen asks to power off.
POWEROFF = r"mkdir -p /sbin; printf '#!/bin/sh\nexec /bin/poweroff -f\n' >/sbin/poweroff; chmod 755 /sbin/poweroff; "


@pytest.mark.parametrize("machine_type", TYPES)
def test_pause_resume_shutdown(alice, create, machine_type):
    name = create("one", machine_type, run=POWEROFF + SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
        alice.domain(name, "Pause")
        assert "p" in xl_list()[name][3]
        assert alice.get(domain_path(name), DOMAIN, "State") == "paused"
        alice.domain(name, "Resume")
        guest.run("true")
        alice.domain(name, "Shutdown")
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "poweroff"


def test_next_daemon_takes_it_over(alice, create, daemon):
    name = create("one", "pvh", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
    before = xl_list()[name]
    for kill in (True, False):
        daemon.restart(kill)
        alice.reconnect()
        assert name in alice.domain_names()
    with Guest(alice, name) as guest:
        guest.run("true")  # what it said before is in the log
        assert xl_list()[name][0] == before[0]
        guest.begin("reboot -f")
        guest.ready()


def test_destroyed_behind_our_back(alice, create):
    name = create("one", "pvh", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
    output("xl", "destroy", name)
    gone(alice, name)
    reason, text, _ = how_it_ended(alice, name)
    assert reason == "crash" and "somebody else" in text


def test_xl_console_shares_it(alice, create):
    """Everything that the guest says comes to both, and both may type."""
    name = create("one", "pv", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
        with XlConsole(name) as xl:
            guest.run("echo from''-us")
            xl.expect("from-us")
            xl.send("77 echo from''-xl\n")
            xl.expect("DM-DID 77 0")
            guest.console.expect("from-xl", 10)


def test_disks_and_processors(alice, create, people):
    """Two processors, a read-only disk, a block device."""
    readonly = people["alice"].file("readonly.img", b"R" * 4096, mode=0o400)
    with LoopDevice(people["alice"].disk("backing.img"), people["alice"]) as device:
        name = create("one", "pvh", disks=[readonly, device], run=SERVE,
                      more={"vcpus": 2, "disk_formats": ["raw:ro", "raw"]})
        with Guest(alice, name) as guest:
            guest.ready()
            assert guest.run("grep -c ^processor /proc/cpuinfo").strip() == "2"
            assert guest.run("cat /sys/block/xvda/ro /sys/block/xvdb/ro").split() == ["1", "0"]
            assert guest.run("head -c 4 /dev/xvda") == "RRRR"
            guest.run("echo onto-block | dd of=/dev/xvdb conv=fsync")
        alice.destroy_domain(name)
        with open(device, "rb") as f:
            assert f.read(10) == b"onto-block"
