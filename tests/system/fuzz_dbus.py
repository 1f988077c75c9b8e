"""A fuzzer of the D-Bus interfaces, driven by introspection: it calls what the daemon says can be called, and some more.

A batch is a connection, over the daemon's own socket or over the bus, and some calls on it, most of them not waited for:
of the right signature with values that are plausible, at a limit or absurd, of a wrong signature, of no sense at all,
and sometimes with a few bytes changed. All that a seed decides is the same in each run with it; what the daemon answers
when is not.
"""

import os
import random
import string
import time
import xml.etree.ElementTree as ElementTree

from caller import DOMAIN, MANAGER, NETWORK, PRIVOPS, PROPERTIES, ROOT_PATH, domain_path, network_path
from rawbus import METHOD_RETURN, REPLY_SERIAL, Closed, RawBus, Variant, all_types, message

PREFIX = "org.freedesktop.DBus.Error."
# What a caller may be told; anything else is a finding. "Internal" is: it means that the daemon did not know.
EXPECTED = {"InvalidInput", "AccessDenied", "NetworkNotFound", "DomainNotFound", "NetworkInUse", "NoAvailableIPs",
            "QuotaExceeded", "NotSupported", "HypervisorFailed", "NetworkFailed", "Timeout", "Busy", "InvalidState",
            "ConnectionFailed"} | {PREFIX + n for n in (
                "InvalidArgs", "UnknownMethod", "UnknownObject", "UnknownInterface", "UnknownProperty",
                "PropertyReadOnly", "AccessDenied", "InvalidSignature", "NoReply", "LimitsExceeded", "InconsistentMessage",
                "ServiceUnknown", "NotSupported", "NameHasNoOwner", "MatchRuleInvalid", "InvalidFileContent")}

STRINGS = ["", " ", "a", "-", "--help", "-S", "a,b=c", "a\nb", "a\r\n", "%s%n%d", "%", "../../etc/shadow", "/", "/etc/shadow",
           "/proc/self/mem", "/dev/null", "/dev/zero", "json:{}", "nbd:localhost:1", "x" * 63, "x" * 64, "x" * 255,
           "x" * 4096, "\x01", "\x7f", "\u00e9", "\u202e", "\U0001f427", "\ufffe", "$(id)", "`id`", "'", '"', "\\", "\\n",
           "0", "-1", "00", "4294967296", "18446744073709551616", "true", "null", "localhost", "127.0.0.1", "::1",
           "0.0.0.0", "255.255.255.255", "fe80::1%lo", "debmarshal-0", "debmarshal-1", "debmarshal-00",
           "debmarshal-2147483647", "debmarshal-2147483648", "debmarshal-", "gateway", "com.googlecode.debmarshal",
           "org.freedesktop.DBus", ":1.1", "root", "net0", "br0", "lo", "tap0", "all", "any"]
MEMORY = ["1M", "2M", "16M", "64M", "0M", "1", "1k", "1025k", "1G", "16777215T", "-1M", "1.5M", "999999999999999999999M"]
NUMBERS = {"y": 8, "q": 16, "u": 32, "t": 64, "n": -16, "i": -32, "x": -64}
KEYS = ["kernel", "initrd", "cmdline", "on_poweroff", "on_reboot", "vcpus", "firmware", "disk_formats", "nics", "paused", "stubdomain",
        "vnc_password", "subnet", "ipv6"]
GOOD_FILES = 7
CMDLINES = ["fail=exec", "fail=record", "fail=start", "poweroff-after-ms=5", "reboot-after-ms=5", "crash-after-ms=5",
            "die-after-ms=5", "delay-ms=20", "quiet", ""]


class Finding(Exception):
    """What must not happen."""


class Values:
    """Random values of any type. names: what exists, the fuzz user's and others'; own: her networks; files: hers."""

    def __init__(self, rng, files):
        self.rng = rng
        self.files = files
        self.names = ["debmarshal-0"]
        self.own = []

    def text(self):
        dice = self.rng.random()
        if dice < 0.35:
            return self.rng.choice(STRINGS)
        if dice < 0.6:
            return self.rng.choice(self.names)
        if dice < 0.7:
            return self.rng.choice(self.files)
        if dice < 0.72:
            return self.rng.choice("ax/\n\u00e9") * self.rng.choice([1000, 65536, 300000])
        alphabet = self.rng.choice([string.ascii_letters + string.digits + "-", string.printable, "\x01\x1f,=%\u20ac\U0001f427"])
        return "".join(self.rng.choice(alphabet) for _ in range(self.rng.randrange(12)))

    def number(self, kind):
        bits = NUMBERS[kind]
        low, high = (0, (1 << bits) - 1) if bits > 0 else (-(1 << -bits - 1), (1 << -bits - 1) - 1)
        return self.rng.choice([0, 1, 2, low, high, high - 1, min(high, 22), min(high, 65535), self.rng.randint(low, high)])

    def count(self):
        return self.rng.choice([0, 1, 1, 2, 3, 5])

    def of(self, kind, depth=0):
        """One value of a complete type."""
        first = kind[0]
        if first in NUMBERS:
            return self.number(first)
        if first == "b":
            return self.rng.randrange(2)
        if first == "d":
            return self.rng.choice([0.0, -1.5, float("inf"), float("nan"), 1e308])
        if first == "s":
            return self.text()
        if first == "o":
            return self.path()
        if first == "g":
            return self.signature(depth)
        if first == "h":
            return self.rng.choice([0, 1, 4294967295])
        if first == "v":
            inner = self.one_type(depth + 1)
            return Variant(inner, self.of(inner, depth + 1))
        if first == "a":
            items = [self.of(kind[1:], depth + 1) for _ in range(self.count())]
            return items if not kind.startswith("as") or self.rng.random() > 0.02 else items * 500 or ["x"] * 5000
        return [self.of(one, depth + 1) for one in all_types(kind[1:-1])]

    def one_type(self, depth):
        """A random complete type."""
        dice = self.rng.random()
        if depth > 3 or dice < 0.7:
            return self.rng.choice("ybnqiuxtdsog" + "s" * 6)
        if dice < 0.8:
            return "a" + self.one_type(depth + 1)
        if dice < 0.9:
            return "(" + "".join(self.one_type(depth + 1) for _ in range(self.rng.randint(1, 3))) + ")"
        return self.rng.choice(["v", "a{sv}", "av", "as"])

    def signature(self, depth=0):
        return "".join(self.one_type(depth) for _ in range(self.rng.randrange(4)))

    def path(self):
        name = self.rng.choice(self.names)
        return self.rng.choice(["/", ROOT_PATH, ROOT_PATH + "/Privops", ROOT_PATH + "/network", ROOT_PATH + "/domain",
                                network_path(name), domain_path(name), "/x/y", ROOT_PATH + "/network/x_2d"])

    # What would do something, by the argument's name

    def host(self):
        return self.rng.choice(["a", "b", "web", "db-1", f"h{self.rng.randrange(50)}"])

    def network(self):
        return self.rng.choice(self.own if self.own and self.rng.random() < 0.8 else self.names)

    def disk(self):
        return self.rng.choice(self.files[:GOOD_FILES] if self.rng.random() < 0.8 else self.files)

    def extra(self):
        kinds = {
            "cmdline": lambda: Variant("s", self.rng.choice(CMDLINES)),
            "on_poweroff": lambda: Variant("s", self.rng.choice(["destroy", "restart"])),
            "on_reboot": lambda: Variant("s", self.rng.choice(["destroy", "restart"])),
            "vcpus": lambda: Variant("u", self.rng.choice([0, 1, 2, 65])),
            "firmware": lambda: Variant("s", self.rng.choice(["bios", "uefi"])),
            "disk_formats": lambda: Variant("as", [self.rng.choice(["raw", "qcow2", "raw:ro", "qcow2:ro"])]),
            "nics": lambda: Variant("as", [self.rng.choice(self.names)]),
            "paused": lambda: Variant("b", self.rng.randrange(2)),
            "stubdomain": lambda: Variant("b", self.rng.randrange(2)),
            "vnc_password": lambda: Variant("s", "secret,x"),
        }
        chosen = {k: kinds[k]() for k in self.rng.sample(sorted(kinds), self.rng.randrange(4))}
        if self.rng.random() < 0.4:
            chosen |= {"kernel": Variant("s", self.disk()), "initrd": Variant("s", self.disk())}
        if self.rng.random() < 0.15:
            chosen[self.rng.choice([*KEYS, self.text()])] = self.of("v")
        return chosen

    def plausible(self, argument, kind):
        makers = {
            "hosts": lambda: list(dict.fromkeys(self.host() for _ in range(self.count()))),
            "memory": lambda: self.rng.choice(MEMORY),
            "disks": lambda: [self.disk() for _ in range(self.rng.choice([0, 1, 1, 1, 2]))],
            "network": self.network,
            "name": lambda: self.rng.choice(self.names),
            "mac": lambda: self.rng.choice(["", "", "00:16:3e:00:00:01", "00:16:3e:11:22:33", "02:00:00:00:00:01"]),
            "hypervisor": lambda: self.rng.choice(["null"] * 9 + ["qemu", ""]),
            "arch": lambda: self.rng.choice(["", "", "", "x86_64", "amd64", "z80"]),
            "extra": self.extra,
            "options": lambda: self.rng.choice([{}, {"ipv6": Variant("s", "none")}, {"ipv6": Variant("s", "dhcp")},
                                                {"subnet": Variant("s", "192.168.5.0/24")}]),
            "host": lambda: self.rng.choice([self.host(), "127.0.0.1", "10.64.0.1", "::1"]),
            "port": lambda: self.rng.choice([0, 1, 53, 80, 65535]),
            "device": lambda: self.rng.choice(["", "net0", "lo", "tap0"]),
            "timeout_usec": lambda: self.rng.choice([0, 1, 1000, 50000, 2**64 - 1]),
        }
        return makers[argument]() if argument in makers else self.of(kind)


class Fuzzer:
    """socket: the daemon's own; bus: that of the bus daemon. user has files to make domains of."""

    def __init__(self, seed, user, socket, bus, files):
        self.rng = random.Random(seed)
        self.values = Values(self.rng, files)
        self.user = user
        self.socket = socket
        self.bus = bus
        self.calls = self.answers = self.results = self.batches = 0
        self.errors = {}
        self.methods = {}     # interface -> [(method, [(argument, type)])]
        self.properties = {}  # interface -> [name]
        self.objects = {}     # path -> [interface]

    def connect(self):
        peer = self.rng.random() < 0.6
        return RawBus(self.socket if peer else self.bus, self.user, peer=peer,
                      receive_buffer=self.rng.choice([None, None, 4096])).authenticate()

    # What there is

    def learn(self, names, own):
        """Read the whole tree; names: of all the networks and domains, whoever's; own: of the fuzz user's networks."""
        self.values.names = names or ["debmarshal-0"]
        self.values.own = own
        self.objects = {}
        with self._connect_in_the_end() as connection:
            todo = [ROOT_PATH]
            while todo:
                todo += self._learn_object(connection, todo.pop())

    def _connect_in_the_end(self):
        """She may have as many connections as she is allowed, while the daemon has not come to see that most are closed."""
        deadline = time.monotonic() + 20
        while True:
            try:
                return RawBus(self.socket, self.user).authenticate()
            except Closed:
                if time.monotonic() > deadline:
                    raise
            time.sleep(0.01)

    def _learn_object(self, connection, path):
        answer = connection.answer(connection.call(path, "org.freedesktop.DBus.Introspectable", "Introspect"))
        if answer.kind != METHOD_RETURN:
            return []  # it has gone
        tree = ElementTree.fromstring(answer.text())
        for interface in tree.findall("interface"):
            name = interface.get("name")
            self.objects.setdefault(path, []).append(name)
            self.methods[name] = [(m.get("name"), [(a.get("name"), a.get("type")) for a in m.findall("arg")
                                                   if a.get("direction") != "out"]) for m in interface.findall("method")]
            self.properties[name] = [p.get("name") for p in interface.findall("property")]
        return [f"{path}/{node.get('name')}" for node in tree.findall("node")]

    # One batch

    def batch(self, calls=20):
        self.batches += 1
        try:
            with self.connect() as connection:
                self.in_order = True  # what is sent next is a message to the daemon, too
                for _ in range(self.rng.randint(1, calls)):
                    self.call(connection)
                if self.in_order and self.rng.random() < 0.7:
                    self.collect(connection)
        except Closed:
            pass  # they may: some of what is sent is no D-Bus

    def call(self, connection):
        self.calls += 1
        path, interface, method, signature, values = self.choose()
        if self.rng.random() < 0.08:  # another signature
            signature = self.values.signature()
            values = [self.values.of(one) for one in all_types(signature)]
        body = None
        if self.rng.random() < 0.03:  # a body that is not of its signature
            body = self.rng.randbytes(self.rng.randrange(64))
        data = connection.call_bytes(path, interface, method, signature, *values, body=body,
                                     flags=self.rng.choice([0] * 9 + [1]))
        if connection.peer and self.rng.random() < 0.03:
            data = self.damaged(data)
            self.in_order = False
        connection.send(data)
        if self.rng.random() < 0.3:
            self.drain(connection)

    def damaged(self, data):
        data = bytearray(data)
        for _ in range(self.rng.randint(1, 4)):
            data[self.rng.randrange(len(data))] = self.rng.randrange(256)
        if self.rng.random() < 0.2:
            return message(self.rng.randrange(6), self.rng.choice([0, 1, 2**32 - 1]), {REPLY_SERIAL: 1})
        return bytes(data)

    def choose(self):
        """(path, interface, method, signature, values) of a call."""
        if self.rng.random() < 0.12:
            return self.choose_property()
        if self.rng.random() < 0.25:  # what creates, or there would be nothing to fuzz
            path, interface = ROOT_PATH + "/Privops", PRIVOPS
        else:
            path = self.rng.choice(sorted(self.objects))
            interface = self.rng.choice(self.objects[path])
        methods = self.methods[interface]
        if not methods:
            return path, interface, "None", "", []
        method, arguments = self.rng.choice(methods)
        plausible = self.rng.random() < 0.7
        values = [self.values.plausible(name, kind) if plausible and self.rng.random() < 0.95 else self.values.of(kind)
                  for name, kind in arguments]
        if self.rng.random() < 0.05:
            path = self.values.path()
        if self.rng.random() < 0.02:
            method = "No" + method
        return path, interface, method, "".join(kind for _, kind in arguments), values

    def choose_property(self):
        path = self.rng.choice(sorted(self.objects))
        interface = self.rng.choice([*self.objects[path], MANAGER, NETWORK, DOMAIN, "", "x.y"])
        name = self.rng.choice([*self.properties.get(interface, []), "Name", "None", self.values.text()])
        return self.rng.choice([
            (path, PROPERTIES, "Get", "ss", [interface, name]),
            (path, PROPERTIES, "GetAll", "s", [interface]),
            (path, PROPERTIES, "Set", "ssv", [interface, name, self.values.of("v")]),
        ])

    # The answers

    def judge(self, received):
        if REPLY_SERIAL not in received.fields:
            return
        self.answers += 1
        if received.error is None:
            self.results += 1
            return
        self.errors[received.error] = self.errors.get(received.error, 0) + 1
        # The null driver's words for failing on purpose are among the values.
        if received.error not in EXPECTED and "was told to fail" not in received.text():
            raise Finding(f"{received.error}: {received.text()}")

    def drain(self, connection):
        """What has come."""
        try:
            while True:
                self.judge(connection.receive(0))
        except TimeoutError:
            pass

    def collect(self, connection):
        """Answers until that to a ping: what was asked before and needs no waiting is answered by then."""
        serial = connection.call(ROOT_PATH, "org.freedesktop.DBus.Peer", "Ping")
        while True:
            received = connection.receive(20)
            self.judge(received)
            if received.fields.get(REPLY_SERIAL) == serial:
                return

    def summary(self):
        told = ", ".join(f"{n} {name.removeprefix(PREFIX)}" for name, n in sorted(self.errors.items(), key=lambda e: -e[1]))
        return (f"{self.batches} connections, {self.calls} calls, {self.answers} answers, {self.results} of them results; "
                f"errors: {told}")


def files_of(user):
    """What domains can be made of, and what they cannot."""
    good = [user.disk(f"fuzz{n}.img") for n in range(GOOD_FILES - 1)] + [user.file("fuzz-boot", b"boot")]
    return good + [user.disk("fuzz,a=b\n.img"), user.disk("unreadable.img", mode=0), user.home,
                   os.path.join(user.home, "none")]
