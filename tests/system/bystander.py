"""Somebody who has nothing to do with it: while one user does her worst, another's rig must not notice."""

import json
import os
import time

from caller import DOMAIN, NETWORK, domain_path, network_path
from guests import Console

ANSWER_SECONDS = 5  # that a bystander may have to wait for a plain answer during the worst


def resident(pid):
    """Bytes that a process has in memory."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as f:
        return int(f.read().split()[1]) * os.sysconf("SC_PAGESIZE")


def peak(pid):
    """The most that it ever had since forget_peak()."""
    with open(f"/proc/{pid}/status", encoding="ascii") as f:
        return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))


def forget_peak(pid):
    with open(f"/proc/{pid}/clear_refs", "w", encoding="ascii") as f:
        f.write("5")


class Bystander:
    """A user with a network, a domain (null) whose console echoes, and a Wait under way, for that many seconds."""

    def __init__(self, who, daemon, seconds=600):
        self.who = who
        self.daemon = daemon
        self.daemon_pid = daemon.pid
        self.network = who.create_network(["mine"])[0]
        self.domain = who.create_domain(self.network, "1M", [who.user.disk("bystander.img")], hypervisor="null")
        self.pid = self._pid()
        self.waiting = who.start(domain_path(self.domain), DOMAIN, "Wait", "t", 0, timeout=seconds)
        self.console = Console(who.domain(self.domain, "OpenConsole"))
        self.count = 0

    def _pid(self):
        return json.loads(self.who.domain(self.domain, "Describe"))["pid"]

    def check(self):
        """Everything is as it was, and answers soon."""
        assert self.daemon.is_alive() and self.daemon.pid == self.daemon_pid, "the daemon has ended"
        begun = time.monotonic()
        assert self.who.get(network_path(self.network), NETWORK, "State") == "up"
        assert self.who.get(domain_path(self.domain), DOMAIN, "State") == "running"
        took = time.monotonic() - begun
        assert took < ANSWER_SECONDS, f"the bystander waited for {took:.1f} s"
        assert self._pid() == self.pid
        self.count += 1
        self.console.text = ""
        self.console.send(f"echo {self.count}\n")
        self.console.expect(rf"^echo {self.count}$", ANSWER_SECONDS)

    def leave(self):
        self.check()
        self.console.socket.close()
        self.who.destroy_domain(self.domain)
        assert self.waiting.result(5)[0] == "destroyed"
        self.who.destroy_network(self.network)
