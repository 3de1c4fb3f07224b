// Command fastbindvet finds breaches of fastbind's contract in Go daemons, for
// the go command to run:
//
//	go vet -vettool=$(which fastbindvet) ./...
//
// docs/fastbindvet.md has what it checks, why, and how to silence a check.
package main

import (
	"golang.org/x/tools/go/analysis/unitchecker"

	"github.com/fastbind/fastbind/analysis"
)

func main() { unitchecker.Main(analysis.Analyzers...) }
