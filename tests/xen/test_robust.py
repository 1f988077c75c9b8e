"""Trouble around the daemon: xenstored that does not answer, others who use xl, a real system bus; and guests of unusual
shape."""

import os
import signal
import subprocess
import time

import pytest

from bus import Bus
from caller import DOMAIN, CallError, domain_path
from conftest import BUILD, POLICY, gone, how_it_ended
from daemon import Daemon
from guests import SERVE, Guest
from xen import output, pid_of, xl_list


class Stopped:
    """A process that does not run meanwhile."""

    def __init__(self, name):
        self.pid = pid_of(name)

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


def test_xenstored_does_not_answer_at_the_start(alice, daemon, create, tiny):
    """What runs is not given up, the daemon serves meanwhile, and all is as it was once xenstored answers."""
    name = create("one", "pvh", memory="16M", image=tiny, more={"paused": True})
    daemon.kill()
    with Stopped("xenstored"):
        daemon.start()
        alice.reconnect()
        assert alice.domain_names() == [name]
        assert alice.get(domain_path(name), DOMAIN, "State") == "paused"
        with pytest.raises(CallError) as info:
            alice.domain(name, "Resume")
        assert info.value.message
    wait_until(lambda: resumes(alice, name))
    assert alice.get(domain_path(name), DOMAIN, "State") == "running"
    assert "p" not in xl_list()[name][3]
    os.close(alice.domain(name, "OpenConsole"))
    alice.destroy_domain(name)
    assert not xl_list()


def resumes(alice, name):
    try:
        alice.domain(name, "Resume")
    except CallError:
        return False
    return True


def wait_until(condition, seconds=30):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_destroyed_by_xl_while_no_daemon_runs(alice, daemon, create, tiny):
    name = create("one", "pvh", memory="16M", image=tiny, more={"paused": True})
    daemon.kill()
    output("xl", "destroy", name)
    daemon.start()
    alice.reconnect()
    gone(alice, name)
    reason, text, _ = how_it_ended(alice, name)
    assert reason == "lost" and "no daemon was running" in text


def test_paused_and_resumed_while_no_daemon_looked(alice, daemon, create, tiny):
    """As by a daemon that died before it had recorded it: what Xen says counts."""
    name = create("one", "pvh", memory="16M", image=tiny)
    for act, state in (("pause", "paused"), ("unpause", "running")):
        daemon.kill()
        output("xl", act, name)
        daemon.start()
        alice.reconnect()
        wait_until(lambda state=state: alice.get(domain_path(name), DOMAIN, "State") == state)
    daemon.kill()
    output("xl", "pause", name)
    daemon.start()
    alice.reconnect()
    wait_until(lambda: alice.get(domain_path(name), DOMAIN, "State") == "paused")
    alice.domain(name, "Resume")
    assert "p" not in xl_list()[name][3]


def test_xenconsoled_is_started_anew(alice, daemon, create):
    """A guest outlives its console, and has the new one as soon as a daemon looks for it."""
    name = create("one", "pvh", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
    before = xl_list()[name][0]
    end_process("xenconsoled")
    try:
        daemon.restart(kill=True)
        alice.reconnect()
        wait_until(lambda: f"The console of domain {name} cannot be read" in daemon.log())
        alice.domain(name, "Pause")
        alice.domain(name, "Resume")
    finally:
        subprocess.run(["xenconsoled", "--log=all", "--log-dir=/var/log/xen"], check=True)
    wait_until(lambda: terminal_of(before) != terminal_of(before, "debmarshal/mirror"))
    daemon.restart(kill=True)
    alice.reconnect()
    with Guest(alice, name) as guest:
        guest.run("true")
    assert xl_list()[name][0] == before


def end_process(name):
    pid = pid_of(name)
    os.kill(pid, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{pid}"))


def terminal_of(number, key=None):
    """As the store names it: for everybody, or what a daemon has kept under key."""
    directory = f"/local/domain/{number}"
    path = f"{output('xenstore-read', f'{directory}/vm').strip()}/{key}" if key else f"{directory}/console/tty"
    return output("xenstore-read", path).strip()


def test_interfaces_on_several_networks(alice, create, network):
    """Each is on its own network, and the guest has an address of each."""
    second = alice.create_network(["here", "there"])
    try:
        macs = [network.mac("one"), second[3]["here"][1]]
        name = create("one", "pvh", run=SERVE, more={"nics": [f"{second[0]},{macs[1]}"]})
        with Guest(alice, name) as guest:
            guest.ready()
            assert [guest.run(f"cat /sys/class/net/eth{i}/address").strip() for i in range(2)] == macs
            for gateway in (network.gateway, second[1]):
                guest.run(f"ping -c 1 -W 10 {gateway}")
        alice.destroy_domain(name)
    finally:
        alice.destroy_network(second[0])


def test_link_that_has_the_name_of_the_next_domains(alice, create, network, tiny):
    """A link that its user has renamed, back in dom0's namespace as it is when hers ends, is not taken for the next domain's."""
    first = create("one", "pvh", image=tiny, memory="16M", more={"paused": True})
    number = xl_list()[first][0]
    name = f"vif{number + 1}.0"
    user, net = alice.network(network.name, "OpenNamespaces")
    os.close(user)
    try:
        for words in ([f"vif{number}.0", "down"], [f"vif{number}.0", "name", name], [name, "netns", "1"]):
            subprocess.run(["nsenter", f"--net=/proc/self/fd/{net}", "ip", "link", "set", *words], pass_fds=[net], check=True)
    finally:
        os.close(net)
    with pytest.raises(CallError) as info:
        create("two", "pvh", image=tiny, memory="16M", more={"paused": True})
    assert info.value.name == "HypervisorFailed" and f"the name {name}" in info.value.message, info.value
    assert os.path.basename(os.readlink(f"/sys/class/net/{name}/device")) == f"vif-{number}-0"
    assert not os.path.exists(f"/sys/class/net/{name}/master")
    alice.destroy_domain(create("three", "pvh", image=tiny, memory="16M", more={"paused": True}))


def test_more_memory_than_lies_below_four_gigabytes(alice, create):
    name = create("one", "pvh", memory="4500M", run=SERVE)
    with Guest(alice, name) as guest:
        guest.ready()
        kilobytes = int(guest.run("awk '/MemTotal/ { print $2 }' /proc/meminfo"))
        assert kilobytes > 4200 << 10
        guest.run("dd if=/dev/zero of=/run/some bs=1M count=64")


def test_on_a_real_system_bus(people, tiny):
    """Identities are the bus's; the daemon is killed and another takes over, with its name."""
    base = f"/run/bus-{os.getpid()}"
    os.mkdir(base, 0o755)
    bus = Bus(base, POLICY).start()
    broker = Daemon(BUILD, base, bus=bus.address, config={"start_timeout": "120s", "spare_networks": 0}).start(timeout=60)
    try:
        with broker.caller(people["alice"]) as alice, broker.caller(people["bob"]) as bob:
            alice.wait_until_served(30)
            network = alice.create_network(["one"])[0]
            with pytest.raises(CallError) as info:
                bob.create_domain(network, "16M", [], "", "xen", "", tiny.extra())
            assert info.value.name == "AccessDenied"
            name = alice.create_domain(network, "16M", [], "", "xen", "", tiny.extra(paused=True), timeout=150)
            assert name in xl_list()
            broker.restart(kill=True)
            alice.wait_until_served(30)
            assert alice.domain_names() == [name]
            alice.destroy_domain(name)
            alice.destroy_network(network)
    finally:
        status = broker.stop(60)
        bus.stop()
        subprocess.run(["rm", "-rf", base], check=True)
    assert status == 0


def test_xl_domains_are_not_ours(alice, foreigner):
    """Neither shown nor touched, by whatever name it is asked for."""
    assert foreigner.name not in alice.domain_names()
    for hypervisor in ("", "xen"):
        with pytest.raises(CallError) as info:
            alice.destroy_domain(foreigner.name, hypervisor)
        assert info.value.name == "DomainNotFound"
