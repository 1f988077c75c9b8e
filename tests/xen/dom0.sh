#!/bin/bash
# Makes what a Xen machine boots from: DIR/xen, DIR/vmlinuz and DIR/dom0.cpio, an initramfs with Xen's daemons and tools, Python and
# what the built tree needs at run time. Nothing of ours is in it: run.sh brings that in. Needs no privilege, and installs nothing
# (see scripts/packages.sh). Instant when DIR has it already.
#
# usage: dom0.sh DIR
set -euo pipefail

packages=(
	linux-image-amd64 xen-hypervisor-4.17-amd64 xen-utils-4.17 xenstore-utils qemu-system-xen qemu-system-x86 qemu-system-common seabios
	busybox-static bash openssl iproute2 kmod mount util-linux procps strace linux-libc-dev dbus-daemon
	dnsmasq-base libsystemd0 libsqlite3-0 libmnl0 libjansson4 libnettle8 libpng16-16 libasan8 libubsan1
	python3 python3-dbus python3-gi python3-pytest e2fsprogs ncurses-base
)
modules=(
	xenfs xen-evtchn xen-gntdev xen-gntalloc xen-privcmd xen-blkback xen-netback
	bridge tun loop veth virtio_pci 9pnet_virtio 9p
)
xen_bin=/usr/lib/xen-4.17/bin
programs=(
	"$xen_bin"/{xenstored,xenconsoled,xenconsole,xl,xen-init-dom0,lsevtchn}
	/usr/bin/{xenstore-read,xenstore-write,xenstore-ls,xenstore-list,xenstore-rm,xenstore-exists}
	/bin/{bash,ip,mount,umount} /usr/bin/{dbus-daemon,nsenter,setpriv,strace} /sbin/{losetup,mke2fs} /usr/sbin/dnsmasq
	/usr/libexec/xen-qemu-system-i386 /usr/bin/qemu-system-x86_64 /usr/lib/x86_64-linux-gnu/qemu/accel-tcg-x86_64.so
	/usr/bin/python3.11 /usr/bin/openssl
)
libraries=(libxenguest libxenctrl libxenstore libxenvchan libxenforeignmemory libsystemd libsqlite3 libmnl libjansson libnettle libpng16 libasan libubsan libnss_files)

[[ $# -eq 1 ]] || {
	echo "usage: ${0##*/} DIR" >&2
	exit 2
}
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=SCRIPTDIR/../../scripts/packages.sh
source "$here/../../scripts/packages.sh"
packages_image "$1" "$here/init"

put_python() {
	local file
	mkdir -p "$tree/usr/lib" "$tree/usr/lib/x86_64-linux-gnu"
	cp -a "$root/usr/lib/python3.11" "$root/usr/lib/python3" "$tree/usr/lib/"
	rm -rf "$tree"/usr/lib/python3.11/{test,idlelib,tkinter,ensurepip,lib2to3,distutils,pydoc_data}
	cp -a "$root/usr/lib/x86_64-linux-gnu/girepository-1.0" "$tree/usr/lib/x86_64-linux-gnu/"
	while read -r file; do
		packages_put_programs "$tree" "${file#"$root"}"
	done < <(find "$root"/usr/lib/python3{,.11} -name '*.so')
	ln -s python3.11 "$tree/usr/bin/python3"
}

# pygrub, its modules, and what its menu is drawn with.
put_boot_loader() {
	packages_put "$tree" "$xen_bin/pygrub" /lib/terminfo/v/vt100
	cp -a "$root/usr/lib/xen-4.17/lib" "$tree/usr/lib/xen-4.17/"
}

echo "${0##*/}: making dom0" >&2
packages_begin amd64
packages_unpack_closure "${packages[@]}"
root=$tmp/root
tree=$tmp/tree

mkdir -p "$tree"/{bin,sbin,dev,etc,home,lib64,mnt,proc,root,run,share,sys,tmp,usr/{bin,sbin},var/{lib/xen,log/xen}}
ln -s /run "$tree/var/run"
ln -s /run/lock "$tree/var/lock"
packages_put "$tree" /bin/busybox /lib64/ld-linux-x86-64.so.2
packages_put_programs "$tree" "${programs[@]}"
for library in "${libraries[@]}"; do
	while read -r file; do
		packages_put_programs "$tree" "${file#"$root"}"
	done < <(find "$root"/{,usr/}lib/x86_64-linux-gnu -maxdepth 1 -name "$library.so.*")
done
packages_put "$tree" /usr/lib/xen-4.17/boot/hvmloader /usr/share/seabios/{bios-256k,vgabios-cirrus,vgabios-stdvga}.bin
packages_put "$tree" /usr/share/qemu/{linuxboot.bin,linuxboot_dma.bin,kvmvapic.bin,keymaps/en-us} /usr/lib/ipxe/qemu/efi-virtio.rom
packages_put "$tree" /usr/include/x86_64-linux-gnu/asm/unistd_64.h # by which tests/system/sweep.py names calls
put_python
put_boot_loader
packages_modules "$tree" "${modules[@]}"
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
cp "$root"/boot/vmlinuz-* "$dir/.vmlinuz"
chmod 644 "$dir"/.{dom0.cpio,xen,vmlinuz}
for file in dom0.cpio xen vmlinuz; do
	mv "$dir/.$file" "$dir/$file"
done
packages_made
