#!/usr/bin/env bash
# Prepares Wine 10 in a directory of its own, for tests of GOOS=windows:
#
#   internal/wine/setup.sh
#   GOOS=windows go test -exec "$PWD/internal/wine/exec" ./internal/pipe
#
# FASTBIND_WINE names the directory; without it, it is fastbind-wine in the user's
# cache directory. It takes 2 GB and, the first time, about two minutes; what is
# prepared already is left alone at once. It needs Debian with network access to
# its packages, and root for debootstrap(8); what stays outside of the directory
# is that package.
#
# Wine comes from Debian 13 in a tree of files, whatever the machine's own system is:
# Wine 8 of Debian 12 has no ProcessPrng, which Go needs, nor does it refuse
# the second claimer of a pipe's name. Nothing is run from the tree in
# place: exec puts its usr and etc over the machine's, for the tests alone.
set -euo pipefail

home=${FASTBIND_WINE:-${XDG_CACHE_HOME:-$HOME/.cache}/fastbind-wine}
here=$(cd "$(dirname "$0")" && pwd)
mkdir -p "$home"
home=$(cd "$home" && pwd)

# One at a time; who comes second finds the work done.
exec 9>"$home/lock"
flock -w 1200 9 || {
	echo "setup.sh: another one has prepared $home for 20 minutes; see what it does, or name another FASTBIND_WINE" >&2
	exit 1
}

# A directory is finished under another name first: what has its name is whole.
if [ ! -d "$home/tree" ]; then
	if ! command -v debootstrap >/dev/null; then
		apt-get update -qq
		DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends debootstrap >&2
	fi
	rm -rf "$home/tree.new"
	timeout -k 10 900 debootstrap --variant=minbase --include=wine64 trixie "$home/tree.new" >"$home/debootstrap.log" 2>&1 9>&- || {
		tail -n 20 "$home/debootstrap.log" >&2
		echo "setup.sh: debootstrap failed or took longer than 15 minutes; its log is $home/debootstrap.log" >&2
		exit 1
	}
	rm -rf "$home/tree.new/var/cache/apt/archives" "$home/tree.new/usr/share/doc"
	mv "$home/tree.new" "$home/tree"
fi

# Every run of exec works on a copy of this prefix that ends with it.
if [ ! -d "$home/prefix" ]; then
	rm -rf "$home/prefix.new"
	mkdir "$home/prefix.new"
	FASTBIND_WINE=$home FASTBIND_WINE_PREFIX=$home/prefix.new timeout -k 10 300 "$here/exec" wineboot -i >"$home/wineboot.log" 2>&1 9>&- || {
		tail -n 20 "$home/wineboot.log" >&2
		echo "setup.sh: Wine made no prefix within 5 minutes: set WINEDEBUG= and run this again to see why" >&2
		exit 1
	}
	mv "$home/prefix.new" "$home/prefix"
fi
echo "$home"
