#!/bin/sh
# Builds and tests a public module with gocache, with cmd/go's own cache, and with
# a floor, and compares the executables byte for byte. Prints tables; the exit
# status is 1 if a build or a test failed or an executable differs.
#
#   examples/gocache/measure.sh github.com/caddyserver/caddy/v2@v2.11.9 ./cmd/caddy [ROW...]
#
# Rows, all of them without arguments:
#   time    cold once with each of the three, then warm WARM times (5) by turns
#   test    go test MEASURE_GOTEST with the built-in cache, then with gocache:
#           cold, again, and cold with the daemon killed every 3 s
#   four    four cold builds at once, on one daemon
#   killed  cold and warm with the daemon killed every 3 s
#   tiny    cold and again with a store of 20 MiB
#   full    cold and again on a disk of 60 MiB; needs root, for it mounts a tmpfs
#
# The first build, with the built-in cache, is what all others are compared to.
set -eu
module=${1:?module@version}; package=${2:?package}; shift 2
rows=${*:-time test four killed tiny full}
warm=${WARM:-5}

here=$(cd "$(dirname "$0")" && pwd)
work=$(mktemp -d /tmp/gocache-measure.XXXXXX)
floor=/dev/shm/floor.$$
export FASTBIND_RUNTIME_DIR=$work/run XDG_STATE_HOME=$work/state
mkdir -m 700 "$work/run" "$work/state"
killer=
finish() {
	[ -z "$killer" ] || kill "$killer" 2>/dev/null || true
	for s in "$work"/store.*; do [ -d "$s" ] && GOCACHE_DIR=$s "$work/gocache" stop 2>/dev/null || true; done
	umount "$work/store.full" 2>/dev/null || true
	rm -rf "$work" "$floor"
}
trap finish EXIT
trap 'exit 130' INT TERM
status=0

(cd "$here" && go build -o "$work/gocache" . && go build -o "$work/floor" ./internal/floor)
got=$(cd / && GOFLAGS=-mod=mod go mod download -json "$module") || { echo "$got" >&2; exit 1; }
dir=$(echo "$got" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
cp -r "$dir" "$work/src"; chmod -R u+w "$work/src"; cd "$work/src"
export CGO_ENABLED=0 GOFLAGS=-buildvcs=false GOWORK=off # a work file names modules that the archive lacks
go mod download

# use WHAT [MAX]: the cache of the go commands that follow.
use() {
	unset GOCACHEPROG GOCACHE GOCACHE_DIR GOCACHE_MAX
	case $1 in
	builtin) export GOCACHE="$work/builtin" ;;
	floor) export GOCACHEPROG="$work/floor $floor" ;;
	*) export GOCACHEPROG="$work/gocache" GOCACHE_DIR="$work/store.$1" GOCACHE_MAX="${2:-10GiB}" ;;
	esac
}
done_with() { # NAME: of a store
	"$work/gocache" stop 2>/dev/null || true
	printf '%s: ' "$1"; "$work/gocache" verify 2>/dev/null | tail -1
	[ "$1" = full ] || rm -rf "$work/store.$1"
}
# build OUT: its time in ms; compared to the first one.
build() {
	began=$(date +%s%N)
	go build -trimpath -o "$work/$1" "$package" >"$work/said.$1" 2>&1 || { echo FAILED; tail -5 "$work/said.$1" >&2; return 1; }
	ended=$(date +%s%N)
	[ -f "$work/reference" ] || cp "$work/$1" "$work/reference"
	cmp "$work/$1" "$work/reference" >&2 || { echo DIFFERS; return 1; }
	rm "$work/$1"
	echo $(((ended - began) / 1000000))
}
row() { # NAME OUT
	took=$(build "$2") || status=1
	printf '| %-44s | %8s | %s |\n' "$1" "$took" "$(grep -c 'going on without' "$work/said.$2" || true)"
}
median() { sort -n | awk '{ v[NR] = $1 } END { printf "%d | %d–%d", v[int((NR + 1) / 2)], v[1], v[NR] }'; }
say() { "$work/gocache" stats --json | tr -d '\n" ' | grep -oE '(entries|disk_bytes|hits|misses|evictions|rss_bytes):[0-9]+' | tr '\n' ' '; echo; }
kill_now_and_then() {
	: >"$work/kills"
	(while sleep 3; do "$work/gocache" stats --json 2>/dev/null | sed -n 's/.*"pid": \([0-9]*\).*/\1/p' | xargs -r kill -9 && echo killed >>"$work/kills"; done) &
	killer=$!
}
kill_no_more() { kill $killer; killer=; echo "kill -9: $(wc -l <"$work/kills") times"; }
tested() { # NAME FILE: what go test said, for each package but for times
	grep -E '^(ok|FAIL|---|\?)' "$2" | sed -E 's/\t[0-9.]+s$|\t\(cached\)$//' | sort >"$2.short"
	[ -f "$work/tested" ] || cp "$2.short" "$work/tested"
	same=same; cmp -s "$2.short" "$work/tested" || { same=DIFFERENT; diff "$work/tested" "$2.short" >&2 || true; status=1; }
	echo "$1: $(grep -c '^ok' "$2") packages ok, $(grep -c '^FAIL.*/' "$2") failed, $(grep -c '(cached)' "$2") of them cached; $same results"
}

echo "$module $package, $(go env GOVERSION) $(go env GOOS)/$(go env GOARCH), $(nproc) cores, load $(cut -d' ' -f1 /proc/loadavg)"
head_of() { printf '\n| %-44s | ms       | gone on without |\n|---|---|---|\n' "$1"; }
use builtin
head_of "the reference"
row "built-in cache, cold" b
for r in $rows; do
	case $r in
	time)
		head_of "cold"
		use floor; row "floor" f
		use main; row "gocache" g
		: >"$work/warm.builtin"; : >"$work/warm.floor"; : >"$work/warm.main"
		for i in $(seq "$warm"); do
			for c in builtin floor main; do use $c; build w >>"$work/warm.$c" || status=1; done
		done
		printf '\n| warm, median of %s by turns | ms | range |\n|---|---|---|\n' "$warm"
		printf '| built-in cache | %s |\n' "$(median <"$work/warm.builtin")"
		printf '| floor | %s |\n' "$(median <"$work/warm.floor")"
		printf '| gocache | %s |\n\n' "$(median <"$work/warm.main")"
		use main; say; done_with main
		rm -rf "$floor" ;;
	test)
		packages=${MEASURE_GOTEST:?packages to test}
		printf '\n'
		use builtin; go test $packages >"$work/test.1" 2>&1 || true; tested "go test $packages, built-in cache" "$work/test.1"
		use test
		go test $packages >"$work/test.2" 2>&1 || true; tested "gocache, cold" "$work/test.2"
		go test $packages >"$work/test.3" 2>&1 || true; tested "gocache, again" "$work/test.3"
		say; done_with test
		use testkilled
		kill_now_and_then
		go test $packages >"$work/test.4" 2>&1 || true; tested "gocache, cold, daemon killed every 3 s" "$work/test.4"
		kill_no_more
		done_with testkilled ;;
	four)
		head_of "four at once"
		use four
		jobs=
		for i in 1 2 3 4; do row "gocache, cold: $i" "four$i" & jobs="$jobs $!"; done
		wait $jobs
		for i in 1 2 3 4; do [ ! -e "$work/four$i" ] || status=1; done # removed when it was the same
		say; done_with four ;;
	killed)
		head_of "daemon killed every 3 s"
		use killed
		kill_now_and_then
		row "gocache, cold" k; row "gocache, warm" k
		kill_no_more
		done_with killed ;;
	tiny)
		head_of "a store of 20 MiB"
		use tiny 20M
		row "gocache, cold" t
		sleep 5 # the daemon evicts what the first build held
		row "gocache, again" t
		say; done_with tiny ;;
	full)
		head_of "a disk of 60 MiB"
		use full
		mkdir "$work/store.full"
		mount -t tmpfs -o size=60m none "$work/store.full"
		row "gocache, cold" n; row "gocache, again" n
		say; done_with full
		umount "$work/store.full" ;;
	esac
done
exit $status
