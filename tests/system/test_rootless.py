"""The main job as a user sees it: no root, no daemon started by anybody, nothing but the command line.

Each step is one that a person would do; they stand on each other, so they are one story with a guest for each host.
"""

import gzip
import json
import os
import re
import select
import shutil
import signal
import subprocess
import time

import pytest

import leaks
from conftest import BUILD, wait_for
from guests import SERVE

PAGE = "the web server says hello"
CLIENT = f"""until wget -q -O page http://web/; do sleep 0.2; done
until ip -6 address show dev eth0 scope global | grep -q inet6; do sleep 0.1; done
ping -4 -c 1 -W 5 web.$(sed -n 's/^search //p' /etc/resolv.conf) && ping -6 -c 1 -W 5 web && cat page"""


# What stays in the runtime directory: nothing that runs or that anybody holds.
KEPT = {"debmarshald.log", "domains", "ended", "lock", "networks", "state.reserve"}


class CommandLine:
    """debmarshal, run by a user who has a session of her own."""

    def __init__(self, user):
        self.user = user
        self.environment = {**user.environment(), "PATH": f"{BUILD}:/usr/sbin:/usr/bin:/bin"}

    def popen(self, *arguments, **options):
        return subprocess.Popen(["debmarshal", "--session", *arguments], env=self.environment, cwd=self.user.home,
                                **self.user.popen_identity(), executable=os.path.join(BUILD, "debmarshal"), **options)

    def __call__(self, *arguments, stdin="", status=0, timeout=90):
        """What it prints."""
        pipes = dict.fromkeys(("stdin", "stdout", "stderr"), subprocess.PIPE)
        process = self.popen(*arguments, text=True, **pipes)
        try:
            out, errors = process.communicate(stdin, timeout)
        finally:
            process.kill()
        assert process.returncode == status, f"{arguments}: status {process.returncode}\n{out}\n{errors}"
        return out


def processes_of(user):
    return {p.pid: p for p in leaks.processes_below().values() if os.stat(f"/proc/{p.pid}").st_uid == user.uid}


def encode(command):
    return "".join(c if c.isascii() and c.isalnum() else "".join(f"%{b:02x}" for b in c.encode()) for c in command)


def ssh_server(user):
    """An archive for the kernel to unpack over the guest's: an SSH server that knows the user's new key."""
    tree = os.path.join(user.home, "ssh-server")
    for directory in ("bin", "etc", "root/.ssh"):
        os.makedirs(os.path.join(tree, directory))
    shutil.copy("/usr/sbin/dropbear", os.path.join(tree, "bin"))
    libraries = subprocess.run(["ldd", "/usr/sbin/dropbear"], check=True, capture_output=True, text=True).stdout
    for library in re.findall(r"(/\S+) \(", libraries):
        os.makedirs(tree + os.path.dirname(library), exist_ok=True)
        shutil.copy(library, tree + library)
    with open(os.path.join(tree, "etc", "passwd"), "w", encoding="utf-8") as f:
        f.write("root::0:0:root:/root:/bin/sh\n")
    subprocess.run(["dropbearkey", "-t", "ed25519", "-f", f"{tree}/etc/host-key"], check=True, capture_output=True)
    key = os.path.join(user.home, ".ssh", "id_ed25519")
    os.makedirs(os.path.dirname(key), mode=0o700)
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    shutil.copy(f"{key}.pub", os.path.join(tree, "root/.ssh/authorized_keys"))
    for directory, _, names in os.walk(os.path.dirname(key)):
        for path in [directory] + [os.path.join(directory, n) for n in names]:
            os.chown(path, user.uid, user.gid)
    names = subprocess.run(["find", "."], cwd=tree, check=True, capture_output=True).stdout
    archive = subprocess.run(["cpio", "--quiet", "-o", "-H", "newc", "-R", "0:0"], cwd=tree, check=True, input=names,
                             capture_output=True).stdout
    return gzip.compress(archive, 1)


@pytest.fixture(scope="module")
def initrd(people, image):
    """The guest's, with an SSH server."""
    with open(image.initrd, "rb") as f:
        return people["alice"].file("initrd", f.read() + ssh_server(people["alice"]))


@pytest.fixture
def cli(people):
    it = CommandLine(people["alice"])
    assert not processes_of(it.user)
    yield it
    for pid in processes_of(it.user):  # what a failed test left
        os.kill(pid, signal.SIGKILL)


def create(cli, image, initrd, network, host, command, more=""):
    return cli("domain", "create", "--network", network, "--host", host, "--memory", "128M", "--kernel", image.kernel,
               "--initrd", initrd, "--cmdline", f"console=ttyS0 quiet dm.run={encode(command)} {more}").strip()


def test_the_main_job(cli, image, initrd):
    user = cli.user
    network = cli("network", "create", "web", "client").strip()
    (daemon,) = [p for p in processes_of(user).values() if p.comm == "debmarshald"]
    assert os.listdir(user.runtime_dir) == ["debmarshal"]

    serve = (f"mkdir -p /srv; echo {PAGE} >/srv/index.html; httpd -h /srv; dropbear -r /etc/host-key; {SERVE}")
    web = create(cli, image, initrd, network, "web", serve)
    client = create(cli, image, initrd, network, "client", CLIENT, "dm.end=poweroff")
    assert {web, client} <= set(cli("domain", "list").split())

    assert cli("domain", "wait", "--timeout", "80s", client).split()[0] == "poweroff"
    log = cli("domain", "log", client)
    for line in (PAGE, r"PING web\S* \([0-9.]+\)", r"PING web \(fd[0-9a-f:]+\)", r"DM-RC 0\s"):
        assert re.search(rf"^{line}", log, re.M), log

    check_console(cli, web)
    assert PAGE in cli("connect", network, "web", "80", stdin="GET / HTTP/1.0\r\n\r\n")
    inside = cli("network", "exec", network, "--", "sh", "-c", "id -u; ip -o address; getent ahosts web")
    assert inside.startswith("0\n") and "br0" in inside and "STREAM web" in inside
    cli("network", "exec", network, "--", "sh", "-c", "exit 7", status=7)
    check_ssh_and_capture(cli, network)
    cli("domain", "screenshot", web, "screen.png")
    with open(os.path.join(user.home, "screen.png"), "rb") as f:
        assert f.read(4) == b"\x89PNG"

    # Nobody else gets at any of it.
    assert os.stat(os.path.join(user.runtime_dir, "debmarshal")).st_mode & 0o077 == 0
    cli("network", "destroy", network, status=1)
    cli("network", "destroy", "--domains", network)
    wait_for(lambda: list(processes_of(user)) == [daemon.pid], 5)
    check_end(user, daemon.pid)


def check_console(cli, domain):
    """Two at once; what was said before comes first."""
    pipes = dict.fromkeys(("stdin", "stdout"), subprocess.PIPE)
    consoles = [cli.popen("domain", "console", domain, **pipes) for _ in range(2)]
    try:
        consoles[0].stdin.write(b"7 echo $((6 * 7)) is it\n")
        consoles[0].stdin.flush()
        for console in consoles:
            text, deadline = b"", time.monotonic() + 30
            while b"DM-DID 7 0" not in text:
                assert select.select([console.stdout], [], [], deadline - time.monotonic())[0], text
                chunk = os.read(console.stdout.fileno(), 4096)
                assert chunk, text
                text += chunk
            assert b"DM-READY web" in text and b"42 is it" in text
    finally:
        for console in consoles:
            console.terminate()
            console.communicate(timeout=10)


def check_ssh_and_capture(cli, network):
    """A command over SSH, through a descriptor that debmarshal passes; and all of it is on the wire."""
    path = os.path.join(cli.user.home, "net.pcapng")
    tcpdump = ["tcpdump", "-n", "-t", "-r", path]
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    capture = cli.popen("network", "capture", "--write", path, network)
    try:
        wait_for(lambda: os.path.exists(path) and os.path.getsize(path), 10)
        told = cli("ssh", f"root@{network}/web", f"hostname; ping -c 2 -i 0.2 {gateway}")
        assert told.startswith("web\n") and "2 packets received" in told
        wait_for(lambda: subprocess.run([*tcpdump, "icmp"], capture_output=True, check=False).stdout.count(
            b"echo reply") == 2, 10)
    finally:
        capture.terminate()
        capture.wait(10)
    pings = subprocess.run([*tcpdump, "icmp"], capture_output=True, check=True, text=True).stdout.splitlines()
    assert len([p for p in pings if "echo request" in p]) == len([p for p in pings if "echo reply" in p]) == 2
    assert subprocess.run([*tcpdump, "tcp", "port", "22"], capture_output=True, check=True).stdout.count(b"\n") > 10


def check_end(user, pid):
    """Nobody needs the daemon any more: it goes by itself, and nothing of it stays."""
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        assert b"--scope=session" in f.read()
    descriptor = os.pidfd_open(pid)
    try:
        assert select.select([descriptor], [], [], 60)[0], "the idle daemon does not end"
    finally:
        os.close(descriptor)
    wait_for(lambda: not processes_of(user), 5)
    left = leaks.files(os.path.join(user.runtime_dir, "debmarshal"))
    assert {name for name in left if not leaks.KEPT_FILES.match(name)} <= KEPT, left
