"""Files that are not what they seem: kinds that are no disk, paths into processes, races, and images that point at what
their owner may not read. The forbidden file is never opened for a guest, whatever the outcome is called."""

import contextlib
import ctypes
import hashlib
import json
import os
import shutil
import socket
import stat
import subprocess
import threading
import time

import pytest

from bystander import Bystander
from caller import CallError
from conftest import refused
from fuse import FLUSH, OPEN, Fuse
from leaks import Process

LIBC = ctypes.CDLL(None, use_errno=True)
AT_FDCWD, RENAME_EXCHANGE = -100, 2
SECONDS = 3  # of each race
PATIENCE = 60  # that it may take until both outcomes have been seen
SOON = 10  # seconds; who waited in a FIFO or at a terminal would wait for ever
REFUSED = {"InvalidInput", "AccessDenied"}


@pytest.fixture
def hypervisor():
    return "qemu"


@pytest.fixture
def room(alice):
    """A directory of alice's."""
    directory = os.path.join(alice.user.home, "room")
    os.mkdir(directory, 0o755)
    os.chown(directory, alice.user.uid, alice.user.gid)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture
def secret(broker, base):
    """A disk of bob's that she can see, and not open."""
    directory = os.path.join(base, "bobs")
    os.mkdir(directory, 0o755)
    path = os.path.join(directory, "secret.img")
    bob = broker.people["bob"]
    with open(path, "wb") as f:
        f.write(b"SECRET" * 1000)
        f.truncate(1 << 20)
    os.chown(path, bob.uid, bob.gid)
    os.chmod(path, 0o600)
    yield path
    shutil.rmtree(directory)


def pid_of(alice, name):
    return json.loads(alice.domain(name, "Describe"))["pid"]


def opened_by(pid):
    """What a process has open, as (device, inode)."""
    found = set()
    for fd in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(OSError):
            st = os.stat(f"/proc/{pid}/fd/{fd}")
            found.add((st.st_dev, st.st_ino))
    return found


def inode(path):
    st = os.stat(path)
    return st.st_dev, st.st_ino


def refused_soon(create, names=frozenset(REFUSED), **how):
    begun = time.monotonic()
    with pytest.raises(CallError) as info:
        create(**how)
    assert info.value.name in names, f"{how}: {info.value}"
    assert time.monotonic() - begun < SOON, f"{how} took {time.monotonic() - begun:.1f} s"


# ---- What is no disk ----


def other_kinds(broker, alice, room):
    for name in ("fifo", "dir", "empty"):
        path = os.path.join(room, name)
        {"fifo": os.mkfifo, "dir": os.mkdir, "empty": lambda p: open(p, "w", encoding="ascii").close()}[name](path)
        os.chown(path, alice.user.uid, alice.user.gid)
        os.chmod(path, 0o777)
    os.symlink("fifo", os.path.join(room, "to-fifo"))
    os.symlink("/dev/null", os.path.join(room, "to-null"))
    os.symlink("/proc/self/fd/0", os.path.join(room, "to-fd"))
    os.symlink("/proc/self/root", os.path.join(room, "to-root"))
    os.symlink("chain2", os.path.join(room, "chain1"))
    os.symlink("chain1", os.path.join(room, "chain2"))
    own = alice.pid  # a process of hers, which she may look into
    paths = [os.path.join(room, n) for n in ("fifo", "dir", "to-fifo", "to-null", "to-fd", "chain1", "none", "fifo/x",
                                             "to-root/etc/hostname", "dir/../fifo", "")]
    paths += ["/dev/null", "/dev/zero", "/dev/full", "/dev/random", "/dev/tty", "/dev/ptmx", "/dev/console", "/dev/kmsg",
              "/dev/mem", "/dev/net/tun", "/dev/kvm", "/dev/fuse", "/dev/stdin", "/dev/fd", "/dev/shm", "/dev/pts/0",
              "/proc/self/mem", "/proc/self/environ", "/proc/self/maps", "/proc/self/exe", "/proc/self/cwd",
              "/proc/1/root/etc/hostname", "/proc/self/root/etc/hostname", f"/proc/{own}/root/etc/hostname",
              f"/proc/{own}/cwd/etc/hostname", f"/proc/{own}/exe", f"/proc/{own}/mem", "/proc/thread-self/mem",
              f"/proc/{broker.daemon.pid}/root/etc/hostname", f"/proc/{broker.daemon.pid}/mem", "/proc/kcore",
              "/proc/kmsg", "/proc/sysrq-trigger", "/proc/version", "/sys/kernel/notes", "/sys/power/state", "/",
              "/" * 4000, "/" + "a/" * 2000]
    paths += [f"{d}/{n}" for d in ("/dev/fd", "/proc/self/fd", "/proc/thread-self/fd", f"/proc/{broker.daemon.pid}/fd",
                                   f"/proc/{own}/fd", "/proc/self/map_files") for n in range(12)]
    return paths


@pytest.fixture
def listener(room):
    with socket.socket(socket.AF_UNIX) as s:
        path = os.path.join(room, "socket")
        s.bind(path)
        os.chmod(path, 0o777)
        yield path


def test_what_is_no_disk(broker, alice, bob, room, listener, create):
    """Each is refused, and soon: nothing waits in a FIFO or at a terminal."""
    bystander = Bystander(bob, broker.daemon)
    boot = alice.user.file("boot", b"boot")
    for path in [*other_kinds(broker, alice, room), listener]:
        for formats in (["raw"], ["raw:ro"], ["qcow2"]):
            refused_soon(create, hypervisor="null", disks=[path], extra={"disk_formats": formats})
        refused_soon(create, hypervisor="null", extra={"kernel": path, "initrd": boot})
        refused_soon(create, hypervisor="null", extra={"kernel": boot, "initrd": path})
    # A file without any content boots nothing, but may be a disk.
    empty = os.path.join(room, "empty")
    refused_soon(create, hypervisor="null", extra={"kernel": empty, "initrd": boot})
    bystander.leave()


def test_root_is_asked_for_a_disk_too(root):
    network = root.create_network([])[0]
    try:
        for path in ("/dev/null", "/dev/zero", "/proc/self/mem", "/proc/1/root/etc/hostname", "/proc/self/fd/0", "/proc/kcore"):
            refused_soon(root.create_domain, network=network, memory="1M", disks=[path], hypervisor="null")
    finally:
        root.destroy_network(network)


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no FUSE")
def test_a_file_on_a_users_fuse(broker, alice, bob, room, mount_point, create):
    """Who closes a file of hers waits for her server, and cannot be killed: the daemon is never given one."""
    bystander = Bystander(bob, broker.daemon)
    boot = alice.user.file("boot", b"boot")
    with Fuse(mount_point, {"disk": bytes(1 << 20)}, alice.user, alice.user.uid, ignores=[FLUSH]) as fuse:
        bad = fuse.path("disk")
        os.symlink(bad, os.path.join(room, "link"))
        top = os.path.join(room, "top")
        subprocess.run(["qemu-img", "create", "-q", "-u", "-f", "qcow2", "-b", bad, "-F", "raw", top, "1M"], check=True)
        os.chown(top, alice.user.uid, alice.user.gid)
        for how in ({"disks": [bad]}, {"disks": [bad], "extra": {"disk_formats": ["raw:ro"]}},
                    {"disks": [os.path.join(room, "link")]},
                    {"disks": [top], "extra": {"disk_formats": ["qcow2"]}},
                    {"extra": {"kernel": bad, "initrd": boot}}, {"extra": {"kernel": boot, "initrd": bad}}):
            # Not so long that the server's patience has ended meanwhile.
            with pytest.raises(CallError) as info:
                create(hypervisor="null", **how)
            assert info.value.name == "InvalidInput", info.value
            assert f"uid {alice.user.uid} has mounted" in info.value.message, info.value
            bystander.check()
        assert not fuse.seen & {OPEN, FLUSH}, fuse.seen
        assert fuse.is_alive()
    bystander.leave()


@pytest.mark.skipif(not os.path.exists("/dev/fuse"), reason="there is no FUSE")
def test_a_file_on_roots_fuse(alice, mount_point, create):
    """What root has mounted for all, she may use."""
    with Fuse(mount_point, {"disk": bytes(1 << 20)}, alice.user, 0) as fuse:
        alice.destroy_domain(create(hypervisor="null", disks=[fuse.path("disk")]))
        assert OPEN in fuse.seen


def test_what_a_client_holds_is_not_the_daemons(broker, alice, secret, create):
    """Descriptors of a process that is hers are hers, but a way around the directory that hides a file is none."""
    held = os.open(secret, os.O_RDONLY)
    try:
        for pid in (os.getpid(), broker.daemon.pid):
            refused_soon(create, hypervisor="null", disks=[f"/proc/{pid}/fd/{held}"])
    finally:
        os.close(held)


# ---- Races ----


def exchange(one, other):
    """Swap two names in one step."""
    if LIBC.renameat2(AT_FDCWD, one.encode(), AT_FDCWD, other.encode(), RENAME_EXCHANGE) != 0:
        raise OSError(ctypes.get_errno(), "renameat2")


class Flipper(threading.Thread):
    """Swaps two names for as long as the block takes."""

    def __init__(self, one, other):
        super().__init__(daemon=True)
        self.one, self.other = one, other
        self.stopped = threading.Event()
        self.flips = 0

    def run(self):
        while not self.stopped.is_set():
            exchange(self.one, self.other)
            self.flips += 1
            time.sleep(0.0001 * (self.flips % 7))

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()
        assert self.flips > 100


def goes_on(begun, made, denied):
    """A race, for its time; and then until both outcomes have been seen, though not for ever."""
    took = time.monotonic() - begun
    return took < SECONDS or (took < PATIENCE and not (made and denied))


def race(alice, network, forbidden, allowed, **how):
    """Create and destroy for a while; (made, refused). In no emulator the forbidden file is open, in each the allowed."""
    made, denied, begun = 0, 0, time.monotonic()
    while goes_on(begun, made, denied):
        try:
            name = alice.create_domain(network.name, "64M", hypervisor="qemu", **how)
        except CallError as error:
            assert error.name in REFUSED, error
            denied += 1
            continue
        opened = opened_by(pid_of(alice, name))
        alice.destroy_domain(name)
        assert inode(forbidden) not in opened
        assert allowed is None or inode(allowed) in opened
        made += 1
    return made, denied


def test_symlink_race(alice, network, room, secret):
    good = alice.user.disk("room/good.img")
    for name, target in (("disk", good), ("other", secret)):
        os.symlink(target, os.path.join(room, name))
    with Flipper(os.path.join(room, "disk"), os.path.join(room, "other")):
        made, denied = race(alice, network, secret, good, disks=[os.path.join(room, "disk")], extra={"paused": True})
    assert made and denied, (made, denied)


def test_rename_race(alice, network, room, secret):
    """A plain file of hers, and a symbolic link to the other, changing places; then the directories that they are in."""
    good = alice.user.disk("room/disk")
    link = os.path.join(room, "other")
    os.symlink(secret, link)
    # good's inode moves between the names.
    keep = os.path.join(room, "keep")
    os.link(good, keep)
    with Flipper(good, link):
        made, denied = race(alice, network, secret, keep, disks=[good], extra={"paused": True})
    assert made and denied, (made, denied)


def test_directory_race(alice, network, room, secret):
    for name in ("here", "there"):
        os.mkdir(os.path.join(room, name))
    good = alice.user.disk("room/here/secret.img")
    keep = os.path.join(room, "keep")
    os.link(good, keep)
    os.rmdir(os.path.join(room, "there"))
    os.symlink(os.path.dirname(secret), os.path.join(room, "there"))
    with Flipper(os.path.join(room, "here"), os.path.join(room, "there")):
        made, denied = race(alice, network, secret, keep, disks=[good], extra={"paused": True})
    assert made and denied, (made, denied)


@pytest.mark.parametrize("kind", ["fifo", "device", "directory"])
def test_kind_race(broker, alice, bob, network, room, kind):
    """A disk that becomes a FIFO, a device or a directory: never waited for, never opened."""
    bystander = Bystander(bob, broker.daemon)
    good, other = alice.user.disk("room/disk"), os.path.join(room, kind)
    make = {"fifo": os.mkfifo, "device": lambda p: os.mknod(p, stat.S_IFCHR, os.makedev(1, 3)), "directory": os.mkdir}[kind]
    make(other)
    os.chown(other, alice.user.uid, alice.user.gid)
    os.chmod(other, 0o777)
    made, denied, begun = 0, 0, time.monotonic()
    with Flipper(good, other):
        while goes_on(begun, made, denied):
            asked = time.monotonic()
            try:
                alice.destroy_domain(alice.create_domain(network.name, "1M", [good], hypervisor="null"))
                made += 1
            except CallError as error:
                assert error.name in REFUSED, error
                denied += 1
            assert time.monotonic() - asked < SOON
    assert made and denied, (made, denied)
    bystander.leave()


def test_kernel_and_initrd_larger_than_memory(alice, room, create):
    """They are copied into the jail, since only she may read them; what they take is not to exceed what she is charged."""
    boot = alice.user.file("boot", b"boot")
    huge = alice.user.disk("room/huge", size=1 << 30)
    half = alice.user.disk("room/half", size=9 << 20)
    for kernel, initrd in ((boot, huge), (huge, boot), (half, half)):
        with pytest.raises(CallError) as info:
            create(hypervisor="qemu", memory="16M", extra={"kernel": kernel, "initrd": initrd})
        assert info.value.name == "InvalidInput", info.value
        assert "do not fit into the domain's memory (16 MiB)" in info.value.message, info.value


def test_kernel_race(alice, network, room, secret, image):
    """The kernel and the initrd are files of the jail: what is in them is hers or the domain is not."""
    shutil.copy(image.kernel, os.path.join(room, "vmlinuz"))
    shutil.copy(image.initrd, os.path.join(room, "initrd"))
    for name in ("vmlinuz", "initrd"):
        os.chown(os.path.join(room, name), alice.user.uid, alice.user.gid)
    with open(image.kernel, "rb") as kernel, open(secret, "wb") as f:
        f.write(kernel.read() + b"SECRET")
    for name, target in (("kernel", os.path.join(room, "vmlinuz")), ("other", secret)):
        os.symlink(target, os.path.join(room, name))
    extra = {"kernel": os.path.join(room, "kernel"), "initrd": os.path.join(room, "initrd"), "paused": True}
    made, denied, begun = 0, 0, time.monotonic()
    with Flipper(os.path.join(room, "kernel"), os.path.join(room, "other")):
        while goes_on(begun, made, denied):
            try:
                name = alice.create_domain(network.name, "64M", hypervisor="qemu", extra=extra)
            except CallError as error:
                assert error.name == "AccessDenied", error
                denied += 1
                continue
            pid = pid_of(alice, name)
            with open(f"/proc/{pid}/root/kernel", "rb") as f:
                content = f.read()
            opened = opened_by(pid)
            alice.destroy_domain(name)
            assert b"SECRET" not in content[-6:] and len(content) == os.path.getsize(image.kernel)
            assert inode(secret) not in opened
            made += 1
    assert made and denied, (made, denied)


# ---- Backing files ----


def qcow2(alice, name, backing=None, fmt="raw", size="1M"):
    """An image of alice's with any backing name; nobody looks at what that is."""
    path = os.path.join(alice.user.home, name)
    command = ["qemu-img", "create", "-q", "-f", "qcow2", "-u"]
    if backing is not None:
        command += ["-b", backing] + (["-F", fmt] if fmt else [])
    subprocess.run([*command, path, size], check=True)
    os.chown(path, alice.user.uid, alice.user.gid)
    os.chmod(path, 0o600)
    return path


def test_backing_file_of_another(alice, room, secret, create):
    """Absolute, relative, by links, behind other images, and through directories that she has no business in."""
    os.symlink(secret, os.path.join(room, "link"))
    os.symlink(room, os.path.join(alice.user.home, "room-link"))
    try:
        names = [secret, os.path.relpath(secret, room), "link", "./link", os.path.join(room, "link"), "../room-link/link",
                 "/etc/shadow", "../../../../../../etc/shadow"]
        for backing in names:
            path = qcow2(alice, "room/top.qcow2", backing)
            for formats in (["qcow2"], ["qcow2:ro"]):
                refused_soon(create, {"AccessDenied"}, disks=[path], extra={"disk_formats": formats})
            qcow2(alice, "room/middle.qcow2", backing)
            path = qcow2(alice, "room/top.qcow2", "middle.qcow2", "qcow2")
            refused_soon(create, {"AccessDenied"}, disks=[path], extra={"disk_formats": ["qcow2"]})
        # The same names by an image that may: the forbidden one is what is refused, not the way.
        os.unlink(os.path.join(room, "link"))
        os.symlink(alice.user.disk("room/base.img"), os.path.join(room, "link"))
        path = qcow2(alice, "room/top.qcow2", "../room-link/link")
        opened = opened_by(pid_of(alice, create(disks=[path], extra={"disk_formats": ["qcow2"]})))
        assert {inode(path), inode(os.path.join(room, "base.img"))} <= opened
    finally:
        os.unlink(os.path.join(alice.user.home, "room-link"))


@pytest.mark.parametrize("backing", [
    'json:{"driver":"file","filename":"/etc/shadow"}', "nbd:localhost:10809", "nbd+unix:///x?socket=/run/x", "file:/etc/shadow",
    "fat:/etc", "http://localhost/x", "ssh://localhost/x", "rbd:x", "json:{}", "blkdebug::/etc/shadow", "/dev/null", "/dev/zero",
    "/proc/self/mem", "/proc/self/fd/0", "/dev/fd/3", "/dev/fdset/1", "/proc/1/root/etc/shadow", "fifo", "dir", "none", "",
    "a\nb", "%s%n", "x" * 1022])
def test_backing_name(alice, room, create, backing):
    os.mkfifo(os.path.join(room, "fifo"), 0o666)
    os.mkdir(os.path.join(room, "dir"))
    if backing == "":
        path = qcow2(alice, "room/top.qcow2", "x")
        with open(path, "r+b") as f:  # a name of no length
            f.seek(16)
            f.write(b"\0\0\0\0")
    else:
        path = qcow2(alice, "room/top.qcow2", backing)
    refused_soon(create, disks=[path], extra={"disk_formats": ["qcow2"]})


def test_backing_chains(alice, room, create):
    """Loops, itself, itself by another name, too long, of an unknown or no format."""
    one, two = qcow2(alice, "room/one.qcow2", "two.qcow2", "qcow2"), qcow2(alice, "room/two.qcow2", "one.qcow2", "qcow2")
    itself = qcow2(alice, "room/itself.qcow2", "itself.qcow2", "qcow2")
    os.link(qcow2(alice, "room/named.qcow2", "also.qcow2", "qcow2"), os.path.join(room, "also.qcow2"))
    for path in (one, two, itself, os.path.join(room, "named.qcow2")):
        refused_soon(create, {"InvalidInput"}, disks=[path], extra={"disk_formats": ["qcow2"]})
    qcow2(alice, "room/0.qcow2")
    for n in range(1, 12):
        path = qcow2(alice, f"room/{n}.qcow2", f"{n - 1}.qcow2", "qcow2")
    refused_soon(create, {"InvalidInput"}, disks=[path], extra={"disk_formats": ["qcow2"]})
    base = alice.user.disk("room/base.img")
    for fmt in ("vmdk", "luks", "host_device", "nbd", "json"):
        path = qcow2(alice, "room/top.qcow2", base)
        with open(path, "r+b") as f:  # rewrite the format's extension in place
            header = f.read(4096)
            at = header.index(b"\xe2\x79\x2a\xca")
            f.seek(at + 4)
            f.write(len(fmt).to_bytes(4, "big") + fmt.encode().ljust(-(-len(fmt) // 8) * 8, b"\0"))
        refused_soon(create, {"InvalidInput"}, disks=[path], extra={"disk_formats": ["qcow2"]})


def test_backing_race(alice, network, room, secret):
    good = alice.user.disk("room/good.img")
    for name, target in (("base", good), ("other", secret)):
        os.symlink(target, os.path.join(room, name))
    path = qcow2(alice, "room/top.qcow2", "base")
    with Flipper(os.path.join(room, "base"), os.path.join(room, "other")):
        made, denied = race(alice, network, secret, good, disks=[path],
                            extra={"paused": True, "disk_formats": ["qcow2"]})
    assert made and denied, (made, denied)


def test_image_race(alice, network, room, secret):
    """Her image is rewritten while it is looked at: what the header named is opened as she, or nothing is."""
    good = alice.user.disk("room/good.img")
    one, two = qcow2(alice, "room/disk", good), qcow2(alice, "room/two", secret)
    with Flipper(one, two):
        made, denied = race(alice, network, secret, good, disks=[one],
                            extra={"paused": True, "disk_formats": ["qcow2"]})
    assert made and denied, (made, denied)


def test_corrupt_images(alice, room, create):
    """Headers of noise: refused or, where only the emulator can tell, an emulator that fails to start."""
    path = qcow2(alice, "room/disk.qcow2", "none")
    with open(path, "rb") as f:
        header = f.read(512)
    for at in list(range(4, 112, 4)) + [120, 200]:
        with open(path, "r+b") as f:
            f.write(header[:at] + b"\xff\xff\xff\xff" + header[at + 4:])
        refused_soon(create, REFUSED | {"HypervisorFailed"}, disks=[path], extra={"disk_formats": ["qcow2"]})
    for content in (b"", b"QFI\xfb", header[:72], os.urandom(4096), b"\0" * 4096):
        with open(path, "wb") as f:
            f.write(content)
        refused_soon(create, {"InvalidInput"}, disks=[path], extra={"disk_formats": ["qcow2"]})


# ---- A raw disk that its guest made an image of ----


def test_raw_disk_with_an_image_header(alice, room, secret, create):
    """It stays raw: its bytes are the disk, and what its header names is nobody's."""
    path = qcow2(alice, "room/disk.img", secret)
    os.truncate(path, 1 << 20)
    for extra in ({}, {"disk_formats": ["raw"]}, {"disk_formats": ["raw:ro"]}):
        name = create(disks=[path], extra=extra)
        pid = pid_of(alice, name)
        opened = opened_by(pid)
        assert inode(path) in opened and inode(secret) not in opened
        assert '"driver":"qcow2"' not in str(open(f"/proc/{pid}/cmdline", "rb").read())
        alice.destroy_domain(name)
    # Nor below an image that says that its backing file is raw.
    top = qcow2(alice, "room/top.qcow2", path, "raw")
    opened = opened_by(pid_of(alice, create(disks=[top], extra={"disk_formats": ["qcow2"]})))
    assert {inode(top), inode(path)} <= opened and inode(secret) not in opened
    # And where the format of the backing file is not said, it is not guessed.
    unsaid = qcow2(alice, "room/unsaid.qcow2", path, "raw")
    with open(unsaid, "r+b") as f:
        at = f.read(4096).index(b"\xe2\x79\x2a\xca")
        f.seek(at)
        f.write(b"\x12\x34\x56\x78")  # an extension that nobody knows
    refused("InvalidInput", create, disks=[unsaid], extra={"disk_formats": ["qcow2"]})


def test_guest_reads_its_raw_disk(alice, network, room, secret, image):
    """A real guest, on whose disk a former one has written an image's header: it sees that header, on a disk of the
    file's size and not of the header's, and can write another."""
    path = qcow2(alice, "room/disk.img", secret, size="64M")
    os.truncate(path, 1 << 20)
    with open(path, "rb") as f:
        before = f.read()
    command = "echo SIZE $(wc -c </dev/vda) $(md5sum </dev/vda); head -c 512 /dev/vda | dd of=/dev/vda bs=512 seek=8 conv=fsync"
    name = alice.create_domain(network.name, "128M", [path], hypervisor="qemu", extra=image.extra(run=command, end="poweroff"))
    assert alice.domain(name, "Wait", "t", 120_000_000, timeout=130)[0] == "poweroff"
    with os.fdopen(alice.manager("GetEndedDomain", "s", name)[4], "rb") as log:
        text = log.read().decode(errors="replace")
    assert f"SIZE {1 << 20} {hashlib.md5(before).hexdigest()}" in text, text[-2000:]
    with open(path, "rb") as f:
        assert f.read() == before[:4096] + before[:512] + before[4096 + 512:]


def test_the_jail_holds_nothing_else(broker, alice, network, create, disk):
    """Of the host's files an emulator has its disk open, and its program; its root is empty but for what it needs."""
    pid = pid_of(alice, create())
    targets = [t for t in Process(pid).descriptors() if t.startswith("/") and not t.startswith(("/dev/", "/memfd"))]
    assert os.path.realpath(disk) in targets or any(t.endswith("alice.img") for t in targets)
    assert not [t for t in targets if "state.db" in t or "shadow" in t or t.endswith(".conf")]
    root = f"/proc/{pid}/root"
    for path in ("etc/shadow", "etc/passwd", "home", "root", broker.daemon.runtime_dir.lstrip("/"), "proc/1"):
        assert not os.path.exists(os.path.join(root, path)), path
