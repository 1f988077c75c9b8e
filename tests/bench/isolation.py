"""Namespaces of the benchmark's own: what it starts, mounts and links can neither be missed nor left behind.

It becomes the init of a PID namespace, in mount and network namespaces of its own with an empty tmpfs at /run. However
it ends, the kernel kills all that is in there, the libvirt daemon's children and the keepers of networks included, and
takes the bridges and mounts apart.
"""

import os
import signal
import stat
import subprocess
import sys
import time

INSIDE = "DEBMARSHAL_BENCH_INSIDE"
LIBVIRT = ["/var/lib/libvirt", "/var/cache/libvirt", "/var/log/libvirt"]


def sh(*command):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def hide_kvm():
    """A /dev as here but without /dev/kvm: all that is compared is compared under emulation, and libvirt probes the
    emulator anew for every guest (15 s) where KVM is there and does not work."""
    os.mkdir("/run/dev")
    for entry in os.scandir("/dev"):
        copy, status = f"/run/dev/{entry.name}", entry.stat(follow_symlinks=False)
        if entry.is_symlink():
            os.symlink(os.readlink(entry.path), copy)
        elif entry.is_dir():
            os.mkdir(copy)
            sh("mount", "--rbind", entry.path, copy)
        elif entry.name != "kvm":
            os.mknod(copy, status.st_mode, status.st_rdev)
            os.chmod(copy, stat.S_IMODE(status.st_mode))
            os.chown(copy, status.st_uid, status.st_gid)
    sh("mount", "--rbind", "/run/dev", "/dev")


def mount_private():
    """Empty directories where daemons write, and a copy of libvirt's configuration for us to change."""
    sh("mount", "-t", "tmpfs", "-o", "mode=755", "run", "/run")
    for path in LIBVIRT:
        if os.path.isdir(path):
            sh("mount", "-t", "tmpfs", "-o", "mode=755", "bench", path)
    if os.path.isdir("/etc/libvirt"):
        sh("cp", "-a", "/etc/libvirt", "/run/etc-libvirt")
        sh("mount", "--bind", "/run/etc-libvirt", "/etc/libvirt")
    hide_kvm()
    sh("ip", "link", "set", "lo", "up")


def be_init(child):
    """Reap whatever is left to us, at once: others wait for a process to be gone by looking for its pid."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child has it too
    signal.signal(signal.SIGTERM, lambda *_: os.kill(child, signal.SIGTERM))
    while True:
        pid, status = os.wait()
        if pid == child:
            sys.exit(os.waitstatus_to_exitcode(status) & 0xFF)


def make_group():
    """A control group with nearly all of the processors' time, for all that is compared alike: what else runs here then
    disturbs little. (A nice value would not: with autogroups it counts within one session only.) None: not possible here."""
    for path, file, value in (
        ("/sys/fs/cgroup/cpu/debmarshal-bench", "cpu.shares", "262144"),
        ("/sys/fs/cgroup/debmarshal-bench", "cpu.weight", "10000"),
    ):
        try:
            os.makedirs(path, exist_ok=True)
            with open(f"{path}/{file}", "w") as setting:
                setting.write(value)
            return path
        except OSError:
            pass


def remove_group(path):
    """The last process in it may have a moment yet."""
    for _ in range(50):
        try:
            os.rmdir(path)
            return
        except OSError:
            time.sleep(0.1)


def outside():
    """Start ourselves inside, wait, and remove the one thing that namespaces do not take along."""
    group = make_group()
    environment = {**os.environ, INSIDE: group or "-"}
    flags = ["--mount", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]
    child = subprocess.Popen(["unshare", *flags, "/usr/bin/python3", *sys.argv], env=environment)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the child has it too
    signal.signal(signal.SIGTERM, lambda *_: child.terminate())
    status = child.wait()
    if group:
        remove_group(group)
    sys.exit(status & 0xFF)


def enter():
    """Return inside; the caller's process only waits, outside."""
    if INSIDE not in os.environ:
        outside()
    if os.environ[INSIDE] != "-":
        with open(f"{os.environ[INSIDE]}/cgroup.procs", "w") as group:
            group.write("0")
    mount_private()
    child = os.fork()
    if child:
        be_init(child)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
