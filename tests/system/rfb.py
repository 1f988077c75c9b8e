"""The first words of the RFB protocol (RFC 6143), as a VNC viewer says them."""

import socket
import struct
import subprocess

SECURITY_NONE, SECURITY_VNC = 1, 2


class Refused(Exception):
    """The server does not want this viewer."""


class Viewer:
    """fd: a connected stream socket. Goes as far as knowing the size and the name of the screen."""

    def __init__(self, fd, password=None):
        self.socket = socket.socket(fileno=fd)
        self.socket.settimeout(10)
        try:
            self._handshake(password)
        except BaseException:
            self.socket.close()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.socket.close()

    def read(self, length):
        data = b""
        while len(data) < length:
            chunk = self.socket.recv(length - len(data))
            if not chunk:
                raise ConnectionError(f"the end after {data!r}")
            data += chunk
        return data

    def _handshake(self, password):
        self.version = self.read(12)
        self.socket.sendall(b"RFB 003.008\n")
        self.security_types = set(self.read(self.read(1)[0]))
        wanted = SECURITY_NONE if password is None else SECURITY_VNC
        if wanted not in self.security_types:
            raise Refused(f"security types {self.security_types}")
        self.socket.sendall(bytes([wanted]))
        if password is not None:
            self.socket.sendall(vnc_response(self.read(16), password))
        if self.read(4) != bytes(4):
            raise Refused(self.read(struct.unpack(">I", self.read(4))[0]).decode())
        self.socket.sendall(b"\1")  # others may look too
        self.width, self.height = struct.unpack(">HH", self.read(4))
        self.read(16)
        self.name = self.read(struct.unpack(">I", self.read(4))[0]).decode()


def vnc_response(challenge, password):
    """The challenge, encrypted with DES by the password, each byte of which goes bit by bit backwards. openssl counts
    DES among what only a legacy provider has, but not three of it with one key, which is the same."""
    key = bytes(int(f"{b:08b}"[::-1], 2) for b in password.encode().ljust(8, b"\0")[:8])
    return subprocess.run(["openssl", "enc", "-des-ede3", "-K", (key * 3).hex(), "-nopad"], input=challenge,
                          capture_output=True, check=True).stdout


def png_size(data):
    """(width, height) of a PNG picture."""
    if data[:8] != b"\x89PNG\r\n\x1a\n" or data[12:16] != b"IHDR" or data[-8:-4] != b"IEND":
        raise ValueError(f"no PNG: {data[:16]!r}...{data[-16:]!r}")
    return struct.unpack(">II", data[16:24])
