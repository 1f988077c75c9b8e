"""A kernel of a page that does nothing, for what does not depend on a guest: it is loaded at once where Linux takes a second."""

import os
import struct

BASE = 0x100000  # where a kernel is loaded
VIRTUAL = 0xFFFFFFFF80000000
PAGE = 0x1000
# Numbers of Xen's ELF notes, and what they say of this one.
NOTES = [
    (18, struct.pack("<I", BASE)),  # PVH's entry, with paging off
    (1, struct.pack("<Q", VIRTUAL + BASE)),  # PV's
    (3, struct.pack("<Q", VIRTUAL)),
    (5, b"xen-3.0\0"),
    (6, b"tiny\0"),
    (8, b"generic\0"),
    (9, b"yes\0"),
]
# Pause, again and again, as 32 and as 64 bits. (hlt without interrupts would be the end, to Xen.)
SPIN = b"\xf3\x90\xeb\xfc"


def padded(data):
    return data + bytes(-len(data) % 4)


def kernel():
    notes = b"".join(struct.pack("<III", 4, len(text), kind) + b"Xen\0" + padded(text) for kind, text in NOTES)
    headers = [  # type, flags, offset, virtual, physical, file size, memory size, alignment
        struct.pack("<IIQQQQQQ", 1, 7, PAGE, VIRTUAL + BASE, BASE, PAGE, PAGE, PAGE),
        struct.pack("<IIQQQQQQ", 4, 4, 0x200, 0, 0, len(notes), len(notes), 4),
    ]
    elf = struct.pack("<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 62, 1, BASE, 64, 0, 0, 64, 56, len(headers), 64, 0, 0)
    return ((elf + b"".join(headers)).ljust(0x200, b"\0") + notes).ljust(PAGE, b"\0") + SPIN.ljust(PAGE, b"\0")


class TinyImage:
    """The files, which everybody may read."""

    cmdline = ""

    def __init__(self, directory):
        self.kernel = os.path.join(directory, "tiny-kernel")
        self.initrd = os.path.join(directory, "tiny-initrd")
        for path, content in ((self.kernel, kernel()), (self.initrd, bytes(512))):
            with open(path, "wb") as f:
                f.write(content)
            os.chmod(path, 0o644)

    def extra(self, run=None, end=None, **more):
        assert not run and not end
        return {"kernel": self.kernel, "initrd": self.initrd, "cmdline": "", **more}
