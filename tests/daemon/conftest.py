"""A daemon of the session scope with the null driver, and the command line, both as an ordinary user.

As root a user is made for the run; anybody else tests as himself."""

import ctypes
import os
import pwd
import pty
import re
import select
import signal
import socket
import stat
import struct
import subprocess
import sys
import tempfile
import termios
import time

import pytest

TESTS = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(TESTS, "system"))

import users as system_users  # noqa: E402
from daemon import Daemon  # noqa: E402

SOURCE = os.path.dirname(TESTS)
BUILD = os.environ.get("DEBMARSHAL_BUILD", os.path.join(SOURCE, "build"))
PROGRAM = os.path.join(BUILD, "debmarshal")


CLONE_NEWNS = 0x20000


def open_tun_to_users():
    """Everywhere but on some build machines /dev/net/tun is for everybody. Make it so in a mount namespace of our own."""
    if os.stat("/dev/net/tun").st_mode & 0o006 == 0o006:
        return
    if ctypes.CDLL(None, use_errno=True).unshare(CLONE_NEWNS) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "mode=755,size=4k", "tmpfs", "/dev/net"], check=True)
    os.mknod("/dev/net/tun", 0o666 | stat.S_IFCHR, os.makedev(10, 200))
    os.chmod("/dev/net/tun", 0o666)


def pytest_sessionstart():
    if os.geteuid() == 0:
        open_tun_to_users()


class Myself(system_users.User):
    def popen_identity(self):
        return {}


@pytest.fixture(scope="session")
def base():
    with tempfile.TemporaryDirectory(prefix="dmc-", dir="/run" if os.geteuid() == 0 else None) as directory:
        os.chmod(directory, 0o755)
        yield directory


@pytest.fixture(scope="session")
def user(base):
    if os.geteuid() != 0:
        yield Myself("me", pwd.getpwuid(os.geteuid()).pw_name, base, base)
        return
    made = system_users.Users(base)
    try:
        yield made.make("carol")
    finally:
        made.remove_all()


@pytest.fixture(scope="session")
def stranger(base):
    if os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    made = system_users.Users(base)
    try:
        yield made.make("mallory")
    finally:
        made.remove_all()


@pytest.fixture(scope="module")
def daemon(base, user):
    d = Daemon(BUILD, tempfile.mkdtemp(dir=base), scope="session", user=user)
    os.chmod(os.path.dirname(d.runtime_dir), 0o777)
    d.start()
    yield d
    d.stop_well()


def environment(user, **more):
    env = user.environment() | {"TERM": "xterm"} | more
    for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
        if name in os.environ:
            env[name] = os.environ[name]
    return {k: v for k, v in env.items() if v is not None}


class Cli:
    """Runs the program as the user, against one daemon."""

    def __init__(self, user, address):
        self.user = user
        self.env = environment(user, DEBMARSHAL_ADDRESS=address)

    def popen(self, *words, env=None, **kwargs):
        kwargs.setdefault("stdin", subprocess.DEVNULL)
        kwargs.setdefault("stdout", subprocess.PIPE)
        kwargs.setdefault("stderr", subprocess.PIPE)
        return subprocess.Popen([PROGRAM, *words], env=self.env | (env or {}), cwd=self.user.home,
                                **self.user.popen_identity(), **kwargs)

    def __call__(self, *words, status=0, input=None, timeout=60, env=None):
        """Standard output as text; the exit status is as expected."""
        result = self.run(*words, input=input, timeout=timeout, env=env)
        assert result.returncode == status, f"{words}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        return result.stdout

    def run(self, *words, input=None, timeout=60, env=None):
        data = {"input": input.encode()} if input is not None else {"stdin": subprocess.DEVNULL}
        result = subprocess.run([PROGRAM, *words], env=self.env | (env or {}), cwd=self.user.home, timeout=timeout,
                                stdout=subprocess.PIPE, stderr=subprocess.PIPE, check=False,
                                **data, **self.user.popen_identity())
        result.stdout = result.stdout.decode(errors="replace")
        result.stderr = result.stderr.decode(errors="replace")
        return result

    def fails(self, *words, status=1, **kwargs):
        """The error text. Nothing but one line about it is printed, least of all the usage."""
        result = self.run(*words, **kwargs)
        assert result.returncode == status, f"{words}: {result.returncode}\n{result.stdout}\n{result.stderr}"
        assert result.stdout == ""
        assert result.stderr.startswith("debmarshal: ")
        assert "usage:" not in result.stderr
        return result.stderr

    def terminal(self, *words, env=None):
        return Terminal(self, words, env)


class Terminal:
    """The program on a terminal of its own."""

    def __init__(self, cli, words, env=None):
        self.master, slave = pty.openpty()
        self.before = termios.tcgetattr(slave)
        identity = cli.user.popen_identity()
        self.process = subprocess.Popen(
            [PROGRAM, *words], env=cli.env | (env or {}), cwd=cli.user.home, stdin=slave, stdout=slave, stderr=slave,
            start_new_session=True, **identity)
        self.slave = slave
        self.text = ""

    def expect(self, pattern, timeout=20):
        deadline = time.monotonic() + timeout
        while not re.search(pattern, self.text):
            left = deadline - time.monotonic()
            assert left > 0 and select.select([self.master], [], [], left)[0], f"no {pattern!r} in {self.text!r}"
            self.text += os.read(self.master, 65536).decode(errors="replace")
        match = re.search(pattern, self.text)
        self.text = self.text[match.end():]
        return match

    def type(self, text):
        os.write(self.master, text.encode())

    def attributes(self):
        return termios.tcgetattr(self.slave)

    def is_raw(self):
        return not self.attributes()[3] & (termios.ICANON | termios.ECHO)

    def wait(self, timeout=20):
        return self.process.wait(timeout)

    def close(self):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self.master)
        os.close(self.slave)


@pytest.fixture(scope="module")
def cli(daemon, user):
    return Cli(user, daemon.peer_address)


@pytest.fixture
def network(cli):
    """A network with two hosts."""
    name = cli("network", "create", "web", "db").strip()
    yield name
    cli.run("network", "destroy", "--domains", name)


@pytest.fixture(scope="session")
def kernel(user):
    """The null driver runs anything, but files must be files."""
    return user.file("kernel", b"k"), user.file("initrd", b"i")


@pytest.fixture
def create(cli, network, kernel):
    def make(*words, behave=""):
        return cli("domain", "create", "--network", network, "--kernel", kernel[0], "--initrd", kernel[1],
                   "--cmdline", behave, "--hypervisor", "null", *words).strip()
    return make


def peer_pid(path):
    """Who serves this socket."""
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(path)
        return struct.unpack("3i", s.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))[0]


def end(pid):
    """End a process that is no child of ours, and wait for that."""
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGTERM)
    select.select([fd], [], [], 20)
    os.close(fd)
