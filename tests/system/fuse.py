"""A FUSE file system of a user's, with a server that answers what is asked but, if it is a bad one, some of it: who
closes a file of it waits for ever where that is FLUSH, and who only looks for one where it is LOOKUP, and neither can be
killed. It is mounted by root, with the options that fusermount3 would have set for the user.

The server is a thread here. With its descriptor everything that waits for it ends: at exit from the block, after
PATIENCE seconds, or with this process."""

import contextlib
import ctypes
import errno
import os
import select
import stat
import struct
import threading
import time

LIBC = ctypes.CDLL(None, use_errno=True)
MS_NOSUID, MS_NODEV, MNT_DETACH = 2, 4, 2
PATIENCE = 30

LOOKUP, FORGET, GETATTR, OPEN, READ, STATFS, RELEASE, FLUSH, INIT, INTERRUPT, BATCH_FORGET = \
    1, 2, 3, 14, 15, 17, 18, 25, 26, 36, 42
ROOT = 1
UNANSWERED = {FORGET, INTERRUPT, BATCH_FORGET}  # by the protocol


class Fuse(threading.Thread):
    """files: name -> content. mounter: the uid that the kernel is told; 0 shows them to all. ignores: opcodes."""

    def __init__(self, directory, files, owner, mounter, ignores=()):
        super().__init__(daemon=True)
        self.directory = directory
        self.owner = owner
        self.names = list(files)
        self.contents = list(files.values())
        self.ignores = UNANSWERED.union(ignores)
        self.stopped = threading.Event()
        self.seen = set()
        self.fd = os.open("/dev/fuse", os.O_RDWR | os.O_NONBLOCK)
        options = f"fd={self.fd},rootmode=40000,user_id={mounter},group_id={owner.gid if mounter else 0}"
        if not mounter:
            options += ",allow_other"
        if LIBC.mount(b"debmarshal-test", directory.encode(), b"fuse", MS_NOSUID | MS_NODEV, options.encode()) != 0:
            os.close(self.fd)
            raise OSError(ctypes.get_errno(), "mount")

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()
        if LIBC.umount2(self.directory.encode(), MNT_DETACH) != 0:
            raise OSError(ctypes.get_errno(), "umount2")

    def path(self, name):
        return os.path.join(self.directory, name)

    def run(self):
        deadline = time.monotonic() + PATIENCE
        with contextlib.suppress(OSError):
            while not self.stopped.is_set() and time.monotonic() < deadline:
                if select.select([self.fd], [], [], 0.05)[0]:
                    self._serve(os.read(self.fd, 1 << 18))
        os.close(self.fd)

    def _serve(self, request):
        _, opcode, unique, node, *_ = struct.unpack_from("=IIQQIIIHH", request)
        self.seen.add(opcode)
        if opcode in self.ignores:
            return
        try:
            error, body = 0, self._answer(opcode, node, request[40:])
        except OSError as e:
            error, body = -e.errno, b""
        with contextlib.suppress(FileNotFoundError):  # who asked has gone
            os.write(self.fd, struct.pack("=IiQ", 16 + len(body), error, unique) + body)

    def _attributes(self, node):
        size = 0 if node == ROOT else len(self.contents[node - 2])
        mode = stat.S_IFDIR | 0o755 if node == ROOT else stat.S_IFREG | 0o666
        return struct.pack("=6Q10I", node, size, size // 512, 0, 0, 0, 0, 0, 0, mode, 1, self.owner.uid, self.owner.gid,
                           0, 4096, 0)

    def _answer(self, opcode, node, body):
        if opcode == INIT:
            return struct.pack("=IIIIHHIIHHI7I", 7, 31, 1 << 16, 0, 16, 12, 4096, 1, 0, 0, 0, *[0] * 7)
        if opcode == LOOKUP:
            name = body.split(b"\0")[0].decode()
            if name not in self.names:
                raise OSError(errno.ENOENT, name)
            child = self.names.index(name) + 2
            return struct.pack("=QQQQII", child, 0, 0, 0, 0, 0) + self._attributes(child)
        if opcode == GETATTR:
            return struct.pack("=QII", 0, 0, 0) + self._attributes(node)
        if opcode == OPEN:
            return struct.pack("=QII", 0, 0, 0)
        if opcode == READ:
            _, offset, size = struct.unpack_from("=QQI", body)
            return self.contents[node - 2][offset:offset + size]
        if opcode == STATFS:
            return struct.pack("=5Q4I6I", 0, 0, 0, 0, 0, 4096, 255, 4096, 0, *[0] * 6)
        if opcode in (RELEASE, FLUSH):
            return b""
        raise OSError(errno.ENOSYS, "not served")
