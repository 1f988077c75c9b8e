#!/bin/bash
# The main job, start to end, as an ordinary user and with the command line alone: an isolated
# network of two guests, in which one reaches the other by its name.
#
# usage: demo.sh [BUILD [GUESTS]]     directories of meson and of guest-image.sh
#
# It uses copies, a runtime directory and so a session daemon of its own, and leaves nothing behind.
set -euo pipefail

scripts=$(cd "$(dirname "$0")" && pwd)
arch=$(dpkg --print-architecture)

if [[ -z ${DEMO_DIR-} ]]; then
	build=$(realpath "${1:-build}")
	guests=$(realpath "${2:-.cache/guests}")/$arch
	dir=$(mktemp -d -t debmarshal-demo.XXXXXX)
	trap 'rm -rf "$dir"' EXIT
	chmod 755 "$dir" # or unchroot would put another in its place
	mkdir -m 700 "$dir/runtime"
	# Only the caller may be able to read the originals.
	install -m 755 "$build"/debmarshal{,d,-keeper} "$dir"
	install -m 644 "$guests/vmlinuz" "$guests/initrd.gz" "$dir"
	install -m 755 "$0" "$dir/demo.sh"
	as=()
	if [[ $EUID -eq 0 ]]; then
		# Root proves nothing: be somebody, here one that even no account needs to exist for.
		uid=$((65000 + RANDOM % 500))
		chown -R "$uid:$uid" "$dir"
		as=(setpriv --reuid "$uid" --regid "$uid" --clear-groups --)
	fi
	cd "$dir"
	"$scripts/unchroot" "${as[@]}" env -u DBUS_SESSION_BUS_ADDRESS DEMO_DIR="$dir" HOME="$dir" \
		XDG_RUNTIME_DIR="$dir/runtime" PATH="$dir:/usr/bin:/bin:/usr/sbin:/sbin" "$dir/demo.sh"
	exit
fi

dir=$DEMO_DIR
start=${EPOCHREALTIME/[.,]/}
network=
domains=()
case $arch in arm64) serial=ttyAMA0 ;; *) serial=ttyS0 ;; esac

step() {
	local now=${EPOCHREALTIME/[.,]/}
	printf '\n[%6d ms] %s\n' $(((now - start) / 1000)) "$*"
}

# Processes of this demo: each has something of this directory on its command line.
processes() {
	pgrep -u "$EUID" -f -l -- "$dir/(runtime|debmarshal)" || true
}

cleanup() {
	local domain pids
	trap - EXIT
	for domain in "${domains[@]}"; do
		debmarshal domain destroy "$domain" || true
	done
	[[ -z $network ]] || debmarshal network destroy "$network" || true
	# The daemon would end by itself when idle, but its directory goes now.
	for _ in {1..50}; do
		mapfile -t pids < <(processes | cut -d ' ' -f 1)
		[[ ${#pids[@]} -gt 0 ]] || break
		kill -TERM "${pids[@]}" 2>/dev/null || true
		sleep 0.1
	done
}
trap cleanup EXIT
trap 'exit 1' INT TERM HUP

# Commands travel to a guest on its kernel command line, where only plain characters survive.
encode() {
	local i c
	for ((i = 0; i < ${#1}; i++)); do
		c=${1:i:1}
		if [[ $c == [A-Za-z0-9./-] ]]; then printf '%s' "$c"; else printf '%%%02x' "'$c"; fi
	done
}

# start_guest HOST COMMAND [WORDS FOR THE KERNEL]: leaves its name in $domain
start_guest() {
	domain=$(debmarshal domain create --network "$network" --host "$1" --memory 128M \
		--kernel "$dir/vmlinuz" --initrd "$dir/initrd.gz" \
		--cmdline "console=$serial quiet dm.run=$(encode "$2") ${3-}")
	domains+=("$domain")
	echo "$1 is $domain"
}

secret=$RANDOM$RANDOM$RANDOM
step "who runs this: $(id -u):$(id -g), capabilities $(sed -n 's/^CapEff:\t//p' /proc/self/status)"
step 'debmarshal network create web client'
network=$(debmarshal network create web client)
debmarshal network show "$network"

step 'debmarshal domain create, twice'
start_guest web "mkdir /srv; echo the web server says $secret >/srv/index.html; httpd -h /srv"
start_guest client "
	for try in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
		wget -q -O page http://web/ 2>/dev/null && break
		sleep 1
	done
	ping -4 -c 2 web && ping -6 -c 2 web && cat page" dm.end=poweroff
client=$domain
debmarshal domain list

step "debmarshal domain wait $client"
timeout 180 debmarshal domain wait "$client" || echo "it says $?" >&2

for domain in "${domains[@]}"; do
	step "debmarshal domain log $domain"
	debmarshal domain log "$domain" | tr -d '\r' | tee "$dir/log"
done

step 'debmarshal domain destroy, network destroy'
# The client has powered itself off and is gone: only its log is left.
debmarshal domain destroy "${domains[0]}"
domains=()
debmarshal network destroy "$network"
network=

failed=
expect() {
	grep -Eq -- "$1" "$dir/log" || failed+="
	in the client's log: $1"
}
expect "^the web server says $secret\$"
expect '^PING web \([0-9.]+\)'
expect '^PING web \([0-9a-f:]+\)'
expect '^DM-RC 0$' # so the pings lost not everything
for _ in {1..20}; do
	left=$(processes | grep -v ' debmarshald$' || true)
	[[ $left ]] || break
	sleep 0.1
done
[[ -z $left ]] || failed+="
	the end of these processes: $left"
if [[ $failed ]]; then
	step "FAILED, not seen: $failed" >&2
	exit 1
fi
step 'done: the client found the web server by name over IPv4 and IPv6, and nothing is left'
