// Command fastbind starts daemons, connects to them and says what is wrong with
// them. See fastbind help.
package main

import (
	"os"

	"github.com/fastbind/fastbind/internal/cli"
)

func main() {
	os.Exit(cli.Main(os.Args[1:], os.Environ(), cli.Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
