#!/bin/bash
# Inside the tree, booted with systemd: what the unit promises, its sandbox included.
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/common.sh"

expect 'systemd has started the daemon' systemctl is-active debmarshald
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

systemctl stop debmarshald
network=$(privops createNetwork as 0 | network_name)
expect 'a call on the system bus started the unit again' systemctl is-active debmarshald
expect "and was answered: $network" privops destroyNetwork s "$network"
