"""What Privops refuses to an ordinary user, for hypervisor "xen", and that nothing is made meanwhile."""

import pytest

from caller import CallError
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
def ask(alice, network, image):
    """Ask for a domain that would be fine but for what is given."""

    def ask(who=alice, net=network.name, memory="64M", disks=(), mac="", extra=None, **more):
        return who.create_domain(net, memory, list(disks), mac, "xen", "", {**image.extra(), **(extra or {}), **more})

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


def test_kernel_and_initrd_come_together(alice, network, image):
    for extra in ({"kernel": image.kernel}, {"initrd": image.initrd}):
        refused("InvalidInput", alice.create_domain, network.name, "128M", [], "", "xen", "", extra)


def test_what_xen_guests_cannot_have_yet(ask, people):
    refused("NotSupported", ask, type="hvm")
    refused("NotSupported", ask, vnc_password="x")
    refused("NotSupported", ask, disks=[people["alice"].disk("a.qcow2")], disk_formats=["qcow2"])
    refused("InvalidInput", ask, type="xen")


def test_more_memory_than_there_is(ask):
    assert "free" in refused("HypervisorFailed", ask, memory="16G")


def test_kernel_larger_than_memory(ask, people):
    with open(people["alice"].file("huge", b""), "r+b") as f:
        f.truncate(80 << 20)
        refused("InvalidInput", ask, kernel=f.name)


def test_no_kernel_at_all(ask, people):
    nonsense = people["alice"].file("nonsense", b"\0" * 8192)
    assert "kernel" in refused("HypervisorFailed", ask, kernel=nonsense, initrd=nonsense)


def test_others_domains(create, bob, alice):
    name = create("one", "pv")
    for who, error, hypervisor in ((bob, "AccessDenied", ""), (alice, "DomainNotFound", "qemu")):
        with pytest.raises(CallError) as info:
            who.destroy_domain(name, hypervisor)
        assert info.value.name == error
    assert name in xl_list()


def test_best_hypervisor_here(alice, network, image):
    name = alice.create_domain(network.name, "128M", [], "", "", "", image.extra(), timeout=100)
    assert name in xl_list()
    alice.destroy_domain(name, "xen")
