"""What the sweeps share: a daemon that is killed or whose system calls fail at each point of an operation, with a
bystander beside, and the judgement of what is there afterwards.

Everything is made for speed, since there are about a thousand points: the client is a connection inside the test
process, and /dev/kvm is hidden, whose probing would go on for seconds after each of as many starts.
"""

import contextlib
import ctypes
import faulthandler
import json
import os
import re
import signal
import socket
import subprocess
import tempfile
import threading
import time
import traceback

import dbus
import dbus.connection

import caller as names
from daemon import Daemon
from leaks import (
    Process,
    Snapshot,
    at_rest,
    become_subreaper,
    descendants,
    processes_below,
    records,
    spare_keepers,
)

CLONE_NEWNS, MS_BIND, MS_REC, MS_PRIVATE = 0x20000, 0x1000, 0x4000, 0x40000
DEADLINE = 60  # seconds until all must be well again after a point; others may keep the kernel busy with networks
SYSCALLS = "/usr/include/x86_64-linux-gnu/asm/unistd_64.h"


def syscall_names():
    with open(SYSCALLS, encoding="ascii") as f:
        return {int(number): name for name, number in re.findall(r"#define __NR_(\w+) (\d+)", f.read())}


def hide_kvm():
    """For this process and what it starts."""
    libc = ctypes.CDLL(None, use_errno=True)
    for result in (libc.unshare(CLONE_NEWNS), libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None)):
        if result != 0:
            raise OSError(ctypes.get_errno(), "a mount namespace of our own")
    if os.path.exists("/dev/kvm") and libc.mount(b"/dev/null", b"/dev/kvm", None, MS_BIND, None) != 0:
        raise OSError(ctypes.get_errno(), "hiding /dev/kvm")


class Failure(AssertionError):
    pass


class Hit:
    """One point: the number-th system call."""

    NAMES = syscall_names()

    @classmethod
    def numbers(cls):
        return {name: number for number, name in cls.NAMES.items()}

    def __init__(self, number, syscall, error, target):
        self.number = int(number)
        self.syscall = self.NAMES.get(int(syscall), syscall)
        self.error = int(error)
        self.target, _, self.request = target.partition("\t")

    def __str__(self):
        how = f" with {os.strerror(self.error)}" if self.error else ""
        return f"call {self.number}, {self.syscall}({self.target}{self.request and ', ' + self.request}){how}"


class Tracer:
    """act: what to do while the process is held at its point. only: the call that counts."""

    def __init__(self, tool, pid, mode, number, act=lambda: None, only=None):
        words = [tool, str(pid), mode, str(number)] + ([] if only is None else [str(Hit.numbers()[only])])
        self.process = subprocess.Popen(words, stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, text=True)
        self.calls = 0
        self.list = []  # of Hits, in a mode that lists
        self.hit = None
        assert self.process.stdout.readline() == "ready\n"
        self._reader = threading.Thread(target=self._read, args=(act,))
        self._reader.start()

    def _read(self, act):
        words = self._next()
        while words[0] == "call":
            self.list.append(Hit(*words[1:]))
            words = self._next()
        if words[0] == "hit":
            self.hit = Hit(*words[1:])
            act()
        elif words[0] == "short":
            self.calls = int(words[1])
        self._let_go()

    def _next(self):
        return self.process.stdout.readline().rstrip("\n").split(" ", 4)

    def _let_go(self):
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()

    def finish(self):
        """The Hit, or None when there were fewer calls; then calls says how many."""
        if not self.hit:
            self._let_go()
        self._reader.join()
        self.process.stdout.close()
        if self.process.wait() != 0:
            raise Failure("the tracer itself has failed")
        return self.hit


class Refused(Exception):
    """A call was answered with an error."""


class Disconnected(Exception):
    """A call was not answered."""


GONE_ERRORS = ("org.freedesktop.DBus.Error.NoReply", "org.freedesktop.DBus.Error.Disconnected",
               "org.freedesktop.DBus.Error.Timeout", "org.freedesktop.DBus.Error.TimedOut")


class Client:
    """A connection to the daemon's own socket, as a user, inside this process."""

    def __init__(self, user, address, deadline=DEADLINE):
        self.deadline = deadline
        os.setegid(user.gid)
        os.seteuid(user.uid)
        try:
            self.connection = dbus.connection.Connection(address)
            self.connection.set_exit_on_disconnect(False)
            self.ping()
        except dbus.DBusException as error:
            raise Disconnected(str(error)) from None
        finally:
            os.seteuid(0)
            os.setegid(0)

    def close(self):
        self.connection.close()

    def call(self, path, interface, method, signature="", *args):
        try:
            return self.connection.call_blocking(None, path, interface, method, signature, args, timeout=self.deadline)
        except dbus.DBusException as error:
            kind = Disconnected if error.get_dbus_name() in GONE_ERRORS else Refused
            raise kind(f"{error.get_dbus_name()}: {error.get_dbus_message()}") from None

    def ping(self):
        self.call("/", "org.freedesktop.DBus.Peer", "Ping")

    def create_network(self, hosts):
        return self.call(names.PRIVOPS_PATH, names.PRIVOPS, "createNetwork", "as", hosts)

    def destroy_network(self, name):
        self.call(names.PRIVOPS_PATH, names.PRIVOPS, "destroyNetwork", "s", name)

    def create_domain(self, network, hypervisor, disk, memory="16M", extra=()):
        return str(self.call(names.PRIVOPS_PATH, names.PRIVOPS, "createDomain", "sasssssa{sv}", memory, [disk], network,
                             "", hypervisor, "", {"paused": dbus.Boolean(True), **dict(extra)}))

    def destroy_domain(self, name):
        self.call(names.PRIVOPS_PATH, names.PRIVOPS, "destroyDomain", "ss", name, "")

    def objects(self):
        """Name -> state of networks and of domains: ({...}, {...})."""
        managed = self.call(names.ROOT_PATH, names.OBJECT_MANAGER, "GetManagedObjects").values()
        return tuple({str(o[interface]["Name"]): str(o[interface]["State"]) for o in managed if interface in o}
                     for interface in (names.NETWORK, names.DOMAIN))

    def ended(self):
        """Id -> reason."""
        rows = self.call(names.ROOT_PATH, names.MANAGER, "ListEndedDomains")
        return {int(row[0]): str(row[3]) for row in rows}

    def ended_log(self, name):
        """What is kept of the newest domain of that name: (reason, log)."""
        answer = self.call(names.ROOT_PATH, names.MANAGER, "GetEndedDomain", "s", name)
        with os.fdopen(answer[4].take(), "rb") as log:
            return str(answer[1]), log.read()

    def say(self, name, line):
        """Send a line to a null guest, which gives it back; returns when it has."""
        with socket.socket(fileno=self.domain(name, "OpenConsole").take()) as console:
            console.settimeout(self.deadline)
            console.sendall(line)
            seen = b""
            while line not in seen:
                seen += console.recv(4096) or b"(end)"

    def usage(self):
        rows = self.call(names.ROOT_PATH, names.MANAGER, "GetUsage")
        return {int(uid): {str(k): int(v) for k, v in held.items() if v and k != "connections"} for uid, held in rows}

    def domain(self, name, method, *args):
        return self.call(names.domain_path(name), names.DOMAIN, method, *args)

    def network(self, name, method, *args):
        return self.call(names.network_path(name), names.NETWORK, method, *args)


class Rig:
    """A daemon with a network and a domain on it, the bystanders, which live through all of it."""

    warmed_up = ("null", "qemu")
    deadline = DEADLINE
    end_deadline = 1  # seconds until a daemon whose loop has failed has ended
    config = {}  # beside what all have

    def __init__(self, build, directory, user, spares=0):
        self.user = user
        self.tool = os.path.join(build, "tests", "system", "sweep")
        # Room for the endings of all points, whose records and logs are then looked at.
        config = {"jail_uid_base": 0x60000000 + os.getpid() % 0x10000 * 0x400, "jail_uid_count": 0x400,
                  "max_ended": 4, "spare_networks": spares, **self.config}
        self.daemon = Daemon(build, directory, config=config)
        self.base = directory
        self.disk = user.disk(f"sweep-{os.getpid()}.img")
        self.client = None
        self.start()
        self.net = str(self.client.create_network(["stander", "other"])[0])
        self.dom = self.client.create_domain(self.net, "null", self.disk)
        self.await_workers()
        self.bystanders = set(descendants(self.daemon.pid))
        self.killed = 0
        self.warm_up()
        self.await_workers()
        self.baseline = at_rest(self.picture)
        self.usage = self.client.usage()

    @staticmethod
    def extra(_hypervisor):
        """What createDomain is told beside."""
        return {}

    def orphan(self, only=""):
        """Kill what the daemon has started for the operation, or the programs of that name."""
        victims = [p for p in descendants(self.daemon.pid).values()
                   if p.pid not in self.bystanders and p.state != "Z" and
                   (p.comm == only if only else p.parent == self.daemon.pid)]
        for process in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGKILL)
        self.killed += len(victims)

    def await_workers(self):
        """The daemon's forks, which come and go, have gone: on a busy host one that closes a tap may take its time."""
        own = Process(self.daemon.pid).comm
        left = self.wait_until(lambda: [str(p) for p in descendants(self.daemon.pid).values() if p.comm == own], 60)
        if left:
            raise Failure(f"workers stay: {left}")

    def lacks_spare(self):
        """Nobody has a spare keeper with a server that has begun to load."""
        return not any(p.comm == "dnsmasq" for pid in spare_keepers(self.daemon.pid) for p in descendants(pid).values())

    def make_spare(self):
        if self.lacks_spare():
            self.client.destroy_network(self.client.create_network(["earlier"])[0])
        if self.wait_until(self.lacks_spare):
            raise Failure("there is no spare keeper")

    def connect(self):
        if self.client:
            self.client.close()
        self.client = Client(self.user, self.daemon.peer_address, self.deadline)

    def warm_up(self):
        """What is opened once is open."""
        for hypervisor in self.warmed_up:
            self.client.destroy_domain(self.client.create_domain(self.net, hypervisor, self.disk, extra=self.extra(hypervisor)))
        self.client.destroy_network(self.client.create_network(["warm"])[0])

    def start(self):
        self.daemon.start(timeout=self.deadline)
        self.connect()

    def restart(self):
        self.daemon.kill()
        self.start()

    def start_killed(self, number):
        """Start a daemon that is killed at its number-th system call. Returns the Hit, or None when it has come to serve."""
        stopped = ["/bin/sh", "-c", 'kill -STOP $$; exec "$@"', "sh"]
        starting = threading.Thread(target=self._start_quietly, args=(stopped,))
        starting.start()
        process = self.wait_for_process()
        tracer = Tracer(self.tool, process.pid, "kill", number)
        with contextlib.suppress(ProcessLookupError):  # the tracer has waked it, and it has come to its end
            os.kill(process.pid, signal.SIGCONT)
        starting.join()
        return tracer.finish()

    def _start_quietly(self, prefix):
        with contextlib.suppress(RuntimeError):
            self.daemon.start(prefix=prefix)

    def wait_for_process(self):
        """The stopped process of a daemon that is being started."""
        def running():
            process = self.daemon.process
            return not process or Process(process.pid).state != "T"

        assert not self.wait_until(running)
        return self.daemon.process

    def close(self):
        self.client.destroy_domain(self.dom)
        self.client.destroy_network(self.net)
        self.client.close()
        return self.daemon.stop(self.deadline)

    # Judgement

    def picture(self):
        return Snapshot(self.daemon, self.base, [self.daemon.pid])

    def difference(self):
        """Lines: what is left, what is lost."""
        now = self.picture()
        lost = [f"LOST {line}" for line in self.baseline.left(now) if not line.startswith("descriptors ")]
        usage = self.client.usage()
        return now.left(self.baseline) + lost + ([] if usage == self.usage else [f"charges: {usage}"])

    def wait_until(self, condition, seconds=None):
        """condition() gives what is still wrong, nothing when all is well; what it gave last."""
        deadline = time.monotonic() + (seconds or self.deadline)
        while True:
            wrong = condition()
            if not wrong or time.monotonic() > deadline:
                return wrong
            time.sleep(0.005)

    def mine(self, tolerated=()):
        """What exists beside the bystanders, once nothing is on its way: ({network: state}, {domain: state})."""
        networks, domains = {}, {}

        def unsettled():
            nonlocal networks, domains
            networks, domains = self.client.objects()
            return [s for s in [*networks.values(), *domains.values()] if s not in (*WELL, *tolerated)]

        self.wait_until(unsettled)
        assert networks.pop(self.net, None) == "up", f"the bystander {self.net} is lost"
        assert domains.pop(self.dom, None) == "paused", f"the bystander {self.dom} is lost"
        return networks, domains

    def remove(self, destroy, name):
        """Also what is on its way already, because nobody waited for the answer."""
        def refused():
            try:
                destroy(name)
            except Refused as error:
                if "NotFound" not in str(error):
                    return error
            return None

        error = self.wait_until(refused)
        if error:
            raise error

    def check_network(self, name):
        """It is whole: its keeper holds it, a socket can be had in it."""
        fd = self.client.network(name, "Listen", "q", dbus.UInt16(0)).take()
        os.close(fd)

    def check_domain(self, name):
        """It is whole: its process is there, its console can be had."""
        Process(json.loads(str(self.client.domain(name, "Describe")))["pid"])
        os.close(self.client.domain(name, "OpenConsole").take())

    def listed(self):
        """Names of the networks and domains that clients see."""
        return {name for objects in self.client.objects() for name in objects} - {self.net, self.dom}

    def recorded(self):
        """Names of the networks and domains in the store."""
        tables = records(os.path.join(self.daemon.runtime_dir, "state.db"))
        return {row[0] for table in ("network", "domain") for row in tables.get(table, [])} - {self.net, self.dom}


class Operation:
    """set_up() before the tracer comes, run() under it: gives the name of what it made or destroyed. spares: how many
    users may have a spare keeper."""

    def __init__(self, title, creates, set_up, run, spares=0):
        self.title = title
        self.creates = creates
        self.set_up = set_up
        self.run = run
        self.spares = spares


def operations():
    """Of the four, those on domains with each kind of guest, and a network's creation also out of a spare keeper, while
    the next one is made."""
    def create_network(rig, _):
        return str(rig.client.create_network(["one", "two"])[0])

    def create_of_spare(rig, _):
        name = create_network(rig, _)
        rig.wait_until(rig.lacks_spare, 0.2)  # also of what makes the next one; it may have come to harm
        return name

    def destroy_network(rig, name):
        rig.client.destroy_network(name)
        return name

    def destroy_domain(rig, name):
        rig.client.destroy_domain(name)
        return name

    def create_domain(hypervisor):
        return lambda rig, _: rig.client.create_domain(rig.net, hypervisor, rig.disk)

    def talking_domain(rig, _):
        name = rig.client.create_domain(rig.net, "null", rig.disk)
        rig.client.domain(name, "Resume")
        rig.client.say(name, WORDS)
        return name

    nothing = lambda rig, _: None  # noqa: E731
    return [
        Operation("createNetwork", True, nothing, create_network),
        Operation("destroyNetwork", False, create_network, destroy_network),
        Operation("createNetwork spare", True, lambda rig, _: rig.make_spare(), create_of_spare, spares=1),
        Operation("createDomain null", True, nothing, create_domain("null")),
        Operation("destroyDomain null", False, talking_domain, destroy_domain),
        Operation("createDomain qemu", True, nothing, create_domain("qemu")),
        Operation("destroyDomain qemu", False, create_domain("qemu"), destroy_domain),
    ]


WORDS = b"last words\n"
WELL = ("up", "running", "paused")


class Point:
    """One run of an operation under the tracer, and what became of it."""

    def __init__(self, rig, operation, mode, number, act=lambda: None, only=None):
        self.rig = rig
        self.operation = operation
        self.mode = mode
        self.name = operation.set_up(rig, None)
        self.done = False
        self.error = None
        tracer = Tracer(rig.tool, rig.daemon.pid, mode, number, act, only)
        try:
            self.name = operation.run(rig, self.name)
            self.done = True
            rig.client.ping()  # until the daemon has nothing more to do for it
        except (Refused, Disconnected) as error:
            self.error = error
        self.hit = tracer.finish()
        self.calls = tracer.calls
        self.list = tracer.list

    def judge(self):
        """After the restart, or at once when the daemon lives: whole or not there, and removable. Gives complaints."""
        rig, creates, complaints = self.rig, self.operation.creates, []
        if self.error and not self.hit:
            complaints.append(f"nothing was done to it, and it failed: {self.error}")
        networks, domains = rig.mine(self._tolerated())
        found = {**networks, **domains}
        if self.done and creates and self.mode != "hold" and found.get(self.name) not in ("up", "paused"):
            complaints.append(f"{self.name} was created, and is not there: {found}")
        if self.done and not creates and self.name in found:
            complaints.append(f"{self.name} was destroyed, and is back: {found}")
        if len(found) > 1:
            complaints.append(f"too much is here: {found}")
        unrecorded = rig.wait_until(lambda: rig.recorded() ^ rig.listed())
        if unrecorded:
            complaints.append(f"not both recorded and listed: {unrecorded}")
        complaints += self._use(networks, domains)
        if "destroyDomain" in self.operation.title:
            complaints += self._check_end()
        return complaints + rig.wait_until(rig.difference)

    def _tolerated(self):
        """States that an object may stay in until it is destroyed (once more)."""
        if self.mode == "hold":
            return ("failed",)
        return ("destroying",) if self.mode == "fail" and self.error else ()

    def _use(self, networks, domains):
        rig = self.rig
        try:
            for name, state in domains.items():
                if state in WELL and self.mode != "hold":
                    rig.check_domain(name)
                rig.remove(rig.client.destroy_domain, name)
            for name, state in networks.items():
                if state in WELL and self.mode != "hold":
                    rig.check_network(name)
                rig.remove(rig.client.destroy_network, name)
        except (Refused, Disconnected, ProcessLookupError, FileNotFoundError) as error:
            return [f"what is there cannot be used or removed: {error!r}"]
        return []

    def _check_end(self):
        try:
            reason, log = self.rig.client.ended_log(self.name)
        except Refused as error:
            return [f"its end is not kept: {error}"]
        expected = ("destroyed", "crash") if self.mode == "hold" else ("destroyed",)
        complaints = [] if reason in expected else [f"its end is kept as {reason}"]
        if "null" in self.operation.title and WORDS not in log:
            complaints.append(f"its last words are lost: {log}")
        return complaints


def in_child(function, seconds=None):
    """Run it in a process of its own, which hides /dev/kvm and reaps its orphans; its number is returned, and what it
    raises is raised as a Failure. After those seconds it is ended, and the Failure says where it was; pytest's own
    faulthandler_timeout has to be off then, whose thread the process would wait for and has not."""
    with tempfile.TemporaryFile("w+", encoding="utf-8") as report:
        pid = os.fork()
        if pid == 0:
            try:
                os._exit(_run_in_child(function, report, seconds))
            finally:
                os._exit(2)
        _, status = os.waitpid(pid, 0)
        report.seek(0)
        if status != 0:
            raise Failure(report.read() or f"status {status}")
        return int(report.read())


def _run_in_child(function, report, seconds):
    status = 1
    if seconds:
        faulthandler.dump_traceback_later(seconds, exit=True, file=report)
    try:
        become_subreaper()
        hide_kvm()
        report.write(str(function()))
        status = 0
    except Failure as error:
        report.write(str(error))
    except BaseException:
        traceback.print_exc(file=report)
    report.flush()
    for process in processes_below().values():  # what a failure left running
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    return status
