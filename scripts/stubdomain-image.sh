#!/bin/bash
# Makes what a stub domain boots from, for the Xen driver's option "stubdomain": DIR/vmlinuz, Debian's cloud kernel, and DIR/initrd,
# with Debian's QEMU for Xen, what it needs, and stubdomain/init. DIR/packages says what they consist of, DIR/copyright.gz under which terms.
# Needs no privilege, and installs nothing: the packages are downloaded and verified by apt, and unpacked. The same packages give
# the same bytes. Instant when DIR has it already. stubdomain-package.sh makes a package of it.
#
# usage: stubdomain-image.sh DIR      (the daemon looks into /usr/lib/debmarshal/stubdomain, see xen_stub_domain in debmarshald.conf(5))
set -euo pipefail

xen=4.17
programs=(
	/usr/libexec/xen-qemu-system-i386
	"/usr/lib/xen-$xen/bin/vchan-socket-proxy"
	/usr/bin/{xenstore-list,xenstore-read}
)
# Of the firmware, hvmloader brings the BIOS; these are for the cards, and to boot a kernel. QEMU wants a keymap for its VNC server.
files=(
	/bin/busybox /lib64/ld-linux-x86-64.so.2
	/usr/share/seabios/{vgabios-cirrus,vgabios-stdvga}.bin
	/usr/share/qemu/{kvmvapic.bin,linuxboot.bin,linuxboot_dma.bin,keymaps/en-us}
)
modules=(xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xen-blkfront xen-netfront bridge tun)

[[ $# -eq 1 ]] || {
	echo "usage: ${0##*/} DIR" >&2
	exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source-path=SCRIPTDIR
source "$here/packages.sh"
packages_image "$1" "$here"/stubdomain/*
echo "${0##*/}: making the stub domain" >&2
packages_begin amd64
packages_unpack_closure qemu-system-xen xenstore-utils
packages_unpack "$(packages_kernel linux-image-cloud-amd64)" busybox-static "xen-utils-$xen"

tree=$tmp/tree
mkdir -p "$tree"/{bin,dev,etc,proc,run,sys,tmp}
packages_put "$tree" "${files[@]}"
packages_put_programs "$tree" "${programs[@]}"
ln -s "../usr/lib/xen-$xen/bin/vchan-socket-proxy" "$tree/bin/"
packages_modules "$tree" "${modules[@]}"
install -m 755 "$here"/stubdomain/{init,ifup} "$tree/"

LC_ALL=C sort "$tmp/packages" >"$dir/packages"
while read -r package _; do
	printf '\n======== %s\n\n' "$package"
	cat "$tmp/root/usr/share/doc/$package/copyright"
done <"$dir/packages" | gzip -9n >"$dir/copyright.gz"

packages_initramfs "$tree" >"$tmp/initrd"
packages_finish initrd
