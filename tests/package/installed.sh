#!/bin/bash
# Inside a fresh tree, as root: installs the debmarshal package beside this script with apt, and has an ordinary user make and
# remove networks and run a guest with it, on the system bus and with the command line.
set -euo pipefail
cd "$(dirname "$0")"
export DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8

fail() {
	echo "FAILED: $*" >&2
	[[ ! -e /run/debmarshald.log ]] || tail -n 30 /run/debmarshald.log >&2
	exit 1
}

expect() {
	local what=$1
	shift
	"$@" >/dev/null || fail "$what"
	echo "ok: $what"
}

# The pids of those who run a program of these names, installed or removed already.
running() {
	local exe
	for exe in /proc/[0-9]*/exe; do
		for name; do
			[[ $(readlink "$exe") != */"$name"* ]] || echo "${exe//[^0-9]/}"
		done
	done
}

as_user() {
	setpriv --reuid="${who-user}" --regid="${who-user}" --init-groups env -i PATH=/usr/bin:/bin HOME=/home/user "$@"
}

# Without an init there is nobody to start services, and here that is done by hand.
printf '#!/bin/sh\nexit 101\n' >/usr/sbin/policy-rc.d
chmod 755 /usr/sbin/policy-rc.d
apt-get -qq update
apt-get -qq -y --no-install-recommends install ./debmarshal_*.deb dbus qemu-system-x86 seabios systemd >/dev/null
useradd --create-home user
useradd other
install -o user -m 644 vmlinuz initrd.gz /home/user

expect 'the programs are installed' test -x /usr/sbin/debmarshald -a -x /usr/bin/debmarshal -a -x /usr/libexec/debmarshal/debmarshal-keeper
expect 'the unit is enabled' test -e /etc/systemd/system/multi-user.target.wants/debmarshald.service
expect 'the configuration is a conffile' grep -q /etc/debmarshal/debmarshald.conf /var/lib/dpkg/info/debmarshal.conffiles
expect 'its D-Bus service can be activated' test -e /usr/share/dbus-1/system-services/com.googlecode.debmarshal.service
expect 'the unit is one' systemd-analyze --man=no verify debmarshald.service

mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
debmarshald --scope=system >/run/debmarshald.log 2>&1 &
daemon=$!
for _ in {1..100}; do
	busctl --system status com.googlecode.debmarshal >/dev/null 2>&1 && break
	kill -0 "$daemon" 2>/dev/null || fail 'the daemon ended'
	sleep 0.1
done

privops() {
	as_user busctl --system call com.googlecode.debmarshal /com/googlecode/debmarshal/Privops com.googlecode.debmarshal.Privops "$@"
}
# (sssa{s(ss)}) "debmarshal-0" ...
network=$(privops createNetwork as 2 web client | sed -n 's/^(sssa{s(ss)}) "\([^"]*\)".*/\1/p')
expect "an ordinary user created $network on the system bus" test -n "$network"
if who=other privops destroyNetwork s "$network" 2>/run/refusal; then
	fail 'another user destroyed it'
fi
expect "another user could not destroy it: $(cat /run/refusal)" grep -q "$network" /run/refusal
expect 'she destroyed it' privops destroyNetwork s "$network"

network=$(as_user debmarshal --system network create web)
expect "she created $network by the command line" test -n "$network"
domain=$(as_user debmarshal --system domain create --network "$network" --host web --memory 128M --hypervisor qemu \
	--kernel /home/user/vmlinuz --initrd /home/user/initrd.gz --cmdline 'console=ttyS0 quiet dm.run=uname dm.end=poweroff')
expect "she started $domain" test -n "$domain"
reason=$(as_user timeout 120 debmarshal --system domain wait "$domain" || true)
expect "it powered itself off: $reason" grep -q poweroff <<<"$reason"
as_user debmarshal --system domain log "$domain" >/run/console
expect 'it had an address by DHCP, and did what it was told' sh -c 'grep -q "DM-READY web 10\." /run/console && grep -q "DM-RC 0" /run/console'
expect 'she destroyed the network' as_user debmarshal --system network destroy "$network"

kill "$daemon"
wait "$daemon" || fail "the daemon ended with $?"
echo 'ok: the daemon ended well'

network=$(privops createNetwork as 0 | sed -n 's/^(sssa{s(ss)}) "\([^"]*\)".*/\1/p')
expect 'the bus started it again when it was asked' test -n "$network"
expect 'removing the package removes what it serves' apt-get -qq -y purge debmarshal
[[ -z $(running debmarshal-keeper dnsmasq) ]] || fail 'a network is left'
# Without an init nobody else stops what the bus has started.
mapfile -t pids < <(running debmarshald)
kill "${pids[@]}"

left=$(find / -xdev -name '*debmarshal*' -not -path '/var/tmp/*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' \
	-not -path '/var/lib/systemd/*')
[[ -z $left ]] || fail "the purged package has left: $left"
echo 'ok: the package was purged, and nothing is left'
