"""Guests of type hvm whose device model runs in a domain of its own, the stub domain (Debian's QEMU, as stubdomain-image.sh
puts it into an image)."""

import os
import re
import subprocess
import time

import pytest

from caller import CallError
from conftest import gone, how_it_ended, ignoring
from guests import SERVE, Guest
from rfb import Refused, Viewer, png_size
from test_hvm import boot_disk  # noqa: F401  # pylint: disable=unused-import
from xen import output, xl_list

ROOM = 32 << 20  # for a kernel and an initrd
START = 300  # seconds: two domains, one after the other, in an emulated Xen


def stub_of(name):
    """The numbers of a guest and of its stub domain."""
    domains = xl_list()
    return domains[name][0], domains[f"{name}-dm"][0]


def permissions(path):
    """(owner's letters, others'), such as ("n0", ["r5"]), of a node in the store."""
    parent, _, key = path.rpartition("/")
    for line in output("xenstore-ls", "-p", parent).splitlines():
        found = re.match(rf"{re.escape(key)} = .*\((.*)\)$", line)
        if found:
            owner, *others = found.group(1).split(",")
            return owner, others
    raise AssertionError(f"there is no {path}")


def look_at(alice, name):
    """One viewer at a time, and pictures beside, one after the other."""
    with Viewer(alice.domain(name, "OpenVnc")) as viewer:
        assert name in viewer.name and min(viewer.width, viewer.height) > 100
        with pytest.raises(CallError) as refused:
            alice.domain(name, "OpenVnc")
        assert refused.value.name == "Busy"
        pictures = [shoot(alice, name) for _ in range(2)]
        assert [png_size(picture) for picture in pictures] == [(viewer.width, viewer.height)] * 2
        # Not all of one colour: it has printed something. The rows are not compressed, nor filtered.
        assert len(set(pictures[1][100:-100])) > 2


def shoot(alice, name):
    """A picture of its screen."""
    begun = time.monotonic()
    with os.fdopen(alice.domain(name, "Screenshot"), "rb") as f:
        picture = f.read()
    print(f"picture with stub domain: {time.monotonic() - begun:.1f} s")
    return picture


def emulators():
    """Command lines of those that dom0 runs."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                found.append(f.read())
        except OSError:
            continue
    return [line for line in found if b"qemu" in line]


def destroy(number):
    """As somebody else: what xl says of a domain that it has not made does not matter."""
    subprocess.run(["xl", "destroy", str(number)], check=False, timeout=60)


def read(path):
    return output("xenstore-read", path).strip()


@pytest.fixture
def create(alice, network):
    """Create a guest with a stub domain; what is left of it goes at the end."""
    names = []

    def create(disks, mac="", memory="64M", **extra):
        asked = alice.start_domain(network.name, memory, disks, mac, "xen", "",
                                   {"type": "hvm", "stubdomain": True, **extra}, timeout=START)
        names.append(asked.result(START))
        return names[-1]

    yield create
    for name in names:
        ignoring(alice.destroy_domain, name)


@pytest.fixture
def stub(create, boot_disk):  # noqa: F811
    return lambda **how: create([boot_disk], **how)


@pytest.fixture
def configured(daemon, alice):
    """Another configuration until the end of the test."""
    with open(daemon.config_path, encoding="utf-8") as f:
        usual = dict(line.rstrip("\n").split(" = ", 1) for line in f)

    def configure(**config):
        daemon.kill()
        daemon.write_config({**usual, **config})
        daemon.start(timeout=60)
        alice.reconnect()

    yield configure
    configure()


def test_boots_in_its_own_domain(alice, network, stub):
    """The model's domain has no more than its target, dom0 runs no emulator, the serial line goes both ways, the disk is
    written, the interface is on the network twice; a reset makes both domains anew, powering off ends both."""
    begun = time.monotonic()
    name = stub(mac=network.mac("one"))
    print(f"create with stub domain: {time.monotonic() - begun:.1f} s")
    with Guest(alice, name) as guest:
        guest.console.expect("BOOT-OK <firstime>", 120)
        print(f"booted with stub domain: {time.monotonic() - begun:.1f} s")
        domain, model = stub_of(name)
        assert not emulators()
        assert read(f"/local/domain/{model}/target") == str(domain)
        assert permissions(f"/local/domain/{model}") == ("n0", [f"r{model}"])
        assert permissions(f"/local/domain/{model}/target") == ("n0", [f"r{model}"])
        assert permissions(f"/local/domain/{model}/device-model/{domain}") == (f"n{model}", [f"r{domain}"])
        arguments = read(f"/local/domain/{domain}/vm") + "/image/dm-argv"
        assert permissions(arguments) == ("n0", [f"r{model}"])
        assert permissions(f"{arguments}/001") == ("n0", [f"r{model}"])
        assert read(f"/local/domain/{domain}/image/device-model-domid") == str(model)
        for owner in (domain, model):
            assert read(f"/local/domain/0/backend/vif/{owner}/0/frontend-id") == str(owner)
        look_at(alice, name)
        guest.console.send("w")
        guest.console.expect("WRITTEN", 60)
        guest.console.text = ""
        guest.console.send("r")
        guest.console.expect("BOOT-OK <PERSISTS>", START)
        assert stub_of(name) > (domain, model)
        guest.console.send("p")
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "poweroff"
    assert not xl_list()


def test_daemon_is_killed_and_stopped_then_the_guest_destroyed(alice, daemon, stub):
    """The next daemon has both, with the console. Somebody destroys the guest: the model goes with it."""
    name = stub()
    with Guest(alice, name) as guest:
        guest.console.expect("BOOT-OK", 120)
        domains = stub_of(name)
    for end in (daemon.kill, daemon.stop):
        end()
        daemon.start(timeout=60)
        alice.reconnect()
        assert stub_of(name) == domains
    with Guest(alice, name) as guest:
        guest.console.text = ""
        guest.console.send("xyzzy")
        guest.console.expect("xyzzy", 60)
    destroy(domains[0])
    gone(alice, name)
    assert how_it_ended(alice, name)[0] == "crash"
    assert not xl_list()


def test_model_is_killed(alice, daemon, stub):
    """The guest goes with it. Before, viewers are asked for the password."""
    name = stub(vnc_password="secret")
    with pytest.raises(Refused):
        Viewer(alice.domain(name, "OpenVnc"))
    assert "Failed to set the password" not in daemon.log()
    destroy(stub_of(name)[1])
    gone(alice, name)
    reason, text, _ = how_it_ended(alice, name)
    assert reason == "crash" and "the device model's domain ended" in text
    assert not xl_list()


def test_daemon_is_killed_while_creating(alice, daemon, network, boot_disk):  # noqa: F811
    """Whatever there was of the two is gone."""
    alice.start_domain(network.name, "64M", [boot_disk], "", "xen", "", {"type": "hvm", "stubdomain": True})
    time.sleep(4)
    daemon.kill()
    daemon.start(timeout=60)
    alice.reconnect()
    deadline = time.monotonic() + 60
    while alice.domain_names() or xl_list():
        assert time.monotonic() < deadline, (alice.domain_names(), xl_list())
        time.sleep(0.2)


def filled(people, image, more=0):
    """An initrd of alice's that takes all the room that there is in a stub domain beside the kernel, or more bytes. A
    kernel takes the zeros behind its end for nothing."""
    with open(image.initrd, "rb") as f:
        path = people["alice"].file("initrd", f.read())
    os.truncate(path, ROOM - os.path.getsize(image.kernel) + more)
    return path


def test_boots_a_kernel(create, alice, image, network, people):
    """As large as it may be with its initrd; the command line comes as it is."""
    cmdline = image.extra(run=SERVE)["cmdline"] + ' dm.user="a\\\\x41 $HOME %s ü"'
    disk = people["alice"].disk("disk.img", size=1 << 20)
    begun = time.monotonic()
    name = create([disk], memory="128M", mac=network.mac("one"), kernel=image.kernel, initrd=filled(people, image),
                  cmdline=cmdline)
    with Guest(alice, name) as guest:
        guest.ready(600)
        print(f"ready with stub domain and kernel: {time.monotonic() - begun:.1f} s")
        assert cmdline in guest.run("cat /proc/cmdline")
        assert (guest.host, guest.address) == ("one", network.address("one"))
    alice.destroy_domain(name)
    assert not xl_list()


def test_refusals(create, boot_disk, alice, network, image, people):  # noqa: F811
    with pytest.raises(CallError) as refused:
        create([boot_disk], disk_formats=["qcow2"])
    assert refused.value.name == "NotSupported"
    with pytest.raises(CallError) as refused:
        alice.create_domain(network.name, "64M", [], network.mac("one"), "xen", "", {**image.extra(), "stubdomain": True})
    assert refused.value.name == "InvalidInput"
    with pytest.raises(CallError) as refused:
        create([], kernel=image.kernel, initrd=filled(people, image, 1))
    assert refused.value.name == "InvalidInput" and "room for 32 MiB" in str(refused.value)
    assert not xl_list()


def test_without_image(configured, stub):
    configured(xen_stub_domain="/nowhere")
    with pytest.raises(CallError) as refused:
        stub()
    assert refused.value.name == "NotSupported"
    assert "/nowhere/vmlinuz" in str(refused.value) and "stubdomain-image.sh" in str(refused.value)


def test_image_that_never_confirms(configured, stub, tmp_path):
    """A guest's own image knows nothing of being a device model: it boots, and never confirms."""
    guests = os.environ["DEBMARSHAL_GUESTS"]
    (tmp_path / "vmlinuz").symlink_to(f"{guests}/vmlinuz")
    (tmp_path / "initrd").symlink_to(f"{guests}/initrd.gz")
    configured(xen_stub_domain=str(tmp_path), start_timeout="60s")
    with pytest.raises(CallError) as refused:
        stub()
    assert refused.value.name == "Timeout"
    assert "did not say in time that it runs" in str(refused.value)
    assert "DM" in str(refused.value)
    assert not xl_list()
