"""The D-Bus fuzzer against a daemon, beside a bystander. FUZZ_SECONDS says how long (30), FUZZ_SEED which (1, and in a
longer run a random one)."""

import os
import random
import time

import pytest

from bystander import Bystander, resident
from caller import NETWORK, CallError
from conftest import destroyed
from fuzz_dbus import Fuzzer, files_of

SECONDS = float(os.environ.get("FUZZ_SECONDS", "30"))
# That the daemon may have grown by, whatever it was told; AddressSanitizer keeps what is freed.
GROWTH_MAX = 8 << 20 if "ASAN_OPTIONS" not in os.environ else 1 << 30
CLEAN_EVERY = 20      # batches
CLEAN_SECONDS = 120   # what is being created must first be made: its files, its taps and its start have 30 s each


@pytest.fixture(scope="module")
def config():
    return {"max_networks": 4, "max_domains": 6, "max_memory": "128M", "max_vcpus": 6, "max_vcpus_per_domain": 2,
            "max_streams": 16, "max_connections": 8, "max_ended": 4, "console_log_size": "64k"}


def clean(who):
    """Destroy what the fuzz user has made."""
    deadline = time.monotonic() + CLEAN_SECONDS
    while True:
        objects = who.objects()
        mine = [(interface.rpartition(".")[2], p["Name"]) for o in objects.values() for interface, p in o.items()
                if p.get("Owner") == who.user.uid]
        if not mine and not who.usage().get("networks"):
            return
        assert time.monotonic() < deadline, f"these cannot be destroyed: {mine}"
        for kind, name in sorted(mine):
            try:
                destroyed(who.destroy_domain if kind == "Domain" else who.destroy_network, name)
            except CallError as error:  # being created or destroyed by what the fuzzer asked for
                assert error.name in ("Busy", "NetworkInUse", "QuotaExceeded"), error
        time.sleep(0.02)


def grown(pid, before):
    """By how many bytes; memory goes back to the kernel a second after its last user."""
    deadline = time.monotonic() + 5
    while (more := resident(pid) - before) >= GROWTH_MAX and time.monotonic() < deadline:
        time.sleep(0.1)
    return more


def learn(fuzzer, who):
    """Again and again: a network for her domains, so that there is something to fuzz, and what there is."""
    try:
        who.create_network(["a", "b", "web"])
    except CallError as error:  # what she had asked for may still be under way
        assert error.name == "QuotaExceeded"
    everything = [(i, p) for o in who.objects().values() for i, p in o.items() if "Owner" in p]
    fuzzer.learn(sorted({p["Name"] for _, p in everything}),
                 sorted(p["Name"] for i, p in everything if i == NETWORK and p["Owner"] == who.user.uid))


def test_fuzz(broker, alice, bob):
    seed = int(os.environ.get("FUZZ_SEED") or (1 if SECONDS <= 30 else random.randrange(1 << 32)))
    print(f"FUZZ_SEED={seed}")
    bystander = Bystander(bob, broker.daemon, seconds=SECONDS + 600)
    fuzzer = Fuzzer(seed, alice.user, broker.daemon.socket, broker.daemon.bus.removeprefix("unix:path="),
                    files_of(alice.user))
    begun, pid, before = time.monotonic(), broker.daemon.pid, resident(broker.daemon.pid)
    try:
        while time.monotonic() < begun + SECONDS:
            learn(fuzzer, alice)
            for _ in range(CLEAN_EVERY):
                fuzzer.batch()
            bystander.check()
            assert broker.daemon.pid == pid
            clean(alice)
            more = grown(pid, before)
            assert more < GROWTH_MAX, f"the daemon has grown by {more >> 10} KiB"
    except BaseException as error:
        raise AssertionError(f"FUZZ_SEED={seed}, after {fuzzer.summary()}") from error
    print(f"{fuzzer.summary()}; the daemon has grown by {resident(pid) - before >> 10} KiB")
    clean(alice)
    bystander.leave()
    assert fuzzer.results > 0
    # She has asked for probes, too, and gone: where KVM does not work a worker takes two seconds to find out, again for
    # whoever asked meanwhile, and several times that on a busy machine.
    deadline = time.monotonic() + 60
    while broker.leaks.left(wait=0) and time.monotonic() < deadline:
        time.sleep(0.1)
