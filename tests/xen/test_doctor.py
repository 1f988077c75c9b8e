"""What "debmarshal doctor" tells of Xen."""

import json
import os
import re
import select
import signal
import subprocess
import time

import pytest

from conftest import BUILD
from xen import pid_of


@pytest.fixture
def doctor(people, daemon):
    def run(*arguments):
        alice = people["alice"]
        environment = {**alice.environment(), "DEBMARSHAL_ADDRESS": daemon.socket}
        return subprocess.run([f"{BUILD}/debmarshal", "doctor", *arguments], env=environment, capture_output=True, text=True,
                              timeout=120, check=False, **alice.popen_identity())

    return run


@pytest.fixture
def facts(doctor):
    """{name: (status, text, cure)} of what is said of Xen."""
    def ask():
        result = doctor("--json")
        checks = json.loads(result.stdout)["checks"]
        found = {}
        for check in checks:
            if check["name"] == "xen":
                name, text = check["text"].split(": ", 1)
                found[name] = (check["status"], text, check["cure"])
        assert ("ok", "xen works") in [(c["status"], c["text"]) for c in checks if c["name"] == "hypervisor"]
        return found

    return ask


def test_all_is_well(facts, doctor):
    found = facts()
    assert {status for status, _, _ in found.values()} == {"ok"}, found
    assert found["version"][1].startswith("4.17.")
    assert "hvm" in found["capabilities"][1]
    assert re.fullmatch(r"[\d.]+ ?[KMG]\w* free of [\d.]+ ?[KMG]\w*", found["memory"][1])
    assert found["domains"][1] == "1 beside dom0"  # the foreigner
    assert found["xenstored"][1] == "answers"
    assert found["xenconsoled"][1] == "runs"
    assert os.path.basename(found["device-model"][1]).startswith("xen-qemu") and os.access(found["device-model"][1], os.X_OK)
    assert os.path.basename(found["hvmloader"][1]) == "hvmloader"
    text = doctor().stdout
    assert re.search(r"^ok +xen +xenconsoled: runs$", text, re.MULTILINE), text


def test_domains_are_counted(facts, create):
    create("one", "pvh", more={"paused": True})
    assert facts()["domains"][1] == "2 beside dom0"


def gone(pid):
    pidfd = os.pidfd_open(pid)
    os.kill(pid, signal.SIGTERM)
    assert select.select([pidfd], [], [], 20)[0]
    os.close(pidfd)


def test_xenconsoled_is_missed(facts):
    gone(pid_of("xenconsoled"))
    try:
        status, text, cure = facts()["xenconsoled"]
    finally:
        subprocess.run(["xenconsoled", "--log=all", "--log-dir=/var/log/xen"], check=True)
    assert status == "warn" and "console" in text and "xenconsoled" in cure


def test_xenstored_does_not_answer(doctor, create, tiny):
    """Xen is said not to work, within the probe's deadline, and the daemon lives. When it answers again a guest can be
    created at once: what did not work is looked at anew."""
    pid = pid_of("xenstored")
    os.kill(pid, signal.SIGSTOP)
    try:
        begun = time.monotonic()
        result = doctor("--json")
        took = time.monotonic() - begun
    finally:
        os.kill(pid, signal.SIGCONT)
    checks = json.loads(result.stdout)["checks"]
    said = [c["text"] for c in checks if c["name"] == "hypervisor" and c["text"].startswith("xen")]
    assert len(said) == 1 and "xenstored" in said[0] and "does not work" in said[0], said
    assert not [c for c in checks if c["name"] == "xen"]
    assert took < 60
    create("one", image=tiny, more={"paused": True})
    assert {c["status"] for c in json.loads(doctor("--json").stdout)["checks"] if c["name"] == "xen"} == {"ok"}
