"""The broker under test: started, stopped, killed and started again over one runtime directory."""

import os
import select
import signal
import socket
import subprocess

from caller import Caller


class Daemon:
    """scope "system" (user None: root) or "session" (as that user). bus: the address of a system bus, or None."""

    def __init__(self, build, base, scope="system", user=None, bus=None, config=None, arguments=("--driver-null",)):
        self.build = build
        self.scope = scope
        self.user = user
        self.bus = bus
        self.arguments = list(arguments)
        self.process = None
        self.runtime_dir = os.path.join(base, "runtime")
        self.socket = os.path.join(self.runtime_dir, "bus")
        self.config_path = os.path.join(base, "debmarshald.conf")
        self.log_path = os.path.join(base, "daemon.log")
        self.notify_path = os.path.join(base, "notify")
        self.write_config(config or {})
        if scope == "session":
            os.mkdir(self.runtime_dir, 0o700)
            os.chown(self.runtime_dir, user.uid, user.gid)

    def write_config(self, config):
        with open(self.config_path, "w", encoding="utf-8") as f:
            f.writelines(f"{key} = {value}\n" for key, value in config.items())

    @property
    def pid(self):
        return self.process.pid

    @property
    def peer_address(self):
        return f"unix:path={self.socket}"

    def program(self):
        return os.path.join(self.build, "debmarshald")

    def command(self):
        return [
            self.program(),
            f"--scope={self.scope}",
            f"--runtime-dir={self.runtime_dir}",
            f"--config={self.config_path}",
            *self.arguments,
        ]

    def start(self, prefix=(), timeout=20, pass_fds=()):
        """Returns when the daemon has said that it is ready. prefix: a program that runs it, such as strace."""
        notify = self._notify_socket()
        environment = dict(self.user.environment()) if self.user else {"PATH": os.environ["PATH"], "LANG": "C.UTF-8"}
        environment["NOTIFY_SOCKET"] = self.notify_path
        environment["DBUS_SYSTEM_BUS_ADDRESS"] = self.bus or "unix:path=/nonexistent"
        for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS"):
            if name in os.environ:
                environment[name] = os.environ[name]
        identity = self.user.popen_identity() if self.user else {}
        with open(self.log_path, "ab") as log:
            self.process = subprocess.Popen([*prefix, *self.command()], env=environment, cwd="/",
                                            stdin=subprocess.DEVNULL, stdout=log, stderr=log, pass_fds=pass_fds, **identity)
        try:
            self._wait_ready(notify, timeout)
        finally:
            notify.close()
        return self

    def _notify_socket(self):
        if os.path.exists(self.notify_path):
            os.unlink(self.notify_path)
        notify = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        notify.bind(self.notify_path)
        os.chmod(self.notify_path, 0o666)
        return notify

    def _wait_ready(self, notify, timeout):
        pidfd = os.pidfd_open(self.process.pid)
        try:
            while True:
                readable = select.select([notify, pidfd], [], [], timeout)[0]
                if notify in readable:
                    if b"READY=1" in notify.recv(4096).split(b"\n"):
                        return
                    continue
                self.kill()
                why = "ends" if readable else "does not become ready"
                raise RuntimeError(f"debmarshald {why}:\n{self.log()[-4000:]}")
        finally:
            os.close(pidfd)

    def stop(self, timeout=20):
        """As an init system does. Returns the exit status."""
        if not self.process:
            return 0
        self.process.send_signal(signal.SIGTERM)
        return self.wait(timeout)

    def stop_well(self):
        """A sanitizer tells of what it has found, of leaks for one, by the exit status."""
        status = self.stop()
        assert status == 0, f"the daemon ended with status {status}:\n{self.log()[-4000:]}"

    def kill(self):
        """At whatever instruction it is."""
        if self.process:
            self.process.kill()
            self.wait(20)

    def wait(self, timeout):
        """Until it ends; its exit status."""
        status = self.process.wait(timeout)
        self.process = None
        return status

    def restart(self, kill=True):
        if kill:
            self.kill()
        else:
            self.stop_well()
        return self.start()

    def is_alive(self):
        return self.process is not None and self.process.poll() is None

    def log(self):
        if not os.path.exists(self.log_path):
            return ""
        with open(self.log_path, encoding="utf-8", errors="replace") as f:
            return f.read()

    def caller(self, user, peer=None):
        """A client: over the system bus where there is one, else (or with peer=True) over the daemon's socket."""
        peer = self.bus is None if peer is None else peer
        return Caller(user, self.peer_address if peer else self.bus, peer=peer)
