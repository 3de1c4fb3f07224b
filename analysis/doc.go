// Package analysis finds breaches of fastbind's contract in the source of
// daemons. The order is bind, load, serve: a client is connected before the
// daemon has loaded a byte of state. The type of daemon.Backend keeps most of
// what would break that from compiling; these analyzers look for the rest.
//
//	bind       state or I/O that Bind reaches
//	beforerun  work before daemon.Run, in main or in package initialisation
//	unlink     a listener's path removed by hand
//	ready      ReadyLater without Ready
//	serve      a Serve that a stop does not end
//	ignore     fastbindvet:ignore comments that say nothing
//
// What they guarantee: each diagnostic has the chain of calls that leads to the
// fault, across the packages of the module. What they do not: calls through
// interfaces and functions are followed where what is called can be told from
// the caller's arguments, from a literal or from a package variable's or
// field's only values; a call that cannot be resolved is taken for harmless.
// Other modules' functions are known by name, see std.go, and not looked into.
//
// The usual call is the command's:
//
//	unitchecker.Main(analysis.Analyzers...)
package analysis

import "golang.org/x/tools/go/analysis"

// Analyzers are the checks, for a driver such as unitchecker.
var Analyzers = []*analysis.Analyzer{Bind, BeforeRun, Unlink, Ready, Serve, Ignore}

// Where the SDK is.
const (
	sdkPath    = "github.com/fastbind/fastbind"
	daemonPath = sdkPath + "/daemon"
	docURL     = "https://github.com/fastbind/fastbind/blob/main/docs/fastbindvet.md#"
)
