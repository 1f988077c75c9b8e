#!/bin/bash
# Makes a package of a stub domain's image, and the image if it is not there (see stubdomain-image.sh): FILE, a Debian package of the name
# debmarshal-stubdomain, which puts the image where the daemon looks for it. The same image gives the same bytes. Needs no privilege.
#
# usage: stubdomain-package.sh DIR FILE
set -euo pipefail

[[ $# -eq 2 ]] || {
	echo "usage: ${0##*/} DIR FILE" >&2
	exit 2
}
image=$1 file=$2
here=$(cd "$(dirname "$0")" && pwd)
"$here/stubdomain-image.sh" "$image"
# As new as the newest package in it, so the version grows with them; the digest tells images of the same packages apart.
SOURCE_DATE_EPOCH=$(awk '$5 > newest { newest = $5 } END { print newest }' "$image/packages")
export SOURCE_DATE_EPOCH
umask 022

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
tree=$tmp/tree
doc=$tree/usr/share/doc/debmarshal-stubdomain
mkdir -p "$tree/DEBIAN" "$doc"
install -m 644 -D -t "$tree/usr/lib/debmarshal/stubdomain" "$image"/{vmlinuz,initrd}
install -m 644 -t "$doc" "$image"/{packages,copyright.gz}
cat >"$tree/DEBIAN/control" <<CONTROL
Package: debmarshal-stubdomain
Version: $(date --utc --date="@$SOURCE_DATE_EPOCH" +%Y%m%d.%H%M%S)+$(cat "$image"/{vmlinuz,initrd} | sha256sum | head -c 8)
Architecture: amd64
Maintainer: debmarshal maintainers <maintainers@debmarshal.invalid>
Section: admin
Priority: optional
Enhances: debmarshal-xen
Built-Using: $(awk '{ print $3 " (= " $4 ")" }' "$image/packages" | LC_ALL=C sort -u | paste -sd, | sed 's/,/, /g')
Installed-Size: $(du -sk --apparent-size "$tree/usr" | cut -f1)
Description: what debmarshal's stub domains boot
 A Linux kernel and a small root with QEMU, made of Debian's packages, which
 the debmarshal daemon's driver for Xen boots where a guest's device model is
 to run in a domain of its own.
CONTROL
find "$tree" -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
dpkg-deb --root-owner-group -Znone --build "$tree" "$tmp/package.deb" >/dev/null
mkdir -p "$(dirname "$file")"
mv "$tmp/package.deb" "$file"
