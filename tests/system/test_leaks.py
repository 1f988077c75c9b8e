"""The leak checker itself: it must find each kind of thing that may be left, or its silence is worth nothing."""

import os
import signal
import socket
import sqlite3
import subprocess

import pytest

from leaks import LeakChecker


class Stub:
    """Looks like a daemon: a process and a runtime directory."""

    def __init__(self, directory):
        self.runtime_dir = os.path.join(directory, "runtime")
        os.mkdir(self.runtime_dir)
        self.process = subprocess.Popen(["/bin/bash", "-c", 'while read -r line; do eval "$line"; echo; done'],
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.pid = self.process.pid

    def is_alive(self):
        return self.process.poll() is None

    def do(self, line):
        """Run a line of shell in the daemon."""
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        self.process.stdout.readline()

    def stop(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def stub(tmp_path):
    it = Stub(str(tmp_path))
    yield it
    it.stop()


@pytest.fixture
def checker(stub, tmp_path):
    it = LeakChecker(stub, str(tmp_path), lambda: [stub.pid])
    it.take_baseline()
    assert it.left() == []
    return it


def expect(checker, *parts):
    """Something is left, of exactly these kinds."""
    left = checker.left(wait=0.2)
    assert {line.partition(":")[0] for line in left} == set(parts), left


def test_process(stub, checker):
    stub.do("sleep 60 > /dev/null & child=$!")
    expect(checker, "processes")
    stub.do("kill $child; wait $child")
    assert checker.left() == []


def test_orphan(stub, checker):
    """Started by something that is gone: nobody's child but ours."""
    stub.do("(setsid sleep 61 > /dev/null &)")
    expect(checker, "processes")
    pid = next(int(line.split()[1]) for line in checker.left(wait=0))
    os.kill(pid, signal.SIGKILL)
    assert checker.left() == []


def test_namespaces(stub, checker):
    stub.do("unshare --net --user sleep 62 > /dev/null & child=$!; sleep 0.2")
    expect(checker, "processes", "namespaces")
    stub.do("kill $child; wait $child")
    assert checker.left() == []


def test_descriptor(stub, checker):
    stub.do("exec 77< /etc/passwd 78<> /dev/null")
    assert len(checker.left(wait=0)) == 2
    expect(checker, "descriptors of the daemon")
    stub.do("exec 77<&- 78<&-")
    assert checker.left() == []


def test_file_and_socket(stub, checker):
    path = os.path.join(stub.runtime_dir, "sock")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(path)
        expect(checker, "files", "unix sockets")
    os.unlink(path)
    assert checker.left() == []


def test_mount(checker, tmp_path):
    target = tmp_path / "mnt"
    target.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "none", target], check=True)
    expect(checker, "mounts")
    subprocess.run(["umount", target], check=True)
    assert checker.left() == []


def test_link(checker):
    name = f"dml{os.getpid()}"
    subprocess.run(["ip", "link", "add", name, "type", "bridge"], check=True)
    expect(checker, "links")
    subprocess.run(["ip", "link", "delete", name], check=True)
    assert checker.left() == []


def test_loop_device(checker, tmp_path):
    image = tmp_path / "image"
    image.write_bytes(bytes(1 << 20))
    device = subprocess.run(["losetup", "--find", "--show", image], check=True, capture_output=True, text=True)
    expect(checker, "loop devices")
    subprocess.run(["losetup", "--detach", device.stdout.strip()], check=True)
    assert checker.left() == []


def test_records(stub, checker):
    """What exists is a leak; what has ended is one only when its record and its log do not belong together."""
    database = sqlite3.connect(os.path.join(stub.runtime_dir, "state.db"))
    with database:
        database.execute("CREATE TABLE network (name TEXT)")
        database.execute("CREATE TABLE ended (id INTEGER)")
        database.execute("INSERT INTO ended VALUES (7)")
    ended = os.path.join(stub.runtime_dir, "ended")
    os.mkdir(ended)
    checker.take_baseline()
    for number in (7, 8):
        with open(os.path.join(ended, f"{number}.log"), "w", encoding="utf-8"):
            pass
    expect(checker, "ended logs without a record")
    os.unlink(os.path.join(ended, "8.log"))
    with database:
        database.execute("INSERT INTO network VALUES ('debmarshal-0')")
    expect(checker, "records")
    database.close()
