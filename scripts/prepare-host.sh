#!/bin/bash
# Makes sure that users may open /dev/net/tun, as udev's default rules let them (mode 0666: what a tap is attached to is judged by the
# network namespace, not by the node). Containers and hosts without udev have the kernel's bare node, for root alone.
set -euo pipefail

device=/dev/net/tun
[[ -c $device && $(stat -c %a "$device") == 666 ]] && exit 0

as=()
[[ $EUID -eq 0 ]] || as=(sudo)
if [[ ! -c $device ]]; then
	echo "prepare-host: making $device, which a host with udev has" >&2
	"${as[@]}" mkdir -p "${device%/*}"
	"${as[@]}" mknod "$device" c 10 200
fi
echo "prepare-host: chmod 0666 $device, as it is on a host with udev" >&2
"${as[@]}" chmod 0666 "$device"
