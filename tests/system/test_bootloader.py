"""Boot loaders: pygrub on real disks with real guests, and a loader of ours that does whatever a test wants of one.

Everything is tried in both scopes."""

import base64
import os
import pty
import re
import select
import signal
import subprocess
import sys
import textwrap
import time
import zlib

import pytest

import bootdisk
import leaks
from caller import DOMAIN, MANAGER, ROOT_PATH, CallError, domain_path
from conftest import BUILD, destroyed, refused, wait_for
from guests import SERVE, Console, Guest

DEADLINE = 20  # seconds
MIB = 1 << 20

# Does what the user's command line for it says, which is Python, packed (told()).
PUPPET = r"""#!/usr/bin/python3 -IS
import base64, os, signal, sys, time, zlib
options = dict(a[2:].partition("=")[::2] for a in sys.argv[1:] if a.startswith("--"))
output, kernel = options["output-directory"], options["output-directory"] + "/k"

def answer(data):
    fd = os.open(options["output"], os.O_WRONLY)
    os.write(fd, data)
    os.close(fd)

def put(data=b"kernel", path=kernel):
    with open(path, "wb") as f:
        f.write(data)

def good(text=""):
    put()
    answer(f"kernel {kernel}\0args {text}\0\0".encode())

exec(zlib.decompress(base64.b64decode(options["args"])))
"""


def told(code):
    """The command line that makes the puppet do that."""
    return base64.b64encode(zlib.compress(textwrap.dedent(code).encode(), 9)).decode()


@pytest.fixture(scope="module", params=["system", "session"])
def scope(request):
    return request.param


@pytest.fixture(scope="module")
def config(base):
    path = os.path.join(base, "puppet")
    with open(path, "w", encoding="utf-8") as f:
        f.write(PUPPET)
    os.chmod(path, 0o755)
    return {"bootloader_timeout": f"{DEADLINE}s", "bootloader_puppet": path, "bootloader_gone": "/nonexistent/loader",
            "bootloader_silent": "/bin/true"}


@pytest.fixture(scope="module")
def entries(image):
    cmdline = image.extra(run=SERVE)["cmdline"]
    return [("The first one", f"{cmdline} dm.entry=first"), ("Another", f"{cmdline} dm.entry=another")]


@pytest.fixture(scope="module")
def bootable(broker, image, entries):
    """alice's."""
    alice = broker.people["alice"]
    return bootdisk.bootable(alice.file("bootable.img"), image, entries)


class Start:
    """Starts domains of alice's that have a boot loader."""

    def __init__(self, alice, network):
        self.alice, self.network = alice, network
        self.names = []

    def begin(self, disk, loader="pygrub", cmdline=None, memory="96M", **extra):
        if cmdline is not None:
            extra["cmdline"] = cmdline
        disks = [disk] if isinstance(disk, str) else disk
        return self.alice.start_domain(self.network.name, memory, disks, self.network.mac("one"), "qemu",
                                       extra={"bootloader": loader, **extra}, timeout=120)

    def done(self, pending):
        name = pending.result(120)
        self.names.append(name)
        return name

    def fails(self, error, *arguments, **how):
        """The error's message, which names the loader and the disk."""
        return refused(error, lambda: self.done(self.begin(*arguments, **how)))

    def appears(self, timeout=30):
        """The name of the domain whose loader runs."""
        deadline = time.monotonic() + timeout
        while not (names := self.alice.domain_names()):
            assert time.monotonic() < deadline, "no domain appears"
            time.sleep(0.05)
        (name,) = names
        assert self.alice.get(domain_path(name), DOMAIN, "State") == "creating"
        return name


@pytest.fixture
def start(alice, network):
    it = Start(alice, network)
    yield it
    for name in it.names:
        destroyed(alice.destroy_domain, name)


@pytest.fixture
def disk(broker):
    return broker.people["alice"].disk("disk.img")


@pytest.fixture
def puppet(start, disk):
    """Run that Python as a boot loader; the error's message that comes of it."""

    def run(code, error="HypervisorFailed", memory="96M"):
        message = start.fails(error, disk, "puppet", told(code), memory=memory)
        assert message.startswith(f'Boot loader puppet on disk "{disk}": '), message
        return message

    return run


def words_of(puppet, code):
    """What a puppet finds out: it prints it, and fails."""
    message = puppet(textwrap.dedent(code) + "\nsys.exit(3)")
    assert "it exited with status 3: " in message, message
    return message.partition("it exited with status 3: ")[2].split("; ")


# Real guests


def test_boots_the_kernel_in_the_image(start, alice, bootable):
    """The default entry after its time, with what the user adds; and the guest sees the disk."""
    name = start.done(start.begin(bootable, cmdline="dm.user=added"))
    with Guest(alice, name) as guest:
        guest.ready()
        cmdline = guest.run("cat /proc/cmdline")
        assert "dm.entry=first" in cmdline and "dm.user=added" in cmdline
        guest.run("mkdir /d && mount -o ro /dev/vda1 /d && test -s /d/boot/vmlinuz && umount /d")
    with os.fdopen(alice.domain(name, "OpenLog"), "rb") as log:
        text = log.read().decode(errors="replace")
    assert "debmarshal: boot loader pygrub" in text and "The first one" in text and "DM-READY" in text


def test_menu_is_answered_through_the_console(start, alice, broker, image, entries):
    path = bootdisk.bootable(broker.people["alice"].file("menu.img"), image, entries, timeout=60)
    pending = start.begin(path)
    name = start.appears()
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect("The first one", DEADLINE)
        console.expect("Another", DEADLINE)
        console.send("\x1bOB")  # down
        console.send("\r")
        assert start.done(pending) == name
        console.expect(r"^DM-SERVES\r\n", 120)  # the same console goes on
    assert alice.get(domain_path(name), DOMAIN, "State") == "running"
    with Guest(alice, name) as guest:
        assert "dm.entry=another" in guest.run("cat /proc/cmdline")
    os.unlink(path)


def test_menu_at_the_command_line(start, alice, scope, broker, bootable, network):
    """--console shows the menu, and then the guest."""
    user = broker.people["alice"]
    address = broker.daemon.peer_address
    command = [os.path.join(BUILD, "debmarshal"), "--address", address, "domain", "create", "-n", network.name, "-m", "96M",
               "-d", bootable, "--hypervisor", "qemu", "--bootloader", "pygrub", "--console"]
    ours, theirs = pty.openpty()
    process = subprocess.Popen(command, stdin=theirs, stdout=theirs, stderr=theirs, env=user.environment(),
                               cwd=user.home, start_new_session=True, **user.popen_identity())
    os.close(theirs)
    text = ""
    with open(ours, "r+b", buffering=0) as terminal:

        def expect(wanted, timeout=60):
            nonlocal text
            deadline = time.monotonic() + timeout
            while wanted not in text:
                left = deadline - time.monotonic()
                assert left > 0 and select.select([terminal], [], [], left)[0], f"no {wanted!r} in:\n{text}"
                text += terminal.read(4096).decode(errors="replace")

        expect("Another")
        terminal.write(b"\x1bOB\r")
        expect("DM-SERVES")
        terminal.write(b"1 cat /proc/cmdline\r")
        expect("dm.entry=another")
        (name,) = alice.domain_names()
        alice.destroy_domain(name)
        expect("has ended: destroyed")
        assert process.wait(20) == 0


def test_two_menus_at_the_command_line(start, broker, disk, network):
    """Who creates two at once gets each one's own console, whether she chose its MAC or not."""
    user = broker.people["alice"]
    processes = {}
    for word, more in [("apple", ["--mac", network.mac("one").upper()]), ("cherry", []), ("plum", [])]:
        menu = told(f"print('menu of {word}', flush=True); print('chosen:', input()[::-1]); time.sleep(1); sys.exit(6)")
        processes[word] = subprocess.Popen(
            [os.path.join(BUILD, "debmarshal"), "--address", broker.daemon.peer_address, "domain", "create", "-n", network.name,
             "-m", "32M", "-d", disk + ":ro", "--hypervisor", "qemu", "--bootloader", "puppet", "--console", "--cmdline", menu,
             *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=user.home,
            env=user.environment(), **user.popen_identity())
    for word, process in processes.items():
        out, said = process.communicate(f"{word}\n", timeout=60)
        assert f"menu of {word}" in out and f"chosen: {word[::-1]}" in out, out + said
        assert "exited with status 6" in said and process.returncode == 1


def test_command_line_tells_of_a_failure(broker, disk, network):
    user = broker.people["alice"]
    result = subprocess.run([os.path.join(BUILD, "debmarshal"), "--address", broker.daemon.peer_address, "domain", "create",
                             "-n", network.name, "-d", disk, "--hypervisor", "qemu", "--bootloader", "puppet", "--console",
                             "--cmdline", told("print('its last words'); time.sleep(1); sys.exit(6)")],
                            env=user.environment(), cwd=user.home, capture_output=True, text=True, timeout=60,
                            **user.popen_identity())
    assert result.returncode == 1
    assert "it exited with status 6: its last words" in result.stderr
    assert "its last words" in result.stdout


def test_nobody_else_sees_the_menu(start, scope, broker, bootable):
    if scope == "session":
        with pytest.raises((ConnectionError, CallError)):
            broker.daemon.caller(broker.people["bob"]).close()
        return
    pending = start.begin(bootable)
    name = start.appears()
    bob = broker.caller("bob")
    refused("AccessDenied", bob.domain, name, "OpenConsole")
    refused("AccessDenied", bob.domain, name, "OpenLog")
    refused("AccessDenied", bob.destroy_domain, name)
    refused("InvalidState", start.alice.domain, name, "Pause")
    start.done(pending)


def test_block_device(start, scope, alice, broker, bootable):
    user = broker.people["alice"]
    device = subprocess.run(["losetup", "--find", "--show", bootable], check=True, capture_output=True,
                            text=True).stdout.strip()
    owner = os.stat(device)
    try:
        os.chown(device, user.uid, user.gid)
        name = start.done(start.begin(device))
        with Guest(alice, name) as guest:
            guest.ready()
        alice.destroy_domain(name)
    finally:
        os.chown(device, owner.st_uid, owner.st_gid)
        subprocess.run(["losetup", "--detach", device], check=True)


# Refusals


def test_unknown_and_missing_loaders(start, disk):
    message = start.fails("NotSupported", disk, "grub9")
    assert 'boot loader "grub9": it is not known; these are: ' in message and "pygrub" in message
    assert "/nonexistent/loader" in start.fails("NotSupported", disk, "gone")
    start.fails("InvalidInput", disk, "/usr/bin/pygrub")


def test_what_does_not_go_with_it(start, broker, image, disk):
    assert "qcow2" in start.fails("NotSupported", disk, disk_formats=["qcow2"])
    start.fails("InvalidInput", disk, kernel=image.kernel, initrd=image.initrd)
    start.fails("InvalidInput", disk, firmware="bios")
    start.fails("InvalidInput", [])


SEIZE = """
import ctypes, sys, time
print(ctypes.CDLL(None).ptrace(0x4206, int(sys.argv[1]), None, None), flush=True)
time.sleep(60)
"""


def test_traced_loader_is_charged(start, broker, alice, disk):
    """It runs as its owner, who may trace it: killed with its domain it stays as long as her tracer does, and counts as a
    domain of hers meanwhile."""
    pending = start.begin(disk, "puppet", told("time.sleep(100)"))
    name = start.appears()
    loaders = wait_for(lambda: [p.pid for p in leaks.descendants(broker.daemon.pid).values() if p.comm == "puppet"], 10)
    tracer = subprocess.Popen([sys.executable, "-c", SEIZE, str(loaders[0])], stdout=subprocess.PIPE, text=True, cwd="/",
                              **alice.user.popen_identity())
    try:
        assert tracer.stdout.readline().strip() == "0"
        alice.destroy_domain(name)
        refused("InvalidState", pending.result)
        assert alice.domain_names() == [] and alice.usage()["domains"] == 1
        time.sleep(0.5)
        assert alice.usage()["domains"] == 1
    finally:
        tracer.kill()
        tracer.communicate()
    wait_for(lambda: alice.usage()["domains"] == 0, 5)


def test_null_refuses(alice, network, disk):
    refused("NotSupported", alice.create_domain, network.name, "64M", [disk], hypervisor="null",
            extra={"bootloader": "pygrub"})


# Hostile images


GRUB_CFGS = {
    "empty": b"",
    "binary": bytes(range(256)) * 400,
    "unclosed": b"menuentry 'x {\n linux /boot/vmlinuz\n",
    "no kernel": b"set timeout=0\nmenuentry 'x' {\n initrd /boot/initrd.gz\n}\n",
    "kernel that is not there": b"set timeout=0\nmenuentry 'x' {\n linux /nowhere\n}\n",
    "kernel that is a directory": b"set timeout=0\nmenuentry 'x' {\n linux /boot\n}\n",
    "outside": b"set timeout=0\nmenuentry 'x' {\n linux /../../../../etc/shadow\n}\n",
    "NUL in the arguments": b"set timeout=0\nmenuentry 'x' {\n linux /boot/vmlinuz a\0b\n}\n",
    "escape in the arguments": b"set timeout=0\nmenuentry 'x' {\n linux /boot/vmlinuz a\x1b[2Jb\n}\n",
    "long arguments": b"set timeout=0\nmenuentry 'x' {\n linux /boot/vmlinuz " + b"a" * 5000 + b"\n}\n",
    "default of a million": b"set timeout=0\nset default=1000000\nmenuentry 'x' {\n linux /nowhere\n}\n",
    "default that is no number": b"set timeout=0\nset default=x\nmenuentry 'x' {\n linux /nowhere\n}\n",
    "timeout that is no number": b"set timeout=never\nmenuentry 'x' {\n linux /nowhere\n}\n",
    "many entries": b"set timeout=0\n" + b"menuentry 'x' {\n linux /nowhere\n}\n" * 20000,
    "long line": b"menuentry '" + b"x" * (4 * MIB) + b"' {\n}\n",
}


@pytest.mark.parametrize("what", GRUB_CFGS)
def test_hostile_grub_cfg(start, broker, what):
    path = bootdisk.make(broker.people["alice"].file("hostile.img"),
                         {"boot/vmlinuz": b"no kernel at all", "boot/grub/grub.cfg": GRUB_CFGS[what]}, 32 * MIB)
    pending = start.begin(path)
    with pytest.raises(CallError) as info:
        start.done(pending)
    assert info.value.name in ("HypervisorFailed", "Timeout")
    if what != "kernel that is a directory":  # whose bytes pygrub takes for one: QEMU does not
        assert f'oot loader pygrub on disk "{path}": ' in info.value.message
    assert re.fullmatch(r"[\x20-\x7e]*", info.value.message)


@pytest.mark.parametrize("content", [b"", b"\x55\xaa" * 100000, bytes(446) + b"\xff" * 66 + b"\x55\xaa", bytes(MIB)],
                         ids=["empty", "magic", "table of nonsense", "zeros"])
def test_no_image_at_all(start, broker, content):
    path = broker.people["alice"].file("nonsense.img", content)
    assert f'oot loader pygrub on disk "{path}": it exited with status 1: ' in start.fails("HypervisorFailed", path)


# Loaders that misbehave


def test_dies(puppet):
    assert "it exited with status 7: first; the last words" in puppet(r"""
        print("first\r\n\r\n\x1b[1mthe last\x1b[m words")
        sys.exit(7)""")


def test_is_killed(puppet):
    assert "it was killed by signal 11 (Segmentation fault): oops" in puppet("""
        print("oops", flush=True)
        os.kill(os.getpid(), signal.SIGSEGV)""")


def test_gives_no_answer(puppet, start, disk):
    assert "it gave no answer" in puppet("pass")
    assert "silent" in start.fails("HypervisorFailed", disk, "silent")


def test_hangs(puppet):
    began = time.monotonic()
    message = puppet("print('waiting for ever', flush=True)\nsignal.pause()", "Timeout")
    assert f"it chose no kernel within {DEADLINE}.0 s: waiting for ever" in message
    assert DEADLINE - 1 < time.monotonic() - began < DEADLINE + 15


def test_leaves_children(puppet):
    """They die with it, whether it succeeds or fails, and cannot change what it has answered."""
    children = """
        for i in range(20):
            if os.fork() == 0:
                os.setsid()
                signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
                while True: time.sleep(1000)
        """
    assert "exited with status 5" in puppet(children + "sys.exit(5)")
    assert "no answer" in puppet(children)


def test_forks_without_end(puppet):
    message = puppet("""
        n = 0
        try:
            while True:
                if os.fork() == 0:
                    while True: time.sleep(1000)
                n += 1
        except OSError as e:
            print(n, e)
        sys.exit(9)""")
    made = int(re.search(r"status 9: (\d+) ", message)[1])
    assert 10 < made <= 64


def test_takes_memory(puppet):
    assert "MemoryError" in puppet("x = bytearray(3 << 30)")


def test_prints_without_end(puppet, start, alice, broker, disk):
    """Tens of megabytes: the daemon serves others meanwhile, and nothing of it grows."""
    def resident():
        with open(f"/proc/{broker.daemon.pid}/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")

    before = resident()
    pending = start.begin(disk, "puppet", told("""
        for i in range(20000): os.write(1, b'x' * 2047 + b'\\n')
        sys.exit(4)"""))
    name = start.appears()
    slowest = 0
    with Console(alice.domain(name, "OpenConsole")):  # and never read
        while alice.domain_names():
            began = time.monotonic()
            alice.call(ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping")
            slowest = max(slowest, time.monotonic() - began)
            time.sleep(0.02)
    with pytest.raises(CallError) as info:
        pending.result()
    assert "it exited with status 4: " in info.value.message and len(info.value.message) < 8192
    assert slowest < 2
    assert resident() - before < 8 * MIB


ANSWERS = {
    "no end": ("put(); answer(b'kernel ' + kernel.encode())", "cut short"),
    "no NUL at its end": ("put(); answer(b'kernel ' + kernel.encode() + b'\\0')", "cut short"),
    "more behind its end": ("put(); answer(b'kernel ' + kernel.encode() + b'\\0\\0x')", "something follows"),
    "no kernel": ("answer(b'args x\\0\\0')", "no kernel"),
    "two kernels": ("put(); answer((b'kernel ' + kernel.encode() + b'\\0') * 2 + b'\\0')", "twice"),
    "unknown item": ("put(); answer(b'initrd ' + kernel.encode() + b'\\0\\0')", "neither"),
    "huge": ("os.truncate(options['output'], 1 << 24)", "longer than"),
    "path outside": ("answer(b'kernel /etc/passwd\\0\\0')", "not in the directory"),
    "path through ..": ("answer(b'kernel /output/../disk\\0\\0')", "no file of the directory"),
    "the directory": ("answer(b'kernel /output/\\0\\0')", "no file of the directory"),
    "the disk": ("answer(b'kernel /disk\\0\\0')", "not in the directory"),
    "relative path": ("put(); answer(b'kernel k\\0\\0')", "not in the directory"),
    "newline in the arguments": ("good('a\\x0ab')", "control characters"),
    "escape in the arguments": ("good('a\\x1b[2Jb')", "control characters"),
    "long arguments": ("good('a' * 2048)", "longer than a kernel takes"),
    "missing kernel": ("answer(b'kernel /output/k\\0\\0')", "No such file"),
    "empty kernel": ("put(b''); answer(b'kernel /output/k\\0\\0')", "empty"),
    "link": ("os.symlink('/disk', kernel); answer(b'kernel /output/k\\0\\0')", "symbolic link"),
    "link to a file": ("put(path='/output/x'); os.symlink('x', kernel); answer(b'kernel /output/k\\0\\0')",
                       "symbolic link"),
    "FIFO": ("os.mkfifo(kernel); answer(b'kernel /output/k\\0\\0')", "no regular file"),
    "directory": ("os.mkdir(kernel); answer(b'kernel /output/k\\0\\0')", "no regular file"),
    "empty ramdisk": ("put(); put(b'', '/output/r'); answer(b'kernel /output/k\\0ramdisk /output/r\\0\\0')", "empty"),
    "answer that is a FIFO": ("os.unlink(options['output']); os.mkfifo(options['output'])", "no regular file"),
    "answer that is a link": ("os.unlink(options['output']); os.symlink('/dev/zero', options['output'])",
                              "symbolic link"),
    "answer that is gone": ("os.unlink(options['output'])", "No such file"),
    "answer that is unreadable": ("put(); good(); os.chmod(options['output'], 0)", "Permission denied"),
    "sparse": ("put(); os.truncate(kernel, 97 << 20); answer(b'kernel /output/k\\0\\0')", "File too large"),
    "larger than the guest": ("f = open(kernel, 'wb')\nwhile True: f.write(bytes(1 << 20))",
                              "too large|No space left"),
}


@pytest.mark.parametrize("what", ANSWERS)
def test_bad_answer(puppet, what):
    code, words = ANSWERS[what]
    assert re.search(words, puppet(code))


def test_kernel_that_is_none(start, broker, disk):
    """A good answer, but QEMU does not like the kernel, or the guest crashes: not the loader's fault any more."""
    pending = start.begin(disk, "puppet", told("good('x')"))
    try:
        start.done(pending)
    except CallError as error:
        assert error.name == "HypervisorFailed" and "qemu-system" in error.message


# What it can reach


def test_its_identity(puppet, broker, scope, alice):
    uid, groups, bound, dumpable = words_of(puppet, """
        import ctypes
        libc = ctypes.CDLL(None)
        print(os.getuid(), os.geteuid(), os.getgid())
        print(0 in os.getgroups())
        print(libc.prctl(39, 0, 0, 0, 0), [c for c in range(64) if libc.prctl(47, 1, c, 0, 0) == 1])
        print(os.getpid() < 10, os.getppid(), os.getsid(0) == os.getpid(), os.get_terminal_size(), os.environ['TERM'])""")
    user = broker.people["alice"]
    assert uid == f"{user.uid} {user.uid} {user.gid}"
    assert groups == "False"
    assert bound == "1 []"  # no_new_privs, no ambient capabilities
    assert dumpable == "True 1 True os.terminal_size(columns=80, lines=24) vt100"


def test_its_tree(puppet, broker):
    user = broker.people["alice"]
    secret = user.file("secret", b"hers, but not the image's")
    top, secret_, shadow, proc, written = words_of(puppet, f"""
        def try_(f, *a):
            try: return str(f(*a))
            except OSError as e: return e.strerror
        print(sorted(os.listdir('/')))
        print(try_(open, '{secret}'))
        print(try_(open, '/etc/shadow'), try_(os.listdir, '/etc'))
        print(try_(os.listdir, '/proc'), try_(os.listdir, '/sys'), try_(os.listdir, '/run'))
        print(try_(open, '/disk', 'r+'), try_(open, '/x', 'w'), try_(os.mkdir, '/usr/lib/x'), try_(os.chmod, '/disk', 511))""")
    assert set(eval(top)) <= {"bin", "dev", "disk", "etc", "lib", "lib64", "output", "run", "usr"}
    assert secret_ == "No such file or directory"
    assert shadow == "No such file or directory ['ld.so.cache']"
    assert proc.startswith("No such file or directory No such file or directory")
    assert written.split("Read-only file system")[0] in ("", "Permission denied ")
    assert written.count("Read-only file system") + written.count("Permission denied") == 4


def test_its_reach(puppet):
    """Nobody else's processes, no network, no privilege, not even over the one that waits for it."""
    killed, network, init, privilege = words_of(puppet, """
        import ctypes, socket
        libc = ctypes.CDLL(None, use_errno=True)
        def errno_of(r): return os.strerror(ctypes.get_errno()) if r < 0 else 'done'
        def try_(f, *a):
            try: return str(f(*a))
            except OSError as e: return e.strerror
        print(try_(os.kill, -1, 0))
        print(try_(socket.create_connection, ('127.0.0.1', 22)), [n for _, n in socket.if_nameindex()])
        os.kill(1, signal.SIGKILL); os.kill(1, signal.SIGSTOP)
        print(errno_of(libc.ptrace(16, 1, 0, 0)), try_(os.setuid, 0))
        print(errno_of(libc.mount(b'x', b'/output', b'tmpfs', 0, 0)), errno_of(libc.chroot(b'/output')))""")
    assert killed in ("No such process", "Operation not permitted", "None")
    assert network == "Network is unreachable ['lo']"
    assert init in ("Operation not permitted Operation not permitted", "Operation not permitted Invalid argument")
    assert privilege == "Operation not permitted Operation not permitted"


def test_roots_own_image(broker, scope, image, entries):
    """What looks into root's image is not root: it must be able to read it."""
    if scope == "session":
        return
    root, user = broker.caller("root"), broker.people["root"]
    os.chmod(user.home, 0o711)
    path = bootdisk.bootable(os.path.join(user.home, "root.img"), image, entries, timeout=0)
    network = root.create_network(["one"])[0]
    try:
        os.chmod(path, 0o600)
        message = refused("Internal", root.create_domain, network, "96M", [path], hypervisor="qemu",
                          extra={"bootloader": "pygrub"})
        assert "cannot read the disk" in message
        os.chmod(path, 0o644)
        name = root.create_domain(network, "96M", [path], hypervisor="qemu", extra={"bootloader": "pygrub"}, timeout=120)
        with Guest(root, name) as guest:
            guest.ready()
        root.destroy_domain(name)
    finally:
        os.unlink(path)
        os.chmod(user.home, 0o700)
        root.destroy_network(network)


# Ends from outside


def wait_for_puppet(start, alice):
    """A puppet that has said "ready" runs; its domain's name."""
    name = start.appears()
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect("ready", DEADLINE)
    return name


HANG = told("os.fork() and print('ready', flush=True); signal.pause()")


def test_destroyed_meanwhile(start, alice, disk):
    pending = start.begin(disk, "puppet", HANG)
    name = wait_for_puppet(start, alice)
    waiting = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0)
    console = Console(alice.domain(name, "OpenConsole"))
    alice.destroy_domain(name)
    with pytest.raises(CallError) as info:
        pending.result()
    assert info.value.name == "InvalidState" and "destroyed before it had started" in info.value.message
    assert waiting.result()[0] == "failed"
    with console:
        while not console.ended:
            console.read(5)
    assert alice.domain_names() == []


def test_destroyed_at_any_time(start, alice, bootable):
    """Also between the loader and the emulator's confirmation."""
    for delay in (0, 0.3, 1, 2, 2.3, 2.6, 3, 3.5):
        pending = start.begin(bootable)
        name = start.appears()
        time.sleep(delay)
        alice.destroy_domain(name)
        try:
            pending.result()
        except CallError as error:
            assert error.name == "InvalidState"
        assert alice.domain_names() == []


def test_its_owner_leaves(start, alice, broker, scope, disk):
    """Whoever asked for it may go; the domain can be destroyed by the next of hers."""
    other = broker.daemon.caller(broker.people["alice"])
    other.start_domain(start.network.name, "96M", [disk], "", "qemu", extra={"bootloader": "puppet", "cmdline": HANG})
    name = wait_for_puppet(start, alice)
    other.close()
    assert alice.domain_names() == [name]
    alice.destroy_domain(name)


def loaders(broker):
    return [p for p in leaks.processes_below(broker.daemon.pid).values() if "puppet" in str(p)]


def test_daemon_is_killed_meanwhile(start, alice, broker, disk):
    start.begin(disk, "puppet", HANG)
    wait_for_puppet(start, alice)
    assert len(loaders(broker)) == 2
    pids = [p.pid for p in leaks.processes_below(broker.daemon.pid).values()]
    broker.daemon.kill()
    deadline = time.monotonic() + 10
    while left := [p for p in pids if os.path.exists(f"/proc/{p}/exe") and "puppet" in str(leaks.Process(p))]:
        assert time.monotonic() < deadline, f"still there: {left}"
        time.sleep(0.05)
    broker.daemon.start()
    broker.served()
    assert alice.domain_names() == []


def test_daemon_is_killed_at_any_time(start, alice, broker, bootable):
    """From the making of the jail to the emulator's first words: whatever there is of it goes."""
    for delay in (0, 0.01, 0.02, 0.03, 0.05, 0.1, 0.5, 2, 2.3, 2.6, 3):
        start.begin(bootable)
        time.sleep(delay)
        broker.daemon.kill()
        broker.daemon.start()
        broker.served()
        for name in alice.domain_names():  # it had started
            destroyed(alice.destroy_domain, name)
        deadline = time.monotonic() + 10
        while alice.domain_names() or any("pygrub" in str(p) for p in leaks.processes_below().values()):
            assert time.monotonic() < deadline, f"after {delay} s something is left of it"
            time.sleep(0.05)


def test_daemon_is_stopped_meanwhile(start, alice, broker, disk):
    """In good order."""
    start.begin(disk, "puppet", HANG)
    wait_for_puppet(start, alice)
    broker.restart(kill=False)
    assert alice.domain_names() == []


def test_its_process_is_killed_from_outside(start, alice, broker, disk):
    """By its owner, say: it is her process."""
    pending = start.begin(disk, "puppet", HANG)
    wait_for_puppet(start, alice)
    os.kill(min(p.pid for p in loaders(broker)), signal.SIGKILL)
    with pytest.raises(CallError) as info:
        pending.result()
    assert "it was killed by signal 9 (Killed): ready" in info.value.message


def test_manager_tells_of_it(alice, config):
    assert ["puppet", config["bootloader_puppet"]] in [list(pair) for pair in
                                                       alice.get(ROOT_PATH, MANAGER, "BootLoaders")]
