"""The object interface: manager, networks and domains as objects, their properties, signals and descriptors."""

import json
import os
import re
import subprocess
import xml.etree.ElementTree as ElementTree

import pytest

from caller import DOMAIN, MANAGER, NETWORK, OBJECT_MANAGER, PRIVOPS, PRIVOPS_PATH, PROPERTIES, ROOT_PATH
from caller import domain_path, network_path
from conftest import Net, destroyed, refused
from guests import Console, read_all

# ---- Introspection: docs/dbus.md, as code ----

# method -> (names and types of what goes in, of what comes out)
METHODS = {
    PRIVOPS: {
        "createNetwork": ("as", "(sssa{s(ss)})"),
        "destroyNetwork": ("s", ""),
        "createDomain": ("sasssssa{sv}", "s"),
        "destroyDomain": ("ss", ""),
    },
    MANAGER: {
        "CreateNetwork": ("asa{sv}", "so"),
        "GetNetwork": ("s", "o"),
        "GetDomain": ("s", "o"),
        "GetEndedDomain": ("s", "tssth"),
        "ListEndedDomains": ("", "a(tsusst)"),
        "GetUsage": ("", "a(ua{st})"),
        "GetLimits": ("", "a{st}"),
        "Probe": ("", ""),
    },
    NETWORK: {
        "GetHosts": ("", "a(ssss)"),
        "Connect": ("sq", "h"),
        "Listen": ("q", "h"),
        "OpenNamespaces": ("", "hh"),
        "Capture": ("s", "h"),
        "Destroy": ("", ""),
    },
    DOMAIN: {
        "OpenConsole": ("", "h"),
        "OpenLog": ("", "h"),
        "Screenshot": ("", "h"),
        "OpenVnc": ("", "h"),
        "OpenAgent": ("", "h"),
        "Pause": ("", ""),
        "Resume": ("", ""),
        "Reset": ("", ""),
        "Shutdown": ("", ""),
        "Wait": ("t", "ss"),
        "Describe": ("", "s"),
        "Destroy": ("", ""),
    },
    OBJECT_MANAGER: {"GetManagedObjects": ("", "a{oa{sa{sv}}}")},
}

PROPERTY_TYPES = {
    MANAGER: {"Version": "s", "Scope": "s", "Hypervisors": "a(sbs)", "Emulators": "a(ss)",
              "BootLoaders": "a(ss)", "Facts": "a(ssss)", "Dnsmasq": "s", "Pool": "s", "CallerUid": "u"},
    NETWORK: {"Name": "s", "Owner": "u", "State": "s", "Reason": "s", "Subnet": "s", "Gateway": "s", "Netmask": "s",
              "Ipv6Mode": "s", "Subnet6": "s", "Gateway6": "s", "DnsDomain": "s", "HostCount": "u", "DomainCount": "u",
              "CreatedUsec": "t"},
    DOMAIN: {"Name": "s", "Id": "t", "Owner": "u", "State": "s", "Hypervisor": "s", "Arch": "s", "Memory": "t",
             "Vcpus": "u", "Nics": "a(sss)", "OnPoweroff": "s", "OnReboot": "s", "CreatedUsec": "t"},
}


def interfaces_of(who, path):
    tree = ElementTree.fromstring(who.introspect(path))
    return {i.get("name"): i for i in tree.findall("interface")}


def check_interface(element, name):
    methods = {m.get("name"): m for m in element.findall("method")}
    assert set(methods) == set(METHODS[name])
    for method, (ins, outs) in METHODS[name].items():
        arguments = methods[method].findall("arg")
        assert "".join(a.get("type") for a in arguments if a.get("direction") != "out") == ins, method
        assert "".join(a.get("type") for a in arguments if a.get("direction") == "out") == outs, method
        names = [a.get("name") for a in arguments]
        assert all(names) and len(set(names)) == len(names), f"{method}: {names}"
    properties = {p.get("name"): p.get("type") for p in element.findall("property")}
    assert properties == PROPERTY_TYPES.get(name, {})
    assert all(p.get("access") == "read" for p in element.findall("property"))
    for signal in element.findall("signal"):
        assert all(a.get("name") for a in signal.findall("arg")), signal.get("name")


@pytest.fixture
def domain(create):
    return create()


def test_introspection(alice, network, create):
    objects = {PRIVOPS_PATH: [PRIVOPS], ROOT_PATH: [MANAGER, OBJECT_MANAGER], network_path(network.name): [NETWORK],
               domain_path(create()): [DOMAIN]}
    for path, names in objects.items():
        interfaces = interfaces_of(alice, path)
        for name in names:
            check_interface(interfaces[name], name)
        assert "org.freedesktop.DBus.Properties" in interfaces
        ours = {i for i in interfaces if not i.startswith("org.freedesktop.DBus.")} | (
            {OBJECT_MANAGER} & set(interfaces))
        assert ours == set(names)


def test_tree(broker, network, create):
    """busctl and gdbus find everything by themselves."""
    name = create()
    tree = broker.busctl("bob").run("tree", "--list", "com.googlecode.debmarshal")
    assert tree.returncode == 0, tree.stderr
    assert {ROOT_PATH, PRIVOPS_PATH, network_path(network.name), domain_path(name)} <= set(tree.stdout.split())
    bob = broker.people["bob"]
    result = subprocess.run(["gdbus", "introspect", "--address", broker.daemon.bus, "--dest",
                             "com.googlecode.debmarshal", "--object-path", ROOT_PATH, "--recurse"], text=True,
                            capture_output=True, check=False, timeout=30, env=bob.environment(),
                            **bob.popen_identity())
    assert result.returncode == 0, result.stderr
    assert MANAGER in result.stdout and NETWORK in result.stdout and DOMAIN in result.stdout


@pytest.mark.parametrize("path", ["/", "/com", ROOT_PATH + "/network/debmarshal_2d77", ROOT_PATH + "/domain/x", "/x"])
def test_unknown_objects(alice, path):
    refused("org.freedesktop.DBus.Error.UnknownObject", alice.call, path, NETWORK, "Destroy")


# ---- The manager ----


def test_manager_properties(broker, alice):
    p = alice.get_all(ROOT_PATH, MANAGER)
    assert set(p) == set(PROPERTY_TYPES[MANAGER])
    assert p["Scope"] == "system"
    assert p["CallerUid"] == alice.user.uid
    assert broker.caller("bob").get(ROOT_PATH, MANAGER, "CallerUid") == broker.people["bob"].uid
    assert os.access(p["Dnsmasq"], os.X_OK)
    hypervisors = {name: (usable, reason) for name, usable, reason in p["Hypervisors"]}
    assert hypervisors["qemu"] == (True, "") and hypervisors["null"] == (True, "")
    usable, reason = hypervisors["kvm"]
    assert usable or reason  # why not
    emulators = dict(p["Emulators"])
    assert os.access(emulators["x86_64"], os.X_OK)


def test_create_network_with_options(alice, bob):
    """Two users, the same subnet asked for: they are apart, so both get it."""
    nets = {}
    for who, mode in ((alice, "slaac"), (bob, "none")):
        name, path = who.manager("CreateNetwork", "asa{sv}", ["a", "b"], {"subnet": "192.168.77.0/28", "ipv6": mode})
        assert path == network_path(name) and who.manager("GetNetwork", "s", name) == path
        nets[who] = name
        p = who.get_all(path, NETWORK)
        assert p["Subnet"] == "192.168.77.0/28" and p["Gateway"] == "192.168.77.1" and p["Owner"] == who.user.uid
        assert p["Ipv6Mode"] == mode and bool(p["Subnet6"]) == (mode != "none")
        assert p["Netmask"] == "255.255.255.240" and p["HostCount"] == 2 and p["State"] == "up"
    for who, name in nets.items():
        who.network(name, "Destroy")


@pytest.mark.parametrize("options", [
    {"subnet": "10.0.0.1/24"}, {"subnet": "10.0.0.0"}, {"subnet": "10.0.0.0/31"}, {"subnet": "10.0.0.0/7"},
    {"subnet": "127.0.0.0/24"}, {"subnet": "224.0.0.0/24"}, {"subnet": "169.254.0.0/24"}, {"subnet": "0.0.0.0/24"},
    {"subnet": "10.0.0.0/24\n"}, {"subnet": "fd00::/64"}, {"subnet": 7}, {"subnet": "10.0.0.0/30"}, {"ipv6": "maybe"},
    {"ipv6": ""}, {"ipv6": True}, {"bogus": "x"},
])
def test_bad_network_options(alice, options):
    refused("InvalidInput", alice.manager, "CreateNetwork", "asa{sv}", ["a", "b"], options)


def test_get_unknown(alice):
    refused("NetworkNotFound", alice.manager, "GetNetwork", "s", "debmarshal-77")
    refused("DomainNotFound", alice.manager, "GetDomain", "s", "debmarshal-77")
    refused("DomainNotFound", alice.manager, "GetEndedDomain", "s", "debmarshal-77")


def test_usage(alice, bob, root, network, create):
    name = create(memory="96M", extra={"vcpus": 2})
    held = dict(root.manager("GetUsage"))[alice.user.uid]
    assert (held["networks"], held["domains"], held["memory"], held["vcpus"]) == (1, 1, 96 << 20, 2)
    assert dict(bob.manager("GetUsage"))[alice.user.uid] == held  # everybody may see
    alice.destroy_domain(name)
    held = alice.usage()
    assert (held["networks"], held["domains"], held["memory"], held["vcpus"]) == (1, 0, 0, 0)


def test_limits(alice, root):
    limits = alice.manager("GetLimits")
    assert set(limits) == {"networks", "domains", "memory", "vcpus", "streams", "connections", "vcpus_per_domain"}
    assert limits["networks"] == 64 and limits["memory"] == 64 << 30
    assert root.manager("GetLimits") == {}


# ---- Networks ----


def test_network_object(alice, bob, network):
    path = network_path(network.name)
    p = bob.get_all(path, NETWORK)
    assert p["Name"] == network.name and p["Owner"] == alice.user.uid and p["State"] == "up" and p["Reason"] == ""
    assert p["Gateway"] == network.gateway and p["Netmask"] == network.netmask
    assert p["DnsDomain"].startswith(network.name + ".") and p["DomainCount"] == 0
    hosts = alice.network(network.name, "GetHosts")
    assert [(n, a, m) for n, a, m, _ in hosts] == [(n, *network.hosts[n]) for n in ("one", "two")]
    assert all(six.startswith("fd") for *_, six in hosts)


def test_network_is_its_owners(bob, network):
    for method, signature, arguments in (("Connect", "sq", ("one", 22)), ("Listen", "q", (0,)),
                                         ("OpenNamespaces", "", ()), ("Capture", "s", ("",)), ("GetHosts", "", ()),
                                         ("Destroy", "", ())):
        refused("AccessDenied", bob.network, network.name, method, signature, *arguments)


def test_network_streams(alice, root, network):
    """A listener on the gateway, and a connection to it made inside the network."""
    import socket

    for who in (alice, root):
        with socket.socket(fileno=who.network(network.name, "Listen", "q", 0)) as listener:
            address, port = listener.getsockname()
            assert address == network.gateway
            listener.settimeout(5)
            with socket.socket(fileno=who.network(network.name, "Connect", "sq", network.gateway, port)) as ours:
                theirs, _ = listener.accept()
                with theirs:
                    ours.sendall(b"hello")
                    assert theirs.recv(16) == b"hello"
        refused("ConnectionFailed", who.network, network.name, "Connect", "sq", network.gateway, port)
    refused("InvalidInput", alice.network, network.name, "Connect", "sq", "nobody", 22)
    # Inside the network's namespace any address is harmless; nothing of the host answers.
    refused("ConnectionFailed", alice.network, network.name, "Connect", "sq", "127.0.0.1", 22)
    refused("InvalidInput", alice.network, network.name, "Connect", "sq", "one", 0)


def test_namespaces(alice, network):
    """Her network's namespaces, of which she is the administrator, and the host's are not."""
    user, net = alice.network(network.name, "OpenNamespaces")
    try:
        links = {os.readlink(f"/proc/self/fd/{fd}") for fd in (user, net)}
        assert len(links) == 2 and {link.partition(":")[0] for link in links} == {"user", "net"}
        assert not links & {os.readlink("/proc/self/ns/user"), os.readlink("/proc/self/ns/net")}
        entered = subprocess.run(["nsenter", f"--user=/proc/self/fd/{user}", f"--net=/proc/self/fd/{net}",
                                  "--preserve-credentials", "ip", "-json", "address"], pass_fds=[user, net], text=True,
                                 capture_output=True, check=False, **alice.user.popen_identity())
        assert entered.returncode == 0, entered.stderr
        addresses = [a["local"] for link in json.loads(entered.stdout) for a in link["addr_info"]]
        assert network.gateway in addresses
    finally:
        os.close(user)
        os.close(net)


def test_capture(alice, network):
    """A pcapng stream, which ends when its reader closes it (the leak check sees that it does)."""
    fd = alice.network(network.name, "Capture", "s", "")
    with os.fdopen(fd, "rb", buffering=0) as stream:
        assert stream.read(4) == b"\x0a\x0d\x0d\x0a"
    fd = alice.network(network.name, "Capture", "s", "")
    alice.destroy_network(network.name)
    with os.fdopen(fd, "rb") as stream:
        stream.read()  # to its end, which comes when the network goes


# ---- Domains ----


def test_domain_object(alice, bob, hypervisor, network, create):
    name = create(mac=network.mac("one"), memory="96M", extra={"vcpus": 2, "on_reboot": "destroy"})
    path = domain_path(name)
    assert alice.manager("GetDomain", "s", name) == path
    p = bob.get_all(path, DOMAIN)
    assert p["Name"] == name and p["Owner"] == alice.user.uid and p["State"] == "paused"
    assert p["Hypervisor"] == hypervisor and p["Memory"] == 96 << 20 and p["Vcpus"] == 2
    assert p["Nics"] == [(network.name, network.mac("one"), "one")]
    assert p["OnPoweroff"] == "destroy" and p["OnReboot"] == "destroy" and p["Arch"] == os.uname().machine
    description = json.loads(alice.domain(name, "Describe"))
    assert description["name"] == name and description["state"] == "paused" and description["id"] == p["Id"]
    assert alice.get(network_path(network.name), NETWORK, "DomainCount") == 1
    alice.domain(name, "Destroy")
    assert alice.get(network_path(network.name), NETWORK, "DomainCount") == 0
    refused("org.freedesktop.DBus.Error.UnknownObject", alice.domain, name, "Destroy")


def test_domain_ids_are_never_used_again(alice, create):
    first = create()
    first_id = alice.get(domain_path(first), DOMAIN, "Id")
    alice.destroy_domain(first)
    second = create()
    assert second == first and alice.get(domain_path(second), DOMAIN, "Id") > first_id


def test_domain_is_its_owners(bob, domain):
    for method in ("OpenConsole", "OpenLog", "Screenshot", "OpenVnc", "OpenAgent", "Pause", "Resume", "Reset", "Shutdown",
                   "Describe", "Destroy"):
        refused("AccessDenied", bob.domain, domain, method)
    refused("AccessDenied", bob.domain, domain, "Wait", "t", 0)


def test_properties_cannot_be_set(alice, domain):
    with pytest.raises(Exception) as info:
        alice.call(domain_path(domain), PROPERTIES, "Set", "ssv", DOMAIN, "Owner", 0)
    assert info.value.name in ("org.freedesktop.DBus.Error.PropertyReadOnly", "org.freedesktop.DBus.Error.AccessDenied")


def state_change(path, state):
    """Is a signal this one?"""

    def fits(signal):
        where, _, member, values = signal
        return where == path and member == "PropertiesChanged" and values[1].get("State") == state

    return fits


def test_pause_and_resume(alice, bob, domain):
    path = domain_path(domain)
    bob.take_signals()
    alice.domain(domain, "Resume")
    bob.take_signals(until=state_change(path, "running"))
    assert alice.get(path, DOMAIN, "State") == "running"
    alice.domain(domain, "Pause")
    bob.take_signals(until=state_change(path, "paused"))
    assert alice.get(path, DOMAIN, "State") == "paused"


def test_wait(alice, domain):
    refused("Timeout", alice.domain, domain, "Wait", "t", 50_000)
    timeouts = [0, 0, 2**64 - 1, 2**63]
    waiting = [alice.start(domain_path(domain), DOMAIN, "Wait", "t", t) for t in timeouts]
    alice.domain(domain, "Destroy")
    assert [w.result()[0] for w in waiting] == ["destroyed"] * len(timeouts)


def test_ended_domain(alice, bob, root, create):
    name = create()
    number = alice.get(domain_path(name), DOMAIN, "Id")
    alice.destroy_domain(name)
    ended_id, reason, _, ended_usec, log = alice.manager("GetEndedDomain", "s", name)
    os.close(log)
    assert (ended_id, reason) == (number, "destroyed") and ended_usec > 1_600_000_000_000_000
    for who in (alice, root):
        assert number in [row[0] for row in who.manager("ListEndedDomains")]
    refused("DomainNotFound", bob.manager, "GetEndedDomain", "s", name)
    assert bob.manager("ListEndedDomains") == []


def test_console_attaches_several(alice, domain):
    """Attach and detach; the daemon holds nothing afterwards (the leak check sees that)."""
    consoles = [Console(alice.domain(domain, "OpenConsole")) for _ in range(4)]
    for console in consoles[:2]:
        console.socket.close()
    alice.domain(domain, "Destroy")
    for console in consoles[2:]:
        while not console.ended:
            assert console.read(5) or console.ended
        console.socket.close()
    refused("org.freedesktop.DBus.Error.UnknownObject", alice.domain, domain, "OpenConsole")


# ---- Object manager and signals ----


def test_managed_objects(bob, network, create):
    name = create()
    objects = bob.objects()
    assert set(objects) - {PRIVOPS_PATH} == {network_path(network.name), domain_path(name)}
    assert set(objects[domain_path(name)][DOMAIN]) == set(PROPERTY_TYPES[DOMAIN])
    assert objects[network_path(network.name)][NETWORK]["Name"] == network.name


def added(path):
    return lambda s: s[2] == "InterfacesAdded" and s[3][0] == path


def removed(path):
    return lambda s: s[2] == "InterfacesRemoved" and s[3][0] == path


def test_signals_of_a_life(alice, bob, network, create):
    """Another user sees what is made and what goes, in order, and only whole."""
    bob.take_signals()
    name = create()
    seen = bob.take_signals(until=added(domain_path(name)))
    (values,) = [s[3] for s in seen if added(domain_path(name))(s)]
    assert set(values[1][DOMAIN]) == set(PROPERTY_TYPES[DOMAIN]) and values[1][DOMAIN]["State"] == "paused"
    alice.destroy_domain(name)
    seen = bob.take_signals(until=removed(domain_path(name)))
    (values,) = [s[3] for s in seen if removed(domain_path(name))(s)]
    assert DOMAIN in values[1]
    other = Net(alice.create_network([]))
    bob.take_signals(until=added(network_path(other.name)))
    alice.destroy_network(other.name)
    seen = bob.take_signals(until=removed(network_path(other.name)))
    assert not [s for s in seen if s[0] == network_path(other.name)], "a network that goes at once changes before"


def test_domain_count_is_announced(bob, network, create):
    def counts(n):
        return lambda s: s[0] == network_path(network.name) and s[2] == "PropertiesChanged" and \
            s[3][1].get("DomainCount") == n

    bob.take_signals()
    create()
    bob.take_signals(until=counts(1))


def test_failed_creation_is_never_announced(bob, create):
    bob.take_signals()
    refused("InvalidInput", create, disks=["/dev/null"])
    assert not [s for s in bob.take_signals() if s[2] == "InterfacesAdded" and DOMAIN in s[3][1]]


# ---- A real guest ----


def test_a_guests_life(alice, broker, image, network):
    """Console both ways, screenshot, VNC, agent's port, pause, reset, shutdown: one boot and one more for the reset."""
    name = alice.create_domain(network.name, memory="128M", mac=network.mac("one"), hypervisor="qemu",
                               extra=image.extra())
    try:
        with Console(alice.domain(name, "OpenConsole")) as first:
            first.expect(r"^DM-READY one ", 90)
            first.expect(r"DM# ", 10)
            first.send("echo $((41 + 1))\n")
            first.expect(r"^42\b", 20)
            with Console(alice.domain(name, "OpenConsole")) as second:
                second.expect(r"^42\b", 10)  # the replay
                second.send("echo from-$((1 + 1))\n")
                first.expect(r"^from-2\b", 20)
                second.expect(r"^from-2\b", 20)
            assert "from-2" in read_all(alice.domain(name, "OpenLog"))
            with os.fdopen(alice.domain(name, "Screenshot"), "rb") as picture:
                assert picture.read(8) == b"\x89PNG\r\n\x1a\n"
            with Console(alice.domain(name, "OpenVnc")) as vnc:
                vnc.expect(r"^RFB \d{3}\.\d{3}$", 10)
            os.close(alice.domain(name, "OpenAgent"))
            check_jail(broker, alice, name)
            alice.domain(name, "Pause")
            first.send("echo late-$((2 + 1))\n")
            assert "late-3" not in first.read(1)
            alice.domain(name, "Resume")
            first.expect(r"^late-3\b", 20)
            first.text = ""
            alice.domain(name, "Reset")
            first.expect(r"DM-READY one ", 90)
            ended = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0, timeout=60)
            alice.domain(name, "Shutdown")
            assert ended.result()[0] == "poweroff"
    finally:
        destroyed(alice.destroy_domain, name)


def check_jail(broker, alice, name):
    """The emulator: not root, nobody's uid, no capabilities, seccomp, none of the host's files or links."""
    pid = json.loads(alice.domain(name, "Describe"))["pid"]
    with open(f"/proc/{pid}/status", encoding="utf-8") as f:
        status = dict(line.split(":", 1) for line in f.read().splitlines())
    uids = {int(u) for u in status["Uid"].split()}
    assert len(uids) == 1 and not uids & {user.uid for user in broker.people.values()} | {0} & uids
    assert all(int(status[c], 16) == 0 for c in ("CapInh", "CapPrm", "CapEff", "CapAmb"))
    assert status["NoNewPrivs"].strip() == "1" and status["Seccomp"].strip() == "2"
    for kind in ("mnt", "net", "pid", "ipc", "uts"):
        assert os.readlink(f"/proc/{pid}/ns/{kind}") != os.readlink(f"/proc/self/ns/{kind}"), kind
    inside = os.listdir(f"/proc/{pid}/root")
    assert "home" not in inside and "root" not in inside and "work" not in inside
    with open(f"/proc/{pid}/net/dev", encoding="utf-8") as f:
        assert re.findall(r"^\s*(\w+):", f.read(), re.MULTILINE) in ([], ["lo"])
