// Command gocache is a build cache for the go command with a daemon that keeps
// the index of a size-capped store in memory, shared by any number of go
// commands:
//
//	go install github.com/fastbind/fastbind/examples/gocache
//	export GOCACHEPROG=gocache
//	go build ./...
//	gocache stats
package main

import (
	"os"

	"github.com/fastbind/fastbind/examples/gocache/gocache"
)

func main() {
	os.Exit(gocache.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
}
