// Package ahead keeps a process that waits to become a foreign daemon: what package
// launch's trampoline does between fork and exec is done before there is a client who
// waits for it. A broker has one such process, not one for each service.
//
// It is this executable once more, under another name, which it is told from others by
// before main: a program that links this package needs to do nothing for it. When it has
// done what does not depend on what it is to become, umask, signals and limits, it
// stops, in a session of its own, with the null device for its standard files and
// nothing else but its end of a pair of sockets. It ends with the broker.
//
// What it does not do is what a definition's limits need (package limit): those
// daemons are launched by the shell.
//
//	var spare ahead.Spare
//	err := spare.Fill()
//	d, ok := spare.Become(b)
//	resume := spare.Rest() // while this process may become another program
//	spare.Close()
package ahead

import (
	"strconv"
	"strings"
	"sync"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// name is what the process is called while it waits; ps(1) shows it.
const name = "fastbind: waits to become a daemon"

// maxOrder bounds what a process is told, in bytes: a definition's command and
// environment have at most 64 KiB, and a message of a pair of sockets has some 200.
const maxOrder = 128 << 10

// maxFiles bounds the descriptors of a daemon: the standard ones, and its listeners.
const maxFiles = 3 + 1 + definition.MaxEndpoints

// A Spare is the process that waits, if there is one. The zero value has none. It is
// safe for concurrent use.
type Spare struct {
	mu     sync.Mutex
	rests  bool
	closed bool
	spare  *process // nil if none waits
}

// Fill makes a process wait, if none does. It blocks for the time of a fork. It is
// errors.ErrUnsupported where the system has no processes by handle.
func (s *Spare) Fill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed || s.rests || s.spare != nil {
		return nil
	}
	p, err := start()
	if err != nil {
		return err
	}
	s.spare = p
	return nil
}

// Become has the process that waits become the daemon, which is a child of this one.
// Not ok is that none waits yet, that it was killed meanwhile, or that it cannot be told
// that much: the caller launches otherwise. What goes wrong later is seen as the daemon's
// end, with a line in its log.
//
// It blocks until the process does not end with this one any more, 5 ms at least: what
// follows a launch is not what a client waits for, and would take the processor from the
// daemon. If somebody keeps the process from running it is 5 s.
func (s *Spare) Become(b launch.Become) (launch.Became, bool) {
	order := encode(b)
	if len(order) > maxOrder || len(b.Files) > maxFiles {
		return launch.Became{}, false
	}
	p := s.take()
	if p == nil {
		return launch.Became{}, false
	}
	if p.send(order, b.Files) != nil {
		p.end()
		return launch.Became{}, false
	}
	at := proc.BootTime()
	p.settle()
	return launch.Became{PID: p.pid, Pidfd: p.pidfd, At: at}, true
}

// take returns the process if it rests. It is the caller's then, and others launch
// otherwise at once.
func (s *Spare) take() *process {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.spare == nil {
		return nil
	}
	switch s.spare.state() {
	case starting: // it is left for the next one
		return nil
	case dead:
		s.endLocked()
		return nil
	}
	p := s.spare
	s.spare = nil
	return p
}

// Rest ends the process that waits, waits for that, and makes none until resume is
// called. A program that this one executes would not know of it, and the kernel tells it
// nothing if the thread that executes is the one that forked.
func (s *Spare) Rest() (resume func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rests = true
	s.endLocked()
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.rests = false
	}
}

// Close ends the process that waits, and waits for that.
func (s *Spare) Close() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	s.endLocked()
}

func (s *Spare) endLocked() {
	if s.spare != nil {
		s.spare.end()
		s.spare = nil
	}
}

// encode makes an order: strings that are ended by a NUL byte, which none of them can
// have, since each is one of the system's.
func encode(b launch.Become) []byte {
	var lines []string
	for _, l := range b.Lines {
		lines = append(lines, l.Key, l.Value)
	}
	var out []byte
	for _, list := range [][]string{{b.Path, b.Dir, b.Record, strconv.Itoa(len(lines)), strconv.Itoa(len(b.Argv))}, lines, b.Argv, b.Env} {
		for _, s := range list {
			out = append(append(out, s...), 0)
		}
	}
	return out
}

// decode is the inverse of encode; what is no order is not ok.
func decode(order []byte) (b launch.Become, ok bool) {
	text, ended := strings.CutSuffix(string(order), "\x00")
	s := strings.Split(text, "\x00")
	const head = 5
	if !ended || len(s) < head {
		return b, false
	}
	lines, err := strconv.ParseUint(s[head-2], 10, 31)
	args, argsErr := strconv.ParseUint(s[head-1], 10, 31)
	rest := s[head:]
	if err != nil || argsErr != nil || lines%2 != 0 || args == 0 || lines+args > uint64(len(rest)) {
		return b, false
	}
	b = launch.Become{Path: s[0], Dir: s[1], Record: s[2]}
	for ; lines > 0; lines -= 2 {
		b.Lines = append(b.Lines, record.Line{Key: rest[0], Value: rest[1]})
		rest = rest[2:]
	}
	b.Argv, b.Env = rest[:args], rest[args:]
	return b, true
}

// environ is the daemon's environment, with the variables that name its pid.
func environ(env []string, pid int) []string {
	number := strconv.Itoa(pid)
	out := make([]string, 0, len(env)+2)
	for _, e := range env {
		switch name, _, _ := strings.Cut(e, "="); name {
		case handover.Variable:
			e += "\npid=" + number
		case "LISTEN_FDS":
			out = append(out, "LISTEN_PID="+number)
		case "WATCHDOG_USEC":
			out = append(out, "WATCHDOG_PID="+number)
		}
		out = append(out, e)
	}
	return out
}
