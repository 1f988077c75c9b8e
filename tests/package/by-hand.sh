#!/bin/bash
# Inside the tree, without an init, as root: the daemon started by hand on a bus started by hand, an ordinary user who makes
# and removes networks and runs a guest, on the system bus and with the command line; and the removal of the package.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

mkdir -p /run/dbus
dbus-daemon --system --fork --nopidfile
debmarshald --scope=system >/run/debmarshald.log 2>&1 &
daemon=$!
for _ in {1..100}; do
	busctl --system status com.googlecode.debmarshal >/dev/null 2>&1 && break
	kill -0 "$daemon" 2>/dev/null || fail 'the daemon ended'
	sleep 0.1
done

network=$(privops createNetwork as 2 web client | network_name)
expect "an ordinary user created $network on the system bus" test -n "$network"
if who=other privops destroyNetwork s "$network" 2>/run/refusal; then
	fail 'another user destroyed it'
fi
expect "another user could not destroy it: $(cat /run/refusal)" grep -q "$network" /run/refusal
expect 'she destroyed it' privops destroyNetwork s "$network"

network=$(as_user debmarshal --system network create web)
expect "she created $network by the command line" test -n "$network"
domain=$(start_guest "$network" 'dm.run=uname dm.end=poweroff')
expect "she started $domain" test -n "$domain"
reason=$(as_user timeout 120 debmarshal --system domain wait "$domain" || true)
expect "it powered itself off: $reason" grep -q poweroff <<<"$reason"
as_user debmarshal --system domain log "$domain" >/run/console
expect 'it had an address by DHCP, and did what it was told' sh -c 'grep -q "DM-READY web 10\." /run/console && grep -q "DM-RC 0" /run/console'
expect 'she destroyed the network' as_user debmarshal --system network destroy "$network"

kill "$daemon"
wait "$daemon" || fail "the daemon ended with $?"
echo 'ok: the daemon ended well'

network=$(privops createNetwork as 0 | network_name)
expect 'the bus started it again when it was asked' test -n "$network"
domain=$(start_guest "$(as_user debmarshal --system network create web)")
expect "she has a guest, too: $domain" test -n "$domain"
mapfile -t pids < <(running debmarshald)
kill -KILL "${pids[@]}"
expect 'removing the package removes what it serves, whoever has it, and were the daemon dead' apt-get -qq -y purge debmarshal
[[ -z $(running debmarshal-keeper dnsmasq qemu-system) ]] || fail 'a network or guest is left'
[[ -z $(running debmarshald) ]] || fail 'the daemon is left'

left=$(find / -xdev -name '*debmarshal*' -not -path '/var/tmp/*' -not -path '/var/lib/dpkg/*' -not -path '/var/log/*' \
	-not -path '/var/lib/systemd/*')
[[ -z $left ]] || fail "the purged package has left: $left"
echo 'ok: the package was purged, and nothing is left'
