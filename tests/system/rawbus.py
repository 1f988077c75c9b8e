"""A D-Bus client made of bytes: it says what no library would let it say. Only for what is sent; of an answer it
understands the header and the plain types.

Identities are those of the moment of connect(), which the test process, being root, can choose.
"""

import contextlib
import os
import select
import socket
import struct
import time

METHOD_CALL, METHOD_RETURN, ERROR, SIGNAL = 1, 2, 3, 4
PATH, INTERFACE, MEMBER, ERROR_NAME, REPLY_SERIAL, DESTINATION, SENDER, SIGNATURE, UNIX_FDS = range(1, 10)
FIELD_TYPES = {PATH: "o", INTERFACE: "s", MEMBER: "s", ERROR_NAME: "s", REPLY_SERIAL: "u", DESTINATION: "s", SENDER: "s",
               SIGNATURE: "g", UNIX_FDS: "u"}
FIXED = {"y": "B", "b": "I", "n": "h", "q": "H", "i": "i", "u": "I", "x": "q", "t": "Q", "d": "d", "h": "I"}
ALIGNMENT = {"y": 1, "b": 4, "n": 2, "q": 2, "i": 4, "u": 4, "x": 8, "t": 8, "d": 8, "h": 4, "s": 4, "o": 4, "g": 1,
             "v": 1, "a": 4, "(": 8, "{": 8}
BUS = ("/org/freedesktop/DBus", "org.freedesktop.DBus")


@contextlib.contextmanager
def identity(user):
    """Be that user for what the kernel notes of us."""
    os.setegid(user.gid)
    os.seteuid(user.uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


# ---- Writing ----


class Variant:
    """A value with its signature; inside of a "v" nothing else is taken."""

    def __init__(self, signature, value):
        self.signature = signature
        self.value = value

    def __repr__(self):
        return f"Variant({self.signature!r}, {self.value!r})"


def first_type(signature):
    """(the first complete type, the rest)"""
    if signature[0] == "a":
        inner, rest = first_type(signature[1:])
        return "a" + inner, rest
    if signature[0] in "({":
        depth = 0
        for i, c in enumerate(signature):
            depth += (c in "({") - (c in ")}")
            if depth == 0:
                return signature[:i + 1], signature[i + 1:]
    return signature[0], signature[1:]


def all_types(signature):
    types = []
    while signature:
        one, signature = first_type(signature)
        types.append(one)
    return types


def pad(data, alignment):
    data.extend(b"\0" * (-len(data) % alignment))


def put(data, signature, value):
    """Append one value of one complete type to a bytearray that begins at an aligned place."""
    kind = signature[0]
    pad(data, ALIGNMENT[kind])
    if kind in FIXED:
        data += struct.pack("<" + FIXED[kind], value)
    elif kind in "so":
        text = value if isinstance(value, bytes) else value.encode()
        data += struct.pack("<I", len(text)) + text + b"\0"
    elif kind == "g":
        data += bytes([len(value)]) + value.encode() + b"\0"
    elif kind == "v":
        put(data, "g", value.signature)
        put(data, value.signature, value.value)
    elif kind == "a":
        put_array(data, signature[1:], value)
    else:
        for one, item in zip(all_types(signature[1:-1]), value):
            put(data, one, item)


def put_array(data, inner, value):
    at = len(data)
    data += b"\0\0\0\0"
    pad(data, ALIGNMENT[inner[0]])
    start = len(data)
    for item in value.items() if isinstance(value, dict) else value:
        put(data, inner, item)
    data[at:at + 4] = struct.pack("<I", len(data) - start)


def body_of(signature, values):
    data = bytearray()
    for one, value in zip(all_types(signature), values):
        put(data, one, value)
    return bytes(data)


def message(kind, serial, fields, body=b"", flags=0, endian=b"l", version=1, length=None, raw_fields=b""):
    """The bytes of a message. length, version and raw_fields are for lies."""
    data = bytearray(endian + bytes([kind, flags, version]))
    data += struct.pack("<II", len(body) if length is None else length, serial)
    put(data, "a(yv)", [(code, Variant(FIELD_TYPES[code], value)) for code, value in fields.items()])
    if raw_fields:
        pad(data, 8)
        data += raw_fields
        data[12:16] = struct.pack("<I", len(data) - 16)
    pad(data, 8)
    return bytes(data) + body


# ---- The connection ----


class Message:
    def __init__(self, kind, serial, fields, body):
        self.kind = kind
        self.serial = serial
        self.fields = fields
        self.body = body

    @property
    def error(self):
        """Short as CallError's; None for what is no error."""
        return self.fields.get(ERROR_NAME, "").removeprefix("com.googlecode.debmarshal.Error.") or None

    def text(self):
        """The string that the body begins with."""
        (length,) = struct.unpack_from("<I", self.body)
        return self.body[4:4 + length].decode()

    def __repr__(self):
        return f"Message({self.kind}, {self.fields})"


def read_fields(data):
    fields, at = {}, 0
    while at < len(data):
        at += -at % 8
        code, length = data[at], data[at + 1]
        kind = data[at + 2:at + 2 + length].decode()
        at += 3 + length
        at += -at % ALIGNMENT[kind]
        if kind == "u":
            (fields[code],) = struct.unpack_from("<I", data, at)
            at += 4
        else:
            (size,) = struct.unpack_from("<I", data, at) if kind != "g" else (data[at],)
            at += 1 if kind == "g" else 4
            fields[code] = data[at:at + size].decode()
            at += size + 1
    return fields


class Closed(Exception):
    """The other side has closed the connection."""


class RawBus:
    """A connection to the daemon's own socket (peer), or to a bus. Not authenticated before authenticate()."""

    def __init__(self, path, user, peer=True, receive_buffer=None):
        self.user = user
        self.peer = peer
        self.serial = 0
        self.buffer = b""
        self.unique_name = None
        self.socket = socket.socket(socket.AF_UNIX)
        if receive_buffer:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(20)
        with identity(user):
            self.socket.connect(path)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    def close(self):
        self.socket.close()

    def send(self, data, fds=()):
        """Closed, when nobody takes it any more."""
        try:
            if fds:
                socket.send_fds(self.socket, [data], list(fds))
            else:
                self.socket.sendall(data)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise Closed from error

    def line(self):
        """One line of the authentication."""
        while b"\r\n" not in self.buffer:
            self._more(10)
        line, _, self.buffer = self.buffer.partition(b"\r\n")
        return line

    def authenticate(self):
        self.send(b"\0AUTH EXTERNAL " + str(self.user.uid).encode().hex().encode() + b"\r\n")
        assert self.line().startswith(b"OK ")
        self.send(b"NEGOTIATE_UNIX_FD\r\n")
        assert self.line() == b"AGREE_UNIX_FD"
        self.send(b"BEGIN\r\n")
        if not self.peer:
            answer = self.answer(self.call(*BUS, "Hello", destination=BUS[1]))
            self.unique_name = answer.text()
        return self

    def call_bytes(self, path, interface, member, signature="", *values, destination=None, n_fds=0, flags=0, body=None):
        self.serial += 1
        fields = {PATH: path, INTERFACE: interface, MEMBER: member}
        if not self.peer:
            fields[DESTINATION] = destination or "com.googlecode.debmarshal"
        if signature:
            fields[SIGNATURE] = signature
        if n_fds:
            fields[UNIX_FDS] = n_fds
        return message(METHOD_CALL, self.serial, fields, body_of(signature, values) if body is None else body, flags)

    def call(self, path, interface, member, signature="", *values, fds=(), **options):
        """Send a call; its serial."""
        self.send(self.call_bytes(path, interface, member, signature, *values, n_fds=len(fds), **options), fds)
        return self.serial

    def _more(self, timeout):
        if not select.select([self.socket], [], [], timeout)[0]:
            raise TimeoutError(f"no answer on the {'socket' if self.peer else 'bus'} within {timeout:.1f} s")
        try:
            data, fds, _, _ = socket.recv_fds(self.socket, 1 << 16, 253)
        except ConnectionResetError as error:
            raise Closed from error
        for fd in fds:
            os.close(fd)
        if not data:
            raise Closed
        self.buffer += data

    def _parse(self):
        if len(self.buffer) < 16:
            return None
        _, kind, _, _, body, serial, fields = struct.unpack_from("<BBBBIII", self.buffer)
        start = 16 + fields + -fields % 8
        if len(self.buffer) < start + body:
            return None
        data, self.buffer = self.buffer[:start + body], self.buffer[start + body:]
        return Message(kind, serial, read_fields(data[16:16 + fields]), data[start:])

    def receive(self, timeout=10):
        """The next message; its descriptors are closed."""
        deadline = time.monotonic() + timeout
        while True:
            parsed = self._parse()
            if parsed:
                return parsed
            self._more(max(0, deadline - time.monotonic()))

    def answer(self, serial, timeout=10):
        """The answer to a call; whatever comes before is dropped."""
        while True:
            received = self.receive(timeout)
            if received.fields.get(REPLY_SERIAL) == serial:
                return received

    def closes(self, timeout):
        """Whether the other side closes the connection within the time, whatever it says before. Without any time: whether
        it has."""
        deadline = time.monotonic() + timeout
        try:
            while True:
                self.buffer = b""
                self._more(max(0, deadline - time.monotonic()))
        except TimeoutError:
            return False
        except Closed:
            return True
