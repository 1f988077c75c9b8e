"""What dom0 shows of Xen: domains, the store, backends, loop devices."""

import os
import pty
import re
import select
import socket
import struct
import subprocess
import time

WAIT = 10


def output(*command, check=True):
    return subprocess.run(command, check=check, capture_output=True, text=True, timeout=60).stdout


def model_of(name):
    """The pid of a domain's device model; None when it has none."""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", encoding="utf-8") as f:
                words = f.read().split("\0")
        except OSError:
            continue
        if "-xen-domid" in words and words[words.index("-name") + 1] == name:
            return int(pid)
    return None


def pid_of(name):
    return int(output("pidof", name))


FOREIGNER = "foreigner"  # see conftest.py


def xl_list(all_of_them=False):
    """{name: (id, memory, vcpus, state)} but for dom0, and the one that xl made."""
    lines = output("xl", "list").splitlines()
    found = {}
    for line in lines[lines.index(next(x for x in lines if x.startswith("Name"))) + 1:]:
        name, number, memory, vcpus, state, _ = line.split()
        if number != "0" and (name != FOREIGNER or all_of_them):
            found[name] = (int(number), int(memory), int(vcpus), state)
    return found


class XlConsole:
    """"xl console", on a terminal of its own."""

    def __init__(self, name):
        ours, theirs = pty.openpty()
        self.terminal = ours
        self.text = ""
        self.process = subprocess.Popen(["xl", "console", name], stdin=theirs, stdout=theirs, stderr=theirs,
                                        start_new_session=True)
        os.close(theirs)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.kill()
        self.process.wait(10)
        os.close(self.terminal)

    def send(self, text):
        os.write(self.terminal, text.encode())

    def expect(self, text, timeout=20):
        deadline = time.monotonic() + timeout
        while text not in self.text:
            left = deadline - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                raise AssertionError(f"xl console did not say {text!r}; it said:\n{self.text[-2000:]}")
            self.text += os.read(self.terminal, 4096).decode(errors="replace")


class XlDomain:
    """One that xl has made, which is none of our driver's business. It stands still."""

    def __init__(self, name, image, directory):
        self.name = name
        output("xl", "create", "-q", "-p", self.write_config(name, directory, "pvh", 16, self.boots(image)))

    @staticmethod
    def boots(image):
        return [f'kernel = "{image.kernel}"', f'ramdisk = "{image.initrd}"', f'extra = "{image.cmdline}"']

    @staticmethod
    def write_config(name, directory, machine_type, memory, more):
        """The path of it."""
        path = f"{directory}/{name}-{machine_type}.cfg"
        lines = [f'name = "{name}"', f'type = "{machine_type}"', f"memory = {memory}", "vcpus = 1", 'tsc_mode = "native"',
                 *more]
        with open(path, "w", encoding="utf-8") as f:
            f.write("\n".join(lines) + "\n")
        return path

    def entries(self):
        """What is in the store for it, values too; but for its terminal's, which a new xenconsoled chooses anew."""
        number = output("xl", "domid", self.name).strip()
        lists = output("xenstore-ls", "-p", f"/local/domain/{number}"), output("xenstore-ls", "-p", f"/libxl/{number}")
        return tuple(re.sub(r'tty = "[^"]*"', "tty", text) for text in lists)

    def destroy(self):
        output("xl", "destroy", self.name)


class LoopDevice:
    """A block device of a user's, on a file."""

    def __init__(self, path, user):
        self.path = output("losetup", "--find", "--show", path).strip()
        os.chown(self.path, user.uid, user.gid)

    def __enter__(self):
        return self.path

    def __exit__(self, *_):
        output("losetup", "--detach", self.path)
        os.chown(self.path, 0, 0)


# xenstored's protocol: type of message, number of the request, transaction, length of the body.
STORE_SOCKET, STORE_HEADER = "/run/xenstored/socket", struct.Struct("<IIII")
STORE_DIRECTORY, STORE_ERROR = 1, 16


def store_paths():
    """Of all that is in the store. All of a level are asked for at once: a round trip is slow in emulation, and xenstore-ls
    makes two for each path."""
    found, level = set(), [""]
    with socket.socket(socket.AF_UNIX) as store, store.makefile("rb") as answers:
        store.connect(STORE_SOCKET)
        while level:
            questions = [(path or "/").encode() + b"\0" for path in level]
            store.sendall(b"".join(STORE_HEADER.pack(STORE_DIRECTORY, 0, 0, len(path)) + path for path in questions))
            above, level = level, []
            for path in above:
                kind, _, _, length = STORE_HEADER.unpack(answers.read(STORE_HEADER.size))
                body = answers.read(length)
                assert kind != STORE_ERROR or body == b"ENOENT\0", f"{path}: {body}"
                if kind == STORE_DIRECTORY:
                    found.add(path)
                    level += [f"{path}/{name}" for name in body.decode().split("\0")[:-1]]
    return found


class Machine:
    """Pictures of what a guest may leave behind."""

    def picture(self):
        return {
            "domains": {f"{name} {values[0]}" for name, values in xl_list().items()},
            "store": self._store(),
            "backends": set(os.listdir("/sys/bus/xen-backend/devices")),
            "loops": {name for name in os.listdir("/sys/block")
                      if name.startswith("loop") and os.path.exists(f"/sys/block/{name}/loop")},
            "links": {name for name in os.listdir("/sys/class/net") if name.startswith("vif")},
            "processes": self._processes(),
            "event channels": self._channels(),
        }

    @staticmethod
    def _store():
        """Paths, not values: some change by themselves."""
        # Parents that stay for the next of their kind, as libxl leaves them, too.
        return {path for path in store_paths()
                if not re.fullmatch(r"/(vm|libxl|local/domain/0/(device-model|backend(/\w+)?|error(/backend(/\w+)?)?))", path)}

    @staticmethod
    def _processes():
        names = set()
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/comm", encoding="utf-8") as f:
                    name = f.read().strip()
            except OSError:
                continue
            if name.startswith(("qemu", "xen-qemu", "dnsmasq", "debmarshal-k")):
                names.add(f"{name} {pid}")
        return names

    @staticmethod
    def _channels():
        """How many dom0 has, as numbered lines, so that a set tells more from less."""
        count = len(output("lsevtchn").splitlines())
        return {f"#{n + 1}" for n in range(count)}

    @staticmethod
    def difference(before, now):
        """What is now and was not before, as lines."""
        return [f"{part}: {thing}" for part, things in now.items() for thing in sorted(things - before[part])]

    def left(self, before):
        deadline = time.monotonic() + WAIT
        while True:
            left = self.difference(before, self.picture())
            if not left or time.monotonic() > deadline:
                return left
            time.sleep(0.2)
