"""Guests of types pv and pvh with what the kernel's backends do not serve: qcow2 disks, and a screen."""

import os

import pytest

import rfb
from caller import CallError
from guests import SERVE, Guest
from test_guests import gone, how_it_ended
from test_hvm import check_harmless, content
from xen import model_of, xl_list

SECTOR = 512


@pytest.mark.parametrize("machine_type", ["pvh", "pv"])
def test_qcow2_disk_and_screen(alice, create, people, daemon, machine_type):
    """Beside a raw disk, which the kernel serves. A new daemon has it all, and boots it again."""
    raw = people["alice"].disk("raw.img")
    qcow2 = people["alice"].file("boot.qcow2", content("boot.qcow2"))
    name = create("one", machine_type, run=SERVE, disks=[raw, qcow2],
                  more={"disk_formats": ["raw", "qcow2"], "vnc_password": "secret"})
    with Guest(alice, name) as guest:
        guest.ready()
        model = model_of(name)
        check_harmless(model, devices_of_its_own={"evtchn", "gntdev"})
        assert guest.run(f"dd if=/dev/xvdb bs={SECTOR} skip=1 count=1 2>/dev/null | head -c 8") == "firstime"
        guest.run(f"echo -n PERSISTS | dd of=/dev/xvdb bs={SECTOR} seek=1 conv=fsync,notrunc")
        guest.run("echo raw | dd of=/dev/xvda conv=fsync,notrunc")
        with pytest.raises(rfb.Refused):
            rfb.Viewer(alice.domain(name, "OpenVnc"), "wrong")
    for kill in (True, False):
        daemon.restart(kill)
        alice.reconnect()
        assert model_of(name) == model
    with Guest(alice, name) as guest:
        with rfb.Viewer(alice.domain(name, "OpenVnc"), "secret") as viewer:
            assert viewer.width > 0
        guest.begin("reboot -f")
        guest.ready()
        assert model_of(name) != model
        assert guest.run(f"dd if=/dev/xvdb bs={SECTOR} skip=1 count=1 2>/dev/null | head -c 8") == "PERSISTS"
    alice.destroy_domain(name)
    with open(raw, "rb") as f:
        assert f.read(4) == b"raw\n"


def test_its_end_is_the_guests(alice, create, people):
    name = create("one", "pvh", disks=[people["alice"].file("boot.qcow2", content("boot.qcow2"))],
                  more={"disk_formats": ["qcow2"]})
    with pytest.raises(CallError) as info:
        alice.domain(name, "OpenVnc")
    assert info.value.name == "NotSupported" and "vnc_password" in info.value.message
    os.kill(model_of(name), 9)
    gone(alice, name)
    reason, text, _ = how_it_ended(alice, name)
    assert reason == "crash" and "killed by signal 9" in text
    assert name not in xl_list()
