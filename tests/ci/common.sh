# shellcheck shell=bash
# Shared by the checks of this folder: sourced, not run.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

# Debian's meson, not one of another Python's that comes first on some paths.
export PATH=/usr/bin:$PATH

# configure DIRECTORY OPTION...: a build directory for one check, made anew only when the options have changed.
configure() {
	local dir=$1 stamp
	shift
	stamp="$CC $*"
	if [[ ! -f $dir/build.ninja || $(cat "$dir/.options" 2>/dev/null) != "$stamp" ]]; then
		rm -rf "$dir"
		meson setup "$dir" "$@" >/dev/null
		echo "$stamp" >"$dir/.options"
	fi
}
