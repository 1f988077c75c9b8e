"""What a running guest has: processors, networks, a screen, a port for an agent, a jail around it; and how it ends.

Two guests stand for most of the file: an x86_64 one with two processors and a leg in each of two networks, and beside
it on the first network an aarch64 one.
"""

import contextlib
import json
import os
import re
import socket

import pytest

import bootsector
from caller import DOMAIN, CallError, domain_path
from conftest import Net, destroyed, refused
from guests import SERVE, Console, Guest, Image, read_all
from rfb import SECURITY_NONE, SECURITY_VNC, Refused, Viewer, png_size

PASSWORD = "s3cret,!"


def pid_of(who, domain):
    return json.loads(who.domain(domain, "Describe"))["pid"]


class Pair:
    def __init__(self, alice, image, image_arm64):
        self.alice = alice
        self.first = Net(alice.create_network(["intel", "arm"]))
        self.second = Net(alice.create_network(["intel", "arm"]))  # the names are the same; the networks are not
        starting = [
            alice.start_domain(self.first.name, "128M", mac=self.first.mac("intel"), hypervisor="qemu",
                               extra=image.extra(run=SERVE, vcpus=2,
                                                 nics=[f"{self.second.name},{self.second.mac('intel')}"])),
            alice.start_domain(self.first.name, "128M", mac=self.first.mac("arm"), hypervisor="qemu", arch="aarch64",
                               extra=image_arm64.extra(run=SERVE, console="ttyAMA0", vnc_password=PASSWORD)),
        ]
        self.intel, self.arm = (Guest(alice, pending.result()) for pending in starting)
        self.guests = [self.intel, self.arm]
        for guest in self.guests:
            guest.ready(180)
            guest.pid = pid_of(alice, guest.name)

    def destroy(self):
        for guest in self.guests:
            guest.console.socket.close()
            if guest.name in self.alice.domain_names():
                self.alice.destroy_domain(guest.name)
        for net in (self.first, self.second):
            self.alice.destroy_network(net.name)


@pytest.fixture(scope="module")
def pair(broker, image):
    arm64 = Image(os.path.dirname(os.path.dirname(image.kernel)), "arm64")
    with broker.standing() as made:
        pair = Pair(broker.caller("alice"), image, arm64)
        made()
        yield pair
        pair.destroy()


# ---- Machine ----


def test_architectures(pair):
    assert pair.intel.run("uname -m").strip() == "x86_64"
    assert pair.arm.run("uname -m").strip() == "aarch64"
    assert [pair.alice.get(domain_path(g.name), DOMAIN, "Arch") for g in pair.guests] == ["x86_64", "aarch64"]


def test_processors_and_memory(pair):
    for guest, count in ((pair.intel, 2), (pair.arm, 1)):
        assert guest.run("grep -c ^processor /proc/cpuinfo").strip() == str(count)
        total = int(re.search(r"MemTotal:\s+(\d+) kB", guest.run("cat /proc/meminfo"))[1])
        assert 64 << 10 < total < 128 << 10


def test_entropy(pair):
    for guest in pair.guests:
        assert "virtio" in guest.run("cat /sys/class/misc/hw_random/rng_current")


# ---- Networks ----


def test_architectures_reach_each_other_by_name(pair):
    for guest, other in ((pair.intel, "arm"), (pair.arm, "intel")):
        assert f"({pair.first.address(other)})" in guest.run(f"ping -4 -c 1 -W 5 {other}.{pair.first.name}.test")
        guest.run(f"ping -6 -c 1 -W 5 {other}.{pair.first.name}.test")


def test_two_interfaces(pair):
    """Each with the address that its own network reserved, and between them no way."""
    for device, net in (("eth0", pair.first), ("eth1", pair.second)):
        assert pair.intel.run(f"cat /sys/class/net/{device}/address").strip() == net.mac("intel")
        addresses = re.findall(r"inet ([\d.]+)", pair.intel.run(f"ip -4 address show dev {device}"))
        assert addresses == [net.address("intel")]
        pair.intel.run(f"ping -c 1 -W 5 {net.gateway}")
    nics = pair.alice.get(domain_path(pair.intel.name), DOMAIN, "Nics")
    assert nics == [(net.name, net.mac("intel"), "intel") for net in (pair.first, pair.second)]
    assert pair.arm.try_(f"ping -c 1 -W 2 {pair.second.gateway}")[0] != 0
    for net in (pair.first, pair.second):
        refused("NetworkInUse", pair.alice.destroy_network, net.name)


# ---- Screen ----


def test_screenshot_and_screen(pair):
    """The picture has the size that a viewer is told."""
    for guest, password in ((pair.intel, None), (pair.arm, PASSWORD)):
        with os.fdopen(pair.alice.domain(guest.name, "Screenshot"), "rb") as picture:
            size = png_size(picture.read())
        with Viewer(pair.alice.domain(guest.name, "OpenVnc"), password) as viewer:
            assert (viewer.width, viewer.height) == size and min(size) > 100
            assert guest.name in viewer.name


def test_screen_without_password(pair):
    viewers = [Viewer(pair.alice.domain(pair.intel.name, "OpenVnc")) for _ in range(3)]  # at once
    for viewer in viewers:
        assert viewer.security_types == {SECURITY_NONE}
        viewer.socket.close()


def test_screen_with_password(broker, pair):
    with Viewer(pair.alice.domain(pair.arm.name, "OpenVnc"), PASSWORD) as viewer:
        assert viewer.security_types == {SECURITY_VNC}
    for wrong in (None, "", "s3cret", "S3CRET,!"):
        with pytest.raises(Refused):
            Viewer(pair.alice.domain(pair.arm.name, "OpenVnc"), wrong)
    for place in (f"/proc/{pair.arm.pid}/cmdline", f"/proc/{pair.arm.pid}/environ", broker.daemon.log_path):
        with open(place, "rb") as f:
            assert PASSWORD.encode() not in f.read(), place


# ---- The agent's port ----


def test_agent_port(pair):
    port = "/dev/virtio-ports/org.qemu.guest_agent.0"
    for guest in pair.guests:
        with socket.socket(fileno=pair.alice.domain(guest.name, "OpenAgent")) as agent:
            agent.settimeout(20)
            guest.begin(f"exec 4<>{port}; read -r line <&4; echo \"heard $line\" >&4; exec 4<&-")
            agent.sendall(b"something said\n")
            heard = b""
            while b"\n" not in heard:
                heard += agent.recv(100)
            assert heard == b"heard something said\n"
            assert guest.finish()[0] == 0


# ---- The jail ----


def status_of(pid):
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        return dict(line.split(":", 1) for line in f.read().splitlines())


def test_emulators_are_nobody(broker, pair):
    """A uid for each, that nobody else has; no capability, and none to get."""
    uids = set()
    for guest in pair.guests:
        status = status_of(guest.pid)
        (uid,) = {int(u) for u in status["Uid"].split()}
        (gid,) = {int(g) for g in status["Gid"].split()}
        assert uid >= 65536 and gid >= 65536 and status["Groups"].split() in ([], [str(gid)])
        uids.add(uid)
        for kind in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"):
            assert int(status[kind], 16) == 0, kind
        assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    assert len(uids) == 2 and not uids & {user.uid for user in broker.people.values()}


def test_jail_holds_only_what_is_needed(pair):
    """No home, no /run of the host, no /sys, nothing to write to but what is the guest's."""
    for guest in pair.guests:
        root = f"/proc/{guest.pid}/root"
        assert set(os.listdir(root)) <= {"dev", "etc", "lib", "lib64", "usr", "proc", "run", "tmp", "guest", "kernel",
                                         "initrd", "console", "console.in", "console.out", "bin"}, os.listdir(root)
        for path in ("etc/passwd", "etc/shadow", "home", "root", "sys", "work", "var", "boot", "mnt", "srv", "opt",
                     "run/debmarshal", "dev/kvm", "dev/mem", "dev/net", "proc/1"):
            assert not os.path.exists(f"{root}/{path}"), path
        for path in ("usr/bin", "usr/share"):
            assert len(os.listdir(f"{root}/{path}")) <= 3, path
        assert os.listdir(f"{root}/usr/bin") == [os.path.basename(os.readlink(f"/proc/{guest.pid}/exe"))]
        with open(f"/proc/{guest.pid}/mountinfo", encoding="utf-8") as f:
            for line in f:
                fields = line.split()
                assert "ro" in fields[5].split(",") or fields[4].startswith("/dev/"), line


def test_jail_has_no_network(pair):
    for guest in pair.guests:
        with open(f"/proc/{guest.pid}/net/dev", encoding="utf-8") as f:
            assert re.findall(r"^\s*(\S+):", f.read(), re.MULTILINE) == ["lo"]
        for kind in ("mnt", "net", "pid", "ipc", "uts"):
            namespaces = {os.readlink(f"/proc/{pid}/ns/{kind}") for pid in (guest.pid, os.getpid())}
            assert len(namespaces) == 2, kind


def test_emulator_has_no_descriptor_too_many(broker, pair):
    """Nothing of the host's file system but what the guest was given, and no socket of the bus."""
    for guest in pair.guests:
        targets = {os.readlink(f"/proc/{guest.pid}/fd/{n}") for n in os.listdir(f"/proc/{guest.pid}/fd")}
        files = {t for t in targets if t.startswith("/") and not t.startswith("/memfd:")}
        allowed = {"/null", "/dev/null", "/dev/net/tun", "/console.in", "/console.out",
                   f"{broker.daemon.runtime_dir}/domains/{guest.name}/stderr"}
        assert files <= allowed, files


# ---- The guest's own words about itself: it goes last, since it ends them ----


def test_power_button(pair):
    for guest in pair.guests:
        ended = pair.alice.start(domain_path(guest.name), DOMAIN, "Wait", "t", 0, timeout=60)
        pair.alice.domain(guest.name, "Shutdown")
        assert ended.result()[0] == "poweroff"
        _, reason, _, _, log = pair.alice.manager("GetEndedDomain", "s", guest.name)
        assert reason == "poweroff" and "DM-POWER-BUTTON" in read_all(log)


# ---- Endings ----

COMBINATIONS = ["destroy-destroy", "destroy-restart", "restart-destroy", "restart-restart"]  # on_poweroff-on_reboot


class Booter:
    """The small guest of bootsector.py: a BIOS boots it from a disk."""

    def __init__(self, alice, network, ends):
        on_poweroff, on_reboot = ends.split("-")
        disk = alice.user.file(f"{ends}.img", bootsector.disk())
        self.name = alice.create_domain(network.name, "32M", [disk], hypervisor="qemu",
                                        extra={"on_poweroff": on_poweroff, "on_reboot": on_reboot})
        self.alice = alice
        self.pid = pid_of(alice, self.name)
        self.waiting = alice.start(domain_path(self.name), DOMAIN, "Wait", "t", 0, timeout=120)
        self.console = Console(alice.domain(self.name, "OpenConsole"))

    def expect_boot(self):
        self.console.expect(r"^BOOTED", 30)
        self.console.text = ""
        assert pid_of(self.alice, self.name) == self.pid  # also when it is back: it is the very same emulator

    def poweroff(self):
        self.console.send("p")

    def reboot(self):
        self.console.send("r")


@pytest.fixture
def booters(alice, network):
    with contextlib.ExitStack() as stack:
        made = {}
        for ends in COMBINATIONS:
            made[ends] = Booter(alice, network, ends)
            stack.callback(made[ends].console.socket.close)
            stack.callback(destroyed, alice.destroy_domain, made[ends].name)
        yield made


def test_poweroff_and_reboot(alice, booters):
    """The four combinations, each guest as often as it comes back."""
    for booter in booters.values():
        booter.expect_boot()
    both, neither = booters["restart-restart"], booters["destroy-destroy"]
    off_only, reboot_only = booters["restart-destroy"], booters["destroy-restart"]

    for _ in range(2):
        both.poweroff()
        off_only.poweroff()
        reboot_only.reboot()
        for booter in (both, off_only, reboot_only):
            booter.expect_boot()
        both.reboot()
        both.expect_boot()

    neither.reboot()
    off_only.reboot()
    reboot_only.poweroff()
    assert [b.waiting.result(20)[0] for b in (neither, off_only, reboot_only)] == ["reboot", "reboot", "poweroff"]
    assert alice.domain_names() == [both.name]
    with pytest.raises(CallError):
        alice.get(domain_path(neither.name), DOMAIN, "State")


def test_poweroff_destroys_by_default(alice, network):
    disk = alice.user.file("default.img", bootsector.disk())
    name = alice.create_domain(network.name, "32M", [disk], hypervisor="qemu")
    waiting = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0, timeout=60)
    with Console(alice.domain(name, "OpenConsole")) as console:
        for key in "rp":
            console.expect(r"^BOOTED", 30)
            console.text = ""
            console.send(key)
        assert waiting.result(20)[0] == "poweroff"
    assert read_all(alice.manager("GetEndedDomain", "s", name)[4]).count("BOOTED") == 2


def test_panic(alice, image, network):
    """A guest that panics has crashed, whatever was to become of it at other ends; its last words can be read."""
    name = alice.create_domain(network.name, "96M", mac=network.mac("one"), hypervisor="qemu",
                               extra=image.extra(end="panic", on_poweroff="restart", on_reboot="restart"))
    assert alice.start(domain_path(name), DOMAIN, "Wait", "t", 0, timeout=60).result()[0] == "crash"
    assert "panic" in read_all(alice.manager("GetEndedDomain", "s", name)[4])
