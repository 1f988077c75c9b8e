#!/bin/bash
# Boots Xen and its dom0 in QEMU's TCG, brings the built tree in, runs a suite there as root, and takes results and logs out.
#
# usage: run.sh [--suite FILE] [--seconds N] DOM0 GUESTS BUILD RESULTS [PYTEST-ARGUMENT]...
#        DOM0 is what dom0.sh has made, GUESTS what scripts/guest-image.sh has. FILE is a shell script in place of the tests.
#        After N seconds (900) dom0 ends the suite and takes the logs out; a machine that does not even do that is ended 30 later.
set -euo pipefail

usage() {
	echo "usage: ${0##*/} [--suite FILE] [--seconds N] DOM0 GUESTS BUILD RESULTS [PYTEST-ARGUMENT]..." >&2
	exit 2
}

here=$(cd "$(dirname "$0")" && pwd)
suite=$here/suite
seconds=900
while [[ ${1-} == -* ]]; do
	case $1 in
	--suite) suite=${2-} ;;
	--seconds) seconds=${2-} ;;
	*) usage ;;
	esac
	shift 2 || usage
done
[[ $# -ge 4 ]] || usage
dom0=$1 guests=$2 build=$3 results=$4
shift 4

share=$(mktemp -d)
qemu=
trap '[[ -z $qemu ]] || kill "$qemu" 2>/dev/null; rm -rf "$share"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$share/tree"/{build/tests/system,data,guests,tests}
for file in debmarshald debmarshal debmarshal-keeper debmarshal-xen.so; do
	cp "$build/$file" "$share/tree/build/"
done
cp "$build/tests/system/sweep" "$share/tree/build/tests/system/"
cp "$guests"/amd64/{vmlinuz,initrd.gz} "$share/tree/guests/"
# What a stub domain boots from, as its package installs it.
"$here/../../scripts/stubdomain-package.sh" "${dom0%/*}/stubdomain" "$share/stubdomain.deb"
dpkg-deb -x "$share/stubdomain.deb" "$share/root"
rm "$share/stubdomain.deb"
gcc -nostdlib -m16 -Wl,-m,elf_i386,--oformat=binary,-Ttext=0x7c00 -o "$share/tree/guests/boot-sector" "$here/boot-sector.S"
(cat "$share/tree/guests/boot-sector" && printf firstime && head -c 1M /dev/zero) >"$share/boot.img"
qemu-img convert -f raw -O qcow2 "$share/boot.img" "$share/tree/guests/boot.qcow2"
mkdir "$share/tree/guests/fake-models"
gcc -static -o "$share/fake-model" "$here/fake-model.c"
gcc -static -o "$share/tick" "$here/tick.c"
for fake in dies-at-once dies-later never-confirms keeps-its-privilege fills-its-log; do
	cp "$share/fake-model" "$share/tree/guests/fake-models/$fake"
done
cp "$here/../../data/com.googlecode.debmarshal.conf" "$share/tree/data/"
cp -r "$here/../bench" "$here/../system" "$here" "$share/tree/tests/"
cp "$suite" "$share/suite"
echo "$seconds" >"$share/seconds"
env | grep -E '^(DEBMARSHAL_SWEEP|PAIRS|TYPES)=' >"$share/environment" || true
[[ $# -eq 0 ]] || printf '%s\0' "$@" >"$share/arguments"
: >"$share/output"
: >>"$share/arguments"

# What each of these is for, tick too, and what happens without it: docs/xen.md, "Xen in QEMU". Of its memory it uses two gigabytes; the
# rest is for one guest that has more than lies below 4 GiB, and touches little of it.
cpu=EPYC,-monitor,-smap,-smep,+svm,+npt,-rdtscp,-avx,-avx2,-f16c,-fma
xen="console=com1 com1=115200,8n1 dom0_mem=1000M,max:1000M cpuidle=0 spec-ctrl=eager-fpu bootscrub=0 loglvl=warning guest_loglvl=warning"

start=$SECONDS
timeout --kill-after=5 $((seconds + 30)) qemu-system-x86_64 -M q35 -accel tcg,thread=multi -cpu "$cpu" -smp 1 -m 7168 \
	-nodefaults -no-user-config -display none -no-reboot -serial "file:$share/serial.log" \
	-kernel "$dom0/xen" -append "$xen" -initrd "$dom0/vmlinuz console=hvc0 quiet,$dom0/dom0.cpio" \
	-fsdev "local,id=share,path=$share,security_model=none,multidevs=remap" \
	-device virtio-9p-pci,fsdev=share,mount_tag=share >"$share/qemu.log" 2>&1 &
qemu=$!
tail --pid="$qemu" --sleep-interval=0.5 -n +1 -f "$share/output" &
shown=$!
ended=0
wait "$qemu" || ended=$?
qemu=
wait "$shown" || true

mkdir -p "$results"
find "$results" -mindepth 1 -delete
rm -rf "$share/tree" "$share/root"
cp -r "$share"/* "$results/"
grep -a '^dom0: ' "$results/serial.log" | tr -d '\r' || true
status=$(cat "$results/status" 2>/dev/null || echo none)
echo "${0##*/}: status $status after $((SECONDS - start)) s in all; logs are in $results"
if [[ $status == none ]]; then
	echo "${0##*/}: dom0 did not get to the end (QEMU's status $ended):" >&2
	tail -n 20 "$results/serial.log" "$results/qemu.log" >&2
elif [[ $status == 124 || $status == 143 ]]; then
	echo "${0##*/}: the suite was ended after $seconds s" >&2
	tail -n 40 "$results/daemon.log" "$results/xen-dmesg" >&2 || true
fi
[[ $status == 0 ]]
