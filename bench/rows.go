//go:build linux

package main

import (
	"context"
	"regexp"

	"github.com/fastbind/fastbind"
)

// A row is a comparison and its target.
type row struct {
	name, against string
	means         string  // for a user
	spent         string  // what a ratio above the target is spent on
	target        float64 // at most
	measure       func(context.Context, *world, size) (result, error)

	long bool               // takes minutes
	idle func(*idler) *idle // measured beside all others
	best bool               // of what the peers have shown, all of them
}

// judge says whether the target is reached.
func (r row) judge(res result) result {
	res.Row, res.Target = r.name, r.target
	if res.Against == "" {
		res.Against = r.against
	}
	res.Pass = res.Value <= r.target && res.Broken == ""
	return res
}

func (r row) ofPeers() bool { return r.best }

// rows are in the order in which they are measured and printed.
var rows = []row{
	{name: "warm Dial, in process", against: "net.Dial", target: 1.10, measure: warmDial(fastbind.VersionIgnore, unchecked),
		means: "What a tool pays for every connection to a daemon that runs, compared with a bare connect to the same socket.",
		spent: "first of all the two system calls that check who is at the other end, which the next row leaves out; then seeing that the service and the environment are those of the last dial, and the connection's own value, which can say later why no answer came"},
	{name: "warm Dial, in process", against: "net.Dial and the check of who is there, by hand", target: 1.25, measure: warmDial(fastbind.VersionIgnore, checkedByHand),
		means: "The same without what nobody can leave out who connects to a socket that another user could have made.",
		spent: "what is left of the row above"},
	{name: "warm Dial under replace", against: "net.Dial", target: 1.25, measure: warmDial(fastbind.VersionReplace, unchecked),
		means: "The same where the daemon's build is compared with the client's: one readlink more.",
		spent: "that, and one readlink, which is most of it"},
	{name: "warm `fastbind dial`, whole process, one request", against: "minimal client", target: 1.5, measure: warmProcess,
		means: "A script's way to a running daemon, from exec to exit.",
		spent: "starting a larger executable: the command carries its other subcommands, its flags and the conformance kit, and initialises what they need"},
	{name: "warm tool with the SDK, whole process, one request", against: "minimal client", target: 1.5, measure: warmTool,
		means: "The same for a tool that links the SDK: what it adds to a program of a few milliseconds."},
	{name: "cold Dial until connected", against: "os/exec Start of the daemon", target: 1.3, measure: coldConnected,
		means: "How soon the first client may write, with no daemon before. The floor is starting the process alone.",
		spent: "what precedes the fork: checking the directories and the executable, the generation's directory, its record, two sockets with two names each, locks; the floor does none of it, and has no endpoint to connect to"},
	{name: "cold Dial until first reply", against: "bind, spawn, connect by hand", target: 1.15, measure: coldReply,
		means: "What lock, record, journal, log and the checks cost the first client, in process.",
		spent: "the same, and in the daemon adopting the listener, taking over the record, and saying that it is ready"},
	{name: "cold tool, whole process, one request", against: "Go reference by hand", target: 1.15, measure: coldProcess,
		means: "The same as a user sees it: the first command, from exec to exit.",
		spent: "the same; the start-up of both executables, which both sides have, makes it weigh less"},
	{name: "cold tool, whole process, one request", against: "the fastest peer with a daemon of its own", target: 0.7, best: true,
		means: "The first command compared with that of the fastest of the tools below that launch a daemon themselves.",
		spent: "two starts of the Go runtime, which a daemon in C or C++ does not have, and the rows above"},
	{name: "crowd of 100 processes, no daemon", against: "the same, daemon running", target: 1.25, measure: crowd(100),
		means: "A parallel build's first use: until the last is answered. One daemon, nobody fails."},
	{name: "crowd of 1,000 processes, no daemon", against: "the same, daemon running", target: 1.25, measure: crowd(1000),
		means: "The same with more than an accept queue holds."},
	{name: "next tool after kill -9", against: "cold tool", target: 1.1, measure: afterKill,
		means: "What a crashed daemon costs the next command, compared with no daemon."},
	{name: "upgrade: 99.9th percentile of a request loop", against: "no upgrade", target: 2, measure: upgrade,
		means: "The slowest requests while the daemon is replaced by another under load."},
	{name: "memory of a daemon", against: "net.Listen", target: 1.5, measure: memory,
		means: "Resident memory that the SDK adds to a daemon, in MB.",
		spent: "mostly pages of the larger executable, which all processes of it share, the rest a control endpoint and what answers there"},
	{name: "start-up processor time of a tool with the SDK", against: "with package net", target: 0.3, measure: startUp,
		means: "What linking the SDK costs each run of a tool, even one that does not dial, in ms."},
	{name: "executable of a tool with the SDK", against: "with package net", target: 1, measure: binarySize(""),
		means: "What the SDK adds to a tool's file, in MB.",
		spent: "the symbols and debugging information of the embedded broker: without them the next row"},
	{name: "executable of a tool with the SDK, stripped", against: "with package net", target: 1, measure: binarySize("-s -w"),
		means: "The same without symbols and debugging information."},
	{name: "time per client, 100 at once", against: "10 at once", target: 1.2, measure: perClient(100),
		means: "Whether a client of a larger crowd takes longer than its share."},
	{name: "time per client, 1,000 at once", against: "100 at once", target: 1.2, measure: perClient(1000),
		means: "The same, ten times larger."},
	{name: "time per launch, of 100 services", against: "of 10", target: 1.2, measure: perService(100),
		means: "Whether a launch takes longer the more services there are."},
	{name: "time per launch, of 1,000 services", against: "of 100", target: 1.2, measure: perService(1000), long: true,
		means: "The same, ten times more."},
	{name: "wake-ups of an idle daemon", against: "net.Listen", target: 0, idle: func(i *idler) *idle { return &i.daemon },
		means: "How often an idle daemon wakes the processor more than one that only listens: what a laptop's battery sees."},
	{name: "broker: time to hold a service, of 1,000", against: "of 100", target: 1.2, measure: holding(1000, 100),
		means: "Whether a standing broker's start takes longer than its share the more definitions there are."},
	{name: "broker: time to hold a service, of 100", against: "of 10", target: 1.2, measure: holding(100, 10),
		means: "The same with fewer. What a broker does once weighs more on them: less than 1."},
	{name: "broker: memory with 1,000 services held", against: "nothing", target: 20, measure: holdingMemory(1000),
		means: "What a standing broker is resident with when none of them runs, in MB."},
	{name: "broker: wake-ups with 1,000 services held", against: "net.Listen", target: 0, idle: func(i *idler) *idle { return &i.broker },
		means: "How often an idle broker wakes the processor more than a program that only listens."},
	{name: "broker: first byte, plain descriptor", against: "systemd-socket-activate", target: 1.7, measure: activation("{fd}"),
		means: "What a client waits that comes first, from connect to the first byte of a daemon in C.",
		spent: "the system calls below, and that the process made ahead is a Go program, whose other threads the kernel ends in exec. On a virtual machine whose pages the host takes away when they are not used for a while each costs 0.1 ms again, and a broker uses some hundred"},
	{name: "broker: first byte, LISTEN_PID", against: "systemd-socket-activate", target: 2.5, measure: activation(),
		means: "The same of a daemon that insists on LISTEN_PID."},
	{name: "broker: time per service, 100 activated at once", against: "10 at once", target: 1.2, measure: atOnce(100, 10, 1000),
		means: "Whether a service that is activated together with others takes longer than its share. 1,000 are held. Less than 1: the two processors are better used by more."},
	{name: "gocache: go build std, cold", against: "built-in cache", target: 1.15, measure: goBuild(false, 1, "built-in cache"), long: true,
		means: "The cache daemon of docs/gocache.md compared with the go command's own cache."},
	{name: "gocache: go build std, cold", against: "floor", target: 1.25, measure: goBuild(false, 1, "floor"), long: true,
		means: "The same compared with a GOCACHEPROG that answers from memory: what is left when the protocol is paid for."},
	{name: "gocache: go build std, warm", against: "built-in cache", target: 1.15, measure: goBuild(true, 1, "built-in cache"), long: true, spent: spentOnGets,
		means: "The cache daemon of docs/gocache.md compared with the go command's own cache."},
	{name: "gocache: go build std, warm", against: "floor", target: 1.25, measure: goBuild(true, 1, "floor"), long: true, spent: spentOnGets,
		means: "The same compared with a GOCACHEPROG that answers from memory: what is left when the protocol is paid for."},
	{name: "gocache: four go build std at once, cold", against: "built-in cache", target: 1.15, measure: goBuild(false, 4, "built-in cache"), long: true,
		means: "The cache daemon of docs/gocache.md compared with the go command's own cache."},
	{name: "gocache: four go build std at once, cold", against: "floor", target: 1.25, measure: goBuild(false, 4, "floor"), long: true,
		means: "The same compared with a GOCACHEPROG that answers from memory: what is left when the protocol is paid for."},
	{name: "gocache: four go build std at once, warm", against: "built-in cache", target: 1.15, measure: goBuild(true, 4, "built-in cache"), long: true, spent: spentOnGets,
		means: "The cache daemon of docs/gocache.md compared with the go command's own cache."},
	{name: "gocache: four go build std at once, warm", against: "floor", target: 1.25, measure: goBuild(true, 4, "floor"), long: true, spent: spentOnGets,
		means: "The same compared with a GOCACHEPROG that answers from memory: what is left when the protocol is paid for."},
}

const spentOnGets = "what GOCACHEPROG costs whoever answers, and the floor too: another process, requests in JSON, and a collector of the go command's that has more to do. Then for each body a look at the file, and a note that keeps it from being evicted"

func chosen(match *regexp.Regexp, long, peers bool) []row {
	var out []row
	for _, r := range rows {
		if match.MatchString(r.name) && (long || !r.long) && (peers || !r.best) {
			out = append(out, r)
		}
	}
	return out
}
