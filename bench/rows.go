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
	target        float64 // at most
	long          bool    // takes minutes
	measure       func(context.Context, *world, size) (result, error)
}

// rows are in the order in which they are measured and printed. The one without a
// function of its own runs beside all others.
var rows = []row{
	{"warm Dial, in process", "net.Dial", 1.10, false, warmDial(fastbind.VersionIgnore)},
	{"warm Dial under replace", "net.Dial", 1.25, false, warmDial(fastbind.VersionReplace)},
	{"warm `fastbind dial`, whole process, one request", "minimal client", 1.5, false, warmProcess},
	{"warm tool with the SDK, whole process, one request", "minimal client", 1.5, false, warmTool},
	{"cold Dial until connected", "os/exec Start of the daemon", 1.3, false, coldConnected},
	{"cold Dial until first reply", "bind, spawn, connect by hand", 1.15, false, coldReply},
	{"cold tool, whole process, one request", "Go reference by hand", 1.15, false, coldProcess},
	{"crowd of 100 processes, no daemon", "the same, daemon running", 1.25, false, crowd(100)},
	{"crowd of 1,000 processes, no daemon", "the same, daemon running", 1.25, false, crowd(1000)},
	{"next tool after kill -9", "cold tool", 1.1, false, afterKill},
	{"upgrade: 99.9th percentile of a request loop", "no upgrade", 2, false, upgrade},
	{"memory of a daemon", "net.Listen", 1.5, false, memory},
	{"start-up processor time of a tool with the SDK", "with package net", 0.3, false, startUp},
	{"executable of a tool with the SDK", "with package net", 1, false, binarySize("")},
	{"executable of a tool with the SDK, stripped", "with package net", 1, false, binarySize("-s -w")},
	{"time per client, 100 at once", "10 at once", 1.2, false, perClient(100)},
	{"time per client, 1,000 at once", "100 at once", 1.2, false, perClient(1000)},
	{"time per launch, of 100 services", "of 10", 1.2, false, perService(100)},
	{"time per launch, of 1,000 services", "of 100", 1.2, true, perService(1000)},
	{"wake-ups of an idle daemon", "net.Listen", 0, false, nil},
	{"gocache: go build std, cold", "built-in cache", 1.15, true, goBuild(false, 1, builtin)},
	{"gocache: go build std, cold", "floor", 1.25, true, goBuild(false, 1, floor)},
	{"gocache: go build std, warm", "built-in cache", 1.15, true, goBuild(true, 1, builtin)},
	{"gocache: go build std, warm", "floor", 1.25, true, goBuild(true, 1, floor)},
	{"gocache: four go build std at once, cold", "built-in cache", 1.15, true, goBuild(false, 4, builtin)},
	{"gocache: four go build std at once, cold", "floor", 1.25, true, goBuild(false, 4, floor)},
	{"gocache: four go build std at once, warm", "built-in cache", 1.15, true, goBuild(true, 4, builtin)},
	{"gocache: four go build std at once, warm", "floor", 1.25, true, goBuild(true, 4, floor)},
}

func chosen(match *regexp.Regexp, long bool) []row {
	var out []row
	for _, r := range rows {
		if match.MatchString(r.name) && (long || !r.long) {
			out = append(out, r)
		}
	}
	return out
}
