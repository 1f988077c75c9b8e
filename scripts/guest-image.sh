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
# What is to be loaded on Xen: the others only take time. Where there is a device model there is a power button, too.
xen_drivers=(xen-netfront xen-blkfront ext4 evdev button)

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
# shellcheck source-path=SCRIPTDIR
source "$scripts/packages.sh"
packages_image "$1/$arch" "$scripts"/guest/*
echo "${0##*/}: making the $arch guest" >&2
packages_begin "$arch"
packages_unpack "$(packages_kernel "linux-image-cloud-$arch")" busybox-static

tree=$tmp/tree
mkdir -p "$tree"/{bin,dev,etc,mnt,proc,root,run,sys,tmp,var}
packages_put "$tree" /bin/busybox
packages_modules "$tree" "${xen_drivers[@]}"
mv "$tree/modules/order" "$tree/modules/xen"
packages_modules "$tree" "${drivers[@]}"
install -m 755 "$scripts/guest/init" "$tree/init"
install -m 755 "$scripts/guest/dhcp" "$tree/etc/dhcp"

packages_initramfs "$tree" >"$tmp/initrd.gz"
packages_finish initrd.gz
