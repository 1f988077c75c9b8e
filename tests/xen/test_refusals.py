"""What Privops refuses to an ordinary user, for hypervisor "xen", and that nothing is made meanwhile."""

import os

import pytest

from caller import CallError
from conftest import MAX_VCPUS
from xen import xl_list


def refused(name, function, *arguments, **options):
    with pytest.raises(CallError) as info:
        function(*arguments, **options)
    assert info.value.name == name, info.value
    assert not xl_list()
    return info.value.message


@pytest.fixture
def bob(people, daemon):
    with daemon.caller(people["bob"]) as client:
        yield client


@pytest.fixture
def ask(alice, network, tiny):
    """Ask for a domain that would be fine but for what is given."""

    def ask(who=alice, net=network.name, memory="16M", disks=(), mac="", extra=None, **more):
        return who.create_domain(net, memory, list(disks), mac, "xen", "", {**tiny.extra(), **(extra or {}), **more})

    ask.alice = alice

    return ask


def test_foreign_network(ask, bob):
    refused("AccessDenied", ask, who=bob)


def test_unknown_network(ask):
    refused("NetworkNotFound", ask, net="debmarshal-9")


def test_foreign_disk(ask, people):
    refused("AccessDenied", ask, disks=[people["bob"].disk("private.img")])


def test_disk_that_may_only_be_read(ask, people):
    refused("AccessDenied", ask, disks=[people["bob"].disk("readable.img", mode=0o644)])


def test_foreign_kernel(ask, people):
    refused("AccessDenied", ask, kernel=people["bob"].file("vmlinuz", b"x"))


def test_foreign_initrd(ask, people):
    refused("AccessDenied", ask, initrd=people["bob"].file("initrd", b"x"))


@pytest.mark.parametrize("machine_type", ["pvh", "pv"])
def test_kernel_and_initrd_come_together(alice, network, tiny, machine_type):
    """Neither without the other, whatever else is there to boot from."""
    disk = alice.user.disk("bootable.img")
    for extra, missing in (({"kernel": tiny.kernel}, "initrd"), ({"initrd": tiny.initrd}, "kernel")):
        for disks in ([], [disk]):
            said = refused("InvalidInput", alice.create_domain, network.name, "16M", disks, "", "xen", "",
                           {"type": machine_type, **extra})
            assert missing in said


def test_cmdline_without_a_kernel(alice, network):
    refused("InvalidInput", alice.create_domain, network.name, "16M", [alice.user.disk("a.img")], "", "xen", "",
            {"cmdline": "quiet"})


def test_kernels_that_are_none(ask, people):
    """Not there, a directory, a FIFO: none of them is opened, or waited for."""
    refused("InvalidInput", ask, kernel="vmlinuz")
    for path in ("/nonexistent/vmlinuz", people["alice"].home):
        refused("InvalidInput", ask, kernel=path)
    os.mkfifo(f"{people['alice'].home}/fifo", 0o666)
    refused("InvalidInput", ask, initrd=f"{people['alice'].home}/fifo")


def test_unknown_extra_keys(ask):
    for key, value in (("domid", "7"), ("device_model", "/bin/sh"), ("", "x"), ("type", True), ("Type", "pv")):
        refused("InvalidInput", ask, extra={key: value})


def test_bad_types_and_numbers(ask):
    for wrong in ({"type": "xen"}, {"type": ""}, {"type": "PVH"}, {"vcpus": 0}, {"memory": "16"}, {"memory": "-1M"}):
        refused("InvalidInput", ask, **wrong)


def test_quota_of_processors(ask, create, tiny):
    """What Xen guests hold counts as any other's does, and is given back."""
    name = create(image=tiny, memory="16M", more={"paused": True, "vcpus": 3})
    with pytest.raises(CallError) as info:
        ask(vcpus=MAX_VCPUS - 2)
    assert info.value.name == "QuotaExceeded" and "vcpus" in info.value.message
    ask.alice.destroy_domain(name)
    refused("QuotaExceeded", ask, vcpus=MAX_VCPUS + 1)


def test_address_in_use(create, network, tiny, ask):
    create("one", image=tiny, memory="16M", more={"paused": True})
    with pytest.raises(CallError) as info:
        ask(mac=network.mac("one"))
    assert info.value.name == "InvalidInput" and network.mac("one") in info.value.message


def test_network_of_a_domain(alice, create, network, tiny):
    name = create(image=tiny, memory="16M", more={"paused": True})
    with pytest.raises(CallError) as info:
        alice.destroy_network(network.name)
    assert info.value.name == "NetworkInUse" and name in info.value.message
    alice.destroy_domain(name)


def test_more_memory_than_there_is(ask):
    assert "free" in refused("HypervisorFailed", ask, memory="16G")


def test_kernel_larger_than_memory(ask, people):
    with open(people["alice"].file("huge", b""), "r+b") as f:
        f.truncate(80 << 20)
        refused("InvalidInput", ask, kernel=f.name)


def test_initrd_larger_than_dom0_copies(ask, people):
    """However much memory the guest is to have: that is Xen's."""
    with open(people["alice"].file("huge-initrd", b""), "r+b") as f:
        f.truncate((1 << 30) + 1)
        assert "larger than 1 GiB" in refused("InvalidInput", ask, initrd=f.name, memory="32G")


def test_no_kernel_at_all(ask, people):
    nonsense = people["alice"].file("nonsense", b"\0" * 8192)
    assert "kernel" in refused("HypervisorFailed", ask, kernel=nonsense, initrd=nonsense)


def test_others_domains(create, bob, alice, tiny):
    name = create("one", "pv", image=tiny, memory="16M", more={"paused": True})
    for who, error, hypervisor in ((bob, "AccessDenied", ""), (alice, "DomainNotFound", "qemu")):
        with pytest.raises(CallError) as info:
            who.destroy_domain(name, hypervisor)
        assert info.value.name == error
    assert name in xl_list()


def test_best_hypervisor_here(alice, network, tiny):
    name = alice.create_domain(network.name, "16M", [], "", "", "", tiny.extra(paused=True), timeout=100)
    assert name in xl_list()
    alice.destroy_domain(name, "xen")
