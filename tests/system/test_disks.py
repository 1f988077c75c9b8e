"""Disks with real guests behind them: what is written stays, what is not to be written does not change, and UEFI boots
from them."""

import contextlib
import hashlib
import os
import subprocess

import pytest

from caller import DOMAIN, CallError, domain_path
from conftest import destroyed, refused
from guests import SERVE, Console, Guest

MIB = 1 << 20


def sha256(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


def qemu_img(user, *arguments):
    subprocess.run(["qemu-img", *arguments], check=True, stdout=subprocess.DEVNULL, cwd=user.home,
                   **user.popen_identity())


def pattern(user, path, byte, at):
    """One block of bytes in an image of any format."""
    subprocess.run(["qemu-io", "-f", "qcow2", "-c", f"write -P {byte} {at} 4k", path], check=True, cwd=user.home,
                   stdout=subprocess.DEVNULL, **user.popen_identity())


class Start:
    """Starts Linux guests of alice's on her network, and sees to their end."""

    def __init__(self, alice, image, network):
        self.alice, self.image, self.network = alice, image, network
        self.guests = contextlib.ExitStack()

    def __call__(self, disks, formats):
        name = self.alice.create_domain(self.network.name, "96M", disks, self.network.mac("one"), "qemu",
                                        extra=self.image.extra(run=SERVE, disk_formats=formats))
        self.guests.callback(destroyed, self.alice.destroy_domain, name)
        return self.guests.enter_context(Guest(self.alice, name)).ready()

    def poweroff(self, guest):
        ended = self.alice.start(domain_path(guest.name), DOMAIN, "Wait", "t", 0, timeout=60)
        guest.begin("sync; poweroff -f")
        assert ended.result()[0] == "poweroff"


@pytest.fixture
def start(alice, image, network):
    it = Start(alice, image, network)
    with it.guests:
        yield it


@pytest.fixture
def loop(broker):
    """A block device that is alice's."""
    alice = broker.people["alice"]
    path = alice.disk("loop.img", MIB)
    device = subprocess.run(["losetup", "--find", "--show", path], check=True, capture_output=True,
                            text=True).stdout.strip()
    owner = os.stat(device)
    os.chown(device, alice.uid, alice.gid)
    yield device
    os.chown(device, owner.st_uid, owner.st_gid)
    subprocess.run(["losetup", "--detach", device], check=True)


def write(guest, device, text, at_mib):
    return guest.try_(f"echo {text} | dd of=/dev/{device} bs=1M seek={at_mib} conv=notrunc,fsync 2>&1")


def read(guest, device, at_mib, length=16):
    return guest.run(f"dd if=/dev/{device} bs=1M skip={at_mib} count=1 2>/dev/null | head -c {length}")


def test_disks_keep_what_is_written(alice, network, start, loop):
    """Raw, qcow2 with two layers below it, a block device, a read-only one: one guest writes, the next one reads."""
    user = alice.user
    raw, fixed = user.disk("raw.img", 8 * MIB), user.file("fixed.img", b"do not touch".ljust(MIB, b"\0"), mode=0o400)
    for name, below in (("base", None), ("middle", "base"), ("top", "middle")):
        backing = ["-b", f"{below}.qcow2", "-F", "qcow2"] if below else []
        qemu_img(user, "create", "-q", "-f", "qcow2", *backing, f"{name}.qcow2", "8M")
    base, middle, top = (os.path.join(user.home, f"{n}.qcow2") for n in ("base", "middle", "top"))
    pattern(user, base, ord("b"), "1M")
    pattern(user, middle, ord("m"), "2M")
    before = [sha256(path) for path in (base, middle, fixed)]
    disks, formats = [raw, top, loop, fixed], ["raw", "qcow2", "raw", "raw:ro"]

    guest = start(disks, formats)
    sizes = [int(guest.run(f"cat /sys/block/vd{letter}/size")) * 512 for letter in "abcd"]
    assert sizes == [8 * MIB, 8 * MIB, MIB, MIB]
    assert read(guest, "vdb", 1) == "b" * 16 and read(guest, "vdb", 2) == "m" * 16
    for device, at in (("vda", 5), ("vdb", 1), ("vdb", 3), ("vdc", 0)):
        status, output = write(guest, device, f"kept-{device}-{at}", at)
        assert status == 0, output
    assert guest.run("cat /sys/block/vdd/ro").strip() == "1"
    assert write(guest, "vdd", "touched", 0)[0] != 0
    assert read(guest, "vdd", 0, 12) == "do not touch"
    check_shared_disks(alice, network, raw, top, fixed)
    start.poweroff(guest)

    with open(raw, "rb") as f:
        f.seek(5 * MIB)
        assert f.read(10) == b"kept-vda-5"
    guest = start(disks, formats)
    for device, at in (("vda", 5), ("vdb", 1), ("vdb", 3), ("vdc", 0)):
        assert read(guest, device, at).startswith(f"kept-{device}-{at}\n")
    assert read(guest, "vdb", 2) == "m" * 16
    start.poweroff(guest)
    assert [sha256(path) for path in (base, middle, fixed)] == before
    qemu_img(user, "check", "-q", "top.qcow2")


def check_shared_disks(alice, network, raw, top, fixed):
    """While a guest has them: a disk that is written is nobody else's, one that is only read may be anybody's."""
    for disk, form in ((raw, "raw"), (raw, "raw:ro"), (top, "qcow2")):
        with pytest.raises(CallError) as info:
            alice.create_domain(network.name, "32M", [disk], hypervisor="qemu",
                                extra={"paused": True, "disk_formats": [form]})
        assert info.value.name in ("InvalidInput", "Busy", "HypervisorFailed")
        assert "lock" in info.value.message or "in use" in info.value.message, info.value.message
    alice.destroy_domain(alice.create_domain(network.name, "32M", [fixed], hypervisor="qemu",
                                             extra={"paused": True, "disk_formats": ["raw:ro"]}))


def test_same_disk_twice_in_one_domain(alice, network):
    disk = alice.user.disk("twice.img")
    link = os.path.join(alice.user.home, "link.img")
    os.link(disk, link)
    for second in (disk, link):
        refused("InvalidInput", alice.create_domain, network.name, "32M", [disk, second], hypervisor="qemu")


# ---- Firmware ----


def run(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


@pytest.fixture
def efi_disk(broker, image):
    """A FAT disk with a kernel that UEFI's shell starts by itself."""
    alice = broker.people["alice"]
    path = alice.disk("efi.img", 64 * MIB)
    extra = image.extra(run="dmesg", end="poweroff")
    script = alice.file("startup.nsh", f"fs0:\r\nvmlinuz.efi initrd=\\initrd.gz {extra['cmdline']}\r\n".encode())
    run("mkfs.vfat", path)
    run("mcopy", "-i", path, image.kernel, "::vmlinuz.efi")
    run("mcopy", "-i", path, image.initrd, script, "::")
    return path


def test_uefi(alice, network, efi_disk):
    """The firmware finds the disk, its shell the script, the script the kernel, and the kernel the network."""
    name = alice.create_domain(network.name, "256M", [efi_disk], network.mac("two"), "qemu",
                               extra={"firmware": "uefi"})
    ended = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0, timeout=200)
    try:
        with Console(alice.domain(name, "OpenConsole")) as console:
            console.expect(r"BdsDxe|UEFI", 60)
            console.expect(rf"^DM-READY two {network.address('two')}\s", 120)
            console.expect(r"efi: EFI v[\d.]+ by EDK II", 20)
            console.expect(r"^DM-RC 0\s", 20)
        assert ended.result()[0] == "poweroff"
    finally:
        destroyed(alice.destroy_domain, name)


def test_uefi_of_another_architecture(alice, network):
    """It is the only firmware that there is for aarch64, so nobody needs to ask for it. From an empty disk it
    gets no further than its shell, which can be talked to."""
    disk = alice.user.disk("empty.img")
    refused("NotSupported", alice.create_domain, network.name, "256M", [disk], arch="aarch64", hypervisor="qemu",
            extra={"firmware": "bios"})
    name = alice.create_domain(network.name, "256M", [disk], arch="aarch64", hypervisor="qemu")
    try:
        with Console(alice.domain(name, "OpenConsole")) as console:
            console.expect(r"UEFI Interactive Shell", 120)
            console.expect(r"Shell> ", 30)
            console.send("echo said-in-the-shell\r")
            console.expect(r"^said-in-the-shell", 30)
    finally:
        alice.destroy_domain(name)
