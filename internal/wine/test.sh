#!/usr/bin/env bash
# Prepares Wine, if it is not there yet, and runs the tests of this module for
# GOOS=windows under it. Arguments go to go test:
#
#   internal/wine/test.sh -v -run TestLife ./e2e
#
# Without a package among them it runs all that there is to run.
set -euo pipefail
cd "$(dirname "$0")/../.."

packages=(. ./daemon ./e2e ./examples/... ./fastbindtest
	./internal/{cli,control,definition,detach,endpoint,environ,generation,handover,journal,jsonlite,launch,lock}
	./internal/{owner,pipe,proc,record,runtimedir,sharing,varlink,version,waitable} ./internal/broker/{poller,supervise})
for arg in "$@"; do
	case $arg in . | ./*) packages=() ;; esac
done
internal/wine/setup.sh
# There is no go command in Wine: what the tests judge and run is built here.
FASTBINDTEST_BUILT=$(mktemp -d)
export FASTBINDTEST_BUILT
trap 'rm -r "$FASTBINDTEST_BUILT"' EXIT
GOOS=windows go build -o "$FASTBINDTEST_BUILT/" ./cmd/fastbind ./examples/greeter ./examples/gocache ./fastbindtest/internal/broken
# Each program is a world of processes of its own; more at once only make times longer.
GOOS=windows go test -p 1 -exec "$PWD/internal/wine/exec" "$@" "${packages[@]}"
