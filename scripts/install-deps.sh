#!/bin/bash
# Installs the Debian packages that a task needs and that are missing.
# With everything in place it asks only dpkg: instant, no network, no privilege.
#
# usage: install-deps.sh [--list] [build|demo|test|bench|xen|package]...   (default: build)
set -euo pipefail

usage() {
	echo "usage: ${0##*/} [--list] [build|demo|test|bench|xen|package]..." >&2
	exit 2
}

build=(
	gcc libc6-dev meson ninja-build pkg-config scdoc
	libjansson-dev libmnl-dev libsqlite3-dev libsystemd-dev
)
# The emulator of this machine's own guests.
case $(dpkg --print-architecture 2>/dev/null) in
arm64) emulator=(qemu-system-arm) ;;
*) emulator=(qemu-system-x86 seabios) ;;
esac
# What runs guests, and what scripts/guest-image.sh makes one with.
demo=(
	"${build[@]}"
	dnsmasq-base procps "${emulator[@]}" util-linux
	apt cpio dpkg gzip kmod
)
test=(
	"${demo[@]}"
	# units, static checks, sanitizers, fuzzers
	clang clang-format clang-tidy cppcheck git libclang-rt-14-dev libcmocka-dev shellcheck
	# the Xen driver, which runs in the tests of xen only, but has to build
	libpng-dev libxen-dev nettle-dev
	# a boot loader: pygrub
	xen-utils-4.17
	# buses and their clients
	dbus libglib2.0-bin systemd
	python3 python3-dbus python3-gi python3-pytest
	# guests of other kinds
	ipxe-qemu ovmf qemu-efi-aarch64 qemu-system-arm qemu-system-x86 qemu-utils
	# what the suites put into guests and onto disks
	dosfstools dropbear-bin mtools
	# whose completions are parsed
	fish zsh
	# what they look at a system with
	busybox-static e2fsprogs iproute2 isc-dhcp-client openssh-client openssl strace tcpdump
	# tests/fresh
	mmdebstrap
)
bench=(
	"${test[@]}"
	iptables libvirt-clients libvirt-daemon-system python3-libvirt
)
# What tests/xen makes a dom0 of, and boots it with.
xen=(
	"${demo[@]}"
	libcmocka-dev libpng-dev libxen-dev nettle-dev python3 tar
)
package=(
	"${build[@]}"
	libpng-dev libxen-dev nettle-dev
	build-essential debhelper dpkg-dev fakeroot
)

list=
wanted=()
for arg; do
	case $arg in
	--list) list=1 ;;
	build) wanted+=("${build[@]}") ;;
	demo) wanted+=("${demo[@]}") ;;
	test) wanted+=("${test[@]}") ;;
	bench) wanted+=("${bench[@]}") ;;
	xen) wanted+=("${xen[@]}") ;;
	package) wanted+=("${package[@]}") ;;
	*) usage ;;
	esac
done
[[ ${#wanted[@]} -gt 0 ]] || wanted=("${build[@]}")
mapfile -t wanted < <(printf '%s\n' "${wanted[@]}" | sort -u)

if [[ $list ]]; then
	printf '%s\n' "${wanted[@]}"
	exit
fi

if ! command -v dpkg-query >/dev/null; then
	echo "${0##*/}: this is not a Debian system; install the equivalents of: ${wanted[*]}" >&2
	exit 1
fi

# dpkg-query fails for names it never heard of, which is an answer, not an error.
installed=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' "${wanted[@]}" 2>/dev/null |
	sed -n 's/^installed //p' || true)
mapfile -t missing < <(comm -23 <(printf '%s\n' "${wanted[@]}") <(sort -u <<<"$installed"))
[[ ${#missing[@]} -gt 0 ]] || exit 0

if [[ $EUID -eq 0 ]]; then
	root=(env)
elif command -v sudo >/dev/null; then
	root=(sudo env)
else
	echo "${0##*/}: not root and no sudo; ask an administrator for: apt-get install ${missing[*]}" >&2
	exit 1
fi

# Without an init there is nobody to supervise a service that a package's script starts: it
# would outlive the installation, and in a chroot belong to the host. So forbid it meanwhile.
policy=/usr/sbin/policy-rc.d
if [[ ! -d /run/systemd/system && ! -e $policy ]]; then
	trap '"${root[@]}" rm -f "$policy"' EXIT
	printf '#!/bin/sh\nexit 101\n' | "${root[@]}" sh -c "cat >$policy && chmod 755 $policy"
fi

echo "${0##*/}: installing ${missing[*]}" >&2
apt=("${root[@]}" DEBIAN_FRONTEND=noninteractive apt-get -q -o DPkg::Lock::Timeout=600)
"${apt[@]}" update >&2
"${apt[@]}" install -y --no-install-recommends "${missing[@]}" >&2
