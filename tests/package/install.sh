#!/bin/bash
# Inside a fresh tree, as root: installs the debmarshal package beside this script with apt.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

# Without an init there is nobody to start services.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get -qq update
apt-get -qq -y --no-install-recommends install ./debmarshal_*.deb dbus qemu-system-x86 seabios systemd >/dev/null
useradd --create-home user
useradd other
install -o user -m 644 vmlinuz initrd.gz /home/user

expect 'the programs are installed' \
	test -x /usr/sbin/debmarshald -a -x /usr/bin/debmarshal -a -x /usr/libexec/debmarshal/debmarshal-keeper
expect 'the unit is enabled' test -e /etc/systemd/system/multi-user.target.wants/debmarshald.service
expect 'and its socket' test -e /etc/systemd/system/sockets.target.wants/debmarshald.socket
expect 'the configuration is a conffile' \
	grep -q /etc/debmarshal/debmarshald.conf /var/lib/dpkg/info/debmarshal.conffiles
expect 'its D-Bus service can be activated' \
	test -e /usr/share/dbus-1/system-services/com.googlecode.debmarshal.service
expect 'the units are such' systemd-analyze --man=no verify debmarshald.service debmarshald.socket
