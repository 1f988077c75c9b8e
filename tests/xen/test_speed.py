"""Create to unpause, and destroy, against xl in one run. xl's guests have neither network nor disk (Debian's hotplug scripts would add
seconds); ours have the network."""

import statistics
import time

import pytest

from xen import output

RUNS = 3


def timed(function, *arguments):
    begun = time.monotonic()
    value = function(*arguments)
    return time.monotonic() - begun, value


def xl_times(image, machine_type, directory):
    path = f"{directory}/xl.cfg"
    with open(path, "w", encoding="utf-8") as f:
        f.write(f"""name = "byxl"
type = "{machine_type}"
memory = 128
vcpus = 1
kernel = "{image.kernel}"
ramdisk = "{image.initrd}"
extra = "console=hvc0 quiet"
tsc_mode = "native"
""")
    made, _ = timed(output, "xl", "create", "-q", path)
    gone, _ = timed(output, "xl", "destroy", "byxl")
    return made, gone


def our_times(alice, create, machine_type):
    made, name = timed(create, "one", machine_type)
    gone, _ = timed(alice.destroy_domain, name)
    return made, gone


@pytest.mark.parametrize("machine_type", ["pvh", "pv"])
def test_faster_than_xl(alice, create, image, machine_type, tmp_path):
    theirs = [xl_times(image, machine_type, tmp_path) for _ in range(RUNS)]
    ours = [our_times(alice, create, machine_type) for _ in range(RUNS)]
    for what, i in (("create", 0), ("destroy", 1)):
        mine, other = (statistics.median(t[i] for t in times) for times in (ours, theirs))
        print(f"{machine_type} {what}: ours {mine:.2f} s, xl {other:.2f} s")
        assert mine < other
