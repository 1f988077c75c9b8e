"""The command line: every verb, its JSON, its exit statuses, its errors, and how it finds the daemon."""

import array
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

from conftest import BUILD, PROGRAM, SOURCE, Cli, end, environment, peer_pid
from daemon import Daemon

VERBS = {
    "network": ["create", "list", "show", "destroy", "shell", "exec", "capture"],
    "domain": ["create", "list", "show", "destroy", "console", "log", "screenshot", "vnc", "pause", "resume", "reset",
               "shutdown", "wait", "agent"],
    None: ["connect", "listen", "ssh", "doctor", "help"],
}
ALL = [[noun, verb] if noun else [verb] for noun, verbs in VERBS.items() for verb in verbs]
COMPLETIONS = {
    "bash": os.path.join(SOURCE, "data/completions/bash/debmarshal"),
    "zsh": os.path.join(SOURCE, "data/completions/zsh/_debmarshal"),
    "fish": os.path.join(SOURCE, "data/completions/fish/debmarshal.fish"),
}


def read(path):
    with open(path, encoding="utf-8") as f:
        return f.read()


def wait_until(condition, what, timeout=20):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)


# ---- words ----


@pytest.fixture(scope="module")
def words(user):
    """The program without a daemon: these tests must not need one."""
    return Cli(user, "unix:path=/nonexistent")


def options_of(words, verb):
    """The long options that the help of a verb shows."""
    return re.findall(r"^ +(?:-\w, )?--([a-z0-9-]+)", words(*verb, "--help"), re.M)


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_every_verb_has_help(words, verb):
    text = words(*verb, "--help")
    assert text.startswith(f"usage: debmarshal {' '.join(verb)}")
    assert words("help", *verb) == text
    assert all(len(line) <= 110 for line in text.splitlines())


def test_main_help_lists_every_verb(words):
    text = words("--help")
    for verb in ALL:
        assert re.search(rf"^  {' '.join(verb)} ", text, re.M), verb
    assert words("help") == text
    assert words("network", "--help") == words("help", "network")
    assert re.fullmatch(r"debmarshal \d+\.\d+\.\d+\n", words("--version"))


@pytest.mark.parametrize("verb", ALL, ids=" ".join)
def test_every_verb_tells_the_version(words, verb):
    assert words(*verb, "--version") == words("--version")


@pytest.mark.parametrize("line, hint", [
    ("", "nothing to do"),
    ("network", "needs a verb"),
    ("netwrok list", "did you mean network?"),
    ("network lsit", "did you mean list?"),
    ("frobnicate", "unknown verb: frobnicate"),
    ("--frobnicate", "unknown option"),
    ("network list --jsn", "did you mean --json?"),
    ("network list surplus", "unexpected argument: surplus"),
    ("network list --json=yes", "takes no value"),
    ("network show", "takes NETWORK"),
    ("network exec debmarshal-0", "takes NETWORK"),
    ("domain create", "needs --network"),
    ("domain create --network", "needs a value"),
    ("domain create -n x --host a --mac b", "exclude each other"),
    ("domain create -n x --json --console", "exclude each other"),
    ("domain wait x --timeout soon", "no length of time"),
    ("domain wait x --timeout 0", "no length of time"),
    ("domain screenshot x", "takes DOMAIN"),
    ("ssh -oProxyCommand=touch", "unknown option"),
    ("ssh debmarshal-0/-oProxyCommand=touch", "is not [USER@][NETWORK/]HOST"),
    ("--system --session network list", "exclude each other"),
])
def test_usage_errors(words, line, hint):
    text = words.fails(*line.split(), status=2)
    assert hint in text
    assert text.count("\n") == 1
    assert "--help'" in text


def test_no_daemon_at_an_address(words):
    assert "/nonexistent" in words.fails("network", "list")
    assert "/nowhere" in words.fails("--address", "/nowhere/bus", "network", "list")


def test_output_that_cannot_be_written(words):
    with open("/dev/full", "wb") as full:
        result = subprocess.run([PROGRAM, "--help"], stdout=full, stderr=subprocess.PIPE, check=False)
    assert result.returncode == 1
    assert b"cannot write" in result.stderr


# ---- completion and manual ----


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_completion_parses(shell):
    subprocess.run([shell, "-n", COMPLETIONS[shell]], check=True)


@pytest.mark.parametrize("shell", COMPLETIONS)
def test_completion_knows_everything(words, shell):
    text = read(COMPLETIONS[shell])
    for verb in ALL:
        assert re.search(rf"\b{verb[-1]}\b", text), verb
        for option in options_of(words, verb):
            dashes = r"-l " if shell == "fish" else "--"
            assert re.search(rf"{dashes}{option}\b", text), f"{verb} --{option}"


def test_manual_knows_everything(words):
    text = read(os.path.join(SOURCE, "docs/debmarshal.1.scd"))
    for verb in ALL:
        assert re.search(rf"\*[^*\n]*\b{verb[-1]}\b[^*\n]*\*", text), verb
        for option in options_of(words, verb):
            assert f"--{option}" in text, f"{verb} --{option}"


def complete(cli, *line):
    """What bash offers behind these words."""
    script = f"""
        source {COMPLETIONS['bash']}
        COMP_WORDS=("$@") COMP_CWORD=$(($# - 1))
        _debmarshal
        printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    result = subprocess.run(["bash", "-c", script, "bash", PROGRAM, *line], stdout=subprocess.PIPE, check=True,
                            env=cli.env, text=True, **cli.user.popen_identity())
    return result.stdout.split()


def test_completion_offers_verbs_options_and_names(cli, network, create, kernel):
    name = create("--host", "web")
    assert complete(cli, "net") == ["network"]
    assert complete(cli, "domain", "sh") == ["show", "shutdown"]
    assert complete(cli, "--session", "network", "list", "--j") == ["--json"]
    assert complete(cli, "network", "create", "--ipv6", "=", "s") == ["slaac"]
    assert network in complete(cli, "network", "show", "")
    assert network in complete(cli, "domain", "create", "--network", "")
    assert {name, "web"} <= set(complete(cli, "domain", "console", ""))
    assert {"web", "db"} <= set(complete(cli, "ssh", ""))
    # A short option's value is a file's name, or at least no name of a domain.
    assert kernel[0] in complete(cli, "domain", "create", "-d", kernel[0][:-2])
    assert name in complete(cli, "domain", "wait", "-t", "90s", "")
    assert complete(cli, "network", "capture", "-d", "") == []
    assert network in complete(cli, "network", "capture", "-d", "br0", "")
    assert network in complete(cli, "network", "destroy", "-d", "")


# ---- networks ----

NETWORK_KEYS = {"name": str, "owner": int, "owner_name": str, "state": str, "reason": str, "subnet": str, "gateway": str,
                "netmask": str, "ipv6_mode": str, "subnet6": str, "gateway6": str, "dns_domain": str, "host_count": int,
                "domain_count": int, "created_usec": int}
DOMAIN_KEYS = {"name": str, "id": int, "owner": int, "owner_name": str, "state": str, "hypervisor": str, "arch": str,
               "memory": int, "vcpus": int, "nics": list, "on_poweroff": str, "on_reboot": str, "created_usec": int}


def has_schema(value, keys):
    for key, kind in keys.items():
        assert isinstance(value.get(key), kind), f"{key} in {value}"


def test_create_prints_the_name_alone(cli):
    text = cli("network", "create", "a")
    assert re.fullmatch(r"debmarshal-\d+\n", text)
    assert cli("network", "destroy", text.strip()) == ""
    assert text.strip() not in cli("network", "list")


def test_network_json(cli, user):
    made = json.loads(cli("network", "create", "--json", "--subnet", "10.1.2.0/24", "--ipv6", "none", "web", "db"))
    has_schema(made, NETWORK_KEYS)
    assert made["owner"] == user.uid and made["owner_name"] == user.name
    assert (made["subnet"], made["gateway"], made["netmask"]) == ("10.1.2.0/24", "10.1.2.1", "255.255.255.0")
    assert made["ipv6_mode"] == "none"
    assert [(h["name"], h["address"]) for h in made["hosts"]] == [("web", "10.1.2.2"), ("db", "10.1.2.3")]
    assert all(re.fullmatch("00:16:3e(:[0-9a-f]{2}){3}", h["mac"]) for h in made["hosts"])
    assert json.loads(cli("network", "show", "--json", made["name"])) == made
    listed = json.loads(cli("network", "list", "--json"))
    assert made == [n for n in listed if n["name"] == made["name"]][0] | {"hosts": made["hosts"]}
    cli("network", "destroy", made["name"])


def test_network_for_people(cli, network):
    lines = cli("network", "list").splitlines()
    assert lines[0].split() == ["NAME", "STATE", "SUBNET", "IPV6", "HOSTS", "DOMAINS", "AGE", "OWNER"]
    row = [line for line in lines if line.startswith(network)][0]
    assert row.index("up") == lines[0].index("STATE")
    text = cli("network", "show", network)
    assert re.search(r"^HOST +ADDRESS +MAC +IPV6\nweb +10\.", text, re.M)
    assert "\x1b" not in text


def test_colour_on_a_terminal_only(cli, network):
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False), ({"TERM": "dumb"}, False)):
        terminal = cli.terminal("network", "list", env=env)
        terminal.expect("OWNER")
        row = terminal.expect(rf"{network} .*\n").group()
        assert ("\x1b[32mup\x1b[0m" in row) == coloured
        assert terminal.wait() == 0
        terminal.close()


def test_network_refusals(cli, network):
    assert "debmarshal-77" in cli.fails("network", "show", "debmarshal-77")
    assert cli.fails("network", "create", "-", "x").startswith("debmarshal: ")
    assert '"X"' in cli.fails("network", "create", "x", "X")
    cli.fails("network", "create", "--ipv6", "maybe")
    cli.fails("network", "create", "--subnet", "10.1.2.3/99")
    cli.fails("network", "create", "evil\nname")
    result = cli.run("network", "destroy", "debmarshal-77", network, "debmarshal-78")
    assert result.returncode == 1  # the good one among them is destroyed all the same
    assert result.stderr.count("\n") == 2
    assert network not in cli("network", "list")


def test_network_in_use(cli, network, create):
    name = create()
    assert f"domain {name}: destroy that first, or give --domains" in cli.fails("network", "destroy", network)
    assert cli("network", "destroy", "--domains", network) == ""
    assert network not in cli("network", "list") and name not in cli("domain", "list")


def test_exec_is_root_inside(cli, network):
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    assert cli("network", "exec", network, "--", "id", "-u") == "0\n"
    assert gateway in cli("network", "exec", network, "--", "cat", "/proc/net/fib_trie")
    assert cli("network", "exec", network, "cat", input="in\n") == "in\n"
    cli("network", "exec", network, "--", "sh", "-c", "exit 42", status=42)
    cli("network", "exec", network, "--", "/nonexistent", status=127)
    cli("network", "exec", network, "--", "/etc/passwd", status=126)
    assert cli("network", "exec", network, "--", "sh", "-c", "echo $DEBMARSHAL_NETWORK --help") == f"{network} --help\n"


def test_exec_resolves_names(cli, network):
    hosts = json.loads(cli("network", "show", "--json", network))["hosts"]
    assert cli("network", "exec", network, "--", "getent", "ahostsv4", "db").split()[0] == hosts[1]["address"]
    cli("network", "exec", network, "--", "getent", "ahostsv4", "debian.org", status=2)


def test_shell(cli, network):
    result = cli.run("network", "shell", network, input="id -u; exit 7\n", env={"SHELL": "/bin/sh"})
    assert (result.returncode, result.stdout) == (7, "0\n")


def test_capture(cli, network, user):
    path = os.path.join(user.home, "rig.pcapng")
    process = cli.popen("network", "capture", network, "-w", path)
    wait_until(lambda: os.path.exists(path) and os.path.getsize(path) > 0, "no header")
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    address = gateway.rpartition(".")[0] + ".3"
    cli.run("network", "exec", network, "--", "sh", "-c", f"echo x > /dev/udp/{address}/9 || ping -c1 -W1 {address}")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 0
    with open(path, "rb") as f:
        assert f.read(4) == b"\x0a\x0d\x0d\x0a"
    os.unlink(path)


def test_capture_to_a_pipe_ends_with_the_network(cli):
    name = cli("network", "create").strip()
    process = cli.popen("network", "capture", name)
    assert process.stdout.read(4) == b"\x0a\x0d\x0d\x0a"
    cli("network", "destroy", name)
    assert process.wait(20) == 0


MUCH_TRAFFIC = """import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for i in range(400):
    s.sendto(bytes(1400), ("127.0.0.1", 9))"""


def test_capture_is_interrupted_while_it_writes(cli, network):
    """Nobody reads what it prints, more than pipes hold: the interrupt does not meet it while it waits for packets."""
    process = cli.popen("network", "capture", "-d", "lo", network)
    assert process.stdout.read(4) == b"\x0a\x0d\x0d\x0a"  # from here on it listens
    cli("network", "exec", network, "--", "/usr/bin/python3", "-c", MUCH_TRAFFIC)

    def writes():
        with open(f"/proc/{process.pid}/wchan", encoding="ascii") as wchan:
            return "pipe_write" in wchan.read()

    wait_until(writes, "it does not write")
    process.send_signal(signal.SIGINT)
    out, _ = process.communicate(timeout=20)
    assert process.returncode == 0 and len(out) > 65536


def test_capture_spares_a_file_until_it_has_begun(cli, network, user):
    path = user.file("kept.pcapng", b"kept")
    cli.fails("network", "capture", "-w", path, "debmarshal-77")
    cli.fails("network", "capture", "-w", path, "-d", "nosuch", network)
    assert read(path) == "kept"
    assert "/nonexistent/x" in cli.fails("network", "capture", "-w", "/nonexistent/x", network)


def test_capture_refuses_a_terminal(cli, network):
    terminal = cli.terminal("network", "capture", network)
    terminal.expect("not writing packets to a terminal")
    assert terminal.wait() == 1
    terminal.close()


# ---- domains ----


def test_domain_json(cli, network, create, user):
    made = json.loads(create("--host", "db", "--memory", "64M", "--vcpus", "2", "--on-poweroff", "restart", "--json"))
    has_schema(made, DOMAIN_KEYS)
    assert made["owner"] == user.uid
    assert (made["memory"], made["vcpus"], made["on_poweroff"], made["on_reboot"]) == (64 << 20, 2, "restart", "restart")
    hosts = json.loads(cli("network", "show", "--json", network))["hosts"]
    assert made["nics"] == [{"network": network, "mac": hosts[1]["mac"], "host": "db"}]
    shown = json.loads(cli("domain", "show", "--json", made["name"]))
    assert shown["spec"]["memory"] and shown["name"] == made["name"]
    assert [d for d in json.loads(cli("domain", "list", "--json")) if d["name"] == made["name"]][0]["id"] == made["id"]


def test_domain_for_people(cli, network, create):
    name = create("--host", "web")
    lines = cli("domain", "list").splitlines()
    assert lines[0].split() == ["NAME", "HOST", "STATE", "HYPERVISOR", "ARCH", "MEMORY", "VCPUS", "NETWORK", "AGE", "OWNER"]
    assert any(re.match(rf"{name} +web +running +null ", line) for line in lines)
    text = cli("domain", "show", "web")
    assert re.search(rf"^Name +{name}$", text, re.M)
    assert re.search(rf"^Networks +{network} 00:16:3e:\S+ web$", text, re.M)


def test_domain_by_host_name(cli, create):
    one, two = create("--host", "web"), create("--host", "db")
    assert json.loads(cli("domain", "show", "--json", "WEB"))["name"] == one
    cli("domain", "destroy", "web")
    assert "debmarshal" in cli.fails("domain", "destroy", "web")
    cli("domain", "destroy", two)


def test_ambiguous_host_name(cli, network, create, kernel):
    one = create("--host", "web")
    other = cli("network", "create", "web").strip()
    two = cli("domain", "create", "-n", f"{other},web", "-k", kernel[0], "-i", kernel[1], "--hypervisor", "null").strip()
    text = cli.fails("domain", "destroy", "web")
    assert one in text and two in text
    cli("network", "destroy", "--domains", other)


def test_create_refusals(cli, network, create, kernel, user):
    assert "no host mail" in cli.fails("domain", "create", "-n", network, "--host", "mail", "-k", kernel[0])
    assert "--extra takes KEY=VALUE" in cli.fails("domain", "create", "-n", network, "--extra", "novalue")
    assert "vcpus" in cli.fails("domain", "create", "-n", network, "--vcpus", "-1")
    assert "colour" in cli.fails("domain", "create", "-n", network, "-d", kernel[0], "--extra", "colour=red")
    assert "/nonexistent" in cli.fails("domain", "create", "-n", network, "--hypervisor", "null", "-d", "/nonexistent")
    cli.fails("domain", "create", "-n", "debmarshal-77", "-d", kernel[0])
    cli.fails("domain", "create", "-n", network, "--memory", "lots", "-d", kernel[0])
    assert "no password" in cli.fails("domain", "create", "-n", network, "--vnc-password-file", "/dev/null")
    assert "told to fail" in cli.fails("domain", "create", "-n", network, "-k", kernel[0], "-i", kernel[1],
                                       "--hypervisor", "null", "-a", "fail=start")
    assert all(n["network"] != network for d in json.loads(cli("domain", "list", "--json")) for n in d["nics"])


def test_relative_paths_and_formats(cli, network, user):
    user.disk("disk.img")
    os.chmod(user.disk("read:only.img"), 0o400)
    made = json.loads(cli("domain", "create", "-n", network, "--hypervisor", "null", "-d", "disk.img", "-d",
                          "raw:read:only.img:ro", "--json"))
    disks = json.loads(cli("domain", "show", "--json", made["name"]))["spec"]["disks"]
    assert [d["path"] for d in disks] == [os.path.join(user.home, n) for n in ("disk.img", "read:only.img")]
    assert [bool(d.get("read_only")) for d in disks] == [False, True]


def test_several_interfaces(cli, network, create):
    other = cli("network", "create", "mgmt").strip()
    made = json.loads(create("--network", f"{other},mgmt", "--network", f"{network},00:16:3e:00:00:07", "--json"))
    assert [n["host"] for n in made["nics"]] == ["", "mgmt", ""]
    assert made["nics"][2]["mac"] == "00:16:3e:00:00:07"
    cli("domain", "destroy", made["name"])
    cli("network", "destroy", other)


def test_pause_and_resume(cli, create):
    name = create("--paused")
    state = lambda: json.loads(cli("domain", "show", "--json", name))["state"]  # noqa: E731
    assert state() == "paused"
    assert cli("domain", "resume", name) == ""
    wait_until(lambda: state() == "running", "still paused")
    cli("domain", "pause", name)
    wait_until(lambda: state() == "paused", "still running")
    cli("domain", "resume", name)


@pytest.mark.parametrize("behave, reason, status", [
    ("poweroff-after-ms=300", "poweroff", 0), ("crash-after-ms=300", "crash", 1), ("die-after-ms=300", "crash", 1)])
def test_wait(cli, create, behave, reason, status):
    name = create(behave=behave)
    assert cli("domain", "wait", name, status=status) == f"{reason}\n"
    again = json.loads(cli("domain", "wait", "--json", name, status=status))  # it is remembered
    assert again["name"] == name and again["reason"] == reason and isinstance(again["message"], str)
    ended = [d for d in json.loads(cli("domain", "list", "--ended", "--json")) if d["name"] == name]
    assert ended[-1]["reason"] == reason  # names are used again: the last one counts
    has_schema(ended[-1], {"id": int, "owner": int, "owner_name": str, "message": str, "ended_usec": int})
    assert name in cli("domain", "list", "--ended")


# Between a client and the daemon: the first message that holds a word waits for a line of standard input.
PROXY = """
import socket, sys, threading
word, listener = sys.argv[3].encode() + b"\\0", socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen()
print("ready", flush=True)
client, _ = listener.accept()
server = socket.socket(socket.AF_UNIX)
server.connect(sys.argv[2])

def pump(source, to, held):
    while True:
        data, fds, _, _ = socket.recv_fds(source, 65536, 16)
        if held and held in data:
            print("held", flush=True)
            sys.stdin.readline()
            held = None
        if not data:
            to.shutdown(socket.SHUT_WR)
            return
        socket.send_fds(to, [data], fds)

threading.Thread(target=pump, args=(server, client, None)).start()
pump(client, server, word)
"""


@pytest.fixture
def too_late(cli, user):
    """Run a verb on a domain that is destroyed just before its call of a method."""
    processes = []

    def run(method, *words, name):
        path = os.path.join(user.home, f"proxy-{method}")
        proxy = subprocess.Popen(["/usr/bin/python3", "-c", PROXY, path,
                                  cli.env["DEBMARSHAL_ADDRESS"].removeprefix("unix:path="), method],
                                 stdin=subprocess.PIPE, stdout=subprocess.PIPE, **user.popen_identity())
        processes.append(proxy)
        assert proxy.stdout.readline() == b"ready\n"
        client = cli.popen("--address", path, *words)
        assert proxy.stdout.readline() == b"held\n"
        cli("domain", "destroy", name)
        proxy.stdin.write(b"\n")
        proxy.stdin.flush()
        out, err = client.communicate(timeout=20)
        os.unlink(path)
        return client.returncode, out.decode(), err.decode()
    yield run
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("by_host", [False, True])
def test_wait_for_what_ends_meanwhile(cli, create, too_late, by_host):
    name = create(*(["--host", "web"] if by_host else []))
    assert too_late("Wait", "domain", "wait", "web" if by_host else name, name=name) == (0, "destroyed\n", "")


def test_a_domain_that_ends_meanwhile(create, too_late):
    for method, verb in (("Pause", "pause"), ("GetAll", "show")):
        name = create()
        status, _, err = too_late(method, "domain", verb, name, name=name)
        assert (status, err) == (1, f'debmarshal: domain "{name}": there is none of that name\n')
    for method, verb in (("OpenConsole", "console"), ("OpenLog", "log")):
        name = create("--host", "web")
        assert too_late(method, "domain", verb, "web", name=name)[::2] == (0, ""), method


def test_wait_gives_up(cli, create):
    name = create()
    begun = time.monotonic()
    cli.fails("domain", "wait", "-t", "200ms", name)
    assert time.monotonic() - begun < 10
    process = cli.popen("domain", "wait", name)
    time.sleep(0.2)
    cli("domain", "destroy", name)
    assert process.wait(20) == 0
    assert process.stdout.read() == b"destroyed\n"


# ---- console ----


def console_until(process, wanted):
    """Read standard output until the text is in it."""
    seen = b""
    deadline = time.monotonic() + 20
    while wanted not in seen:
        assert time.monotonic() < deadline
        piece = os.read(process.stdout.fileno(), 4096)
        assert piece, seen
        seen += piece
    return seen


def test_console_in_a_script(cli, create):
    """The null guest is cat: it answers with what it is told. From a pipe escapes are ordinary text."""
    name = create()
    process = cli.popen("domain", "console", name, stdin=subprocess.PIPE)
    process.stdin.write(b"~.\x1dhello\n")
    process.stdin.close()
    console_until(process, b"~.\x1dhello")
    assert process.poll() is None  # the end of the input is not the end
    cli("domain", "destroy", name)
    assert process.wait(20) == 0
    assert b"destroyed" in process.stderr.read()


def test_console_replays_and_is_logged(cli, create):
    name = create()
    process = cli.popen("domain", "console", name, stdin=subprocess.PIPE)
    process.stdin.write(b"first words\n")
    process.stdin.flush()
    console_until(process, b"first words")
    second = cli.popen("domain", "console", name)
    console_until(second, b"first words")
    assert "first words" in cli("domain", "log", name)
    follower = cli.popen("domain", "log", "-f", name)
    console_until(follower, b"first words")
    cli("domain", "destroy", name)
    assert [p.wait(20) for p in (process, second, follower)] == [0, 0, 0]
    assert "first words" in cli("domain", "log", name)  # it stays for a while
    assert "first words" in cli("domain", "log", "-f", name)


@pytest.mark.parametrize("keys", ["~.", "\x1d", "x\r~."])
def test_console_on_a_terminal(cli, create, keys):
    name = create()
    terminal = cli.terminal("domain", "console", name)
    terminal.expect(rf"attached to {name}; type ~\. .*Ctrl-\]")
    wait_until(terminal.is_raw, "not raw")
    terminal.type("hello\r")
    terminal.expect("hello")
    terminal.type(keys)
    terminal.expect("detached")
    assert terminal.wait() == 0
    assert terminal.attributes() == terminal.before
    assert json.loads(cli("domain", "show", "--json", name))["state"] == "running"
    terminal.close()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
def test_console_restores_the_terminal_when_killed(cli, create, number):
    terminal = cli.terminal("domain", "console", create())
    wait_until(terminal.is_raw, "not raw")
    terminal.process.send_signal(number)
    assert terminal.wait() == -number
    assert terminal.attributes() == terminal.before
    terminal.close()


def test_console_stops_and_goes_on(cli, create):
    terminal = cli.terminal("domain", "console", create())
    wait_until(terminal.is_raw, "not raw")
    terminal.process.send_signal(signal.SIGTSTP)
    os.waitid(os.P_PID, terminal.process.pid, os.WSTOPPED | os.WNOWAIT)
    assert terminal.attributes() == terminal.before
    terminal.process.send_signal(signal.SIGCONT)
    wait_until(terminal.is_raw, "not raw again")
    terminal.type("\x1d")
    assert terminal.wait() == 0
    terminal.close()


def test_console_when_the_guest_ends(cli, create):
    terminal = cli.terminal("domain", "console", create(behave="poweroff-after-ms=700"))
    wait_until(terminal.is_raw, "not raw")
    terminal.expect("has ended: poweroff")
    assert terminal.wait() == 0
    assert terminal.attributes() == terminal.before
    terminal.close()


def test_create_with_console(cli, network, kernel):
    terminal = cli.terminal("domain", "create", "-n", network, "-k", kernel[0], "-i", kernel[1], "--hypervisor", "null",
                            "--console")
    name = terminal.expect(r"(debmarshal-\d+) started").group(1)
    wait_until(terminal.is_raw, "not raw")
    terminal.type("~.")
    assert terminal.wait() == 0
    terminal.close()
    cli("domain", "destroy", name)


def test_screenshot(cli, create, user):
    """The null driver's picture is the first bytes of one."""
    name = create()
    path = os.path.join(user.home, "screen.png")
    assert cli("domain", "screenshot", name, path) == ""
    with open(path, "rb") as f:
        assert f.read() == b"\x89PNG\r\n\x1a\n"
    os.unlink(path)
    process = cli.popen("domain", "screenshot", name, "-")
    assert process.communicate()[0] == b"\x89PNG\r\n\x1a\n"
    cli.fails("domain", "screenshot", "debmarshal-77", path)
    assert not os.path.exists(path)
    cli.fails("domain", "screenshot", name, "/nonexistent/x.png")
    terminal = cli.terminal("domain", "screenshot", name, "-")
    terminal.expect("not writing a picture to a terminal")
    assert terminal.wait() == 1
    terminal.close()


def test_what_the_null_driver_has_not(cli, create):
    name = create()
    for verb in ("vnc", "agent"):
        assert "Hypervisor null cannot " in cli.fails("domain", verb, name)


@pytest.fixture
def screen(cli, network, user):
    """A real emulator, which has a screen also while its guest does not run."""
    return cli("domain", "create", "-n", network, "--hypervisor", "qemu", "--memory", "32M", "--paused", "-d",
               user.disk("screen.img")).strip()


def greet(address):
    """The first words of the VNC protocol."""
    with socket.create_connection(address, timeout=10) as s:
        return s.recv(12)


def test_vnc(cli, screen):
    process = cli.popen("domain", "vnc", screen)
    host, _, port = process.stdout.readline().decode().strip().rpartition(":")
    assert host == "127.0.0.1"
    address = (host, int(port))
    # Root may look as well as the user, and one after another.
    assert [greet(address) for _ in range(3)] == [b"RFB 003.008\n"] * 3
    cli("domain", "destroy", screen)
    assert process.wait(20) == 0
    assert b"has ended" in process.stderr.read()


def test_vnc_is_for_its_owner_alone(cli, screen, stranger):
    process = cli.popen("domain", "vnc", screen)
    port = process.stdout.readline().decode().strip().rpartition(":")[2]
    client = f"import socket; print(socket.create_connection(('127.0.0.1', {port}), timeout=10).recv(12))"
    result = subprocess.run(["/usr/bin/python3", "-c", client], stdout=subprocess.PIPE, check=True, **stranger.popen_identity())
    assert result.stdout == b"b''\n"
    assert b"refused" in process.stderr.readline()
    process.kill()
    process.wait()


def test_vnc_is_not_for_a_stranger_who_has_gone(cli, screen, stranger):
    """What he sent is in the queue, and the kernel says that what is left of his socket is root's."""
    process = cli.popen("domain", "vnc", screen)
    port = process.stdout.readline().decode().strip().rpartition(":")[2]
    client = f"import socket; socket.create_connection(('127.0.0.1', {port}), timeout=10).sendall(b'RFB 003.008\\n\\1\\1')"
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)
    subprocess.run(["/usr/bin/python3", "-c", client], check=True, **stranger.popen_identity())
    orphan = re.compile(rf"^ *\d+: \S+ 0100007F:{int(port):04X} 05 ", re.M)
    wait_until(lambda: orphan.search(read("/proc/net/tcp")), "the end is not acknowledged")
    process.send_signal(signal.SIGCONT)
    assert greet(("127.0.0.1", int(port))) == b"RFB 003.008\n"  # one after another: he has been dealt with
    process.kill()
    assert b"refused" in process.communicate()[1]


def test_vnc_viewer(cli, screen):
    assert re.fullmatch(r"-shared 127\.0\.0\.1::\d+\n", cli("domain", "vnc", screen, "--exec", "echo -shared"))
    cli("domain", "vnc", screen, "-x", "sh -c 'exit 5'", status=5)
    assert "loopback" in cli.fails("domain", "vnc", screen, "--listen", "0.0.0.0:5900")
    assert "no address" in cli.fails("domain", "vnc", screen, "--listen", "here")


@pytest.mark.parametrize("words", ["<(sleep 0.5; echo secret)", "/dev/stdin"])
def test_vnc_password_from_a_pipe(cli, network, user, words):
    """Which has nothing yet when it is opened."""
    script = f'(sleep 0.5; echo secret) | "$0" "$@" --vnc-password-file {words}'
    command = ["bash", "-c", script, PROGRAM, "domain", "create", "-n", network, "--hypervisor", "qemu", "--memory",
               "32M", "--paused", "-d", user.disk("screen.img")]
    result = subprocess.run(command, env=cli.env, cwd=user.home, capture_output=True, timeout=60, check=False,
                            **user.popen_identity())
    assert result.returncode == 0, result.stderr


def test_vnc_password_from_a_fifo(cli, network, user):
    path = os.path.join(user.home, "password")
    os.mkfifo(path)
    os.chmod(path, 0o666)
    process = cli.popen("domain", "create", "-n", network, "--hypervisor", "qemu", "--memory", "32M", "--paused", "-d",
                        user.disk("screen.img"), "--vnc-password-file", path)
    time.sleep(0.5)
    with open(os.open(path, os.O_RDWR), "wb") as f:
        f.write(b"secret\n")
        f.flush()
        time.sleep(0.2)
    os.unlink(path)
    assert process.wait(20) == 0, process.stderr.read()


VIEWER = """
import os, signal, socket, sys
s = socket.create_connection(sys.argv[2].split("::"), timeout=10)
assert s.recv(12).startswith(b"RFB")
os.kill(int(sys.argv[1]), signal.SIGSTOP)
"""


def test_vnc_viewer_at_an_emulator_that_hangs(cli, screen, user):
    """It cannot answer that its client has gone."""
    pid = json.loads(cli("domain", "show", "--json", screen))["spec"]["pid"]
    viewer = user.file("viewer.py", VIEWER.encode())
    try:
        cli("domain", "vnc", screen, "--exec", f"/usr/bin/python3 {viewer} {pid}", timeout=20)
    finally:
        os.kill(pid, signal.SIGCONT)


# ---- streams ----

SERVER = """
import socket, sys
s = socket.create_server((sys.argv[1], 0))
print(s.getsockname()[1], flush=True)
while True:
    c, _ = s.accept()
    data = b""
    while piece := c.recv(65536):
        data += piece
    c.sendall(b"got " + str(len(data)).encode() + b"\\n" + data[:100])
    c.close()
"""


@pytest.fixture
def server(cli, network):
    """A TCP server inside the network: it answers once its client has said all."""
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    process = cli.popen("network", "exec", network, "--", "/usr/bin/python3", "-c", SERVER, gateway)
    port = process.stdout.readline().decode().strip()
    yield network, gateway, port
    process.kill()
    process.wait()


def test_connect(cli, server):
    assert cli("connect", *server, input="hello") == "got 5\nhello"
    assert cli("connect", *server, input="x" * 3000000).startswith("got 3000000\n")
    cli.fails("connect", server[0], server[1], "1")
    cli.fails("connect", server[0], "nobody", "1")
    assert "no port" in cli.fails("connect", server[0], server[1], "0")
    assert "no port" in cli.fails("connect", server[0], server[1], "65536")


# Takes one client, says "hi", and treats the rest as it is told.
PEER = """
import socket, sys, time
s = socket.create_server((sys.argv[1], 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.sendall(b"hi")
if sys.argv[2] == "half-close":
    c.shutdown(socket.SHUT_WR)
    time.sleep(0.5)
    print(sum(map(len, iter(lambda: c.recv(65536), b""))))
elif sys.argv[2] == "half-close-and-die":
    c.shutdown(socket.SHUT_WR)
    time.sleep(0.5)
    c.recv(1)
elif sys.argv[2] == "die":
    c.recv(1)
c.close()
"""


@pytest.fixture
def peer(cli, network):
    """Start such a server: where it is, and its process."""
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    processes = []

    def start(behaviour):
        process = cli.popen("network", "exec", network, "--", "/usr/bin/python3", "-c", PEER, gateway, behaviour)
        processes.append(process)
        return (network, gateway, process.stdout.readline().decode().strip()), process
    yield start
    for process in processes:
        process.kill()
        process.wait()


@pytest.mark.parametrize("size", [0, 100000, 20000000])
def test_connect_sends_all_after_a_half_close(cli, peer, size):
    where, process = peer("half-close")
    assert cli("connect", *where, input="x" * size) == "hi"
    assert process.communicate(timeout=20)[0] == b"%d\n" % size


@pytest.mark.parametrize("behaviour, size", [
    ("die", 20000000), ("half-close-and-die", 20000000), ("half-close-and-die", 300000)])
def test_connect_tells_what_was_not_taken(cli, peer, behaviour, size):
    result = cli.run("connect", *peer(behaviour)[0], input="x" * size)
    assert (result.returncode, result.stdout) == (1, "hi")
    assert result.stderr.startswith("debmarshal: ")


def test_connect_waits_for_a_pipe(cli, peer):
    """A slow producer says something only after the other side has ended: one that listens, and one that is gone."""
    where, process = peer("half-close")
    client = cli.popen("connect", *where, stdin=subprocess.PIPE)
    assert client.stdout.read(2) == b"hi"
    time.sleep(0.2)
    assert client.poll() is None
    client.communicate(b"x" * 1000, timeout=20)
    assert client.returncode == 0
    assert process.communicate(timeout=20)[0] == b"1000\n"

    client = cli.popen("connect", *peer("close")[0], stdin=subprocess.PIPE)
    time.sleep(0.2)
    client.stdin.write(b"x")
    client.stdin.flush()
    assert client.wait(20) == 1  # although the pipe is still open
    assert b"debmarshal: " in client.stderr.read()


def test_connect_ends_at_a_terminal(cli, peer):
    terminal = cli.terminal("connect", *peer("close")[0])
    terminal.expect("hi")
    assert terminal.wait() == 0
    terminal.close()


def receive_descriptor(s):
    data, ancillary, _, _ = s.recvmsg(1, socket.CMSG_SPACE(4))
    assert data == b"\0"
    fds = array.array("i")
    fds.frombytes(ancillary[0][2])
    return socket.socket(fileno=fds[0])


def test_connect_passes_the_descriptor(cli, server):
    ours, theirs = socket.socketpair()
    process = cli.popen("connect", "--fdpass", *server, stdout=theirs)
    with receive_descriptor(ours) as connection:
        assert process.wait(20) == 0
        assert connection.getpeername() == (server[1], int(server[2]))
        connection.sendall(b"passed")
        connection.shutdown(socket.SHUT_WR)
        assert connection.makefile().read() == "got 6\npassed"
    theirs.close()
    ours.close()
    assert "socket" in cli.fails("connect", "--fdpass", *server)


def test_listen(cli, network):
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    process = cli.popen("listen", network, "0", stdin=subprocess.PIPE)
    line = process.stderr.readline().decode()
    port = re.search(rf"listening on {re.escape(gateway)}:(\d+)", line).group(1)
    process.stdin.write(b"from outside")
    process.stdin.close()
    client = "import socket,sys; s = socket.create_connection(sys.argv[1:]); s.sendall(b'from inside'); print(s.recv(99))"
    assert cli("network", "exec", network, "--", "/usr/bin/python3", "-c", client, gateway, port) == "b'from outside'\n"
    assert process.wait(20) == 0
    assert process.stdout.read() == b"from inside"


def test_listen_tells_what_was_not_taken(cli, network):
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    process = cli.popen("listen", network, "0", stdin=subprocess.PIPE)
    port = re.search(r":(\d+)$", process.stderr.readline().decode()).group(1)
    client = "import socket,sys; s = socket.create_connection(sys.argv[1:]); s.recv(1)"
    connecting = cli.popen("network", "exec", network, "--", "/usr/bin/python3", "-c", client, gateway, port)
    _, err = process.communicate(b"x" * 20000000, timeout=20)
    assert (connecting.wait(20), process.returncode) == (0, 1), err


@pytest.fixture
def fake_ssh(user):
    """An ssh that shows its arguments, one a line."""
    directory = os.path.join(user.home, "bin")
    os.makedirs(directory, exist_ok=True)
    path = os.path.join(directory, "ssh")
    with open(path, "w", encoding="utf-8") as f:
        f.write("#!/bin/sh\nprintf '%s\\n' \"$@\"\nexit 33\n")
    os.chmod(path, 0o755)
    return {"PATH": f"{directory}:/usr/bin:/bin"}


def test_ssh(cli, network, fake_ssh):
    words = cli("ssh", "root@web", "-p", "2222", "uptime", status=33, env=fake_ssh).splitlines()
    proxy = words[1].removeprefix("ProxyCommand=")
    assert words[0] == "-o" and proxy.endswith(f"connect --fdpass -- '{network}' 'web' %p")
    assert "ProxyUseFdpass=yes" in words and "StrictHostKeyChecking=no" in words
    assert words[-6:] == ["-l", "root", "web", "-p", "2222", "uptime"]
    assert cli("ssh", f"{network}/db", status=33, env=fake_ssh).splitlines()[-1] == "db"
    assert "none of your networks" in cli.fails("ssh", "mail", env=fake_ssh)
    other = cli("network", "create", "web").strip()
    text = cli.fails("ssh", "web", env=fake_ssh)
    assert network in text and other in text
    cli("network", "destroy", other)


def test_ssh_proxy_command_works(cli, server, fake_ssh):
    """What ssh would run gives the connected socket."""
    network, gateway, port = server
    words = cli("ssh", f"{network}/{gateway}", status=33, env=fake_ssh).splitlines()
    command = words[1].removeprefix("ProxyCommand=").replace("%p", port)
    ours, theirs = socket.socketpair()
    process = subprocess.Popen(["sh", "-c", command], stdin=theirs, stdout=theirs, env=cli.env, **cli.user.popen_identity())
    theirs.close()
    with receive_descriptor(ours) as connection:
        assert connection.getpeername() == (gateway, int(port))
    assert process.wait(20) == 0
    ours.close()


BANNER = """
import socket, sys
s = socket.create_server((sys.argv[1], 0))
print(s.getsockname()[1], flush=True)
c, _ = s.accept()
c.sendall(b"SSH-2.0-nobody\\r\\n")
print(c.makefile("rb").readline().decode(), flush=True)
"""


@pytest.mark.skipif(not shutil.which("ssh"), reason="openssh-client is not installed")
def test_ssh_goes_before_the_configuration(cli, network, fake_ssh, user):
    """A connection shared with a host of this name, and keys that the administrator knows of it, are another's."""
    config = user.file("ssh_config", b"ControlMaster auto\nControlPath /tmp/%r@%h\nGlobalKnownHostsFile /etc/known\n")
    words = cli("ssh", f"{network}/web", status=33, env=fake_ssh).splitlines()
    asked = subprocess.run(["/usr/bin/ssh", "-F", config, "-G", *words], stdout=subprocess.PIPE, check=True, text=True)
    settings = dict(line.split(" ", 1) for line in asked.stdout.splitlines())
    assert settings.get("controlpath", "none") == "none"
    assert settings["globalknownhostsfile"] == settings["userknownhostsfile"] == "/dev/null"


@pytest.mark.skipif(not shutil.which("ssh"), reason="openssh-client is not installed")
def test_openssh_comes_through(cli, network):
    """The real client takes the descriptor and greets the server at its other end."""
    gateway = json.loads(cli("network", "show", "--json", network))["gateway"]
    server = cli.popen("network", "exec", network, "--", "/usr/bin/python3", "-c", BANNER, gateway)
    port = server.stdout.readline().decode().strip()
    result = cli.run("ssh", f"{network}/{gateway}", "-p", port, "true")
    assert server.stdout.readline().startswith(b"SSH-2.0-OpenSSH")
    assert result.returncode == 255  # the server hung up
    assert server.wait(20) == 0


# ---- doctor ----


def test_doctor(cli, network, user):
    def holds_one():
        report = json.loads(cli.run("doctor", "--json", timeout=120).stdout)
        return [u["amounts"]["networks"] for u in report["usage"] if u["uid"] == user.uid] == [1]

    # Where the kernel is busy, one that was destroyed before may be on its way still, and counts until it has gone.
    wait_until(holds_one, "other networks are still hers")
    result = cli.run("doctor", "--json", timeout=120)
    report = json.loads(result.stdout)
    assert report["ok"] == (result.returncode == 0)
    names = set()
    for check in report["checks"]:
        has_schema(check, {"name": str, "status": str, "text": str, "cure": str})
        assert check["status"] in ("ok", "warn", "fail")
        names.add(check["name"])
    assert {"daemon", "hypervisor", "dnsmasq", "user-namespaces", "tun", "quota"} <= names
    assert report["ok"] == all(c["status"] != "fail" for c in report["checks"])
    assert report["limits"]["networks"] == 64
    mine = [u for u in report["usage"] if u["uid"] == user.uid]
    assert mine[0]["amounts"]["networks"] == 1 and mine[0]["user"] == user.name
    text = cli.run("doctor", timeout=120)
    assert text.returncode == result.returncode
    assert re.search(r"^ok +daemon +scope session", text.stdout, re.M)
    assert re.search(rf"^ok +quota +{user.name} holds 1 of 64 networks", text.stdout, re.M)


def test_doctor_without_a_daemon(words):
    result = words.run("doctor", "--json")
    report = json.loads(result.stdout)
    assert result.returncode == 1 and report["ok"] is False
    assert [c for c in report["checks"] if c["name"] == "daemon"][0]["status"] == "fail"
    assert "user-namespaces" in {c["name"] for c in report["checks"]}


# ---- finding the daemon ----


@pytest.fixture
def fresh(user, base, request):
    """Nobody serves this user yet: a runtime directory of its own. What was started is ended."""
    directory = os.path.join(base, f"run-{request.node.name[:20]}")
    os.mkdir(directory, 0o700)
    os.chown(directory, user.uid, user.gid)
    fresh_cli = Cli(user, "")
    fresh_cli.env = environment(user, XDG_RUNTIME_DIR=directory)
    fresh_cli.socket = os.path.join(directory, "debmarshal", "bus")
    yield fresh_cli
    if os.path.exists(fresh_cli.socket):
        try:
            end(peer_pid(fresh_cli.socket))
        except ConnectionError:
            pass


def test_completion_starts_nothing(fresh):
    for words in (["network", "list", "--names"], ["network", "list", "--host-names"], ["domain", "list", "--names"]):
        result = fresh.run("--session", *words)
        assert (result.returncode, result.stdout, result.stderr) == (1, "", "")
    assert not os.path.exists(fresh.socket)


def test_the_daemon_is_started(fresh, user):
    assert fresh("--session", "network", "list", "--json") == "[]\n"
    first = peer_pid(fresh.socket)
    assert os.stat(f"/proc/{first}").st_uid == user.uid
    assert fresh("network", "list", "--session") == ""
    assert peer_pid(fresh.socket) == first


def test_the_daemon_holds_nothing_of_its_starter(fresh):
    """A script that waits for the end of a pipe must not wait for the daemon."""
    reader, writer = os.pipe()
    process = fresh.popen("--session", "network", "list", pass_fds=[writer])
    os.close(writer)
    assert process.communicate(timeout=60) == (b"", b"")
    assert os.read(reader, 1) == b""
    os.close(reader)
    targets = {os.readlink(f"/proc/{peer_pid(fresh.socket)}/fd/{n}") for n in "012"}
    assert all(t == "/dev/null" or t.endswith("debmarshald.log") for t in targets), targets


def test_a_daemon_started_without_standard_descriptors(fresh, user):
    """What it opens must not get their numbers, which it gives away as it goes into the background."""
    command = ["sh", "-c", 'exec "$0" "$@" <&- >&- 2>&-', os.path.join(BUILD, "debmarshald"), "--scope=session", "--daemonize"]
    assert subprocess.run(command, env=fresh.env, timeout=30, check=False, **user.popen_identity()).returncode == 0
    assert fresh("--session", "network", "list", "--json") == "[]\n"
    targets = {os.readlink(f"/proc/{peer_pid(fresh.socket)}/fd/{n}") for n in "012"}
    assert all(t == "/dev/null" or t.endswith("debmarshald.log") for t in targets), targets


def test_many_start_one_daemon(fresh):
    processes = [fresh.popen("--session", "network", "list", "--json") for _ in range(6)]
    for process in processes:
        out, err = process.communicate(timeout=60)
        assert (process.returncode, out) == (0, b"[]\n"), err
    first = peer_pid(fresh.socket)
    time.sleep(0.5)
    assert peer_pid(fresh.socket) == first


def test_a_daemon_that_cannot_start_says_why(fresh, base, user):
    os.chmod(os.path.dirname(os.path.dirname(fresh.socket)), 0o500)
    text = fresh.fails("--session", "network", "list")
    assert "cannot start your daemon" in text
    os.chmod(os.path.dirname(os.path.dirname(fresh.socket)), 0o700)


@pytest.mark.skipif(os.path.exists("/run/debmarshal/bus"), reason="a system daemon runs here")
def test_no_system_daemon(fresh):
    assert "/run/debmarshal/bus" in fresh.fails("--system", "network", "list")


# Run the command as a user beside a system daemon, in a namespace of its own, whose queue of connections is full. After
# a while, if one is given, it takes them all.
BUSY = """
import os, socket, subprocess, sys, time
uid, gid, after, command = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]), sys.argv[4:]
subprocess.run(["mount", "--make-rprivate", "/"], check=True)
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
os.mkdir("/run/debmarshal", 0o755)
listener, waiting = socket.socket(socket.AF_UNIX), []
listener.bind("/run/debmarshal/bus")
os.chmod("/run/debmarshal/bus", 0o666)
listener.listen(0)
try:
    while True:
        waiting.append(socket.socket(socket.AF_UNIX))
        waiting[-1].setblocking(False)
        waiting[-1].connect("/run/debmarshal/bus")
except BlockingIOError:
    pass
process = subprocess.Popen(command, user=uid, group=gid, extra_groups=[])
if after:
    time.sleep(after)
    listener.settimeout(20)
    for client in waiting[:-1]:
        listener.accept()
    client, _ = listener.accept()
    print("asked", client.recv(100)[1:5], flush=True)
    client.close()
sys.exit(process.wait())
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a system daemon")
@pytest.mark.parametrize("after, shell, out, err", [
    (0, "", "", "/run/debmarshal/bus: Resource temporarily unavailable"),
    (1, "", "asked b'AUTH'\n", "debmarshal: "),
    (0, "ulimit -n 4;", "", "/run/debmarshal/bus: Too many open files")])
def test_a_busy_system_daemon_is_not_passed_by(user, after, shell, out, err):
    """A network in the other scope is not what was asked for."""
    with tempfile.TemporaryDirectory(dir="/tmp") as runtime:
        os.chown(runtime, user.uid, user.gid)
        started = os.path.join(runtime, "debmarshal", "bus")
        command = ["unshare", "-m", "/usr/bin/python3", "-c", BUSY, str(user.uid), str(user.gid), str(after),
                   "sh", "-c", f'{shell} exec "$0" "$@"', PROGRAM, "network", "create"]
        try:
            result = subprocess.run(command, env=environment(user, XDG_RUNTIME_DIR=runtime), cwd="/", timeout=60,
                                    capture_output=True, check=False, text=True)
            assert (result.returncode, result.stdout) == (1, out), result.stderr
            assert err in result.stderr
            assert not os.path.exists(started)
        finally:
            if os.path.exists(started):
                end(peer_pid(started))


def test_options_go_before_the_environment(fresh, cli, network):
    """DEBMARSHAL_ADDRESS is only a default."""
    env = {"DEBMARSHAL_ADDRESS": cli.env["DEBMARSHAL_ADDRESS"]}
    assert network in fresh("network", "list", env=env)
    assert fresh("--session", "network", "list", "--json", env=env) == "[]\n"
    assert network in fresh("--address", env["DEBMARSHAL_ADDRESS"], "network", "list")
    assert network in fresh("--address", env["DEBMARSHAL_ADDRESS"].removeprefix("unix:path="), "network", "list")


def test_others_are_not_served(daemon, stranger):
    other = Cli(stranger, daemon.peer_address)
    other.fails("network", "list")


def test_a_directory_of_somebody_else_is_refused(user, stranger):
    """In /tmp anybody could have been first."""
    trap = f"/tmp/debmarshal-{user.uid}"
    os.mkdir(trap, 0o777)
    try:
        os.chown(trap, stranger.uid, stranger.gid)
        victim = Cli(user, "")
        victim.env = environment(user, XDG_RUNTIME_DIR=None)
        assert f"uid {stranger.uid}" in victim.fails("--session", "network", "list")
    finally:
        os.rmdir(trap)


@pytest.fixture
def rig(base, user, kernel):
    """A daemon of its own, which may be ended, the command line, and a network."""
    daemon = Daemon(BUILD, tempfile.mkdtemp(dir=base), scope="session", user=user)
    os.chmod(os.path.dirname(daemon.runtime_dir), 0o777)
    cli = Cli(user, daemon.start().peer_address)
    network = cli("network", "create", "web").strip()

    def create():
        return cli("domain", "create", "--network", network, "--kernel", kernel[0], "--initrd", kernel[1],
                   "--hypervisor", "null").strip()
    yield daemon, cli, create
    if not daemon.is_alive():
        daemon.start()
    assert cli("network", "list", "--names").split() == [network]
    cli("network", "destroy", "--domains", network)
    daemon.stop_well()


def watch(cli, domain):
    """A console and a follower, which have begun."""
    console = cli.popen("domain", "console", domain, stdin=subprocess.PIPE)
    console.stdin.write(b"hello\n")
    console.stdin.flush()
    console_until(console, b"hello")
    follower = cli.popen("domain", "log", "-f", domain)
    console_until(follower, b"hello")
    return console, follower


@pytest.mark.parametrize("kill", [False, True])
def test_a_daemon_ends_under_its_clients(rig, kill):
    """With a console, a capture and a wait open it ends in order, and what was made goes on."""
    daemon, cli, create = rig
    domain = create()
    watchers = watch(cli, domain)
    capture = cli.popen("network", "capture", cli("network", "list", "--names").strip())
    assert os.read(capture.stdout.fileno(), 4) == b"\n\r\r\n"
    wait = cli.popen("domain", "wait", domain)
    time.sleep(0.2)
    if kill:
        daemon.kill()
    else:
        daemon.stop_well()
    for process in (capture, wait):
        process.communicate(timeout=20)
    for process in watchers:
        assert f"closed the console of {domain}, and does not say whether it goes on: " in process.communicate(timeout=20)[1].decode()
        assert process.returncode == 1


class stopped:
    """These processes do nothing meanwhile."""

    def __init__(self, processes):
        self.processes = processes

    def __enter__(self):
        for process in self.processes:
            process.send_signal(signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WNOWAIT)

    def __exit__(self, *_):
        for process in self.processes:
            process.send_signal(signal.SIGCONT)


def test_a_domain_outlives_its_console(rig):
    """They find the next daemon, which says that the domain is there."""
    daemon, cli, create = rig
    domain = create()
    watchers = watch(cli, domain)
    with stopped(watchers):
        daemon.restart(kill=False)
    for process in watchers:
        assert process.communicate(timeout=20)[1].decode() == f"debmarshal: the daemon closed the console of {domain}, which goes on\n"
        assert process.returncode == 1


def test_the_end_of_a_domain_whose_name_is_used_again(rig):
    _, cli, create = rig
    domain = create()
    console, follower = watch(cli, domain)
    with stopped([console, follower]):
        cli("domain", "destroy", domain)
        assert create() == domain
    assert console.communicate(timeout=20)[1].decode() == f"debmarshal: {domain} has ended: destroyed: destroyed by request\n"
    assert follower.communicate(timeout=20)[1] == b""
    assert (console.returncode, follower.returncode) == (0, 0)
