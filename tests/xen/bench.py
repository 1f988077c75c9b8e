"""Create to unpause, and destroy, against xl, in one run inside Xen. Run by tests/xen/bench-suite in dom0; prints the tables of
docs/performance.md.

Pairs take turns, each one's first alternately, so that whatever else the host does meets both alike; one pair before is not
counted. The guests are the same: 128 MiB, one processor; Linux, or for HVM an empty disk, a serial port and no screen that
anybody listens for, with the same program for a device model. Ours has its record, its console with a log, and its interface, on
a network of the caller's, on top, and its device model is restricted: an ordinary user asks over the daemon's own socket. xl's
has no interface, and its model serves its disk, since Debian's hotplug scripts would add seconds.
"""

import os
import subprocess
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
TYPES = os.environ.get("TYPES", "pvh pv hvm").split()
DISK_SIZE = 1 << 20
BASE = "/run/bench"


class Linux:
    kernel = os.path.join(GUESTS, "vmlinuz")
    initrd = os.path.join(GUESTS, "initrd.gz")
    cmdline = "console=hvc0 quiet"

    extra = {"kernel": kernel, "initrd": initrd, "cmdline": cmdline}


def timed(function, *arguments):
    begun = time.monotonic()
    value = function(*arguments)
    return (time.monotonic() - begun) * 1000, value


class XlFailed(Exception):
    """As it does on a busy host: its device model has ten seconds for some answers."""


class Xl:
    def __init__(self, machine_type):
        more = self.pc() if machine_type == "hvm" else XlDomain.boots(Linux)
        self.path = XlDomain.write_config("byxl", BASE, machine_type, 128, more)

    @staticmethod
    def pc():
        disk = os.path.join(BASE, "xl.img")
        with open(disk, "wb") as f:
            f.truncate(DISK_SIZE)
        return [f'disk = ["format=raw,vdev=hda,access=rw,backendtype=qdisk,target={disk}"]', 'serial = "pty"', "vnc = 0"]

    def pair(self):
        try:
            made, _ = timed(output, "xl", "create", "-q", self.path)
            gone, _ = timed(output, "xl", "destroy", "byxl")
        except subprocess.SubprocessError as error:
            output("xl", "destroy", "byxl", check=False)
            raise XlFailed(getattr(error, "stderr", None) or error) from None
        return made, gone


class Ours:
    def __init__(self, client, network, machine_type):
        self.client = client
        pc = machine_type == "hvm"
        disks = [client.user.disk("bench.img", DISK_SIZE)] if pc else []
        self.arguments = (network, "128M", disks, "", "xen", "", {"type": machine_type, **({} if pc else Linux.extra)})

    def pair(self):
        made, name = timed(lambda: self.client.create_domain(*self.arguments, timeout=150))
        gone, _ = timed(self.client.destroy_domain, name)
        return made, gone


def measure(client, network, machine_type):
    """{"create": (ours, xl), "destroy": ...} of Samples. A pair in which xl fails is told, and not counted."""
    sides = (Ours(client, network, machine_type), Xl(machine_type))
    samples = {what: (Samples(), Samples()) for what in ("create", "destroy")}
    for turn in range(PAIRS + 1):
        try:
            pair = {side: sides[side].pair() for side in ((0, 1) if turn % 2 else (1, 0))}
        except XlFailed as failure:
            print(f"{machine_type}, pair {turn}: xl failed: {failure}", flush=True)
            continue
        for side, times in pair.items():
            for what, time_taken in zip(samples, times):
                if turn > 0:
                    samples[what][side].append(time_taken)
    return samples


def spread(samples):
    return f"{ms(min(samples))} to {ms(samples.quantile(0.9))}"


def rows(machine_type, measured):
    for what, (ours, theirs) in measured.items():
        if not ours:
            continue
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
