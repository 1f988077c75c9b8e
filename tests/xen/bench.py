"""Create to unpause, and destroy, against xl, in one run inside Xen. Run by tests/xen/bench-suite in dom0; prints the tables of
docs/performance.md.

Pairs take turns, each one's first alternately, so that whatever else the host does meets both alike; one pair before is not
counted. The guests are the same: Linux (no kernel at all for HVM, whose firmware finds nothing to boot), 128 MiB, one
processor, no disk (but ours for HVM, which is empty), no interface for xl (Debian's hotplug scripts would add seconds). Ours has its record, its console
with a log, and its interface, on a network of the caller's, on top: an ordinary user asks over the daemon's own socket.
"""

import os
import sys
import time

HERE = os.path.dirname(os.path.realpath(__file__))
sys.path[:0] = [os.path.join(HERE, "..", "system"), os.path.join(HERE, "..", "bench")]

import users  # noqa: E402
from caller import CallError  # noqa: E402
from daemon import Daemon  # noqa: E402
from measure import Samples  # noqa: E402
from report import ms, ratio, table  # noqa: E402
from xen import XlDomain, output  # noqa: E402

BUILD = os.environ["DEBMARSHAL_BUILD"]
GUESTS = os.environ["DEBMARSHAL_GUESTS"]
PAIRS = int(os.environ.get("PAIRS", "15"))
TYPES = ("pvh", "pv", "hvm")
BASE = "/run/bench"


class Linux:
    kernel = os.path.join(GUESTS, "vmlinuz")
    initrd = os.path.join(GUESTS, "initrd.gz")
    cmdline = "console=hvc0 quiet"

    @classmethod
    def extra(cls, machine_type):
        files = {} if machine_type == "hvm" else {"kernel": cls.kernel, "initrd": cls.initrd, "cmdline": cls.cmdline}
        return {"type": machine_type, **files}


def timed(function, *arguments):
    begun = time.monotonic()
    value = function(*arguments)
    return (time.monotonic() - begun) * 1000, value


class Xl:
    def __init__(self, machine_type):
        self.path = XlDomain.write_config("byxl", Linux, BASE, machine_type, 128)

    def pair(self):
        made, _ = timed(output, "xl", "create", "-q", self.path)
        gone, _ = timed(output, "xl", "destroy", "byxl")
        return made, gone


class Ours:
    def __init__(self, client, network, machine_type):
        self.client = client
        disks = [client.user.disk("bench.img")] if machine_type == "hvm" else []  # it has to have something to boot from
        self.arguments = (network, "128M", disks, "", "xen", "", Linux.extra(machine_type))

    def pair(self):
        made, name = timed(lambda: self.client.create_domain(*self.arguments, timeout=150))
        gone, _ = timed(self.client.destroy_domain, name)
        return made, gone


def measure(client, network, machine_type):
    """{"create": (ours, xl), "destroy": ...} of Samples, or None where that type is not there."""
    sides = (Ours(client, network, machine_type), Xl(machine_type))
    samples = {what: (Samples(), Samples()) for what in ("create", "destroy")}
    for turn in range(PAIRS + 1):
        for side in (0, 1) if turn % 2 else (1, 0):
            made, gone = sides[side].pair()
            if turn > 0:
                samples["create"][side].append(made)
                samples["destroy"][side].append(gone)
    return samples


def spread(samples):
    return f"{ms(min(samples))} to {ms(samples.quantile(0.9))}"


def rows(machine_type, measured):
    for what, (ours, theirs) in measured.items():
        times = ratio(theirs.median, ours.median)
        yield (f"{machine_type} {what}", ms(ours.median), spread(ours), ms(theirs.median), spread(theirs), f"{times:.2f}",
               "met" if times > 1 else "**missed**")


def main():
    os.makedirs(BASE, mode=0o755)
    alice = users.User("alice", "alice", "/run/home-alice", "/run/run-alice")
    os.mkdir(alice.home, 0o700)
    os.chown(alice.home, alice.uid, alice.gid)
    daemon = Daemon(BUILD, BASE, config={"start_timeout": "120s"}).start(timeout=60)
    lines = []
    with daemon.caller(alice) as client:
        ping = Samples(timed(client.network_names)[0] for _ in range(PAIRS))
        network = client.create_network(["one", "two"])[0]
        for machine_type in TYPES:
            try:
                lines += rows(machine_type, measure(client, network, machine_type))
            except CallError as error:
                print(f"{machine_type}: {error}")
            print(f"({machine_type} done)", flush=True)
        client.destroy_network(network)
    daemon.stop()
    print(table(["", "debmarshal, ms", "least to 90th percentile", "xl, ms", "least to 90th percentile", "times faster than xl",
                 "target: faster"], lines))
    print(f"\n{PAIRS} pairs each. The way to the daemon and back, with the client, is {ms(ping.median)} ms of each number.")


main()
