// Command fastbind starts daemons, connects to them and says what is wrong with
// them. See fastbind help.
package main

import (
	"os"

	"github.com/fastbind/fastbind/examples/gocache/gocache"
	"github.com/fastbind/fastbind/internal/cli"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == gocache.Hidden { // fastbind try runs itself as gocache
		os.Exit(gocache.Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(cli.Main(os.Args[1:], os.Environ(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
