"""A client of the broker: a process of its own that is a certain user, connected by python3-dbus.

The process does what it is told over a socket, several calls at once if need be; descriptors in answers come along.
"""

import array
import itertools
import os
import pickle
import signal
import socket
import struct
import sys
import time
import traceback
from collections import deque

BUS_NAME = "com.googlecode.debmarshal"
ROOT_PATH = "/com/googlecode/debmarshal"
PRIVOPS_PATH = ROOT_PATH + "/Privops"
PRIVOPS = BUS_NAME + ".Privops"
MANAGER = BUS_NAME + ".Manager"
NETWORK = BUS_NAME + ".Network"
DOMAIN = BUS_NAME + ".Domain"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECT_MANAGER = "org.freedesktop.DBus.ObjectManager"
INTROSPECTABLE = "org.freedesktop.DBus.Introspectable"

FDS_MAX = 32


class CallError(Exception):
    """The error that a call was answered with. `name` is short for the broker's own ones: "InvalidInput"."""

    PREFIX = BUS_NAME + ".Error."

    def __init__(self, name, message):
        self.name = name[len(self.PREFIX):] if name.startswith(self.PREFIX) else name
        self.message = message
        super().__init__(f"{self.name}: {message}")


def path_label(name):
    """What sd_bus_path_encode() makes of it."""
    keep = [c if c.isascii() and c.isalnum() and not (i == 0 and c.isdigit()) else None for i, c in enumerate(name)]
    return "".join(k or "".join(f"_{b:02x}" for b in c.encode()) for k, c in zip(keep, name)) or "_"


def network_path(name):
    return f"{ROOT_PATH}/network/{path_label(name)}"


def domain_path(name):
    return f"{ROOT_PATH}/domain/{path_label(name)}"


class _Fd:
    """Stands for the index-th descriptor that came with a message."""

    def __init__(self, index):
        self.index = index


class Pending:
    """A call under way."""

    def __init__(self, caller, number):
        self._caller = caller
        self._number = number

    def result(self, timeout=60):
        return self._caller._result(self._number, timeout)


class Caller:
    """address: of a bus, or (peer) of the broker's own socket."""

    def __init__(self, user, address, peer=False):
        self.user = user
        self._address = address
        self._peer = peer
        self._open()

    def _open(self):
        self._numbers = itertools.count()
        self._answers = {}
        self._buffer = b""
        self._fds = []
        self._socket, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        sys.stdout.flush()
        sys.stderr.flush()
        self.pid = os.fork()
        if self.pid == 0:
            _serve(self.user, self._address, self._peer, theirs)
        theirs.close()
        status, value = self._result(next(self._numbers), 20, raw=True)
        if status != "ok":
            self.close()
            raise ConnectionError(f"{self.user} cannot connect: {value}")

    # The connection

    def close(self):
        """End the process, as a client that leaves in good order or, for the bus, one that is killed."""
        if self.pid:
            self._socket.close()
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            self.pid = 0

    def reconnect(self):
        """A new process with a new connection."""
        self.close()
        self._open()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    # Calls

    def start(self, path, interface, method, signature="", *args, timeout=60):
        """Send a call; its Pending gives the answer."""
        number = self._send("call", (path, interface, method, signature, args, timeout))
        return Pending(self, number)

    def call(self, path, interface, method, signature="", *args, timeout=60):
        """The answer: None, a value, or a tuple of several. Raises CallError."""
        return self.start(path, interface, method, signature, *args, timeout=timeout).result(timeout + 10)

    def wait_until_served(self, timeout=10):
        """The daemon may take its name on the bus a moment after it is ready."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                return self.call(ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping")
            except CallError as error:
                if not error.name.endswith(("ServiceUnknown", "NameHasNoOwner")) or time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def get(self, path, interface, name):
        return self.call(path, PROPERTIES, "Get", "ss", interface, name)

    def get_all(self, path, interface):
        return self.call(path, PROPERTIES, "GetAll", "s", interface)

    def introspect(self, path):
        return self.call(path, INTROSPECTABLE, "Introspect")

    def take_signals(self, until=None, timeout=5):
        """The signals that came since the last time: (path, interface, member, arguments). With until, a predicate on
        one signal, wait until one fits."""
        seen, deadline = [], time.monotonic() + timeout
        while True:
            new = self._result(self._send("signals", ()), 20)
            seen += new
            if until is None or any(until(s) for s in new):
                return seen
            if time.monotonic() > deadline:
                raise AssertionError(f"the signal did not come; these did: {seen}")
            time.sleep(0.02)

    # Privops

    def create_network(self, hosts, **options):
        return self.call(PRIVOPS_PATH, PRIVOPS, "createNetwork", "as", list(hosts), **options)

    def destroy_network(self, name):
        return self.call(PRIVOPS_PATH, PRIVOPS, "destroyNetwork", "s", name)

    def create_domain(self, network, memory="64M", disks=(), mac="", hypervisor="", arch="", extra=None, **options):
        return self.start_domain(network, memory, disks, mac, hypervisor, arch, extra, **options).result()

    def start_domain(self, network, memory="64M", disks=(), mac="", hypervisor="", arch="", extra=None, **options):
        return self.start(PRIVOPS_PATH, PRIVOPS, "createDomain", "sasssssa{sv}", memory, list(disks), network, mac,
                          hypervisor, arch, dict(extra or {}), **options)

    def destroy_domain(self, name, hypervisor=""):
        return self.call(PRIVOPS_PATH, PRIVOPS, "destroyDomain", "ss", name, hypervisor)

    # Objects

    def manager(self, method, signature="", *args, **options):
        return self.call(ROOT_PATH, MANAGER, method, signature, *args, **options)

    def usage(self):
        """What its user holds of all that is limited."""
        return dict(self.manager("GetUsage")).get(self.user.uid, {})

    def network(self, name, method, signature="", *args, **options):
        return self.call(network_path(name), NETWORK, method, signature, *args, **options)

    def domain(self, name, method, signature="", *args, **options):
        return self.call(domain_path(name), DOMAIN, method, signature, *args, **options)

    def objects(self):
        return self.call(ROOT_PATH, OBJECT_MANAGER, "GetManagedObjects")

    def _named(self, interface):
        return sorted(o[interface]["Name"] for o in self.objects().values() if interface in o)

    def network_names(self):
        return self._named(NETWORK)

    def domain_names(self):
        return self._named(DOMAIN)

    # Messages to and from the process

    def _send(self, kind, content):
        number = next(self._numbers)
        data = pickle.dumps((number, kind, content))
        self._socket.sendall(struct.pack("=I", len(data)) + data)
        return number

    def _receive(self, timeout):
        self._socket.settimeout(timeout)
        while True:
            if len(self._buffer) >= 8:
                length, n_fds = struct.unpack("=II", self._buffer[:8])
                if len(self._buffer) >= 8 + length:
                    data, self._buffer = self._buffer[8:8 + length], self._buffer[8 + length:]
                    fds, self._fds = self._fds[:n_fds], self._fds[n_fds:]
                    return pickle.loads(data), fds
            data, fds, _, _ = socket.recv_fds(self._socket, 1 << 16, FDS_MAX)
            if not data:
                raise ConnectionError(f"the client process of {self.user} has ended")
            self._buffer += data
            self._fds += fds

    def _result(self, number, timeout, raw=False):
        while number not in self._answers:
            (answered, status, value), fds = self._receive(timeout)
            self._answers[answered] = (status, _with_fds(value, fds))
        status, value = self._answers.pop(number)
        if raw:
            return status, value
        if status == "error":
            raise CallError(*value)
        if status == "failed":
            raise RuntimeError(value)
        return value


def _with_fds(value, fds):
    if isinstance(value, _Fd):
        return fds[value.index]
    if isinstance(value, (list, tuple)):
        return type(value)(_with_fds(v, fds) for v in value)
    if isinstance(value, dict):
        return {k: _with_fds(v, fds) for k, v in value.items()}
    return value


# What follows runs in the client process.


def _serve(user, address, peer, channel):
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        keep = channel.fileno()
        os.closerange(3, keep)
        os.closerange(keep + 1, 4096)
        os.setgroups([])
        os.setresgid(user.gid, user.gid, user.gid)
        os.setresuid(user.uid, user.uid, user.uid)
        _Server(channel).run(address, peer)
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


class _Server:
    def __init__(self, channel):
        self.channel = channel
        self.connection = None
        self.destination = None
        self.signals = deque(maxlen=100000)
        self.buffer = b""

    def run(self, address, peer):
        from dbus.mainloop.glib import DBusGMainLoop
        from gi.repository import GLib

        self.loop = GLib.MainLoop()
        try:
            self.connect(address, peer, DBusGMainLoop())
        except Exception as error:
            self.answer(0, "failed", str(error))
            return
        self.answer(0, "ok", None)
        GLib.io_add_watch(self.channel.fileno(), GLib.IO_IN | GLib.IO_HUP, self.readable)
        self.loop.run()

    def connect(self, address, peer, mainloop):
        import dbus.bus
        import dbus.connection

        if peer:
            self.connection = dbus.connection.Connection(address, mainloop=mainloop)
        else:
            self.connection = dbus.bus.BusConnection(address, mainloop=mainloop)
            self.destination = BUS_NAME
            self.connection.add_match_string_non_blocking(f"type='signal',sender='{BUS_NAME}'")
        self.connection.set_exit_on_disconnect(False)
        self.connection.add_message_filter(self.filter)

    def filter(self, _, message):
        from _dbus_bindings import HANDLER_RESULT_NOT_YET_HANDLED, SignalMessage

        if isinstance(message, SignalMessage):
            values = [_plain(a, []) for a in message.get_args_list()]
            self.signals.append((message.get_path(), message.get_interface(), message.get_member(), values))
        return HANDLER_RESULT_NOT_YET_HANDLED

    def readable(self, *_):
        data = self.channel.recv(1 << 20)
        if not data:
            self.loop.quit()
            return False
        self.buffer += data
        while len(self.buffer) >= 4:
            (length,) = struct.unpack("=I", self.buffer[:4])
            if len(self.buffer) < 4 + length:
                break
            message, self.buffer = self.buffer[4:4 + length], self.buffer[4 + length:]
            self.handle(*pickle.loads(message))
        return True

    def handle(self, number, kind, content):
        if kind == "signals":
            self.answer(number, "ok", list(self.signals))
            self.signals.clear()
            return
        path, interface, method, signature, args, timeout = content
        try:
            self.connection.call_async(
                self.destination, path, interface, method, signature, args,
                lambda *values: self.answer(number, "ok", values[0] if len(values) == 1 else values or None),
                lambda error: self.answer(number, "error", (error.get_dbus_name(), error.get_dbus_message())),
                timeout=timeout)
        except Exception as error:
            self.answer(number, "failed", f"{type(error).__name__}: {error}")

    def answer(self, number, status, value):
        fds = []
        data = pickle.dumps((number, status, _plain(value, fds)))
        header = struct.pack("=II", len(data), len(fds))
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        self.channel.sendmsg([header], rights)
        self.channel.sendall(data)
        for fd in fds:
            os.close(fd)


def _plain(value, fds):
    """Without D-Bus types, so that it can be pickled and compared."""
    import dbus

    if isinstance(value, dbus.types.UnixFd):
        fds.append(value.take())
        return _Fd(len(fds) - 1)
    if isinstance(value, dbus.Boolean):
        return bool(value)
    if isinstance(value, dbus.ByteArray):
        return bytes(value)
    if isinstance(value, dict):
        return {_plain(k, fds): _plain(v, fds) for k, v in value.items()}
    if isinstance(value, tuple):
        return tuple(_plain(v, fds) for v in value)
    if isinstance(value, list):
        return [_plain(v, fds) for v in value]
    for kind in (bool, int, float, str):
        if isinstance(value, kind):
            return kind(value)
    return value
