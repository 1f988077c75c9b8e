# What the scripts that make images share: sourced, not run. Debian's packages, downloaded and verified by apt with a state of its
# own, so that any architecture will do, and unpacked: no privilege is needed, and nothing is installed.
#
# packages_image first, for an image that is not made again without need; then packages_begin ARCH, which makes a directory that goes
# with the script, $tmp, with "root" in it for what is unpacked; packages_made last.
# shellcheck shell=bash

# kmod's tools, which are not on an ordinary user's path
PATH+=:/usr/sbin:/sbin
umask 022 # modes are part of an image

# packages_image DIR FILE...: what the script makes goes into DIR, $dir from now on, and consists of these files, beside packages. When
# it is there, made by the same script of the same files, the script ends here.
packages_image() {
	mkdir -p "$1"
	dir=$(cd "$1" && pwd)
	shift
	stamp=$(cat "$0" "${BASH_SOURCE[0]}" "$@" | sha256sum)

	# Two builds at once make it once.
	exec 9>"$dir/.lock"
	flock 9
	[[ $(cat "$dir/.stamp" 2>/dev/null) != "$stamp" ]] || exit 0
}

# It is there now.
packages_made() {
	echo "$stamp" >"$dir/.stamp"
}

packages_begin() {
	arch=$1
	tmp=$(mktemp -d)
	trap 'rm -rf "$tmp"' EXIT
	chmod 755 "$tmp"
	mkdir -p "$tmp"/{lists/partial,cache/archives/partial,debs,root}
	: >"$tmp/status"
	# As root, apt hands its downloads to a user of its own.
	[[ $EUID -ne 0 ]] || chown _apt "$tmp/debs" "$tmp"/{lists,cache/archives}/partial
	packages_apt get update
}

packages_apt() {
	local command=$1
	shift
	(cd "$tmp/debs" && "apt-$command" -qq -o APT::Architecture="$arch" -o APT::Architectures="$arch" \
		-o Dir::State="$tmp" -o Dir::State::lists="$tmp/lists" -o Dir::State::status="$tmp/status" \
		-o Dir::Cache="$tmp/cache" -o Acquire::Languages=none -o Acquire::Retries=3 "$@")
}

# packages_unpack PACKAGE...: them alone
packages_unpack() {
	packages_apt get download "$@"
	packages_unpack_files "$tmp"/debs/*.deb
}

# packages_unpack_closure PACKAGE...: with all that they depend on
packages_unpack_closure() {
	packages_apt get install --yes --no-install-recommends --download-only "$@"
	packages_unpack_files "$tmp"/cache/archives/*.deb
}

# Each is noted in $tmp/packages: its name and version, its source's, and when it was built, in seconds since 1970, which the header of the
# first member says (deb(5), ar(5)).
packages_unpack_files() {
	local deb
	for deb; do
		# shellcheck disable=SC2016 # dpkg-deb's own
		dpkg-deb -W --showformat '${Package} ${Version} ${source:Package} ${source:Version} ' "$deb" >>"$tmp/packages"
		head -c 36 "$deb" | tail -c 12 | awk '{ print $1 }' >>"$tmp/packages"
		dpkg-deb -x "$deb" "$tmp/root"
		rm "$deb"
	done
}

# The package that a metapackage of the kernel's stands for.
packages_kernel() {
	packages_apt cache depends "$1" | awk '$1 == "Depends:" { print $2; exit }'
}

# packages_modules TREE MODULE...: into TREE/modules, with what they need; TREE/modules/order says in which order to load them.
# Those that the kernel lacks or has built in are left out.
packages_modules() {
	local tree=$1 version module
	shift
	version=$(basename "$tmp"/root/lib/modules/*)
	mkdir -p "$tree/modules"
	depmod -b "$tmp/root" "$version"
	for module; do
		modprobe --config=/dev/null -d "$tmp/root" -S "$version" --show-depends "$module" 2>/dev/null || true
	done | awk '$1 == "insmod" && !seen[$2]++ { print $2 }' >"$tmp/modules"
	while read -r module; do
		cp "$module" "$tree/modules/"
		basename "$module"
	done <"$tmp/modules" >"$tree/modules/order"
}

# packages_put TREE FILE...: from what is unpacked, by the same paths. An absolute link (the loader is one) is meant in there.
packages_put() {
	local tree=$1 file source
	shift
	for file; do
		source=$tmp/root$file
		[[ $(readlink "$source") != /* ]] || source=$tmp/root$(readlink "$source")
		mkdir -p "$tree${file%/*}"
		cp -L "$source" "$tree$file"
	done
}

# packages_put_programs TREE FILE...: with the libraries that they are linked with
packages_put_programs() {
	local tree=$1 file library
	shift
	for file; do
		packages_put "$tree" "$file"
		while read -r library; do
			[[ -e $tree$library ]] || packages_put "$tree" "$library"
		done < <(packages_needed "$tmp/root$file")
	done
}

packages_needed() {
	"$tmp/root/lib/x86_64-linux-gnu/ld-linux-x86-64.so.2" --inhibit-cache \
		--library-path "$tmp/root/lib/x86_64-linux-gnu:$tmp/root/usr/lib/x86_64-linux-gnu" --list "$1" |
		sed -n "s|^.*=> $tmp/root\(/[^ ]*\) .*|\1|p"
}

# packages_initramfs TREE: to standard output, the same bytes for the same tree. Nobody's clock is in it.
packages_initramfs() {
	find "$1" -exec touch --no-dereference --date=@0 {} +
	(cd "$1" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0 --reproducible) | gzip -9n
}

# packages_finish INITRD: vmlinuz and the initramfs into $dir. /tmp is often another file system: the last step is inside $dir, where it
# is atomic.
packages_finish() {
	local initrd=$1
	cp "$tmp/$initrd" "$dir/.$initrd"
	cp "$tmp"/root/boot/vmlinuz-* "$dir/.vmlinuz"
	chmod 644 "$dir"/.{vmlinuz,"$initrd"}
	mv "$dir/.vmlinuz" "$dir/vmlinuz"
	mv "$dir/.$initrd" "$dir/$initrd"
	packages_made
}
