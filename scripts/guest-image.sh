#!/bin/bash
# Makes a small Linux guest from Debian's packages: DIR/ARCH/vmlinuz, and DIR/ARCH/initrd.gz with
# busybox, the virtio drivers and scripts/guest/init. Needs no privilege, and installs nothing:
# the packages are downloaded and verified by apt, with a state of its own so that any
# architecture will do, and unpacked. Instant when DIR has it already.
#
# usage: guest-image.sh [--arch amd64|arm64] DIR      (default: this machine's architecture)
set -euo pipefail

# Drivers beyond those that the kernel has built in; one that it lacks or has built in is skipped.
drivers=(
	virtio_pci virtio_mmio virtio_net virtio_blk virtio_scsi sd_mod sr_mod virtio_console virtio-rng
	virtio_balloon ext4 isofs evdev button pvpanic-pci
	xen-netfront xen-blkfront
)

usage() {
	echo "usage: ${0##*/} [--arch amd64|arm64] DIR" >&2
	exit 2
}

arch=$(dpkg --print-architecture)
while [[ ${1-} == -* ]]; do
	case $1 in
	--arch)
		arch=${2-}
		shift 2 || usage
		;;
	*) usage ;;
	esac
done
[[ $# -eq 1 ]] || usage
case $arch in amd64 | arm64) ;; *) usage ;; esac

scripts=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1/$arch"
dir=$(cd "$1/$arch" && pwd)
stamp=$(cat "$0" "$scripts"/guest/* | sha256sum)

# Two builds at once make it once.
exec 9>"$dir/.lock"
flock 9
[[ $(cat "$dir/.stamp" 2>/dev/null) != "$stamp" ]] || exit 0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
chmod 755 "$tmp"
mkdir -p "$tmp"/{lists/partial,cache/archives/partial,debs,root,initrd}
: >"$tmp/status"
# As root, apt hands its downloads to a user of its own.
[[ $EUID -ne 0 ]] || chown _apt "$tmp/debs" "$tmp"/{lists,cache/archives}/partial

apt() {
	local command=$1
	shift
	(cd "$tmp/debs" && "apt-$command" -qq -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
		-o Dir::State="$tmp" -o Dir::State::lists="$tmp/lists" -o Dir::State::status="$tmp/status" \
		-o Dir::Cache="$tmp/cache" -o Acquire::Languages=none -o Acquire::Retries=3 "$@")
}

echo "${0##*/}: making the $arch guest" >&2
apt get update
kernel=$(apt cache depends "linux-image-cloud-$arch" | awk '$1 == "Depends:" { print $2; exit }')
apt get download "$kernel" busybox-static
for deb in "$tmp"/debs/*.deb; do
	dpkg-deb -x "$deb" "$tmp/root"
done

# kmod's tools, which are not on an ordinary user's path
PATH+=:/usr/sbin:/sbin
version=$(basename "$tmp"/root/lib/modules/*)
depmod -b "$tmp/root" "$version"
initrd=$tmp/initrd
mkdir -p "$initrd"/{bin,dev,etc,mnt,modules,proc,root,run,sys,tmp,var}
for driver in "${drivers[@]}"; do
	modprobe --config=/dev/null -d "$tmp/root" -S "$version" --show-depends "$driver" 2>/dev/null || true
done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tmp/modules"
while read -r module; do
	cp "$module" "$initrd/modules/"
	basename "$module"
done <"$tmp/modules" >"$initrd/modules/order"
cp "$tmp/root/bin/busybox" "$initrd/bin/"
install -m 755 "$scripts/guest/init" "$initrd/init"
install -m 755 "$scripts/guest/dhcp" "$initrd/etc/dhcp"

(cd "$initrd" && find . | sort | cpio --quiet -o -H newc -R 0:0) | gzip -9n >"$tmp/initrd.gz"
# /tmp is often another file system: move the last step inside DIR, where it is atomic.
cp "$tmp/initrd.gz" "$dir/.initrd.gz"
cp "$tmp/root/boot/vmlinuz-$version" "$dir/.vmlinuz"
chmod 644 "$dir"/.{vmlinuz,initrd.gz}
mv "$dir/.vmlinuz" "$dir/vmlinuz"
mv "$dir/.initrd.gz" "$dir/initrd.gz"
echo "$stamp" >"$dir/.stamp"
