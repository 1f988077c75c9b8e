"""The Privops interface, as its clients have always used it: python3-dbus and busctl, several users, a real system bus."""

import contextlib
import ipaddress
import os
import re
import signal
import socket
import sqlite3
import stat

import pytest

from caller import DOMAIN, MANAGER, PRIVOPS, PRIVOPS_PATH, ROOT_PATH, CallError, domain_path
from conftest import Net, destroyed, refused
from guests import Console, read_all
from leaks import processes_below, records

# ---- createNetwork ----


def test_network_answer(alice, network):
    """Addresses in the order given, from the gateway on; MAC addresses under Xen's prefix, each its own."""
    hosts = [f"h{n}" for n in range(20)]
    net = Net(alice.create_network(hosts))
    try:
        gateway = ipaddress.IPv4Address(net.gateway)
        subnet = ipaddress.IPv4Network(f"{net.gateway}/{net.netmask}", strict=False)
        assert gateway == subnet.network_address + 1
        assert list(net.hosts) == hosts
        assert [net.address(h) for h in hosts] == [str(gateway + 1 + n) for n in range(20)]
        assert all(re.fullmatch(r"00:16:3e(:[0-9a-f]{2}){3}", net.mac(h)) for h in hosts)
        assert len({net.mac(h) for h in hosts}) == 20
        # Room for the hosts, the gateway, the network's own and the broadcast address, and not much more.
        assert subnet.num_addresses == 32
        assert not subnet.overlaps(ipaddress.IPv4Network(f"{network.gateway}/{network.netmask}", strict=False))
    finally:
        alice.destroy_network(net.name)


def test_network_without_hosts(alice):
    net = Net(alice.create_network([]))
    assert net.hosts == {}
    assert ipaddress.IPv4Network(f"{net.gateway}/{net.netmask}", strict=False).num_addresses >= 4
    alice.destroy_network(net.name)


def test_network_with_many_hosts(alice):
    hosts = [f"host-{n}" for n in range(1000)]
    net = Net(alice.create_network(hosts))
    subnet = ipaddress.IPv4Network(f"{net.gateway}/{net.netmask}", strict=False)
    assert subnet.prefixlen == 22
    assert ipaddress.IPv4Address(net.address("host-999")) in subnet
    assert len(set(net.hosts.values())) == 1000
    alice.destroy_network(net.name)


def test_network_names_are_the_smallest_free(alice, bob, root):
    """Whoever asks, the number is shared by all."""
    names = [who.create_network([])[0] for who in (alice, bob, root)]
    assert names == ["debmarshal-0", "debmarshal-1", "debmarshal-2"]
    bob.destroy_network("debmarshal-1")
    assert alice.create_network([])[0] == "debmarshal-1"
    for name in ("debmarshal-0", "debmarshal-1"):
        alice.destroy_network(name)
    root.destroy_network("debmarshal-2")


@pytest.mark.parametrize("name", ["a", "A", "0a", "a-", "a--b", "x" * 63, "web-1", "UPPER"])
def test_good_host_names(alice, name):
    net = Net(alice.create_network([name]))
    assert list(net.hosts) == [name]
    alice.destroy_network(net.name)


@pytest.mark.parametrize("name", [
    "", "-a", "-", "a.b", "a_b", "a b", " a", "a ", "a\n", "\na", "a\nb", "a\r", "a\t", "x" * 64, pytest.param("x" * 100000, id="huge"), "é",
    "a,b", "a=b", "a/b", "..", "a;b", "$(id)", "a%n", "--help", "a#", 'a"', "a\x7f", "a\x01", "\U0001f427",
])
def test_bad_host_names(alice, name):
    refused("InvalidInput", alice.create_network, ["good", name])


@pytest.mark.parametrize("hosts", [["a", "a"], ["a", "b", "A"], ["Web", "wEB"]])
def test_host_names_twice(alice, hosts):
    assert hosts[-1].lower() in refused("InvalidInput", alice.create_network, hosts).lower()


def test_too_many_hosts(alice):
    assert "4096" in refused("InvalidInput", alice.create_network, [f"h{n}" for n in range(10000)])


def test_wrong_signature_is_refused(alice):
    for method, signature, arguments in (("createNetwork", "s", ["a"]), ("createNetwork", "", []),
                                         ("destroyNetwork", "u", [1]), ("createDomain", "s", ["x"]),
                                         ("destroyDomain", "s", ["x"])):
        with pytest.raises(CallError) as info:
            alice.call(PRIVOPS_PATH, PRIVOPS, method, signature, *arguments)
        assert info.value.name == "org.freedesktop.DBus.Error.InvalidArgs"


# ---- destroyNetwork ----


@pytest.mark.parametrize("name", ["debmarshal-77", "", "debmarshal", "debmarshal-", "debmarshal-00", "debmarshal--1",
                                  "debmarshal-0\n", "../debmarshal-0", "debmarshal-99999999999999999999", "é", "a,b"])
def test_destroy_unknown_network(alice, root, name):
    refused("NetworkNotFound", alice.destroy_network, name)
    refused("NetworkNotFound", root.destroy_network, name)


def test_destroy_network_of_another(alice, bob, root, network):
    assert network.name in refused("AccessDenied", bob.destroy_network, network.name)
    assert network.name in alice.network_names()
    root.destroy_network(network.name)
    assert network.name not in alice.network_names()
    refused("NetworkNotFound", alice.destroy_network, network.name)


def users_of(network, who):
    """Who the refusal to destroy the network names."""
    message = refused("NetworkInUse", who.destroy_network, network.name)
    return re.findall(r"debmarshal-\d+", message.partition(network.name)[2])


def test_destroy_network_in_use(alice, root, network, create):
    first, second = create(), create(disks=[alice.user.disk("second.img")])
    for who in (alice, root):
        assert users_of(network, who) == [first, second]
    alice.destroy_domain(first)
    assert users_of(network, alice) == [second]
    alice.destroy_domain(second)
    alice.destroy_network(network.name)


# ---- createDomain: what is accepted ----


def test_domain_lives_and_dies(alice, bob, hypervisor, network, create):
    name = create()
    assert name == "debmarshal-0"
    assert create(disks=[alice.user.disk("b.img")]) == "debmarshal-1"
    for who in (alice, bob):  # everybody may see
        assert who.domain_names() == ["debmarshal-0", "debmarshal-1"]
    alice.destroy_domain(name, hypervisor)
    assert alice.domain_names() == ["debmarshal-1"]
    assert create() == "debmarshal-0"


def test_best_hypervisor_that_works(alice, network, disk):
    """Kvm where a guest runs on it, else qemu: never the one for tests."""
    usable = [name for name, works, _ in alice.get(ROOT_PATH, MANAGER, "Hypervisors") if works]
    name = alice.create_domain(network.name, disks=[disk], extra={"paused": True})
    p = alice.get_all(domain_path(name), DOMAIN)
    assert p["Hypervisor"] == ("kvm" if "kvm" in usable else "qemu")
    assert p["Arch"] == os.uname().machine
    alice.destroy_domain(name, p["Hypervisor"])


def test_domain_is_recorded_with_its_owner(broker, alice, create):
    name = create()
    path = os.path.join(broker.daemon.runtime_dir, "state.db")
    mode = os.stat(path)
    assert stat.S_IMODE(mode.st_mode) == 0o600 and mode.st_uid == 0
    rows = [row for row in records(path)["domain"] if name in row]
    assert len(rows) == 1 and alice.user.uid in rows[0]


@pytest.mark.parametrize("memory,size", [("64M", 64 << 20), ("128MiB", 128 << 20), ("131072k", 128 << 20),
                                         ("131072KiB", 128 << 20), ("64m", 64 << 20), ("64MB", 64 << 20)])
def test_memory_forms(alice, create, memory, size):
    name = create(memory=memory)
    assert alice.get(domain_path(name), DOMAIN, "Memory") == size


def test_reserved_mac(alice, network, create):
    name = create(mac=network.mac("two").upper())
    assert alice.get(domain_path(name), DOMAIN, "Nics") == [(network.name, network.mac("two"), "two")]


def test_random_mac(alice, network, create):
    ((net, mac, host),) = alice.get(domain_path(create()), DOMAIN, "Nics")
    assert net == network.name and host == ""
    assert mac not in [network.mac(h) for h in network.hosts]
    assert int(mac[:2], 16) & 1 == 0


def test_read_only_disk(alice, bob, broker, create):
    """What the caller may only read is fine when it is asked for so."""
    path = broker.people["bob"].disk("public.img", mode=0o644)
    os.chmod(broker.people["bob"].home, 0o755)
    try:
        refused("AccessDenied", create, disks=[path])
        create(disks=[path], extra={"disk_formats": ["raw:ro"]})
    finally:
        os.chmod(broker.people["bob"].home, 0o700)


# ---- createDomain: what is refused ----


@pytest.mark.parametrize("memory", ["", "512", "0M", "-1M", "M", "1.5G", "64M ", " 64M", "64M\n", "64X", "64MM", "0x40M",
                                    "1e3M", "+64M", "64MiBB", "99999999999999999999G", "18446744073709551615T", "٦٤M"])
def test_bad_memory(alice, create, memory):
    assert "memory" in refused("InvalidInput", create, memory=memory)


def test_disks_must_be_files_of_the_callers(broker, alice, create):
    home = alice.user.home
    os.mkfifo(f"{home}/fifo", 0o666)
    os.mkdir(f"{home}/dir", 0o777)
    os.symlink("loop", f"{home}/loop")
    os.symlink("/etc/shadow", f"{home}/shadow")
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(f"{home}/socket")
    for name in ("fifo", "dir", "socket"):
        os.chown(f"{home}/{name}", alice.user.uid, alice.user.gid)
    mine = alice.user.disk("mine.img")
    bobs = broker.people["bob"].disk("bobs.img", mode=0o666)  # in a home that is closed to others
    read_only = alice.user.disk("read-only.img", mode=0o400)
    wrong = {
        "InvalidInput": [f"{home}/fifo", f"{home}/dir", f"{home}/socket", f"{home}/loop", f"{home}/none", f"{mine}/",
                         "/dev/null", "/dev/zero", "/proc/self/mem", "/proc/version", "/proc/self/fd/0", "/dev/stdin",
                         "/sys/kernel/notes", "relative.img", "", "json:{}", "nbd:localhost:1", f"{home}/a,b=c\n"],
        "AccessDenied": [bobs, read_only, "/etc/shadow", f"{home}/shadow", "/etc/passwd",
                         os.path.join(broker.daemon.runtime_dir, "state.db")],
    }
    try:
        for error, paths in wrong.items():
            for path in paths:
                with pytest.raises(CallError) as info:
                    create(disks=[path])
                assert info.value.name == error, f"{path!r}: {info.value}"
        assert f"uid {alice.user.uid}" in refused("AccessDenied", create, disks=[bobs])
        assert "used twice" in refused("InvalidInput", create, disks=[mine, mine])
    finally:
        listener.close()
        os.unlink(f"{home}/socket")
        os.unlink(f"{home}/fifo")
        os.rmdir(f"{home}/dir")
        os.unlink(f"{home}/loop")
        os.unlink(f"{home}/shadow")


def test_too_many_disks(alice, create):
    refused("InvalidInput", create, disks=[alice.user.disk(f"disk{n}.img") for n in range(17)])


def test_disk_name_that_means_something_elsewhere(alice, create):
    """Commas, equals signs, percent signs and dashes in a file name are only a file name."""
    for name in ("a,file=b", "-drive", "%s%n", "a b", "日本", "x,readonly=on,,", "id=a:b"):
        create(disks=[alice.user.disk(name)])


def test_network_must_exist_and_be_the_callers(broker, bob, root, network, create):
    refused("NetworkNotFound", create, network="debmarshal-77")
    refused("NetworkNotFound", create, network="")
    refused("NetworkNotFound", create, network="x,y")
    refused("AccessDenied", create, who=bob, disks=[broker.people["bob"].disk()])
    # Root is no exception here.
    refused("AccessDenied", create, who=root, disks=[broker.people["root"].disk()])


@pytest.mark.parametrize("mac", ["00:16:3e:00:00", "00:16:3e:00:00:00:00", "00163e000000", "00-16-3e-00-00-00",
                                 "01:00:5e:00:00:01", "ff:ff:ff:ff:ff:ff", "00:00:00:00:00:00", "0:16:3e:0:0:1",
                                 "00:16:3e:00:00:0g", "00:16:3e:00:00:01\n", " 00:16:3e:00:00:01", "x", ","])
def test_bad_mac(create, mac):
    assert "MAC" in refused("InvalidInput", create, mac=mac)


def test_mac_in_use(alice, network, create):
    first = create(mac=network.mac("one"))
    second = alice.user.disk("second.img")
    message = refused("InvalidInput", create, mac=network.mac("one"), disks=[second])
    assert network.mac("one") in message
    alice.destroy_domain(first)
    create(mac=network.mac("one"), disks=[second])


def test_kernel_and_initrd_come_together(alice, create):
    kernel, initrd = alice.user.file("vmlinuz", b"kernel"), alice.user.file("initrd", b"initrd")
    refused("InvalidInput", create, extra={"kernel": kernel})
    refused("InvalidInput", create, extra={"initrd": initrd})
    refused("InvalidInput", create, extra={"cmdline": "quiet"})
    secret = alice.user.file("secret", b"x", mode=0)
    refused("AccessDenied", create, extra={"kernel": kernel, "initrd": secret})
    refused("AccessDenied", create, extra={"kernel": "/etc/shadow", "initrd": initrd})
    refused("InvalidInput", create, extra={"kernel": "/dev/null", "initrd": initrd})


@pytest.mark.parametrize("extra", [
    {"unknown": "x"}, {"": "x"}, {"Kernel": "/x"}, {"on_poweroff": "preserve"}, {"on_poweroff": ""}, {"on_reboot": 1},
    {"on_reboot": "destroy\n"}, {"vcpus": "2"}, {"vcpus": 0}, {"vcpus": -1}, {"vcpus": True}, {"kernel": 7},
    {"cmdline": ["x"]}, {"paused": "yes"}, {"disk_formats": ["vmdk"]}, {"disk_formats": ["raw", "raw"]},
    {"disk_formats": "raw"}, {"firmware": "coreboot"}, {"nics": "x"}, {"nics": [","]}, {"vnc_password": "123456789"},
])
def test_bad_extra(create, extra):
    refused("InvalidInput", create, extra=extra)


def test_unknown_extra_key_says_which_are_known(create):
    message = refused("InvalidInput", create, extra={"bogus": "x"})
    for key in ("bogus", "kernel", "initrd", "cmdline", "on_poweroff", "on_reboot"):
        assert key in message


def test_unknown_hypervisor_and_arch(create):
    assert "vmware" in refused("NotSupported", create, hypervisor="vmware")
    for hypervisor in ("q,emu", "../qemu", "qemu\n"):
        refused("InvalidInput", create, hypervisor=hypervisor)
    assert "z80" in refused("NotSupported", create, hypervisor="qemu", arch="z80")
    refused("InvalidInput", create, arch="x86_64/../../x")


def test_refused_domain_leaves_the_name_free(create):
    refused("InvalidInput", create, disks=["/dev/null"])
    assert create() == "debmarshal-0"


# ---- destroyDomain ----


@pytest.mark.parametrize("name", ["debmarshal-77", "", "debmarshal-00", "debmarshal-0\n", "../x", "é"])
def test_destroy_unknown_domain(alice, root, name):
    for hypervisor in ("", "qemu", "null"):
        refused("DomainNotFound", alice.destroy_domain, name, hypervisor)
    refused("DomainNotFound", root.destroy_domain, name, "")


def test_destroy_domain_of_another(alice, bob, root, hypervisor, create):
    name = create()
    assert name in refused("AccessDenied", bob.destroy_domain, name, hypervisor)
    other = {"null": "qemu", "qemu": "null"}[hypervisor]
    refused("DomainNotFound", alice.destroy_domain, name, other)
    assert alice.domain_names() == [name]
    root.destroy_domain(name, hypervisor)
    assert alice.domain_names() == []
    refused("DomainNotFound", alice.destroy_domain, name)


# ---- State survives the daemon ----


def test_daemon_killed(broker, alice, bob, network, create):
    """After a crash everything is there, is whose it was, and answers."""
    name = create(mac=network.mac("one"))
    before = alice.get_all(domain_path(name), DOMAIN)
    broker.restart(kill=True)
    assert alice.domain_names() == [name] and alice.network_names() == [network.name]
    assert alice.get_all(domain_path(name), DOMAIN) == before
    refused("AccessDenied", bob.destroy_domain, name)
    refused("AccessDenied", bob.destroy_network, network.name)
    refused("NetworkInUse", alice.destroy_network, network.name)
    refused("InvalidInput", create, mac=network.mac("one"), disks=[alice.user.disk("second.img")])
    assert create(disks=[alice.user.disk("second.img")]) == "debmarshal-1"
    broker.restart(kill=False)
    assert len(alice.domain_names()) == 2


def test_after_a_reboot_there_is_nothing(broker, alice, root, network, create):
    """Another boot id in the store, and none of the processes: no record is left, and nothing is in the way."""
    create()
    broker.daemon.stop_well()
    for process in processes_below(known=broker.known()).values():
        with contextlib.suppress(ProcessLookupError):  # a server goes with its keeper
            os.kill(process.pid, signal.SIGKILL)
    database = sqlite3.connect(os.path.join(broker.daemon.runtime_dir, "state.db"))
    with database:
        database.execute("UPDATE meta SET value = 'of-another-boot' WHERE key = 'boot_id'")
    database.close()
    broker.daemon.start()
    broker.served()
    assert root.objects().keys() <= {PRIVOPS_PATH}
    assert root.manager("ListEndedDomains") == []
    assert alice.create_network([])[0] == network.name


# ---- busctl ----


def busctl_refused(busctl, name, message, *arguments):
    """What busctl itself prints is the message alone; its library's debug log has the error's name."""
    environment = {**busctl.user.environment(), "SYSTEMD_LOG_LEVEL": "debug"}
    with pytest.MonkeyPatch.context() as patch, pytest.raises(RuntimeError, match=message) as info:
        patch.setattr(busctl.user, "environment", lambda: environment)
        busctl.call(*arguments)
    assert f" error-name=com.googlecode.debmarshal.Error.{name} " in str(info.value)


def test_busctl(broker, network):
    """The signatures and the names of errors, exactly, from a client that knows nothing of us."""
    alice, bob = broker.busctl("alice"), broker.busctl("bob")
    face = ("/com/googlecode/debmarshal/Privops", "com.googlecode.debmarshal.Privops")
    signature, ((name, gateway, _, hosts),) = alice.call(*face, "createNetwork", "as", "2", "web", "db")
    assert signature == "(sssa{s(ss)})"
    assert sorted(hosts) == ["db", "web"] and len(hosts["web"]) == 2
    assert int(ipaddress.ip_address(hosts["web"][0])) == int(ipaddress.ip_address(gateway)) + 1
    busctl_refused(bob, "AccessDenied", name, *face, "destroyNetwork", "s", name)
    disk = broker.people["alice"].disk("busctl.img")
    signature, (domain,) = alice.call(*face, "createDomain", "sasssssa{sv}", "64M", "1", disk, name, hosts["web"][1],
                                      "null", "", "1", "on_poweroff", "s", "destroy")
    assert signature == "s" and re.fullmatch(r"debmarshal-\d+", domain)
    busctl_refused(alice, "NetworkInUse", "in use by domain " + domain, *face, "destroyNetwork", "s", name)
    assert alice.call(*face, "destroyDomain", "ss", domain, "null") == ("", [])
    assert alice.call(*face, "destroyNetwork", "s", name) == ("", [])
    busctl_refused(alice, "NetworkNotFound", name, *face, "destroyNetwork", "s", name)


def test_the_daemons_own_socket(broker, alice, network):
    """The same interface where there is no bus; the kernel vouches for the caller."""
    direct = broker.caller("bob", peer=True)
    try:
        refused("AccessDenied", direct.destroy_network, network.name)
        name = direct.create_network(["x"])[0]
        refused("AccessDenied", alice.destroy_network, name)
        broker.caller("bob").destroy_network(name)
    finally:
        broker.forget_caller("bob", peer=True)


# ---- A real guest ----


def test_real_guest(alice, bob, image, network):
    """It gets its reserved address and its host's name, and knows the others by name; when it has powered itself off it is gone from the list, and its
    owner, and nobody else, can read how it ended."""
    name = alice.create_domain(network.name, memory="128M", mac=network.mac("two"), hypervisor="qemu",
                               extra=image.extra(run="nslookup one; echo hello $((6 * 7)); exit 3", end="poweroff"))
    ended = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0, timeout=120)
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect(rf"^DM-READY two {re.escape(network.address('two'))}\b", 90)
        console.expect(rf"^Address.*{re.escape(network.address('one'))}\b", 20)
        console.expect(r"^hello 42")
        console.expect(r"^DM-RC 3\b")
    assert ended.result(120)[0] == "poweroff"
    assert name not in alice.domain_names()
    refused("DomainNotFound", alice.destroy_domain, name)
    _, reason, _, _, log = alice.manager("GetEndedDomain", "s", name)
    assert reason == "poweroff"
    assert "hello 42" in read_all(log)
    refused("DomainNotFound", bob.manager, "GetEndedDomain", "s", name)
