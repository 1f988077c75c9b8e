"""Guests of type hvm: a PC with devices that a model emulates, booting from its disk or a kernel."""

import os
import re
import time

import pytest

import rfb
from caller import CallError
from guests import SERVE, Guest
from test_guests import gone, how_it_ended
from xen import model_of, output, xl_list

SECTOR = 512
GUESTS = os.environ["DEBMARSHAL_GUESTS"]


def content(name):
    with open(os.path.join(GUESTS, name), "rb") as f:
        return f.read()


@pytest.fixture
def boot_disk(people):
    """A disk of alice's that boots: see boot-sector.S."""
    return people["alice"].file("boot.img", content("boot-sector") + b"firstime" + bytes(1 << 20))


@pytest.fixture
def pc(alice, network):
    """Create a guest of type hvm without a kernel, on the network as host "one"."""
    names = []

    def create(disks, memory="64M", **more):
        name = alice.create_domain(network.name, memory, disks, network.mac("one"), "xen", "", {"type": "hvm", **more},
                                   timeout=300)
        names.append(name)
        return name

    yield create
    for name in names:
        if name in alice.domain_names():
            alice.destroy_domain(name)


def check_harmless(pid, devices_of_its_own=()):
    """The process has given up everything that it can."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        status = dict(line.rstrip("\n").split(":\t", 1) for line in f if ":\t" in line)
    uids, gids = (set(map(int, status[key].split())) for key in ("Uid", "Gid"))
    assert uids == gids == set(map(int, status["Groups"].split())) and len(uids) == 1
    assert min(uids) > 65536
    assert all(int(status[key], 16) == 0 for key in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2")
    root = f"/proc/{pid}/root"
    assert set(os.listdir(root)) <= {"console.in", "console.out", "dev", "etc", "lib", "lib64", "usr", "var", "kernel", "initrd"}
    assert not os.path.exists(root + "/proc") and not os.path.exists(root + "/home")
    for device in os.listdir(root + "/dev/xen"):  # nothing that it could open once more
        status = os.stat(f"{root}/dev/xen/{device}")
        own = device in devices_of_its_own
        assert (status.st_uid, status.st_gid) == (min(uids) if own else 0, 0)
        assert status.st_mode & 0o007 == 0
    for namespace in ("mnt", "net", "pid", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{namespace}") != os.readlink(f"/proc/self/ns/{namespace}")


def test_boots_from_its_disk(alice, pc, boot_disk):
    """The disk is read and written, and stays what it was; a reset boots it again, powering off ends it."""
    begun = time.monotonic()
    name = pc([boot_disk], vnc_password="secret")
    print(f"create hvm: {time.monotonic() - begun:.1f} s")
    with Guest(alice, name) as guest:
        check_harmless(model_of(name))
        with pytest.raises(rfb.Refused):
            rfb.Viewer(alice.domain(name, "OpenVnc"))
        with pytest.raises(rfb.Refused):
            rfb.Viewer(alice.domain(name, "OpenVnc"), "wrong")
        with rfb.Viewer(alice.domain(name, "OpenVnc"), "secret") as viewer:
            assert viewer.width > 0
        uuid = output("xenstore-read", f"/local/domain/{xl_list()[name][0]}/vm").strip()
        assert output("xenstore-read", f"{uuid}/vncpasswd").strip() == "secret"
        assert re.search(r'^vncpasswd = "secret"[ .]*\(n0\)$', output("xenstore-ls", "-p", uuid), re.MULTILINE)

        guest.console.expect("BOOT-OK <firstime>", 300)
        print(f"booted hvm: {time.monotonic() - begun:.1f} s")
        with os.fdopen(alice.domain(name, "Screenshot"), "rb") as f:
            assert min(rfb.png_size(f.read())) >= 200
        guest.console.send("w")
        guest.console.expect("WRITTEN", 30)
        with open(boot_disk, "rb") as f:
            f.seek(SECTOR)
            assert f.read(8) == b"PERSISTS"
        guest.console.text = ""
        guest.console.send("r")
        guest.console.expect("BOOT-OK <PERSISTS>", 300)
        guest.console.send("p")
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "poweroff"


def test_qcow2_and_a_daemon_that_is_killed_and_one_that_is_stopped(alice, pc, people, daemon):
    """The next daemon has the guest with its console and its screen, and boots it again with all of its devices."""
    disk = people["alice"].file("boot.qcow2", content("boot.qcow2"))
    name = pc([disk], disk_formats=["qcow2"])
    with Guest(alice, name) as guest:
        guest.console.expect("BOOT-OK <firstime>", 300)
        guest.console.send("w")
        guest.console.expect("WRITTEN", 30)
    model = model_of(name)
    for kill in (True, False):
        daemon.restart(kill)
        alice.reconnect()
        assert model_of(name) == model
    with Guest(alice, name) as guest:
        with rfb.Viewer(alice.domain(name, "OpenVnc")) as viewer:
            assert viewer.width > 0
        guest.console.text = ""
        guest.console.send("x")
        guest.console.expect("x", 20)
        guest.console.send("r")
        guest.console.expect("BOOT-OK <PERSISTS>", 300)
        assert model_of(name) != model
    alice.destroy_domain(name)
    assert name not in xl_list()


@pytest.mark.parametrize("how", ["its model is killed", "its domain is destroyed"])
def test_model_and_domain_end_together(alice, pc, boot_disk, how):
    name = pc([boot_disk])
    if how == "its model is killed":
        os.kill(model_of(name), 9)
        words = "was killed by signal 9"
    else:
        output("xl", "destroy", name, check=False)
        words = "somebody else"
    gone(alice, name)
    assert name not in xl_list()
    reason, text, _ = how_it_ended(alice, name)
    assert reason == "crash" and words in text


def test_killed_daemon_leaves_no_model(alice, daemon, network, boot_disk):
    """Killed as the model is on its way."""
    alice.start_domain(network.name, "64M", [boot_disk], network.mac("one"), "xen", "", {"type": "hvm"})
    deadline = time.monotonic() + 60
    while not any(model_of(name) for name in xl_list()):
        assert time.monotonic() < deadline
    daemon.restart(kill=True)
    alice.reconnect()
    while alice.domain_names() or xl_list():
        assert time.monotonic() < deadline, (alice.domain_names(), xl_list())
        time.sleep(0.1)


def test_linux(alice, create, people, network):
    """Xen's own drivers take over from the emulated devices, of a disk and a CD-ROM; it has two processors; other guests are
    reached by name; it panics in the end."""
    disk = people["alice"].disk("disk.img", size=4 << 20)
    cd = people["alice"].file("cd.iso", b"R" * 4096, mode=0o400)
    begun = time.monotonic()
    name = create("one", "hvm", run=SERVE, disks=[disk, cd], more={"vcpus": 2, "disk_formats": ["raw", "raw:ro"]})
    other = create("two", "pvh", run=SERVE)
    with Guest(alice, other) as two, Guest(alice, name) as guest:
        two.ready()
        guest.ready(600)
        print(f"ready hvm: {time.monotonic() - begun:.1f} s")
        assert (guest.host, guest.address) == ("one", network.address("one"))
        assert guest.run("cat /sys/hypervisor/guest_type").strip() == "HVM"
        assert guest.run("grep -c ^processor /proc/cpuinfo").strip() == "2"
        assert guest.run("cat /sys/block/xvda/ro /sys/block/xvdb/ro").split() == ["0", "1"]
        assert guest.run("head -c 4 /dev/xvdb") == "RRRR"
        guest.run("ping -c 1 -W 5 two")
        two.run("ping -c 1 -W 5 one")
        guest.run("echo persists | dd of=/dev/xvda bs=512 seek=3 conv=fsync")
        with open(disk, "rb") as f:
            f.seek(3 * SECTOR)
            assert f.read(8) == b"persists"
        assert {name, other} <= set(xl_list())
        guest.begin("echo c >/proc/sysrq-trigger")
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "crash"


def test_refusals(alice, network, boot_disk, people):
    """What a guest of type hvm cannot have."""
    qcow2 = people["alice"].file("boot.qcow2", content("boot.qcow2"))
    for name, disks, extra in (
            ("NotSupported", [boot_disk], {"firmware": "uefi"}),
            ("NotSupported", [qcow2] * 5, {"disk_formats": ["qcow2"] * 5}),
            ("InvalidInput", [boot_disk], {}),
    ):
        memory = "16M" if name == "InvalidInput" else "64M"
        with pytest.raises(CallError) as info:
            alice.create_domain(network.name, memory, disks, "", "xen", "", {"type": "hvm", **extra})
        assert info.value.name == name, info.value
        assert not xl_list()
