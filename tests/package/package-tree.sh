#!/bin/bash
# Builds the Debian package where nobody has prepared anything, and uses it where only it is installed: two fresh
# minimal Debian 12 trees, one with a clone of this repository's HEAD. Needs root, and mmdebstrap
# (scripts/install-deps.sh test).
#
# usage: package-tree.sh [--keep]
set -euo pipefail
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/../fresh/tree.sh"

keep=
case $* in '') ;; --keep) keep=1 ;; *) echo "usage: ${0##*/} [--keep]" >&2 && exit 2 ;; esac
[[ $EUID -eq 0 ]] || { echo "${0##*/}: must be root" >&2 && exit 1; }

repository=$(git -C "$(dirname "$0")" rev-parse --show-toplevel)
trees=()
# shellcheck disable=SC2317
cleanup() {
	[[ $keep || ${#trees[@]} -eq 0 ]] || rm -rf --one-file-system "${trees[@]}"
}
trap cleanup EXIT

base=$(fresh_tree_base root ca-certificates,git,make)
builder=$(fresh_tree "$base")
trees+=("$builder")
git clone -q --no-hardlinks "$repository" "$builder/root/debmarshal"
fresh_tree_run "$builder" chroot bash -c '
	set -e
	cd /root/debmarshal
	scripts/install-deps.sh package
	dpkg-buildpackage -us -uc -b
'
# With the driver's package, the one of what stub domains boot: twice, from two images, the same bytes; and it can be installed.
fresh_tree_run "$builder" chroot bash -c '
	set -e
	cd /root
	apt-get install -qq --no-install-recommends ./debmarshal_*.deb ./debmarshal-xen_*.deb cpio kmod >/dev/null
	test -e /lib/systemd/system/debmarshald.service.d/xen.conf
	cd /var/tmp
	/usr/libexec/debmarshal/stubdomain-package.sh one ./debmarshal-stubdomain.deb
	/usr/libexec/debmarshal/stubdomain-package.sh two ./again.deb
	cmp debmarshal-stubdomain.deb again.deb
	apt-get install -qq ./debmarshal-stubdomain.deb >/dev/null
	cmp one/initrd /usr/lib/debmarshal/stubdomain/initrd
'
echo "${0##*/}: built $(cd "$builder/root" && echo debmarshal_*.deb)"

"$repository/scripts/guest-image.sh" --arch amd64 "$repository/.cache/guests"
user=$(fresh_tree "$base")
trees+=("$user")
install -m 644 "$builder"/root/debmarshal_*.deb "$user/var/tmp/"
install -m 644 "$repository"/.cache/guests/amd64/{vmlinuz,initrd.gz} "$user/var/tmp/"
install -m 755 "$repository"/tests/package/{common,install,booted,by-hand}.sh "$user/var/tmp/"
fresh_tree_run "$user" root /var/tmp/install.sh
fresh_tree_boot "$user" /var/tmp/booted.sh
fresh_tree_run "$user" root /var/tmp/by-hand.sh
echo "${0##*/}: passed${keep:+; the trees are ${trees[*]}}"
