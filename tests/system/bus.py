"""A private D-Bus daemon of the system kind: real identities, real policy, and nothing of the host's own bus."""

import os
import select
import signal
import subprocess

CONFIG = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <auth>EXTERNAL</auth>
  <listen>unix:path={socket}</listen>
  <policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_type="signal"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_type="method_call"/>
    <allow receive_type="method_return"/>
    <allow receive_type="error"/>
    <allow receive_type="signal"/>
    <allow send_destination="org.freedesktop.DBus"/>
  </policy>
  <include>{policy}</include>
</busconfig>
"""


class Bus:
    """policy: the file that the project installs for system buses."""

    def __init__(self, directory, policy):
        self.socket = os.path.join(directory, "system_bus_socket")
        self.address = f"unix:path={self.socket}"
        self.config = os.path.join(directory, "system-bus.conf")
        self.process = None
        with open(self.config, "w", encoding="utf-8") as f:
            f.write(CONFIG.format(socket=self.socket, policy=policy))

    def start(self):
        reader, writer = os.pipe()
        self.process = subprocess.Popen(
            ["dbus-daemon", f"--config-file={self.config}", "--nofork", "--nopidfile", f"--print-address={writer}"],
            pass_fds=[writer],
            stdin=subprocess.DEVNULL,
        )
        os.close(writer)
        with os.fdopen(reader) as pipe:
            if not select.select([pipe], [], [], 10)[0] or not pipe.readline():
                raise RuntimeError("dbus-daemon does not start")
        return self

    def stop(self):
        if self.process:
            self.process.send_signal(signal.SIGTERM)
            self.process.wait(10)
            self.process = None
