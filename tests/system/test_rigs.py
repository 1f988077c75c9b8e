"""What guests can reach: each other, by name, at the addresses that were promised, and nothing else whatever.

Four guests stand for the whole file: two users' networks with the same subnet and the same host names.
"""

import ipaddress
import os
import re
import select
import socket
import subprocess
import time
from types import SimpleNamespace

import pytest

from caller import NETWORK
from conftest import refused, run_inside
from guests import SERVE, Guest
from leaks import keeper_of

# Other runs on this host at the same time have other addresses.
RUN = os.getpid()
SUBNET = f"192.168.{RUN % 250}.0/28"
HOSTS = ["web", "db"]
# Of the host, in no network's subnet but the last, which is in ours.
OUTSIDE = [f"198.18.{RUN >> 8 & 255}.{RUN & 255}", f"fd0e:bad::{RUN >> 16:x}:{RUN & 0xffff:x}",
           f"192.168.{RUN % 250}.13"]


IPV6_IS_THERE = "until ip -6 address show dev eth0 scope global | grep -q inet6; do sleep 0.1; done"


class Rig:
    """One user's network with a guest for each host name; each guest serves a page that tells whose it is."""

    def __init__(self, who, image):
        self.who = who
        self.name, self.path = who.manager("CreateNetwork", "asa{sv}", HOSTS, {"subnet": SUBNET})
        self.hosts = {name: rest for name, *rest in who.network(self.name, "GetHosts")}  # address, MAC, IPv6 address
        self.properties = who.get_all(self.path, NETWORK)
        self.gateway = self.properties["Gateway"]
        self.starting = [who.start_domain(self.name, "96M", mac=self.hosts[h][1], hypervisor="qemu",
                                          extra=image.extra(run=SERVE)) for h in HOSTS]
        self.guests = {}

    def token(self, host):
        return f"{host} of {self.who.user.nick}"

    def wait(self):
        for host, pending in zip(HOSTS, self.starting):
            self.guests[host] = Guest(self.who, pending.result())
        for host, guest in self.guests.items():
            guest.ready()
            guest.run(IPV6_IS_THERE)
            guest.run(f"mkdir -p /srv; echo '{self.token(host)}' >/srv/index.html; httpd -h /srv")

    def __getattr__(self, host):
        return self.guests[host]

    def destroy(self):
        for guest in self.guests.values():
            guest.console.socket.close()
            self.who.destroy_domain(guest.name)
        self.who.destroy_network(self.name)


class HostServer:
    """Listens on every address of the host, the ones of OUTSIDE included, and must never be reached from a network."""

    def __init__(self):
        self.socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port = self.socket.getsockname()[1]
        for address in OUTSIDE:
            subprocess.run(["ip", "address", "replace", address, "dev", "lo"], check=True)

    def is_called(self):
        return bool(select.select([self.socket], [], [], 0)[0])

    def check_it_works(self):
        """Seen from the host itself all is there, so that not to reach it means something."""
        for address in OUTSIDE:
            with socket.create_connection((address, self.port), 5):
                self.socket.accept()[0].close()

    def close(self):
        self.socket.close()
        for address in OUTSIDE:
            prefix = ipaddress.ip_address(address).max_prefixlen
            subprocess.run(["ip", "address", "del", f"{address}/{prefix}", "dev", "lo"], check=False)


@pytest.fixture(scope="module")
def outside():
    server = HostServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def rigs(broker, image, outside):
    """(alice's, bob's)"""
    with broker.standing() as made:
        pair = [Rig(broker.caller(nick), image) for nick in ("alice", "bob")]
        for rig in pair:
            rig.wait()
        made()
        yield pair
        for rig in pair:
            rig.destroy()


@pytest.fixture
def rig(rigs):
    return rigs[0]


# ---- Addresses ----


def test_reserved_addresses(rigs):
    """Exactly those of createNetwork's answer: by DHCP, and by the MAC's own IPv6 address."""
    for rig in rigs:
        for host in HOSTS:
            address, mac, address6 = rig.hosts[host]
            guest = rig.guests[host]
            assert (guest.host, guest.address) == (host, address)
            assert guest.run("cat /sys/class/net/eth0/address").strip() == mac
            assert re.findall(r"inet (\S+)", guest.run("ip -4 address show dev eth0")) == [f"{address}/28"]
            six = re.findall(r"inet6 (\S+)", guest.run("ip -6 address show dev eth0 scope global"))
            assert six == [f"{address6}/64"]
            assert ipaddress.ip_address(address6) in ipaddress.ip_network(rig.properties["Subnet6"])


def test_same_subnet_for_both(rigs):
    alice, bob = rigs
    assert [r.properties["Subnet"] for r in rigs] == [SUBNET] * 2
    assert [alice.hosts[h][0] for h in HOSTS] == [bob.hosts[h][0] for h in HOSTS]
    assert not {alice.hosts[h][1] for h in HOSTS} & {bob.hosts[h][1] for h in HOSTS}


def test_foreign_mac_gets_no_address(rig):
    """Only a reserved one does."""
    ask = "udhcpc -i eth0 -n -q -t 3 -T 1 -s /bin/true"
    rig.db.run(ask)
    set_mac = "ip link set eth0 down; ip link set eth0 address {}; ip link set eth0 up"
    rig.db.run(set_mac.format("00:16:3e:77:77:77"))
    status, output = rig.db.try_(ask)
    assert status != 0 and "no lease" in output
    rig.db.run(set_mac.format(rig.hosts["db"][1]))
    rig.db.run(ask)
    rig.db.run(IPV6_IS_THERE)


# ---- Names ----


def test_names(rigs):
    for rig in rigs:
        address, _, address6 = rig.hosts["db"]
        for name in ("db", f"db.{rig.properties['DnsDomain']}", "DB"):
            assert f"({address})" in rig.web.run(f"ping -4 -c 1 -W 5 {name}")
            assert f"({address6})" in rig.web.run(f"ping -6 -c 1 -W 5 {name}")
        assert "web" in rig.web.run(f"nslookup {rig.hosts['web'][0]}")  # and back


def test_each_reaches_her_own_peer(rigs):
    """Same names, same addresses, two worlds."""
    for rig in rigs:
        for place in ("db", rig.hosts["db"][0], f"[{rig.hosts['db'][2]}]"):
            assert rig.web.run(f"wget -q -O - http://{place}/").strip() == rig.token("db")


@pytest.mark.parametrize("name", ["nosuch", "deb.debian.org", "localhost.localdomain", "1.1.1.1.in-addr.arpa"])
def test_unknown_names(rig, name):
    """The answer is no, at once, from our server: it asks nobody."""
    begun = time.monotonic()
    status, output = rig.web.try_(f"nslookup {name}")
    assert status != 0 and "NXDOMAIN" in output
    assert time.monotonic() - begun < 3


# ---- Isolation ----


def reached(guest, addresses, port):
    """Which of them it gets through to, by TCP or by a ping; all at once."""
    tries = "".join(f"(nc -w 2 {a} {port} </dev/null && echo REACHED {a}) & (ping -c 1 -W 2 {a} >/dev/null && echo "
                    f"REACHED {a}) & " for a in addresses)
    return set(re.findall(r"REACHED (\S+)", guest.run(f"({tries} wait) 2>/dev/null")))


def test_the_host_is_out_of_reach(broker, rig, outside):
    outside.check_it_works()
    assert "default" not in rig.web.run("ip route; ip -6 route")
    # Or the following would not mean anything.
    assert reached(rig.web, [rig.hosts["db"][0], rig.hosts["db"][2]], 80) == {rig.hosts["db"][0], rig.hosts["db"][2]}
    assert not reached(rig.web, OUTSIDE, outside.port)
    # What root in the guest can do about it, and then the owner of the network inside it.
    rig.web.run(f"ip route add default via {rig.gateway}; ip -6 route add default via {rig.properties['Gateway6']}")
    try:
        assert not reached(rig.web, OUTSIDE, outside.port)
        forward = "echo 1 >/proc/sys/net/ipv4/ip_forward; echo 1 >/proc/sys/net/ipv6/conf/all/forwarding"
        inside = run_inside(broker, rig, "sh", "-c", f"{forward}; ip route add default dev br0")
        assert inside.returncode == 0, inside.stderr
        assert not reached(rig.web, OUTSIDE, outside.port)
    finally:
        rig.web.run("ip route del default; ip -6 route del default")
        run_inside(broker, rig, "ip", "route", "del", "default")
    assert not outside.is_called()


def test_the_gateway_is_not_the_host(rig, outside):
    """It answers for its name server only."""
    assert rig.web.try_(f"nc -w 2 {rig.gateway} {outside.port} </dev/null")[0] != 0
    assert rig.web.try_(f"nc -w 2 {rig.gateway} 53 </dev/null")[0] == 0


def test_another_rig_is_out_of_reach(rigs):
    """Bob has one more network; alice's guest cannot reach a listener there, with any route that it can make."""
    alice, bob = rigs
    name, path = bob.who.manager("CreateNetwork", "asa{sv}", ["x"], {})
    other = bob.who.get_all(path, NETWORK)
    gateways = [other["Gateway"], other["Gateway6"]]
    try:
        with socket.socket(fileno=bob.who.network(name, "Listen", "q", 8080)) as listener:
            assert not reached(alice.web, gateways, 8080)
            alice.web.run(f"ip route add {gateways[0]}/32 via {alice.gateway}; "
                          f"ip -6 route add {gateways[1]}/128 via {alice.properties['Gateway6']}")
            assert not reached(alice.web, gateways, 8080)
            assert not select.select([listener], [], [], 0)[0]
            os.close(bob.who.network(name, "Connect", "sq", gateways[0], 8080))  # it does listen
            assert select.select([listener], [], [], 5)[0]
    finally:
        bob.who.destroy_network(name)


# ---- The owner inside ----


def nsenter(user, pid):
    program = ["nsenter", f"--user=/proc/{pid}/ns/user", f"--net=/proc/{pid}/ns/net", "--preserve-credentials"]
    return subprocess.run([*program, "ip", "-o", "-4", "address"], env=user.environment(), text=True,
                          capture_output=True, check=False, **user.popen_identity())


def test_only_the_owner_enters(broker, rigs):
    """With the host's own tools: the kernel says who may."""
    alice, bob = (broker.people[n] for n in ("alice", "bob"))
    pid = keeper_of(rigs[0].name).pid
    entered = nsenter(alice, pid)
    assert entered.returncode == 0 and rigs[0].gateway in entered.stdout, entered.stderr
    refusal = nsenter(bob, pid)
    assert refusal.returncode != 0 and re.search("not permitted|ermission denied", refusal.stderr)
    refused("AccessDenied", rigs[1].who.network, rigs[0].name, "OpenNamespaces")
    denied = run_inside(broker, rigs[0], "true", nick="bob")
    assert denied.returncode != 0 and rigs[0].name in denied.stderr


def test_the_owner_is_the_administrator_inside(broker, rig):
    """And takes part as one more machine: names are resolved as for the guests."""
    shown = run_inside(broker, rig, "sh", "-c", "ip link add one type veth peer name two && ip link del one && "
                       "cat /etc/resolv.conf && getent ahosts db && id -u")
    assert shown.returncode == 0, shown.stderr
    assert f"nameserver {rig.gateway}" in shown.stdout and shown.stdout.endswith("\n0\n")
    assert rig.hosts["db"][0] in shown.stdout and rig.hosts["db"][2] in shown.stdout


def packets(data, expression, *options):
    """What tcpdump makes of a pcapng stream, a line for each packet."""
    result = subprocess.run(["tcpdump", "-n", "-t", *options, "-r", "-", *expression.split()], input=data,
                            capture_output=True, check=True)
    return result.stdout.decode().splitlines()


def read_until(fd, condition, timeout=10):
    """Collect from a pipe until what came fits."""
    data, deadline = b"", time.monotonic() + timeout
    while not condition(data):
        left = deadline - time.monotonic()
        if left < 0 or not select.select([fd], [], [], left)[0]:
            break
        data += os.read(fd, 1 << 16)
    return data


def test_capture(rig):
    """Everything on the network, each frame once."""
    fd = rig.who.network(rig.name, "Capture", "s", "")
    try:
        rig.web.run("ping -4 -c 3 -i 0.2 -W 5 db")
        rig.web.run("udhcpc -i eth0 -n -q -t 3 -T 1 -s /bin/true")
        data = read_until(fd, lambda d: len(d) > 100 and any(" Reply" in p for p in packets(d, "port 67")[1:]))
    finally:
        os.close(fd)
    pings = packets(data, "icmp[icmptype] == icmp-echo or icmp[icmptype] == icmp-echoreply")
    assert len(pings) == len(set(pings)) == 6, pings
    web, db = rig.hosts["web"][0], rig.hosts["db"][0]
    assert sum(f"{web} > {db}: ICMP echo request" in p for p in pings) == 3
    assert sum(f"{db} > {web}: ICMP echo reply" in p for p in pings) == 3
    dhcp = "\n".join(packets(data, "port 67", "-v"))
    for kind in ("Discover", "Offer", "Request", "ACK"):
        assert len(re.findall(rf"DHCP-Message.*{kind}", dhcp)) == 1, dhcp
    assert rig.hosts["web"][1] in dhcp


def test_capture_of_one_tap(rig, broker):
    """One guest's frames only."""
    links = run_inside(broker, rig, "ip", "-o", "link", "show", "master", "br0")
    taps = re.findall(r"^\d+: (\S+?)[:@]", links.stdout, re.MULTILINE)
    assert len(taps) == 2, links
    ends = []
    for tap in taps:
        fd = rig.who.network(rig.name, "Capture", "s", tap)
        try:
            rig.web.run(f"ping -4 -c 1 -W 5 {rig.gateway}")
            data = read_until(fd, lambda d: len(d) > 100 and len(packets(d, "icmp")) >= 2, timeout=1)
        finally:
            os.close(fd)
        ends.append(len(packets(data, "icmp")))
    assert sorted(ends) == [0, 2]
    refused("InvalidInput", rig.who.network, rig.name, "Capture", "s", "nosuch0")


# ---- Connections between the host's users and their guests ----


def http_get(connection):
    connection.sendall(b"GET / HTTP/1.0\r\n\r\n")
    answer = b""
    while chunk := connection.recv(4096):
        answer += chunk
    return answer.decode().rpartition("\r\n\r\n")[2].strip()


def test_connect(rigs):
    for rig in rigs:
        for host in ("db", rig.hosts["db"][0], rig.hosts["db"][2]):
            with socket.socket(fileno=rig.who.network(rig.name, "Connect", "sq", host, 80)) as connection:
                assert http_get(connection) == rig.token("db")
    refused("ConnectionFailed", rigs[0].who.network, rigs[0].name, "Connect", "sq", "db", 81)
    refused("AccessDenied", rigs[1].who.network, rigs[0].name, "Connect", "sq", "db", 80)


def test_listen(rig):
    """A guest comes to its owner."""
    with socket.socket(fileno=rig.who.network(rig.name, "Listen", "q", 0)) as listener:
        port = listener.getsockname()[1]
        rig.web.begin(f"echo hello | nc -w 5 {rig.gateway} {port}")
        listener.settimeout(20)
        connection, (peer, _) = listener.accept()
        with connection:
            assert peer == rig.hosts["web"][0]
            assert connection.recv(100) == b"hello\n"
            connection.sendall(b"good day\n")
            connection.shutdown(socket.SHUT_WR)
            assert rig.web.finish() == (0, "good day\n")


# ---- DHCPv6 ----


def test_dhcpv6(broker):
    """Where it is asked for, a reserved MAC gets its reserved address of this kind too. The client is the owner's own,
    behind a port that she adds to the bridge."""
    alice = broker.caller("alice")
    name, path = alice.manager("CreateNetwork", "asa{sv}", ["six"], {"ipv6": "dhcp"})
    try:
        ((_, _, mac, address6),) = alice.network(name, "GetHosts")
        assert ipaddress.ip_address(address6) in ipaddress.ip_network(alice.get(path, NETWORK, "Subnet6"))
        script = alice.user.file("dhclient.sh", DHCP6_CLIENT.encode(), mode=0o755)
        rig = SimpleNamespace(name=name)
        result = run_inside(broker, rig, "unshare", "--mount", "sh", script, mac)
        assert address6 in result.stdout, result.stdout + result.stderr
    finally:
        alice.destroy_network(name)


# dhclient wants to write in /var and to run its script, which would change the host's files; here it only tells.
DHCP6_CLIENT = """
set -e
ip link add port type veth peer name six
ip link set port master br0 up
echo 0 >/proc/sys/net/ipv6/conf/six/accept_dad
ip link set six address "$1" up
dir=$(mktemp -d)
printf '#!/bin/sh\necho "$reason $new_ip6_address" >>%s/told\n' "$dir" >"$dir/script"
chmod 755 "$dir/script"
until ip -6 -o address show dev six scope link | grep -q fe80; do sleep 0.1; done
timeout 25 /usr/sbin/dhclient -6 -d -1 -D LL -sf "$dir/script" -lf "$dir/leases" -pf "$dir/pid" six &
until grep -s BOUND "$dir/told" || ! kill -0 $!; do sleep 0.1; done
kill $!
wait $! || true
rm -r "$dir"
"""
