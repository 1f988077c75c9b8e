"""What becomes of networks and domains when something ends that should not: the daemon, a keeper, a DHCP server, an
emulator, the host. All of it in both scopes.
"""

import array
import contextlib
import fcntl
import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import termios

import pytest

from caller import DOMAIN, MANAGER, NETWORK, ROOT_PATH, domain_path, network_path
from conftest import DEADLINE, destroyed, refused, wait_for
from guests import Console, read_all
from leaks import Process, keeper_of, server_of, store_copy

only_null = pytest.mark.parametrize("hypervisor", ["null"])


@pytest.fixture(scope="module", params=["system", "session"])
def scope(request):
    return request.param


def end(pid):
    """Kill it, and wait until it is gone."""
    pidfd = os.pidfd_open(pid)
    signal.pidfd_send_signal(pidfd, signal.SIGKILL)

    def gone():
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, os.WNOHANG)  # an orphan of ours, perhaps
        try:
            return Process(pid).state == "Z"
        except ProcessLookupError:
            return True

    wait_for(gone)
    os.close(pidfd)


def describe(who, name):
    return json.loads(who.domain(name, "Describe"))


def end_of(who, name, timeout=DEADLINE):
    """(reason, log) of a domain that has ended or is about to."""
    wait_for(lambda: name not in who.domain_names(), timeout)
    _, reason, _, _, log = who.manager("GetEndedDomain", "s", name)
    return reason, read_all(log)


def path_of(broker, *parts):
    return os.path.join(broker.daemon.runtime_dir, *parts)


@contextlib.contextmanager
def store(broker):
    """The store of a daemon that does not run, to be changed."""
    connection = sqlite3.connect(path_of(broker, "state.db"))
    try:
        with connection:
            yield connection
    finally:
        connection.close()


@contextlib.contextmanager
def daemon_away(broker):
    broker.daemon.kill()
    try:
        yield
    finally:
        broker.daemon.start()
        broker.served()


def waiting_bytes(path):
    """How much is in a FIFO that nobody reads."""
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        count = array.array("i", [0])
        fcntl.ioctl(fd, termios.FIONREAD, count)
        return count[0]
    finally:
        os.close(fd)


def emulator_and_console(broker, name):
    """Where its input and output have got to while no daemon runs."""
    directory = path_of(broker, "domains", name)
    unread = waiting_bytes(f"{directory}/console.in")
    fd = os.open(f"{directory}/console.out", os.O_RDONLY | os.O_NONBLOCK)
    with os.fdopen(fd, "rb", buffering=0) as fifo:
        return f"{emulator_status(broker, name)}, {unread} bytes of input not read, its output {fifo.read(65536)}"


def write_console(broker, name, text):
    fd = os.open(path_of(broker, "domains", name, "console.in"), os.O_WRONLY | os.O_NONBLOCK)
    with os.fdopen(fd, "wb") as fifo:
        fifo.write(text)


def emulator_status(broker, name, *commands):
    """What the monitor of a guest says to whoever takes the daemon's place for a moment."""
    with socket.socket(socket.AF_UNIX) as monitor:
        monitor.settimeout(DEADLINE)
        directory = os.open(path_of(broker, "domains", name), os.O_PATH)
        monitor.connect(f"/proc/self/fd/{directory}/qmp.sock")
        os.close(directory)
        stream = monitor.makefile("rw", encoding="utf-8")
        # An event that is due just then goes to who has connected before he is greeted (seen with QEMU 7.2).
        while "QMP" not in json.loads(stream.readline()):
            pass
        for command in ("qmp_capabilities", *commands, "query-status"):
            stream.write(json.dumps({"execute": command}) + "\n")
            stream.flush()
            answer = json.loads(stream.readline())
            while "event" in answer:
                answer = json.loads(stream.readline())
        return answer["return"]["status"]


# ---- The daemon ----


@pytest.mark.parametrize("kill", [True, False], ids=["killed", "stopped"])
def test_adopted(broker, alice, network, create, hypervisor, kill):
    """The same processes, the same everything, still owned; and both can be used and removed."""
    other = alice.user.disk("other.img")
    paused, running = create(mac=network.mac("one")), create(mac=network.mac("two"), disks=[other])
    alice.domain(running, "Resume")

    def picture():
        domains = {name: (describe(alice, name), alice.get_all(domain_path(name), DOMAIN)) for name in (paused, running)}
        return (domains, alice.get_all(network_path(network.name), NETWORK),
                alice.network(network.name, "GetHosts"), keeper_of(network.name).pid, server_of(network.name))

    before = picture()
    assert before[0][paused][1]["State"] == "paused" and before[0][running][1]["State"] == "running"
    broker.restart(kill)
    assert picture() == before
    wait_for(lambda: f"Domain {paused} is taken over" in broker.log_since_test() and
             f"Domain {running} is taken over" in broker.log_since_test())
    assert picture() == before

    alice.domain(paused, "Resume")
    alice.domain(running, "Pause")
    os.close(alice.domain(running, "Screenshot"))
    assert alice.get(domain_path(paused), DOMAIN, "State") == "running"
    assert alice.get(domain_path(running), DOMAIN, "State") == "paused"
    os.close(alice.network(network.name, "Listen", "q", 0))
    refused("NetworkInUse", alice.destroy_network, network.name)
    assert "MAC" in refused("InvalidInput", create, mac=network.mac("one"))
    broker.restart(kill)
    assert alice.get(domain_path(running), DOMAIN, "State") == "paused"
    fresh = alice.create_network([])
    assert fresh[0] != network.name and fresh[1] != network.gateway
    alice.destroy_network(fresh[0])


@pytest.mark.parametrize("command, state", [("cont", "running"), ("stop", "paused")])
@pytest.mark.parametrize("hypervisor", ["qemu"])
def test_state_that_was_not_recorded(broker, alice, create, command, state):
    """A daemon may die after it has had a guest resumed or paused, and before that is noted: the guest counts."""
    name = create(hypervisor="qemu")
    if state == "paused":
        alice.domain(name, "Resume")
    with daemon_away(broker):
        assert emulator_status(broker, name, command) == state
    wait_for(lambda: alice.get(domain_path(name), DOMAIN, "State") == state)
    broker.restart()
    assert alice.get(domain_path(name), DOMAIN, "State") == state
    wait_for(lambda: broker.log_since_test().count(f"Domain {name} is taken over") == 2)
    alice.domain(name, "Pause" if state == "running" else "Resume")
    assert alice.get(domain_path(name), DOMAIN, "State") != state


def test_killed_again_and_again(broker, alice, network, create, hypervisor):
    """Also as soon as it is ready, and while it takes over."""
    name = create()
    before = describe(alice, name)
    for _ in range(20):
        broker.daemon.restart()
    broker.served()
    assert describe(alice, name) == before


@pytest.mark.parametrize("hypervisor", ["qemu"])
def test_emulator_slower_than_daemons_are_killed(broker, alice, create):
    """Each leaves it a connection that it has not taken yet."""
    name = create()
    before = describe(alice, name)
    os.kill(before["pid"], signal.SIGSTOP)
    for _ in range(10):
        broker.daemon.restart()
    broker.served()
    said_before = len(broker.daemon.log())
    os.kill(before["pid"], signal.SIGCONT)
    wait_for(lambda: f"Domain {name} is taken over" in broker.daemon.log()[said_before:])
    alice.domain(name, "Resume")
    assert describe(alice, name) == {**before, "state": "running"}


@only_null
def test_console_while_the_daemon_is_away(broker, alice, create):
    """The null guest gives back what it gets, with or without a daemon."""
    name = create()
    alice.domain(name, "Resume")
    with daemon_away(broker):
        write_console(broker, name, b"nobody listens\n")
        wait_for(lambda: waiting_bytes(path_of(broker, "domains", name, "console.out")) >= 15)
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect("^nobody listens$", 5)
    assert "nobody listens\n" in read_all(alice.domain(name, "OpenLog"))


def test_guest_powers_off_while_the_daemon_is_away(broker, alice, image, network):
    """A real one: what it printed meanwhile is in its log, and its end is what it was."""
    name = alice.create_domain(network.name, memory="96M", mac=network.mac("one"), hypervisor="qemu",
                               extra=image.extra(run="echo waits; read line </dev/console; echo \"got $line\"", end="poweroff"))
    with Console(alice.domain(name, "OpenConsole")) as console:
        console.expect(r"^waits\b", 120)
    with daemon_away(broker):
        write_console(broker, name, b"the word\n")
        wait_for(lambda: emulator_status(broker, name) == "shutdown", 120, lambda: emulator_and_console(broker, name))
    reason, log = end_of(alice, name)
    assert reason == "poweroff"
    assert "waits" in log and "got the word" in log


def test_domain_ends_while_the_daemon_is_away(broker, alice, create, hypervisor):
    """Its emulator is killed: the domain is lost, its network is not."""
    name = create()
    pid = describe(alice, name)["pid"]
    with daemon_away(broker):
        end(pid)
    assert end_of(alice, name)[0] == "lost"


def test_second_daemon(broker, alice, network):
    """Is refused, and the first one goes on."""
    second = subprocess.run(broker.daemon.command(), capture_output=True, text=True, timeout=DEADLINE, check=False,
                            env={"PATH": os.environ["PATH"], "DBUS_SYSTEM_BUS_ADDRESS": "unix:path=/nonexistent"},
                            **(broker.daemon.user.popen_identity() if broker.daemon.user else {}))
    assert second.returncode == 1
    assert "Another debmarshald" in second.stderr and broker.daemon.runtime_dir in second.stderr
    assert alice.network_names() == [network.name]
    assert alice.get(network_path(network.name), NETWORK, "State") == "up"


# ---- The keeper and its server ----


def failed(who, network):
    return who.get(network_path(network), NETWORK, "State") == "failed"


def test_keeper_killed(alice, network, disk):
    """Noticed at once; the network can only be destroyed."""
    end(keeper_of(network.name).pid)
    wait_for(lambda: failed(alice, network.name), 2)
    assert "keeper" in alice.get(network_path(network.name), NETWORK, "Reason")
    refused("InvalidState", alice.network, network.name, "OpenNamespaces")
    refused("NetworkFailed", alice.create_domain, network.name, disks=[disk], hypervisor="null")


def test_keeper_killed_while_the_daemon_is_away(broker, alice, network, create, hypervisor):
    name = create()
    keeper = keeper_of(network.name)
    with daemon_away(broker):
        end(keeper.pid)
    assert failed(alice, network.name)
    assert "keeper" in alice.get(network_path(network.name), NETWORK, "Reason")
    broker.restart()
    assert failed(alice, network.name)
    alice.destroy_domain(name)


def test_server_killed(broker, alice, network):
    """It comes back by itself, with a daemon and without; not for ever."""
    keeper = keeper_of(network.name).pid
    servers = [wait_for(lambda: server_of(network.name))]

    def kill_server():
        end(servers[-1])
        servers.append(wait_for(lambda: server_of(network.name) not in (None, servers[-1]) and server_of(network.name)))

    kill_server()
    with daemon_away(broker):
        kill_server()
    assert alice.get(network_path(network.name), NETWORK, "State") == "up"
    for _ in range(3):
        kill_server()
    assert keeper_of(network.name).pid == keeper and len(set(servers)) == 6
    end(servers[-1])
    wait_for(lambda: failed(alice, network.name))


# ---- The emulator ----


def test_emulator_killed(broker, alice, create, hypervisor):
    """At once: the reason is a crash, the log is kept, the record is gone."""
    name = create()
    number, pid = (describe(alice, name)[key] for key in ("id", "pid"))
    if hypervisor == "null":
        alice.domain(name, "Resume")
        with Console(alice.domain(name, "OpenConsole")) as console:
            console.send("famous last words\n")
            console.expect("^famous last words$", 5)
    waiting = alice.start(domain_path(name), DOMAIN, "Wait", "t", 0)
    describe(alice, name)  # so that the former call has come
    end(pid)
    reason, message = waiting.result(3)
    assert reason == "crash" and "signal 9" in message
    reason, log = end_of(alice, name, 3)
    assert reason == "crash"
    assert hypervisor != "null" or log == "famous last words\n"
    ended = {row[0]: row for row in alice.manager("ListEndedDomains")}
    assert ended[number][1] == name and ended[number][3] == "crash"
    broker.restart()
    assert end_of(alice, name) == (reason, log)


# ---- The store ----


def test_reboot(broker, alice, network, create, hypervisor):
    """The host has booted: nothing runs, so nothing is listed, and no record and no file of it is left."""
    name = create()
    processes = [describe(alice, name)["pid"], keeper_of(network.name).pid]
    with daemon_away(broker):
        for pid in processes:
            end(pid)
        with store(broker) as database:
            database.execute("UPDATE meta SET value = 'another' WHERE key = 'boot_id'")
    assert alice.domain_names() == [] and alice.network_names() == []
    assert alice.manager("ListEndedDomains") == []
    assert os.listdir(path_of(broker, "domains")) == [] and os.listdir(path_of(broker, "ended")) == []
    again = alice.create_network([])[0]
    assert again == "debmarshal-0"
    alice.destroy_network(again)


def copy_row(database, table, original, **changes):
    """A further record like that one, but for the changes."""
    cursor = database.execute(f"SELECT * FROM {table} WHERE name = ?", (original,))
    row = dict(zip([column[0] for column in cursor.description], cursor.fetchone()))
    row |= changes
    database.execute(f"INSERT INTO {table} ({', '.join(row)}) VALUES ({', '.join('?' * len(row))})", list(row.values()))


@only_null
def test_half_made(broker, alice, network, create):
    """Records of creations and destructions that a daemon died in, at every stage, and of a process that is another's
    by now."""
    name = create()
    stranger = subprocess.Popen(["sleep", "600"])
    try:
        with daemon_away(broker), store(broker) as database:
            for at, state in enumerate(("creating", "destroying"), 70):
                for at, pid in ((at, 0), (at + 10, stranger.pid)):
                    copied = f"debmarshal-{at}"
                    copy_row(database, "network", network.name, name=copied, state=state, keeper_pid=pid, keeper_start=1,
                             base=0x0A7F0000 + 256 * at)
                    copy_row(database, "domain", name, name=copied, state=state, pid=pid, start_time=1, id=1000 + at,
                             jail_uid=0x70000000 + at)
            copy_row(database, "domain", name, name="debmarshal-90", state="running", pid=stranger.pid, start_time=1,
                     id=1090, jail_uid=0x70000000 + 90)
        wait_for(lambda: alice.domain_names() == [name])
        wait_for(lambda: alice.network_names() == [network.name])
        assert stranger.poll() is None
        wait_for(lambda: not set(os.listdir(path_of(broker, "domains"))) - {name})
        reasons = {row[1]: row[3] for row in alice.manager("ListEndedDomains")}
        assert reasons["debmarshal-90"] == "lost"
        assert "debmarshal-71" in reasons and "debmarshal-70" not in reasons
    finally:
        stranger.kill()
        stranger.wait()


@only_null
@pytest.mark.skipif(os.path.exists("/proc/xen/capabilities"), reason="the driver for Xen may be there")
def test_driver_is_not_there(broker, alice, network, create):
    """What it has made may run, and its record is all that it is found by: kept, whatever it was doing, until the driver
    is there again."""
    name = create()
    before = describe(alice, name)
    states = {f"debmarshal-{at}": state for at, state in enumerate(("creating", "running", "paused", "destroying"), 70)}

    def hypervisor_becomes(database, old, new):
        count = database.execute("UPDATE domain SET spec = replace(spec, ?, ?)", (f'"{old}"', f'"{new}"')).rowcount
        assert count > 0

    with daemon_away(broker), store(broker) as database:
        for at, (copied, state) in enumerate(states.items(), 1070):
            copy_row(database, "domain", name, name=copied, state=state, pid=0, start_time=0, id=at, jail_uid=0x70000000 + at)
        hypervisor_becomes(database, "null", "xen")
    for _ in range(2):
        assert set(alice.domain_names()) == {name, *states}
        for left, state in {name: "paused", **states}.items():
            assert alice.get(domain_path(left), DOMAIN, "State") == state
            for request in ("Resume", "OpenConsole", "OpenLog"):
                assert "xen" in refused("NotSupported", alice.domain, left, request)
            assert "xen" in refused("NotSupported", alice.destroy_domain, left)
        refused("NetworkInUse", alice.destroy_network, network.name)
        assert f"Domain {name} cannot be taken over" in broker.log_since_test()
        broker.restart()
    with daemon_away(broker), store(broker) as database:
        database.executemany("DELETE FROM domain WHERE name = ?", [(left,) for left in states])
        hypervisor_becomes(database, "xen", "null")
    assert describe(alice, name) == before
    wait_for(lambda: f"Domain {name} is taken over" in broker.log_since_test())
    alice.domain(name, "Resume")


@only_null
def test_stale_files(broker, alice, create, tmp_path):
    """What nothing records is removed, and nothing beyond it."""
    name = create()
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("precious")
    with daemon_away(broker):
        deep = path_of(broker, "domains", "debmarshal-77", "deep", "er")
        os.makedirs(deep)
        os.symlink(outside, os.path.join(deep, "link"))
        os.symlink(outside, path_of(broker, "domains", "debmarshal-78"))
        os.mkfifo(path_of(broker, "domains", "debmarshal-77", "fifo"))
        with open(path_of(broker, "ended", "987654.log"), "w", encoding="utf-8") as f:
            f.write("nobody's")
        if broker.daemon.user:
            subprocess.run(["chown", "-hR", alice.user.name, path_of(broker, "domains", "debmarshal-77")], check=True)
    assert os.listdir(path_of(broker, "domains")) == [name]
    assert "987654.log" not in os.listdir(path_of(broker, "ended"))
    assert (outside / "precious").read_text() == "precious"


def start_refused(broker):
    """What a daemon says that does not start."""
    with pytest.raises(RuntimeError) as info:
        broker.daemon.start()
    return str(info.value)


@pytest.fixture
def stored(broker, alice, network, create):
    """A domain, and the store as it is to be put back: the daemon is away then."""
    name = create()
    before = describe(alice, name)
    broker.daemon.kill()
    with store(broker) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")  # so that the file is all of it
    copy = path_of(broker, "..", "copy.db")
    shutil.copy(path_of(broker, "state.db"), copy)
    yield name
    os.rename(copy, path_of(broker, "state.db"))
    if broker.daemon.user:
        os.chown(path_of(broker, "state.db"), broker.daemon.user.uid, broker.daemon.user.gid)
    broker.daemon.start()
    broker.served()
    assert describe(alice, name) == before
    assert alice.network_names() == [network.name]


@only_null
def test_newer_schema(broker, stored):
    """A store of a later version is left alone, with a word about it."""
    with store(broker) as database:
        database.execute("PRAGMA user_version = 99")
    assert "newer" in start_refused(broker)
    assert os.path.isdir(path_of(broker, "domains", stored))


@only_null
@pytest.mark.parametrize("damage", [b"not a database at all" * 1000, b"\xff" * 3000])
def test_damaged_store(broker, stored, damage):
    """Is said by name, together with the way out; nothing is touched."""
    with open(path_of(broker, "state.db"), "r+b") as f:
        f.seek(0 if damage.startswith(b"not") else 4096)
        f.write(damage)
    said = start_refused(broker)
    assert "state.db is damaged" in said and "remove the file" in said
    assert os.path.isdir(path_of(broker, "domains", stored))


def test_older_schema(broker, alice):
    """A file that has had none of the steps, which is what a new one is, gets them all."""
    broker.daemon.kill()
    os.unlink(path_of(broker, "state.db"))
    broker.daemon.start()
    broker.served()
    with store_copy(path_of(broker, "state.db")) as database:
        assert database.execute("PRAGMA user_version").fetchone()[0] >= 1
    destroyed(alice.destroy_network, alice.create_network([])[0])
    assert alice.get(ROOT_PATH, MANAGER, "Version")
