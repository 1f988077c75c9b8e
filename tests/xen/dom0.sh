#!/bin/bash
# Makes what a Xen machine boots from: DIR/xen, DIR/vmlinuz and DIR/dom0.cpio, an initramfs with Xen's daemons and tools, Python and
# what the built tree needs at run time. Nothing of ours is in it: run.sh brings that in. From Debian's packages, unpacked and never
# configured. Instant when DIR has it already.
#
# usage: dom0.sh DIR
set -euo pipefail

suite=bookworm
packages=(
	linux-image-amd64 xen-hypervisor-4.17-amd64 xen-utils-4.17 xenstore-utils qemu-system-xen seabios
	busybox-static bash iproute2 kmod mount util-linux procps strace
	dnsmasq-base libsystemd0 libsqlite3-0 libmnl0 libjansson4 libcap-ng0 libasan8 libubsan1
	python3 python3-dbus python3-gi python3-pytest
)
modules=(
	xenfs xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xen-blkback xen-netback
	bridge tun loop veth virtio_pci 9pnet_virtio 9p
)
xen_bin=/usr/lib/xen-4.17/bin
programs=(
	"$xen_bin"/{xenstored,xenconsoled,xenconsole,xl,xen-init-dom0,lsevtchn}
	/usr/bin/{xenstore-read,xenstore-write,xenstore-ls,xenstore-list,xenstore-rm,xenstore-exists}
	/bin/{bash,ip,mount,umount} /usr/bin/{nsenter,setpriv,strace} /sbin/losetup /usr/sbin/dnsmasq
	/usr/libexec/xen-qemu-system-i386 /usr/bin/python3.11
)
libraries=(libxenguest libxenctrl libxenstore libxenvchan libxenforeignmemory libsystemd libsqlite3 libmnl libjansson libcap-ng libasan libubsan libnss_files)

[[ $# -eq 1 ]] || {
	echo "usage: ${0##*/} DIR" >&2
	exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$1"
dir=$(cd "$1" && pwd)
stamp=$(cat "$0" "$here/init" | sha256sum)

# Two builds at once make it once.
exec 9>"$dir/.lock"
flock 9
[[ $(cat "$dir/.stamp" 2>/dev/null) != "$stamp" ]] || exit 0

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
root=$tmp/root
tree=$tmp/tree
mkdir "$root" "$tree"
# depmod and modprobe, which are not on an ordinary user's path
PATH+=:/usr/sbin:/sbin

# The packages come from where this machine gets its own.
unpack() {
	local sources=/etc/apt/sources.list.d/debian.sources include
	[[ -e $sources ]] || sources=/etc/apt/sources.list
	include=$(IFS=,; echo "${packages[*]}")
	apt-config dump | grep -E '^Acquire::(Check|http|https)' >"$tmp/apt.conf" || true
	mmdebstrap --quiet --variant=extract --format=tar --include="$include" --aptopt="$tmp/apt.conf" "$suite" - "$sources" |
		tar -x -C "$root" --exclude='./dev/*' --no-same-owner
}

# put FILE...: the same paths into the tree.
put() {
	local file
	for file; do
		mkdir -p "$tree${file%/*}"
		cp -L "$root$file" "$tree$file"
	done
}

# The libraries that a program of the root would be linked with, as paths of the root.
needed() {
	"$root/lib64/ld-linux-x86-64.so.2" --inhibit-cache \
		--library-path "$root/lib/x86_64-linux-gnu:$root/usr/lib/x86_64-linux-gnu" --list "$1" 2>/dev/null |
		sed -n "s|^.*=> $root\(/[^ ]*\) .*|\1|p"
}

put_with_libraries() {
	local file library
	for file; do
		put "$file"
		while read -r library; do
			[[ -e $tree$library ]] || put "$library"
		done < <(needed "$root$file")
	done
}

put_python() {
	local file
	mkdir -p "$tree/usr/lib" "$tree/usr/lib/x86_64-linux-gnu"
	cp -a "$root/usr/lib/python3.11" "$root/usr/lib/python3" "$tree/usr/lib/"
	rm -rf "$tree"/usr/lib/python3.11/{test,idlelib,tkinter,ensurepip,lib2to3,distutils,pydoc_data}
	cp -a "$root/usr/lib/x86_64-linux-gnu/girepository-1.0" "$tree/usr/lib/x86_64-linux-gnu/"
	while read -r file; do
		put_with_libraries "${file#"$root"}"
	done < <(find "$root"/usr/lib/python3{,.11} -name '*.so')
	ln -s python3.11 "$tree/usr/bin/python3"
}

put_modules() {
	local version=$1 module
	mkdir -p "$tree/modules"
	depmod -b "$root" "$version"
	for module in "${modules[@]}"; do
		modprobe --config=/dev/null -d "$root" -S "$version" --show-depends "$module" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tmp/modules"
	while read -r module; do
		cp "$module" "$tree/modules/"
		basename "$module"
	done <"$tmp/modules" >"$tree/modules/order"
}

echo "${0##*/}: making dom0" >&2
unpack
version=$(basename "$root"/lib/modules/*)

mkdir -p "$tree"/{bin,sbin,dev,etc,home,lib64,mnt,proc,root,run,share,sys,tmp,usr/{bin,sbin},var/{lib/xen,log/xen}}
ln -s /run "$tree/var/run"
ln -s /run/lock "$tree/var/lock"
put /bin/busybox /lib64/ld-linux-x86-64.so.2
put_with_libraries "${programs[@]}"
for library in "${libraries[@]}"; do
	while read -r file; do
		put_with_libraries "${file#"$root"}"
	done < <(find "$root"/{,usr/}lib/x86_64-linux-gnu -maxdepth 1 -name "$library.so.*")
done
put /usr/lib/xen-4.17/boot/hvmloader /usr/share/seabios/{bios-256k,vgabios-cirrus,vgabios-stdvga}.bin
put /usr/share/qemu/{linuxboot.bin,linuxboot_dma.bin,keymaps/en-us}
put_python
put_modules "$version"
install -m 755 "$here/init" "$tree/init"
ln -s bash "$tree/bin/sh" # busybox's prefers its own "ip" to the one on the path
cat >"$tree/etc/passwd" <<-'PASSWD'
	root:x:0:0:root:/root:/bin/bash
	alice:x:1000:1000::/run/home-alice:/bin/bash
	bob:x:1001:1001::/run/home-bob:/bin/bash
	nobody:x:65534:65534::/nonexistent:/bin/false
PASSWD
printf 'root:x:0:\nalice:x:1000:\nbob:x:1001:\nnogroup:x:65534:\n' >"$tree/etc/group"

(cd "$tree" && find . | sort | cpio --quiet -o -H newc -R 0:0) >"$dir/.dom0.cpio"
gzip -dc "$root/boot/xen-4.17-amd64.gz" >"$dir/.xen"
cp "$root/boot/vmlinuz-$version" "$dir/.vmlinuz"
chmod 644 "$dir"/.{dom0.cpio,xen,vmlinuz}
for file in dom0.cpio xen vmlinuz; do
	mv "$dir/.$file" "$dir/$file"
done
echo "$stamp" >"$dir/.stamp"
