"""Disks for boot loaders: a partition table, an ext4 in its one partition, and in that what a boot loader looks for."""

import os
import shutil
import struct
import subprocess
import tempfile

SECTOR = 512
START = 2048  # of the partition, in sectors


def partition_table(size):
    """A master boot record with one Linux partition that takes the rest."""
    entry = struct.pack("<B3sB3sII", 0x80, b"\xfe\xff\xff", 0x83, b"\xfe\xff\xff", START, size // SECTOR - START)
    return bytes(446) + entry + bytes(48) + b"\x55\xaa"


def grub_cfg(entries, timeout=2, default=0):
    """entries: (title, kernel's command line)."""
    lines = [f"set timeout={timeout}", f"set default={default}"]
    for title, cmdline in entries:
        lines += [f"menuentry '{title}' {{", f"    linux /boot/vmlinuz {cmdline}", "    initrd /boot/initrd.gz", "}"]
    return "\n".join(lines) + "\n"


def make(path, files, size=64 << 20):
    """files: name -> bytes, or the path of a file to be copied. Whoever runs this owns the disk."""
    with tempfile.TemporaryDirectory() as tree:
        for name, content in files.items():
            target = os.path.join(tree, name)
            os.makedirs(os.path.dirname(target), exist_ok=True)
            if isinstance(content, bytes):
                with open(target, "wb") as f:
                    f.write(content)
            else:
                shutil.copyfile(content, target)
        with open(path, "wb") as f:
            f.write(partition_table(size))
            f.truncate(size)
        subprocess.run(["mke2fs", "-q", "-t", "ext4", "-O", "^has_journal,^metadata_csum", "-d", tree,
                        "-E", f"offset={START * SECTOR},root_owner=0:0", path, f"{(size - START * SECTOR) // 1024}k"],
                       check=True)
    return path


def bootable(path, image, entries, **how):
    """A disk that boots one of the entries with the test guests' kernel and initrd."""
    return make(path, {"boot/vmlinuz": image.kernel, "boot/initrd.gz": image.initrd,
                       "boot/grub/grub.cfg": grub_cfg(entries, **how).encode()})
