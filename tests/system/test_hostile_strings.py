"""Strings that mean something elsewhere, in every place of every method that takes one: refused by name, or taken
literally. What reaches an emulator's command line and a server's configuration is exactly what was meant."""

import json
import os
import re

import pytest

from bystander import Bystander
from caller import MANAGER, OBJECT_MANAGER, PRIVOPS, PRIVOPS_PATH, PROPERTIES, ROOT_PATH, CallError, domain_path
from conftest import Net, destroyed, refused, run_inside
from leaks import Process, keeper_of, server_of

FORGED = "\nFORGED: all is well"
HOSTILE = ["a,b=c", "a\nb", "x" + FORGED, "\r\n", "\t", "-", "--help", "-S", "-drive file=/etc/shadow", "%s%n%d%p", "%00",
           "a=b", "a;b", "$(touch /run/owned)", "`id`", "$HOME", "'", '"', "\\", "\\n", "a b", " ", "../..", "a/../b", "#",
           "*", "?", "~", "|", "&", "<", "{}", "\x01", "\x1b[2J", "\x7f", "\u00e9", "\u202e", "\u2028", "\U0001f427",
           "\ufffd", "x" * 70000, "%s" * 5000, "debmarshal-0,mac=00:16:3e:00:00:01", "debmarshal-0\n", "debmarshal-0 ",
           "nul\\0", "0", "-1"]
# Nothing of a refused value may reach a terminal or a log as it is, nor at any length.
MESSAGE_MAX = 4096


def tame(message):
    return len(message) <= MESSAGE_MAX and all(c >= " " and c != "\x7f" and c not in "\u202e\u2028" for c in message)


def refused_by_name(function, *arguments, names, **options):
    """The message."""
    with pytest.raises(CallError) as info:
        function(*arguments, **options)
    assert info.value.name in names, f"{arguments!r} {options!r}: {info.value}"
    assert tame(info.value.message), f"{info.value.message!r}"
    return info.value.message


@pytest.fixture(autouse=True)
def unforged_log(broker):
    """Every line of the log is the daemon's own."""
    yield
    forged = [line for line in broker.log_since_test().splitlines() if line.startswith("FORGED")]
    assert not forged
    assert "\x1b" not in broker.log_since_test()


@pytest.fixture
def hypervisor():
    return "null"


# ---- Every string of every method ----


def test_host_names(alice, network):
    for value in set(HOSTILE) - {"0"}:
        refused_by_name(alice.create_network, ["good", value], names={"InvalidInput"})
        refused_by_name(alice.create_network, [value], names={"InvalidInput"})
    refused_by_name(alice.create_network, ["0"], names={"InvalidInput"})


def test_ten_thousand_host_names(broker, alice, bob):
    """Refused, in no time; as many as are allowed are made."""
    bystander = Bystander(bob, broker.daemon)
    refused("InvalidInput", alice.create_network, [f"host-{n}" for n in range(10000)])
    refused("InvalidInput", alice.create_network, [""] * 1000000)
    refused("InvalidInput", alice.create_network, ["a"] * 4096)
    bystander.check()
    net = Net(alice.create_network([f"host-{n}" for n in range(4096)]))
    bystander.check()
    assert len(net.hosts) == 4096
    alice.destroy_network(net.name)
    bystander.leave()


def test_network_options(alice):
    for value in HOSTILE:
        for options in ({"subnet": value}, {"ipv6": value}, {value: "x"}):
            refused_by_name(alice.manager, "CreateNetwork", "asa{sv}", ["a"], options, names={"InvalidInput"})


def test_names_of_objects(alice):
    for value in HOSTILE:
        refused_by_name(alice.destroy_network, value, names={"NetworkNotFound"})
        refused_by_name(alice.destroy_domain, value, names={"DomainNotFound"})
        refused_by_name(alice.manager, "GetNetwork", "s", value, names={"NetworkNotFound"})
        refused_by_name(alice.manager, "GetDomain", "s", value, names={"DomainNotFound"})
        refused_by_name(alice.manager, "GetEndedDomain", "s", value, names={"DomainNotFound"})


def test_hypervisor_of_a_destruction(alice, create):
    name = create()
    for value in HOSTILE:
        refused_by_name(alice.destroy_domain, name, value, names={"DomainNotFound", "InvalidInput"})
    assert alice.domain_names() == [name]


def test_strings_of_a_network(alice, network):
    for value in HOSTILE:
        refused_by_name(alice.network, network.name, "Connect", "sq", value, 22, names={"InvalidInput"})
        refused_by_name(alice.network, network.name, "Capture", "s", value, names={"InvalidInput"})


@pytest.mark.parametrize("argument", ["memory", "network", "mac", "hypervisor", "arch"])
def test_arguments_of_a_domain(create, argument):
    for value in set(HOSTILE) - ({"0"} if argument == "arch" else set()):  # the null hypervisor takes any architecture
        names = {"InvalidInput"} if argument != "network" else {"NetworkNotFound"}
        if argument == "hypervisor":
            names |= {"NotSupported"}  # "0" might be one
        refused_by_name(create, names=names, **{argument: value})


def test_disks_of_a_domain(alice, create):
    """A relative path is none; an absolute one is what it says, whatever is in it."""
    for value in HOSTILE:
        refused_by_name(create, disks=[value], names={"InvalidInput"})
        refused_by_name(create, disks=["/nowhere/" + value], names={"InvalidInput"})


@pytest.mark.parametrize("key", ["on_poweroff", "on_reboot", "firmware", "type", "vnc_password", "bootloader", "paused", "vcpus"])
def test_extra_of_a_domain(alice, create, key):
    accepted = {"vnc_password": {v for v in HOSTILE if 1 <= len(v) <= 8 and v.isascii() and v.isprintable()},
                "bootloader": {"0"}}  # might be one's name
    for value in set(HOSTILE) - accepted.get(key, set()):
        assert key in refused_by_name(create, extra={key: value}, names={"InvalidInput"})
    if key == "bootloader":
        refused_by_name(create, extra={key: "0"}, names={"NotSupported"})
    for value in HOSTILE:
        refused_by_name(create, extra={"disk_formats": [value]}, names={"InvalidInput"})
        refused_by_name(create, extra={value: "x"}, names={"InvalidInput"})
        refused_by_name(create, extra={"nics": [value]}, names={"NetworkNotFound", "InvalidInput"})
        refused_by_name(create, extra={"nics": ["debmarshal-0," + value]}, names={"InvalidInput"})


@pytest.mark.parametrize("key", ["kernel", "initrd"])
def test_kernel_of_a_domain(alice, create, key):
    """As with disks; what has to come with it is there, and is what it has to be."""
    boot = {name: alice.user.file(name, b"boot") for name in ("kernel", "initrd")}
    for value in HOSTILE:
        assert key in refused_by_name(create, extra={**boot, key: value}, names={"InvalidInput"})
        assert key in refused_by_name(create, extra={**boot, key: "/nowhere/" + value}, names={"InvalidInput"})


CMDLINE_MAX = 2047


def test_command_line_of_a_kernel(alice, create):
    """It may be as long as a kernel takes, and hold anything but what a terminal would obey; it is kept as it is."""
    boot = {name: alice.user.file(name, b"boot") for name in ("kernel", "initrd")}
    taken = {v for v in HOSTILE if len(v.encode()) <= CMDLINE_MAX and all(c >= " " and c != "\x7f" for c in v)}
    assert {"-S", "$(touch /run/owned)", "\u202e"} < taken
    for value in taken | {"#" * CMDLINE_MAX}:
        name = create(extra={**boot, "cmdline": value})
        assert json.loads(alice.domain(name, "Describe"))["cmdline"] == value
        alice.destroy_domain(name)
    for value in set(HOSTILE) - taken | {"quiet\n", "quiet \x02", "\x1f", "#" * (CMDLINE_MAX + 1)}:
        assert "cmdline" in refused_by_name(create, extra={**boot, "cmdline": value}, names={"InvalidInput"})


def test_properties_and_paths(alice, network):
    """Names in the standard interfaces, and object paths that look like objects."""
    for value in HOSTILE:
        for arguments in ((MANAGER, value), (value, "Name"), (value, value)):
            with pytest.raises(CallError) as info:
                alice.get(ROOT_PATH, *arguments)
            assert info.value.name.startswith("org.freedesktop.DBus.Error."), info.value.name
    for path in ("/network/_", "/network/debmarshal_2d0_0a", "/network/debmarshal_2d00", "/network/debmarshal_2d0/x",
                 "/domain/_2e_2e", "/domain/_00", "/domain/_zz", "/Privops/x"):
        with pytest.raises(CallError) as info:
            alice.call(ROOT_PATH + path, PROPERTIES, "GetAll", "s", "")
        assert info.value.name.startswith("org.freedesktop.DBus.Error."), info.value.name
    refused("org.freedesktop.DBus.Error.UnknownMethod", alice.call, PRIVOPS_PATH, PRIVOPS, "GetManagedObjects")
    assert alice.call(ROOT_PATH, OBJECT_MANAGER, "GetManagedObjects")


# ---- What reaches the emulator ----


def argv_of(alice, name):
    pid = json.loads(alice.domain(name, "Describe"))["pid"]
    with open(f"/proc/{pid}/cmdline", "rb") as f:
        return [word.decode() for word in f.read().split(b"\0")[:-1]]


CMDLINES = ["quiet,-drive file=/etc/shadow,if=virtio", "-S -monitor stdio", "--help", "%s%n%d", "a' \" $(id) `id` ; & | \\",
            ",,readonly=on,file=/etc/passwd", "\u00e9\U0001f427", "-append x", "#" * 2000]


def test_command_line_of_the_emulator(broker, alice, network, image):
    """Two domains that differ in every string: their command lines differ in the kernel's own words alone."""
    def argv(disk, kernel, initrd, cmdline, password):
        extra = {"kernel": kernel, "initrd": initrd, "cmdline": cmdline, "vnc_password": password, "paused": True,
                 "disk_formats": ["raw"]}
        name = alice.create_domain(network.name, "64M", [disk], mac=network.mac("one"), hypervisor="qemu", extra=extra)
        try:
            return argv_of(alice, name)
        finally:
            alice.destroy_domain(name)

    def copy(path, name):
        with open(path, "rb") as f:
            return alice.user.file(name, f.read())

    plain = argv(alice.user.disk("plain.img"), copy(image.kernel, "vmlinuz"), alice.user.file("initrd", b"i"), "quiet", "x")
    at = plain.index("-append") + 1
    assert plain[at] == "quiet"
    ways = [(f"{n},file=b\n-drive %s'\"", text) for n, text in enumerate(CMDLINES)]
    hostile_kernel = copy(image.kernel, "-kernel,x=y\n%n \u202e")
    for n, (name, cmdline) in enumerate(ways):
        words = argv(alice.user.disk(f"{name}.img"), hostile_kernel, alice.user.file("-initrd," + name, b"i"), cmdline,
                     ["a,b=c", "-S", "%s%n", "password"][n % 4])
        assert words[at] == cmdline
        assert words[:at] + words[at + 1:] == plain[:at] + plain[at + 1:]


def test_every_word_of_the_emulator(alice, network, create, disk):
    """What a domain without a kernel runs with holds nothing of the caller's at all but numbers and names of ours."""
    name = create(hypervisor="qemu", mac=network.mac("one"), extra={"vnc_password": "z,q=7"})
    line = "\n".join(argv_of(alice, name))
    for text in (disk, alice.user.home, alice.user.name, "z,q=7"):
        assert text not in line
    assert f"mac={network.mac('one')}," in line


# ---- What reaches the DHCP and DNS server ----

ADDRESS = r"\d+\.\d+\.\d+\.\d+"
MAC = r"(?:[0-9a-f]{2}:){5}[0-9a-f]{2}"
LABEL = r"[A-Za-z0-9][A-Za-z0-9-]{0,62}"


def configuration(network):
    """The text of its server, from the file that its keeper holds."""
    found, pid = [], keeper_of(network).pid
    for fd in os.listdir(f"/proc/{pid}/fd"):
        if "memfd" in os.readlink(f"/proc/{pid}/fd/{fd}"):
            with open(f"/proc/{pid}/fd/{fd}", "rb") as f:
                found.append(f.read().decode())
    assert len([t for t in found if "dhcp-authoritative" in t]) == 1, found
    return next(t for t in found if "dhcp-authoritative" in t)


def test_configuration_of_the_server(alice):
    """One line for each reservation and name, and every one of a form that we know; its command line is constant."""
    hosts = ["a--b", "0x7f", "UPPER", "conf-file", "dhcp-script", "x" * 63, "server", "gateway"]
    net = Net(alice.create_network(hosts))
    try:
        lines = configuration(net.name).splitlines()
        reserved = [f"dhcp-host={net.mac(h)},{net.address(h)},{h}.{net.name}.test" for h in hosts]
        assert [line for line in lines if line.startswith("dhcp-host")] == reserved
        records = [line for line in lines if line.startswith("host-record")]
        assert len(records) == len(hosts)
        for h, line in zip(hosts, records):
            assert re.fullmatch(rf"host-record={h}\.[a-z0-9.-]+,{h},{re.escape(net.address(h))}(,[0-9a-f:]+)?", line), line
        rest = [line for line in lines if not line.startswith(("dhcp-host", "host-record"))]
        for line in rest:
            assert re.fullmatch(r"[a-z0-9-]+(=[A-Za-z0-9:/#.,-]*)?", line), line
        assert not [line for line in rest if re.match(r"conf-|dhcp-script|server=|addn|dhcp-hostsfile|log-fac.*=(?!-$)",
                                                      line)]
        assert Process(server_of(net.name)).command() == "dnsmasq --conf-file=-"
    finally:
        alice.destroy_network(net.name)


# For each MAC given one more machine on the bridge, which says what it gets.
DHCP_CLIENTS = """
set -e
told=$1
shift
for mac; do
    ip link add port type veth peer name one
    ip link set port master br0 up
    ip link set one address "$mac" up
    busybox udhcpc -q -n -f -t 5 -T 1 -i one -O hostname -O lease -s "$told" 2>/dev/null || echo nothing
    ip link del port
done
"""
DHCP_TOLD = '#!/bin/sh\n[ "$1" != bound ] || echo "$ip $hostname $domain $lease"\n'


def test_host_names_that_are_words_of_the_server(broker, alice):
    """They are the names of hosts and nothing else: each is served, by its name and for ever."""
    hosts = ["plain", "ignore", "infinite", "1h", "5m", "10d", "3s"]
    net = Net(alice.create_network(hosts))
    try:
        told = alice.user.file("told", DHCP_TOLD.encode(), mode=0o755)
        result = run_inside(broker, net, "sh", "-c", DHCP_CLIENTS, "sh", told, *[net.mac(h) for h in hosts])
        expected = [f"{net.address(h)} {h} {net.name}.test {0xffffffff}" for h in hosts]
        assert result.stdout.splitlines() == expected, result.stderr
        for h in hosts:
            known = run_inside(broker, net, "getent", "ahosts", f"{h}.{net.name}.test")
            assert net.address(h) in known.stdout.split(), known.stderr
    finally:
        alice.destroy_network(net.name)


def test_describe_is_json_whatever_is_in_it(alice, network, hypervisor):
    disk = alice.user.disk('a"b\\c\n\u202e.img')
    name = alice.create_domain(network.name, "1M", [disk], hypervisor=hypervisor)
    try:
        assert json.loads(alice.domain(name, "Describe"))["disks"][0]["path"] == disk
        assert alice.get(domain_path(name), "com.googlecode.debmarshal.Domain", "Name") == name
    finally:
        destroyed(alice.destroy_domain, name)
