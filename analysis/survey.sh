#!/usr/bin/env bash
# Runs fastbindvet over well-known daemons written in Go and prints what it says
# of each. They do not use fastbind, so what can be found is a socket that is
# removed by hand. docs/fastbindvet.md says which findings are true.
#
#   analysis/survey.sh [MODULE…]    all, or those whose names contain an argument
#
# The modules come from the Go module proxy in the versions below, into a
# temporary directory ($SURVEY_DIR to keep it) and the module cache. Tests are
# left out: they are no daemons, and need more modules. The first time most take
# minutes, since go vet compiles all that they import.
set -uo pipefail
cd "$(dirname "$0")"

# MODULE VERSION [PACKAGES [TAGS]]; a directory to be made for go:embed after "+"
modules='
github.com/axllent/mailpit                       v1.33.1
github.com/caddyserver/caddy/v2                  v2.11.9
github.com/containerd/nydus-snapshotter          v0.16.1
github.com/containerd/stargz-snapshotter         v0.19.1
github.com/containernetworking/plugins           v1.10.0
github.com/containers/gvisor-tap-vsock           v0.8.9
github.com/distribution/distribution/v3          v3.1.2
github.com/go-delve/delve                        v1.27.2
github.com/hashicorp/serf                        v0.11.0
github.com/nats-io/nats-server/v2                v2.15.3
github.com/oauth2-proxy/oauth2-proxy/v7          v7.15.6
github.com/osrg/gobgp/v4                         v4.8.0
github.com/prometheus/alertmanager               v0.35.0       ./...         -    +ui/app/dist
github.com/prometheus/node_exporter              v1.12.1
github.com/prometheus/statsd_exporter            v0.31.0
github.com/syncthing/syncthing                   v1.30.0       ./...         noassets
github.com/xtls/xray-core                        v1.260327.0
github.com/yggdrasil-network/yggdrasil-go        v0.5.14       ./src/...
go.etcd.io/etcd/server/v3                        v3.7.3
golang.org/x/tools/gopls                         v0.23.0
miniflux.app/v2                                  v2.3.5
'

dir=${SURVEY_DIR:-}
if [ -z "$dir" ]; then
	dir=$(mktemp -d)
	trap 'rm -rf "$dir"' EXIT
fi
mkdir -p "$dir"
nice -n 15 go build -o "$dir/fastbindvet" ./cmd/fastbindvet || exit 1
export GOFLAGS='-mod=mod -buildvcs=false' CGO_ENABLED=0 GOWORK=off

survey() {
	local module=$1 version=$2 packages=${3:-./...} tags=${4:--} embed=${5:-}
	local from src=$dir/${module//\//_}@$version
	if ! [ -d "$src" ]; then
		from=$(cd "$dir" && go mod download -json "$module@$version" | sed -n 's/^\t"Dir": "\(.*\)",$/\1/p')
		[ -n "$from" ] || { echo "$module $version: not available"; return; }
		cp -r "$from" "$src" && chmod -R u+w "$src"
		find "$src" -name '*_test.go' -delete
		sed -i '/=> \.\.*\//d' "$src/go.mod" # of the repository, not in the module
		[ -z "$embed" ] || { mkdir -p "$src/${embed#+}" && touch "$src/${embed#+}/empty"; }
	fi
	[ "$tags" != - ] || tags=
	local out
	out=$(cd "$src" && nice -n 15 go vet -tags="$tags" -vettool="$dir/fastbindvet" "$packages" 2>&1 | grep -v -e '^go: ' -e '^#')
	local found
	found=$(grep -c -E '\.go:[0-9]+:[0-9]+: (the path|Bind|Serve|ReadyLater|init|this silences|[[:alnum:].]+ (touches|uses|waits|starts))' <<<"$out")
	printf '%s %s: %d packages, %d findings\n' "$module" "$version" "$(cd "$src" && go list -tags="$tags" "$packages" 2>/dev/null | wc -l)" "$found"
	[ -z "$out" ] || sed 's/^/    /' <<<"$out"
}

while read -r module rest; do
	[ -n "$module" ] || continue
	wanted=$#
	for arg in "$@"; do [[ $module == *$arg* ]] && wanted=0; done
	# shellcheck disable=SC2086
	[ "$wanted" -gt 0 ] || survey "$module" $rest
done <<<"$modules"
