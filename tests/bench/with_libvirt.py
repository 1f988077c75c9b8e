"""libvirt, for comparison: its daemon, started by hand and asked over one connection that is there before.

Where a choice had to be made it was made for libvirt: objects are transient (nothing is written for a later boot), no
cgroups, no security driver, no log daemon, no change of owners, no KVM to probe, and an empty network namespace, in which it
has no other rules to look at. Network and guest offer what debmarshal's do, IPv6 included.
"""

import shutil
import subprocess
import time

from measure import Failed

try:
    import libvirt
except ImportError:
    libvirt = None

SETTINGS = {
    "/etc/libvirt/libvirtd.conf": 'auth_unix_rw = "none"\n',
    "/etc/libvirt/qemu.conf": "cgroup_controllers = []\n"
    'security_driver = "none"\nstdio_handler = "file"\ndynamic_ownership = 0\nremember_owner = 0\n',
}

NETWORK = """
<network>
  <name>bench-{n}</name>
  <bridge name='bench{n}'/>
  <domain name='bench-{n}.test'/>
  <ip address='10.{high}.{low}.1' netmask='255.255.255.248'>
    <dhcp>
      <range start='10.{high}.{low}.2' end='10.{high}.{low}.3'/>
      <host mac='00:16:3e:00:00:01' name='a' ip='10.{high}.{low}.2'/>
      <host mac='00:16:3e:00:00:02' name='b' ip='10.{high}.{low}.3'/>
    </dhcp>
  </ip>
  <ip family='ipv6' address='fd00:{high}:{low}::1' prefix='64'>
    <dhcp>
      <host name='a' ip='fd00:{high}:{low}::2'/>
      <host name='b' ip='fd00:{high}:{low}::3'/>
    </dhcp>
  </ip>
</network>
"""

GUEST = """
<domain type='qemu'>
  <name>bench-{n}</name>
  <memory unit='MiB'>128</memory>
  <memoryBacking><source type='memfd'/><access mode='shared'/></memoryBacking>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
    <kernel>{kernel}</kernel>
    <initrd>{initrd}</initrd>
    <cmdline>console=ttyS0 quiet</cmdline>
  </os>
  <features><acpi/></features>
  <on_poweroff>destroy</on_poweroff>
  <on_reboot>restart</on_reboot>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <interface type='network'>
      <mac address='00:16:3e:00:00:01'/>
      <source network='bench-0'/>
      <model type='virtio'/>
    </interface>
    <serial type='pty'/>
    <channel type='unix'><target type='virtio' name='org.qemu.guest_agent.0'/></channel>
    <graphics type='vnc'><listen type='socket'/></graphics>
    <video><model type='vga'/></video>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Libvirt:
    name = "libvirt"

    def __init__(self, guest):
        self.kernel, self.initrd = guest
        self.networks, self.guests, self.serial = [], [], 0
        self.daemon = None
        if libvirt is None or not shutil.which("libvirtd"):
            raise Failed("libvirt is not installed (scripts/install-deps.sh bench)")
        for path, text in SETTINGS.items():
            with open(path, "a") as file:
                file.write(text)
        log = open("/run/libvirtd.log", "w")
        self.daemon = subprocess.Popen(["libvirtd", "--pid-file", "/run/bench-libvirtd.pid"], stdout=log, stderr=log)
        libvirt.registerErrorHandler(lambda *_: None, None)
        self.connection = self.connect(time.monotonic() + 60)

    def connect(self, deadline):
        while True:
            try:
                return libvirt.open("qemu:///system")
            except libvirt.libvirtError as error:
                if time.monotonic() > deadline or self.daemon.poll() is not None:
                    raise Failed(f"libvirtd does not answer: {error}")
                time.sleep(0.2)

    def timed(self, function, *arguments):
        start = time.perf_counter()
        try:
            result = function(*arguments)
        except libvirt.libvirtError as error:
            raise Failed(str(error))
        return (time.perf_counter() - start) * 1000, result

    def ping(self):
        return self.timed(self.connection.getHostname)[0]

    def network_create(self):
        n = len(self.networks)
        xml = NETWORK.format(n=n, high=n // 256, low=n % 256)
        took, network = self.timed(self.connection.networkCreateXML, xml)
        self.networks.append(network)
        return took

    def network_destroy(self):
        return self.timed(self.networks.pop().destroy)[0]

    def guest_create(self):
        self.serial += 1
        xml = GUEST.format(n=self.serial, kernel=self.kernel, initrd=self.initrd)
        took, guest = self.timed(self.connection.createXML, xml)
        self.guests.append(guest)
        return took

    def guest_destroy(self):
        return self.timed(self.guests.pop().destroy)[0]

    def stop(self):
        while self.guests:
            self.guest_destroy()
        while self.networks:
            self.network_destroy()
        self.daemon.terminate()
        self.daemon.wait()
