#!/bin/bash
# Inside the tree, booted with systemd: what the unit promises, its sandbox included.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

expect 'systemd has started the daemon' systemctl is-active debmarshald
expect 'and holds its socket' systemctl is-active debmarshald.socket
expect 'to which everybody may connect' test "$(stat -c '%U %a' /run/debmarshal/bus)" = 'root 666'
network=$(as_user debmarshal --system network create web)
domain=$(start_guest "$network" 'dm.run=uname dm.end=poweroff')
expect "a guest ran in the unit's sandbox, and powered itself off" \
	as_user timeout 120 debmarshal --system domain wait "$domain"
as_user debmarshal --system domain log "$domain" >/run/console
expect 'it had an address by DHCP' grep -q 'DM-READY web 10\.' /run/console

domain=$(start_guest "$network")
pid=$(systemctl show --property MainPID --value debmarshald)
expect 'the unit restarts' systemctl restart debmarshald
expect 'with another process' test "$(systemctl show --property MainPID --value debmarshald)" != "$pid"
state=$(as_user debmarshal --system domain show "$domain")
expect 'and the guest running' grep -q running <<<"$state"
expect 'its owner destroys it' as_user debmarshal --system domain destroy "$domain"
expect 'and the network' as_user debmarshal --system network destroy "$network"

network=$(debmarshal --system network create web)
domain=$(who=root start_guest "$network")
expect 'root has networks and guests, too' debmarshal --system domain destroy "$domain"
expect 'root destroys her network' debmarshal --system network destroy "$network"

# Without --system: as long as she finds no daemon of the system's she has one of her own, and rigs of the same names there.
call_on() {
	local network
	while [[ ! -e /run/enough ]]; do
		as_user debmarshal network list >>/run/calls || true
		network=$(as_user debmarshal network create web) || continue
		echo "$network" >>/run/calls
		as_user debmarshal network destroy "$network" >>/run/calls || true
	done 2>>/run/cut
}

# A daemon that was there before is gone, and the next one serves. So many starts in so short a time are nobody's habit.
expect_another() {
	local before
	before=$(systemctl show --property MainPID --value debmarshald)
	systemctl reset-failed debmarshald
	"$@" >/dev/null || fail "$*"
	for _ in {1..100}; do
		[[ $(systemctl show --property MainPID --value debmarshald) == [!0]* &&
			$(systemctl show --property MainPID --value debmarshald) != "$before" ]] &&
			systemctl --quiet is-active debmarshald && return
		sleep 0.1
	done
	fail "no other daemon after: $*"
}

rm /usr/sbin/policy-rc.d
socket=$(stat -c '%i %W' /run/debmarshal/bus)
: >/run/calls
for _ in {1..4}; do call_on & done
for _ in {1..3}; do
	sleep 0.5
	expect_another systemctl restart debmarshald
	sleep 0.5
	expect_another systemctl kill --kill-who=main --signal=KILL debmarshald
done
expect_another dpkg -i /var/tmp/debmarshal_*.deb
sleep 0.5
touch /run/enough
wait
expect 'the socket is still the one that it was' test "$(stat -c '%i %W' /run/debmarshal/bus)" = "$socket"
cut=$(wc -l </run/cut)
expect "$(wc -l </run/calls) calls while it was restarted, killed and upgraded, of which $cut were cut off" test -s /run/calls
if grep -Ev 'closed the connection|reset by peer|not connected|Broken pipe' /run/cut; then
	fail 'some met another daemon, or none'
fi
expect 'none of them went to a daemon of her own' test ! -e "/tmp/debmarshal-$(id -u user)"
# What was made for a caller who was cut off.
mapfile -t left < <(as_user debmarshal network list --names)
[[ ${#left[@]} -eq 0 ]] || as_user debmarshal network destroy "${left[@]}"

systemctl stop debmarshald.service
expect 'the command line starts it again' as_user debmarshal network list
expect 'by its socket' test "$(systemctl show --property MainPID --value debmarshald)" != 0
systemctl stop debmarshald
network=$(privops createNetwork as 0 | network_name)
expect 'a call on the system bus started the unit again' systemctl is-active debmarshald
expect "and was answered: $network" privops destroyNetwork s "$network"

network=$(as_user debmarshal network create web)
start_guest "$network" >/dev/null
expect 'the package is removed while a guest runs' dpkg --purge debmarshal
[[ -z $(running debmarshal-keeper dnsmasq qemu-system debmarshald) ]] || fail 'a network, guest or daemon is left'
expect 'its socket is gone' test ! -e /run/debmarshal/bus
expect 'and is installed again' dpkg -i /var/tmp/debmarshal_*.deb
for unit in debmarshald.socket debmarshald.service; do
	expect "which starts $unit" systemctl is-active "$unit"
	expect "and enables it" systemctl is-enabled "$unit"
done
expect 'for everybody' as_user debmarshal network list
expect 'still none is her own' test ! -e "/tmp/debmarshal-$(id -u user)"
systemctl stop debmarshald.socket
expect 'without the socket the service ends' test "$(systemctl is-active debmarshald.service)" = inactive
