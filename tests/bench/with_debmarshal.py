"""debmarshal: the daemon in the system scope, asked by an ordinary user's client over the daemon's own socket."""

import os
import shutil
import socket
import subprocess

from measure import Asked, Failed, memory, processes, pss

CLIENT_UID = 64321  # needs no account
RUNTIME = "/run/debmarshal"
PROGRAMS = "/run/bench-programs"
# An ordinary user, but with room for all that is measured.
CONFIG = """
max_networks = 100000
max_domains = 100000
max_memory = 1024G
max_vcpus = 100000
start_timeout = 5min
log_level = warning
"""


class Debmarshal:
    name = "debmarshal"

    def __init__(self, build, guest):
        self.kernel, self.initrd = guest
        self.networks, self.guests, self.guest_network = [], [], None
        # Side by side, where an ordinary user may run them.
        os.mkdir(PROGRAMS, 0o755)
        for program in ("debmarshald", "debmarshal-keeper", "tests/bench/bench-client"):
            shutil.copy(f"{build}/{program}", PROGRAMS)
        with open("/run/bench.conf", "w") as config:
            config.write(CONFIG)
        self.daemon = self.start_daemon()
        self.client = self.connect()

    @staticmethod
    def connect(number=0):
        """As one of several users."""
        uid = CLIENT_UID + number
        return Asked([f"{PROGRAMS}/bench-client", f"unix:path={RUNTIME}/bus"], user=uid, group=uid, extra_groups=[])

    def start_daemon(self):
        """Until it says that it is ready."""
        ready = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        ready.bind("/run/bench-notify")
        ready.settimeout(60)
        log = open("/run/debmarshald.log", "w")
        command = [f"{PROGRAMS}/debmarshald", "--scope=system", f"--runtime-dir={RUNTIME}", "--config=/run/bench.conf"]
        daemon = subprocess.Popen(command, stdout=log, stderr=log, env={**os.environ, "NOTIFY_SOCKET": "/run/bench-notify"})
        try:
            while b"READY=1" not in ready.recv(4096):
                pass
        except TimeoutError:
            raise Failed(f"debmarshald is not ready after a minute (it says {daemon.poll()})")
        return daemon

    def timed(self, *words):
        took, *answer = self.client.ask(*words)
        return int(took) / 1e6, answer

    def ping(self):
        return self.timed("ping")[0]

    def network_create(self):
        took, (name, *_) = self.timed("create-network", "a", "b")
        self.networks.append(name)
        return took

    def network_destroy(self):
        return self.timed("destroy-network", self.networks.pop())[0]

    def network_for_guests(self):
        """Its name and the MAC of its host."""
        if not self.guest_network:
            _, (name, _, mac) = self.timed("create-network", "a")
            self.guest_network = name, mac
        return self.guest_network

    def guest_create(self):
        network, mac = self.network_for_guests()
        took, (name,) = self.timed("create-domain", "128M", network, mac, self.kernel, self.initrd, "console=ttyS0 quiet")
        self.guests.append(name)
        return took

    def guest_destroy(self):
        return self.timed("destroy-domain", self.guests.pop())[0]

    def guests_create(self, count):
        """All asked for at once: small, with nothing but a disk, and paused."""
        network, _ = self.network_for_guests()
        took, self.guests = self.timed("create-domains", count, "16M", network, self.small_disk())
        return took

    def guests_destroy(self):
        took, _ = self.timed("destroy-domains", *self.guests)
        self.guests = []
        return took

    @staticmethod
    def small_disk():
        path = "/run/bench-disk"
        with open(path, "wb") as disk:
            disk.truncate(1 << 20)
        os.chmod(path, 0o644)
        return path

    def daemon_resident(self):
        return memory(self.daemon.pid)[0]

    @staticmethod
    def network_pss():
        """Of one network: its keeper, and what that has started."""
        keepers = processes("debmarshal-keeper")
        return pss(keepers + children_of(keepers)) / len(keepers)

    @staticmethod
    def emulators_pss():
        return pss(processes("qemu-system-x86_64"))

    def stop(self):
        while self.guests:
            self.guest_destroy()
        while self.networks:
            self.network_destroy()
        if self.guest_network:
            self.timed("destroy-network", self.guest_network[0])
        self.client.stop()
        self.daemon.terminate()
        self.daemon.wait()


def children_of(parents):
    parents, found = set(parents), []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat:
                if int(stat.read().rpartition(")")[2].split()[1]) in parents:
                    found.append(int(pid))
        except OSError:
            pass
    return found
