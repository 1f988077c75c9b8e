"""A device model that fails: each way is told by name, in time, with its last words, and leaves nothing."""

import os
import time

import pytest

from caller import CallError
from daemon import Daemon
from xen import xl_list

DEADLINE = 40
FAKES = os.path.join(os.environ["DEBMARSHAL_GUESTS"], "fake-models")


@pytest.fixture(scope="module")
def impatient(people):
    """A daemon of its own: start(model) runs it with that device model."""
    base = "/run/dmt-model"
    os.mkdir(base, 0o755)
    it = Daemon(os.environ["DEBMARSHAL_BUILD"], base)

    def start(model):
        it.stop(60)
        it.write_config({"start_timeout": f"{DEADLINE}s", "log_level": "debug", "spare_networks": 0, "xen_device_model": model})
        it.start(timeout=60)
        return it.caller(people["alice"])

    yield start
    assert it.stop(60) == 0, it.log()[-4000:]


@pytest.fixture
def fail(impatient, people):
    """The error of a domain that has that device model, and the seconds until it came."""
    def attempt(model):
        with open(os.path.join(os.environ["DEBMARSHAL_GUESTS"], "boot-sector"), "rb") as f:
            disk = people["alice"].file("boot.img", f.read())
        with impatient(model) as alice:
            network = alice.create_network(["one"])[0]
            begun = time.monotonic()
            with pytest.raises(CallError) as info:
                alice.create_domain(network, "64M", [disk], "", "xen", "", {"type": "hvm"}, timeout=200)
            seconds = time.monotonic() - begun
            assert not alice.domain_names() and not xl_list()
            alice.destroy_network(network)
        return info.value, seconds
    return attempt


def test_missing(fail):
    error, seconds = fail("/usr/libexec/there-is-none")
    assert error.name == "NotSupported" and "/usr/libexec/there-is-none" in error.message
    assert seconds < 5


@pytest.mark.parametrize("how,words", [
    ("dies-at-once", "dies-at-once exited with status 3: could not initialise the flux"),
    ("dies-later", "dies-later exited with status 5: a second is enough"),
    ("keeps-its-privilege", "has not given up its privilege"),
])
def test_dies(fail, how, words):
    error, seconds = fail(os.path.join(FAKES, how))
    assert error.name == "HypervisorFailed" and words in error.message, error
    assert seconds < DEADLINE


@pytest.mark.parametrize("how,words", [
    ("never-confirms", "never-confirms did not answer in time: still thinking"),
    ("fills-its-log", "fills-its-log did not answer in time: "),
])
def test_is_not_waited_for_without_end(fail, how, words):
    error, seconds = fail(os.path.join(FAKES, how))
    assert error.name == "Timeout" and words in error.message, error
    assert len(error.message) < 4096
    assert DEADLINE - 1 < seconds < 3 * DEADLINE
