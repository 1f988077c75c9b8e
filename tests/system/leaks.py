"""What is left behind: a picture of everything that the broker can make on a host, taken before and after.

The test process is the reaper of its orphans (PR_SET_CHILD_SUBREAPER), so all that a daemon ever started is found below
it in the process tree, whoever started it and whatever became of the daemon. What belongs to other programs of the host
is never looked at, but for the names of the network links.
"""

import contextlib
import ctypes
import os
import re
import shutil
import sqlite3
import tempfile
import time
from collections import Counter

PR_SET_CHILD_SUBREAPER = 36
WAIT = 5  # seconds that the kernel gets for what it does by and by


def become_subreaper():
    if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def _read(path):
    try:
        with open(path, "rb") as f:
            return f.read()
    except (FileNotFoundError, ProcessLookupError, PermissionError):
        return b""


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return ""


class Process:
    """One process of /proc."""

    def __init__(self, pid):
        stat = _read(f"/proc/{pid}/stat").decode(errors="replace")
        after = stat.rpartition(")")[2].split()
        if len(after) < 20:
            raise ProcessLookupError(pid)
        self.pid = pid
        self.comm = stat[stat.index("(") + 1:stat.rindex(")")]
        self.state = after[0]
        self.parent = int(after[1])
        self.start = int(after[19])

    def command(self):
        return _read(f"/proc/{self.pid}/cmdline").replace(b"\0", b" ").decode(errors="replace").strip()

    def __str__(self):
        return f"{self.pid} {self.command()[:160] or self.comm}{' (zombie)' if self.state == 'Z' else ''}"

    def namespaces(self):
        return {kind: _link(f"/proc/{self.pid}/ns/{kind}") for kind in ("net", "user", "mnt", "pid", "ipc", "uts")}

    def descriptors(self):
        """Where each descriptor leads."""
        try:
            names = os.listdir(f"/proc/{self.pid}/fd")
        except OSError:
            return []
        return [target for target in (_link(f"/proc/{self.pid}/fd/{n}") for n in names) if target]


def all_processes():
    processes = {}
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                processes[int(name)] = Process(int(name))
            except ProcessLookupError:
                pass
    return processes


def descendants(pid):
    """All below pid, as pid -> Process."""
    processes = all_processes()
    children = {}
    for p in processes.values():
        children.setdefault(p.parent, []).append(p.pid)
    found, todo = {}, [pid]
    while todo:
        for child in children.get(todo.pop(), []):
            found[child] = processes[child]
            todo.append(child)
    return found


def processes_below(pid=None, known=()):
    """The same without those in known; orphans that have ended are reaped on the way."""
    me = os.getpid()
    found = descendants(pid or me)
    for p in list(found.values()):
        if p.state == "Z" and p.parent == me and p.pid not in known:
            try:
                os.waitpid(p.pid, os.WNOHANG)
            except ChildProcessError:
                pass
            del found[p.pid]
    return {p.pid: p for p in found.values() if p.pid not in known}


def spare_keepers(daemon_pid):
    """Those of a daemon that lives, as pid -> Process: its children that have the name of a keeper, and have executed
    none yet."""
    return {p.pid: p for p in descendants(daemon_pid).values()
            if p.parent == daemon_pid and p.comm == "debmarshal-keep" and not p.command().startswith("debmarshal-keeper")}


def keeper_of(network):
    """The Process of a network of this run; None: it has none. A child that is yet to become a server looks the same."""
    alike = {p.pid: p for p in descendants(os.getpid()).values()
             if p.comm.startswith("debmarshal-keep") and str(p).endswith(f" {network}")}
    keepers = [p for p in alike.values() if p.parent not in alike]
    assert len(keepers) <= 1
    return keepers[0] if keepers else None


def server_of(network):
    """The pid of its dnsmasq, None while there is none."""
    keeper = keeper_of(network)
    servers = []
    for p in descendants(keeper.pid).values() if keeper else []:
        with contextlib.suppress(ProcessLookupError):
            if p.comm == "dnsmasq" and p.state != "Z" and p.parent == keeper.pid:
                servers.append(p.pid)
    return servers[0] if len(servers) == 1 else None


def descriptor_kind(target):
    """Numbers of sockets and pipes are different each time."""
    if re.match(r"(socket|pipe):\[", target):
        return target.partition(":")[0]
    if re.match(r"(net|user|mnt|pid):\[", target):
        return target.partition(":")[0] + " namespace"
    return target


def mounts(*below):
    """Mounts in or of the directories, and namespaces that are held by a mount."""
    found = set()
    for line in _read("/proc/self/mountinfo").decode(errors="replace").splitlines():
        fields = line.split(" ")
        kind = fields[fields.index("-") + 1]
        if kind == "nsfs" or any(d in line for d in below):
            found.add(f"{fields[4]} ({kind} {fields[3]})")
    return found


def unix_sockets(below):
    found = set()
    for line in _read("/proc/net/unix").decode(errors="replace").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and below in fields[7]:
            found.add(fields[7])
    return found


def loop_devices(below):
    found = set()
    for name in os.listdir("/sys/block") if os.path.isdir("/sys/block") else []:
        backing = _read(f"/sys/block/{name}/loop/backing_file").decode(errors="replace").strip()
        if below in backing:
            found.add(f"{name} of {backing}")
    return found


def files(below):
    return {os.path.relpath(os.path.join(directory, name), below)
            for directory, directories, names in os.walk(below) for name in directories + names}


@contextlib.contextmanager
def store_copy(state_db):
    """A connection to a copy of the store, since the daemon has locked it."""
    with tempfile.TemporaryDirectory() as directory:
        copy = os.path.join(directory, "state.db")
        for suffix in ("", "-wal"):
            if os.path.exists(state_db + suffix):
                shutil.copy(state_db + suffix, copy + suffix)
        connection = sqlite3.connect(copy)
        try:
            yield connection
        finally:
            connection.close()


def records(state_db):
    """Table -> rows; "ended" and the daemon's own bookkeeping are told apart by the caller."""
    if not os.path.exists(state_db):
        return {}
    with store_copy(state_db) as connection:
        tables = [t for (t,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {t: connection.execute(f'SELECT * FROM "{t}"').fetchall()
                for t in tables if not t.startswith("sqlite_")}


# An ended domain stays readable for a while: its record and its log are no leak. Nor is what the store keeps of itself.
KEPT_TABLES = {"meta", "ended", "reserve"}
KEPT_FILES = re.compile(r"ended/\d+\.log$|state\.db")
# What the daemon holds of a spare keeper that waits.
SPARE_DESCRIPTORS = Counter({"/memfd:keeper-plan (deleted)": 1, "/memfd:dnsmasq-conf (deleted)": 1, "anon_inode:[pidfd]": 1,
                             "pipe": 2, "socket": 1})


class Snapshot:
    """known: pids of the harness's own processes (callers, the bus, the daemon), which are not looked at."""

    def __init__(self, daemon, base, known=()):
        self.parts = {}
        runtime = daemon.runtime_dir
        tables = records(os.path.join(runtime, "state.db"))
        below = processes_below(known=set(known))
        # Who has a network may have a spare keeper, another one each time; who has none has none.
        spares = spare_keepers(daemon.pid) if tables.get("network") and daemon.is_alive() else {}
        for spare in spares:
            for pid in (spare, *descendants(spare)):
                below.pop(pid, None)
        self.parts["processes"] = {str(p) for p in below.values() if p.state != "Z" or p.parent != os.getpid()}
        ours = self._own_namespaces(daemon)
        self.parts["namespaces"] = {f"{kind} {inode}" for p in below.values()
                                    for kind, inode in p.namespaces().items() if inode and inode not in ours}
        self.parts["links"] = set(os.listdir("/sys/class/net"))
        self.parts["mounts"] = mounts(base)
        self.parts["unix sockets"] = unix_sockets(runtime)
        self.parts["loop devices"] = loop_devices(base)
        self.parts["files"] = {f for f in files(runtime) if not KEPT_FILES.match(f)}
        self.parts["records"] = {f"{t}: {row}" for t, rows in tables.items() if t not in KEPT_TABLES for row in rows}
        self.parts["ended logs without a record"] = self._ended_logs(runtime, tables)
        self.parts["descriptors of the daemon"] = self._descriptors(daemon, len(spares))

    @staticmethod
    def _own_namespaces(daemon):
        ours = set(Process(os.getpid()).namespaces().values())
        return ours | set(Process(daemon.pid).namespaces().values()) if daemon.is_alive() else ours

    @staticmethod
    def _ended_logs(runtime, tables):
        recorded = {str(row[0]) for row in tables.get("ended", [])}
        directory = os.path.join(runtime, "ended")
        names = os.listdir(directory) if os.path.isdir(directory) else []
        return {n for n in names if n.removesuffix(".log") not in recorded}

    @staticmethod
    def _descriptors(daemon, n_spares):
        if not daemon.is_alive():
            return set()
        count = Counter(descriptor_kind(t) for t in Process(daemon.pid).descriptors())
        for _ in range(n_spares):
            count -= SPARE_DESCRIPTORS
        return {f"{kind} #{n + 1}" for kind, times in count.items() for n in range(times)}

    def left(self, before):
        """What is here and was not before, as lines."""
        return [f"{part}: {thing}" for part, things in self.parts.items()
                for thing in sorted(things - before.parts.get(part, set()))]


def at_rest(picture):
    """When two in a row are the same: a child that is just going belongs to none."""
    previous, deadline = picture(), time.monotonic() + WAIT
    while time.monotonic() < deadline:
        time.sleep(0.05)
        current = picture()
        if current.parts == previous.parts:
            break
        previous = current
    return previous


class LeakChecker:
    """Compares with a baseline, and waits a little for the kernel to finish."""

    def __init__(self, daemon, base, known):
        self.daemon = daemon
        self.base = base
        self.known = known  # a function: the harness's processes of this moment
        self.baseline = None

    def snapshot(self):
        return Snapshot(self.daemon, self.base, self.known())

    def take_baseline(self):
        self.baseline = at_rest(self.snapshot)

    def left(self, wait=WAIT):
        """Empty when all is as before."""
        deadline = time.monotonic() + wait
        while True:
            left = self.snapshot().left(self.baseline)
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.05)
