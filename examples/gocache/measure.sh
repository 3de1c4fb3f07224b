#!/bin/sh
# Builds a public module with gocache, with cmd/go's own cache, and with a floor,
# and compares the executables. Prints a table; the exit status is 1 if a build
# failed or an executable differs.
#
#   examples/gocache/measure.sh github.com/caddyserver/caddy/v2@v2.10.2 ./cmd/caddy [ROW...]
#
# Rows: builtin floor gocache four killed tiny full (all of them without arguments).
# full needs root (it mounts a tmpfs). MEASURE_GOTEST=PACKAGES also runs go test on
# those packages, in the rows gocache and killed.
set -eu
module=${1:?module@version}; package=${2:?package}; shift 2
rows=${*:-builtin floor gocache four killed tiny full}

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/gocache-measure.XXXXXX)
export FASTBIND_RUNTIME_DIR=$work/run XDG_STATE_HOME=$work/state
mkdir -m 700 "$work/run" "$work/state"
killer=
finish() {
	[ -z "$killer" ] || kill "$killer" 2>/dev/null || true
	for s in "$work"/store.*; do [ -d "$s" ] && GOCACHE_DIR=$s "$work/gocache" stop 2>/dev/null || true; done
	umount "$work/store.full" 2>/dev/null || true
	rm -rf "$work" "/dev/shm/floor.$$"
}
trap finish EXIT
trap 'exit 130' INT TERM
status=0

(cd "$here" && go build -o "$work/gocache" . && go build -o "$work/floor" ./internal/floor)
dir=$(cd / && GOFLAGS=-mod=mod go mod download -json "$module" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$dir" "$work/src"; chmod -R u+w "$work/src"; cd "$work/src"
go mod download 2>/dev/null

export CGO_ENABLED=0 GOFLAGS=-buildvcs=false

# build OUT: -trimpath, compared to the first one.
build() {
	go build -trimpath -o "$1" "$package" || return 1
	[ -f "$work/reference" ] || cp "$1" "$work/reference"
	cmp "$1" "$work/reference"
}
row() { # NAME OUT
	name=$1 out=$2
	began=$(date +%s%N)
	if build "$work/$out" >"$work/said.$out" 2>&1; then result=identical; else result=FAILED; status=1; tail -5 "$work/said.$out" >&2; fi
	ended=$(date +%s%N)
	printf '| %-40s | %6d.%02d s | %-9s | %s |\n' "$name" $(((ended - began) / 1000000000)) $(((ended - began) / 10000000 % 100)) "$result" \
		"$(grep -c 'going on without' "$work/said.$out" || true)"
	rm -f "$work/$out"
}
store() { # NAME MAX
	GOCACHE_DIR=$work/store.$1 GOCACHE_MAX=$2 GOCACHEPROG=$work/gocache
	export GOCACHE_DIR GOCACHE_MAX GOCACHEPROG
}
say() { "$work/gocache" stats --json | tr -d '\n" ' | grep -oE '(entries|disk_bytes|hits|misses|evictions|rss_bytes):[0-9]+' | tr '\n' ' '; echo; }

echo "$module $package, $(go env GOVERSION) $(go env GOOS)/$(go env GOARCH), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
echo "| build | time | output | gone on without |"
echo "|---|---|---|---|"
for r in $rows; do
	unset GOCACHEPROG GOCACHE
	case $r in
	builtin)
		export GOCACHE=$work/builtin
		row "built-in cache, cold" b; row "built-in cache, warm" b; row "built-in cache, warm again" b ;;
	floor)
		export GOCACHEPROG="$work/floor /dev/shm/floor.$$"
		row "floor, cold" f; row "floor, warm" f; row "floor, warm again" f
		rm -rf "/dev/shm/floor.$$" ;;
	gocache)
		store main 10GiB
		row "gocache, cold" g; row "gocache, warm" g; row "gocache, warm again" g
		"$work/gocache" stop
		row "gocache, warm, daemon started by it" g
		if [ -n "${MEASURE_GOTEST:-}" ]; then
			go test $MEASURE_GOTEST >"$work/test.1" 2>&1 || true
			go test $MEASURE_GOTEST >"$work/test.2" 2>&1 || true
			echo "go test $MEASURE_GOTEST: $(grep -c '^ok' "$work/test.1") ok, $(grep -c '^FAIL.*/' "$work/test.1") failed; again: $(grep -c '(cached)' "$work/test.2") cached"
		fi
		say ;;
	four)
		store four 10GiB
		for i in 1 2 3 4; do row "gocache, cold, four at once: $i" "four$i" & jobs="${jobs:-} $!"; done
		wait $jobs
		say ;;
	killed)
		store killed 10GiB
		(while sleep 3; do "$work/gocache" stats --json 2>/dev/null | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | xargs -r kill -9 && echo killed >>"$work/kills"; done) &
		killer=$!
		row "gocache, cold, daemon killed every 3 s" k; row "gocache, warm, daemon killed every 3 s" k
		kill $killer; killer=
		echo "kill -9: $(wc -l <"$work/kills") times" ;;
	tiny)
		store tiny 20M
		row "gocache, cold, store of 20 MiB" t
		sleep 5 # the daemon evicts what the first build held, or the second takes it over
		row "gocache, again, store of 20 MiB" t
		say ;;
	full)
		store full 10GiB
		mkdir "$work/store.full"
		mount -t tmpfs -o size=60m none "$work/store.full"
		row "gocache, cold, disk of 60 MiB" n; row "gocache, again, disk of 60 MiB" n
		say
		"$work/gocache" stop || true
		umount "$work/store.full" ;;
	esac
	if [ -n "${GOCACHE_DIR:-}" ]; then
		"$work/gocache" stop 2>/dev/null || true
		"$work/gocache" verify 2>/dev/null || true
		rm -rf "$GOCACHE_DIR"; unset GOCACHE_DIR GOCACHE_MAX
	fi
done
exit $status
