#!/usr/bin/env bash
# Installs the peers that `go -C bench run . -peers` measures, each at the version
# named here. What is there already is left alone; what cannot be had is told, and
# noted for bench to list.
#
#   bench/peers.sh [PEER…]
#
# It needs Debian 12, npm, Go and cargo with their registries, and root for apt-get.
# The two that are compiled with cargo take half an hour. Debian's packages are the
# system's; everything else goes into one directory, FASTBIND_BENCH_PEERS or
# ~/.cache/fastbind-bench, and is gone with it.
set -uo pipefail

dir=${FASTBIND_BENCH_PEERS:-${XDG_CACHE_HOME:-$HOME/.cache}/fastbind-bench}
mkdir -p "$dir/bin"
dir=$(cd "$dir" && pwd)
log=$dir/install.log
: >"$log"
wanted=" $* "

# peer NAME INSTALL…: runs the command, and says what became of it.
peer() {
	local name=$1
	shift
	[ "$wanted" = "  " ] || [[ $wanted == *" $name "* ]] || return 0
	rm -f "$dir/$name.missing"
	if "$@" >>"$log" 2>&1; then
		echo "$name: there"
	else
		echo "\"$*\" failed: $(grep -v '^[[:space:]]*$' "$log" | tail -1 | tr -s '[:blank:]' ' '  | cut -c1-200)" | sed "s|$dir|\$dir|g" >"$dir/$name.missing"
		echo "$name: $(cat "$dir/$name.missing")"
	fi
}

# debian PACKAGE=VERSION…: VERSION is upstream's; Debian's revisions are fixes.
debian() {
	local spec missing=()
	for spec; do
		case $(dpkg-query -W -f '${db:Status-Abbrev} ${Version}' "${spec%%=*}" 2>/dev/null) in
		"ii  ${spec#*=}"*) ;;
		*) missing+=("$spec*") ;;
		esac
	done
	[ "${#missing[@]}" -gt 0 ] || return 0
	[ -n "${updated:-}" ] || apt-get update -qq || return
	updated=yes
	# No package may start a daemon of the system's: invoke-rc.d(8).
	local policy=/usr/sbin/policy-rc.d
	[ -e $policy ] || { printf '#!/bin/sh\nexit 101\n' >$policy && chmod 755 $policy && trap "rm -f $policy" EXIT; }
	DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}"
}

# npmed COMMAND TARGET PACKAGE@VERSION…: links COMMAND to TARGET in node_modules.
npmed() {
	local command=$1 target=$dir/node_modules/$2 spec
	shift 2
	for spec; do
		grep -qs "\"version\": *\"${spec##*@}\"" "$dir/node_modules/${spec%@*}/package.json" || {
			npm install --prefix "$dir" --no-audit --no-fund --silent "$@" || return
			break
		}
	done
	[ -x "$target" ] && ln -sfn "$target" "$dir/bin/$command"
}

# goes COMMAND PACKAGE@VERSION
goes() {
	go version -m "$dir/bin/$1" 2>/dev/null | grep -q "${2##*@}" || GOBIN=$dir/bin go install "$2"
}

# crate COMMAND NAME VERSION FLAG…
crate() {
	local command=$1 name=$2 version=$3
	shift 3
	[ -x "$dir/bin/$command" ] && grep -qs "^\"$name $version " "$dir/.crates.toml" ||
		cargo install --quiet --force --root "$dir" "$@" "$name@$version"
}

case $(uname -m) in
x86_64) arch=x64 turbo=64 ;;
aarch64) arch=arm64 turbo=arm64 ;;
*) arch=unknown turbo=unknown ;;
esac

peer adb debian adb=1:29.0.6-
peer gpg-agent debian gpg=2.2.40- gpg-agent=2.2.40- gpgconf=2.2.40-
peer tmux debian tmux=3.3a-
peer watchman debian watchman=4.9.0-
peer sccache debian sccache=0.4.0~~pre6-
peer emacs debian emacs-nox=1:28.2+1-
peer systemd-socket-activate debian systemd=252.
peer s6-ipcserver debian s6=2.11.3.2-
peer turbo npmed turbo "@turbo/linux-$turbo/bin/turbo" turbo@2.11.11
peer biome npmed biome "@biomejs/cli-linux-$arch/biome" @biomejs/biome@2.6.8
peer eslint_d npmed eslint_d .bin/eslint_d eslint@10.15.0 eslint_d@15.0.3
peer gopls goes gopls golang.org/x/tools/gopls@v0.23.0
peer go-tool-cache goes go-cacher github.com/bradfitz/go-tool-cache/cmd/go-cacher@v0.0.0-20260722201841-0bb331e19f64
peer gocacheprog goes gocacheprog github.com/vearutop/gocacheprog@latest
# Not --locked: its lock file wants a release of webpki-roots that is not to be had.
peer running-process crate runpm running-process 4.10.21 --features daemon --bin runpm --bin running-process-daemon
peer pitchfork crate pitchfork pitchfork-cli 2.33.0 --locked
# go-plugin is a library: bench/internal/prog/goplugin, its version in bench/go.mod.
