//go:build linux || windows

package fastbindtest

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

func clientStarts(w *world) verdict {
	r, err := w.client(command{within: 2 * w.patience()})
	if err != nil {
		return broken("%v", err)
	}
	w.note("the first client: %v", r)
	if len(w.settledDaemons()) == 0 {
		for _, p := range w.family.roots(processes()) {
			w.note("left: %v", p)
		}
		return broken("it succeeded, and left nothing running that listens")
	}
	return holds
}

// one wants all clients served and one daemon left.
func (w *world) one(list []ran, when string) verdict {
	wrong := w.served(list)
	// Who lost a race may need a moment to notice and go.
	_ = w.within(goneWithin, "", func() bool { return len(w.daemons()) <= 1 })
	left := w.settledDaemons()
	switch {
	case wrong != "" && len(left) > 1:
		return broken("%s: %s, and %d daemons are left", when, wrong, len(left))
	case wrong != "":
		return broken("%s: %s", when, wrong)
	case len(left) == 0:
		return broken("%s: all succeeded, and none of them has left a daemon", when)
	case len(left) > 1:
		return broken("%s: all succeeded, and %v later %d daemons are left", when, goneWithin, len(left))
	}
	return holds
}

// goneWithin is the time that superfluous daemons have to end by themselves.
const goneWithin = 5 * time.Second

func clientCrowd(w *world) verdict {
	for i := range w.Target.Limits.Rounds {
		round := *w
		round.dir = fmt.Sprintf("%s.%d", w.dir, i)
		if err := round.furnish(); err != nil {
			return undecided(err)
		}
		list, err := round.crowd(w.Target.Limits.Crowd)
		if err != nil {
			return undecided(err)
		}
		v := round.one(list, fmt.Sprintf("%d clients at once, nothing running", len(list)))
		w.seen = round.seen
		if v != holds {
			return v
		}
		if err := w.family.endAll(); err != nil {
			return undecided(err)
		}
	}
	return holds
}

func staleCrowd(w *world) verdict {
	_, left, err := w.cold(command{})
	for range w.Target.Limits.Rounds {
		if err == nil {
			err = w.kill(left)
		}
		if err != nil {
			return undecided(err)
		}
		list, err := w.crowd(w.Target.Limits.Crowd)
		if err != nil {
			return undecided(err)
		}
		if v := w.one(list, fmt.Sprintf("%d clients at once after %s of pid %s", len(list), killWord, pids(left))); v != holds {
			return v
		}
		left = w.daemons()
	}
	return holds
}

// kill kills daemons, not their children, and waits for their end.
func (w *world) kill(list []running) error {
	for _, d := range list {
		if err := w.family.kill(d.pid); err != nil && err != errGone {
			return err
		}
	}
	return w.until("the kernel has ended the daemon", func() bool {
		return !slices.ContainsFunc(list, func(d running) bool { return living(d.pid) })
	})
}

func clientKill9(w *world) verdict {
	_, before, err := w.cold(command{})
	if err != nil {
		return undecided(err)
	}
	if err := w.kill(before); err != nil {
		return undecided(err)
	}
	r, err := w.client(command{within: 2 * w.patience()})
	w.note("after %s of pid %s the next client: %v", killWord, pids(before), r)
	if err != nil {
		return broken("after %s of pid %s the next client fails: %v", killWord, pids(before), err)
	}
	if len(w.settledDaemons()) == 0 {
		return broken("after %s of pid %s the next client leaves nothing running that listens", killWord, pids(before))
	}
	return holds
}

// callersPipe: who reads the client's output waits for its end.
func callersPipe(w *world) verdict {
	return w.pipeEnds("stdout and stderr", func(c *command, writer *os.File) { c.stdout = writer })
}

// strays: a caller that forgot close-on-exec, as shells and make do on purpose, has
// one more pipe.
func strays(w *world) verdict {
	return w.pipeEnds(strayWord, func(c *command, writer *os.File) { c.stray = writer })
}

// pipeEnds runs the first client with a pipe that has to end with it.
func (w *world) pipeEnds(name string, give func(*command, *os.File)) verdict {
	reader, writer, err := os.Pipe()
	if err != nil {
		return undecided(err)
	}
	defer reader.Close()
	c := command{argv: w.Target.Client, within: 2 * w.patience()}
	give(&c, writer)
	b, err := w.begin(c)
	_ = writer.Close()
	if err != nil {
		return undecided(err)
	}
	eof := make(chan struct{})
	go func() {
		_, _ = io.Copy(io.Discard, reader)
		close(eof)
	}()
	if r := w.end(b); r.timedOut || r.status != 0 {
		return undecided(fmt.Errorf("the client %v", r))
	}
	// The client has ended: whoever holds the pipe now keeps it.
	const patience = 3 * time.Second
	select {
	case <-eof:
		w.note("the client ended, and the caller's %s with it", name)
		return holds
	case <-time.After(patience):
	}
	w.noteHolders(reader)
	return broken("%v after the client has ended, its caller's %s, a pipe, is still open: who reads from it waits", patience, name)
}

func clientDeletedSocket(w *world) verdict {
	_, before, err := w.cold(command{})
	if err != nil {
		return undecided(err)
	}
	deleted := 0
	for path := range w.sockets() {
		if os.Remove(path) == nil {
			w.note("deleted %s", path)
			deleted++
		}
	}
	if deleted == 0 {
		return notApplicable("the daemon has no socket in the file system")
	}
	r, err := w.client(command{within: 2 * w.patience()})
	w.note("the next client: %v", r)
	if err != nil {
		return broken("the socket of pid %s was deleted, and the next client fails: %v", pids(before), err)
	}
	w.settledDaemons()
	return holds
}

// sockets are the sockets in the world's directories, with their inodes. The
// kernel's list has the names that they were bound with, not those that they were
// renamed to.
func (w *world) sockets() map[string]uint64 {
	all := map[string]uint64{}
	for path, kind := range names(w.dir) {
		if kind&fs.ModeSocket != 0 {
			all[path] = inodeAt(path)
		}
	}
	return all
}

func clientLiveSocket(w *world) verdict {
	_, before, err := w.cold(command{})
	if err != nil {
		return undecided(err)
	}
	sockets := w.sockets()
	list, err := w.crowd(w.Target.Limits.Crowd)
	if err != nil {
		return undecided(err)
	}
	if wrong := w.served(list); wrong != "" {
		return broken("%d clients at once of a daemon that runs: %s", len(list), wrong)
	}
	after := w.settledDaemons()
	if pids(after) != pids(before) {
		return broken("before %d clients came the daemon was pid %s, after them it is %s", len(list), pids(before), pids(after))
	}
	now := w.sockets()
	for path, inode := range sockets {
		if now[path] != inode {
			return broken("%d clients came, and %s, of the daemon that runs, is another: inode %d, then %d", len(list), path, inode, now[path])
		}
	}
	return holds
}

func projectKept(w *world) verdict {
	_, before, err := w.cold(command{dir: w.project()})
	if err != nil {
		return undecided(err)
	}
	var used string
	// A child that works for a while is not the daemon's fault.
	_ = w.within(goneWithin, "", func() bool {
		used = ""
		for _, d := range before {
			for _, p := range tree(d.pid) {
				if what := w.keeps(p, w.project()); what != "" {
					used = what
				}
			}
		}
		return used == ""
	})
	for _, d := range before {
		w.note("the working directory of pid %d is %s", d.pid, directory(d.pid))
	}
	if used != "" {
		return broken("the first client's directory is %s: it cannot be %s", used, inUseWord)
	}
	if err := removeAll(w.project()); err != nil {
		return broken("the first client's directory cannot be deleted: %v", err)
	}
	if err := w.setup(w.home()); err != nil {
		return undecided(err)
	}
	r, err := w.client(command{dir: w.home()})
	w.note("with that directory deleted, the next client: %v", r)
	if err != nil {
		return broken("the first client's directory was deleted, and the next client fails: %v", err)
	}
	return holds
}

// keeps is what a process has in use of a directory, "" for nothing.
func (w *world) keeps(p process, dir string) string {
	inside := func(path string) bool {
		return path == dir || strings.HasPrefix(path, dir+string(filepath.Separator))
	}
	if inside(directory(p.pid)) {
		return fmt.Sprintf("the working directory of %v", p)
	}
	for _, f := range opened(p.pid) {
		if inside(f.path) {
			return fmt.Sprintf("open as %s of %v", f.name, p)
		}
	}
	return ""
}

func environmentKept(w *world) verdict {
	const name = "CANARY_TOKEN"
	secret := fmt.Sprintf("%x", time.Now().UnixNano())
	_, before, err := w.cold(command{env: []string{name + "=" + secret}})
	if err != nil {
		return undecided(err)
	}
	for _, d := range before {
		for _, p := range d.tree {
			env := environment(p.pid)
			if slices.ContainsFunc(env, func(v string) bool { return strings.Contains(v, secret) }) {
				return broken("%s, which the first client happened to have, is in the environment of %v", name, p)
			}
			w.note("pid %d has %d variables, %s is not among them", p.pid, len(env), name)
		}
	}
	return holds
}

func clientIdleExit(w *world) verdict {
	seen := map[string]bool{}
	pause := time.Duration(0)
	for i := range idleCycles {
		if _, err := w.client(command{}); err != nil {
			if i == 0 {
				return undecided(err)
			}
			return broken("client %d, %v after the one before, with an idle exit of %v: %v", i+1, pause, w.Target.IdleExit, err)
		}
		if now := pids(w.daemons()); now != "" { // it may have gone already
			seen[now] = true
		}
		pause = w.aroundIdle(i)
		w.sleep(pause)
		if w.ctx.Err() != nil {
			return undecided(w.ctx.Err())
		}
	}
	w.note("%d clients around the idle exit, %d daemons seen", idleCycles, len(seen))
	if len(seen) <= 1 {
		return notApplicable("it did not end within its idle exit of %v once", w.Target.IdleExit)
	}
	return holds
}

func clientStopStart(w *world) verdict {
	const loops = 10
	for i := range loops {
		if _, err := w.client(command{within: 2 * w.patience()}); err != nil {
			if i == 0 {
				return undecided(err)
			}
			return broken("client %d, right after a stop, fails: %v", i+1, err)
		}
		if err := w.until("a daemon listens", func() bool { return len(w.daemons()) > 0 }); err != nil {
			return undecided(err)
		}
		before := w.daemons()
		r, err := w.do(command{argv: w.Target.Stop})
		if err != nil {
			return undecided(err)
		}
		for _, d := range before {
			if living(d.pid) {
				w.note("stop %d: %v", i+1, r)
				since := time.Now()
				if err := w.within(5*time.Second, "", func() bool { return !living(d.pid) }); err != nil {
					return broken("stop has returned, and pid %d still lives 5 s later", d.pid)
				}
				return broken("stop has returned, and pid %d still lived: it ended %v later", d.pid, time.Since(since).Round(time.Millisecond))
			}
		}
		if r.timedOut || r.status != 0 {
			return broken("stop %d %v", i+1, r)
		}
	}
	w.note("%d stops, the daemon gone after each, the next client served", loops)
	return holds
}

// A hang is what was seen of a daemon that was stopped (SIGSTOP). Two cases look at it.
type hang struct {
	err      error // that kept it from being tried
	ended    bool  // the first client did
	ends     string
	replaced string // who serves then, "" for nobody
	tried    string
	notes    []string
}

// stopped stops the daemon once for both cases.
func (w *world) stopped() *hang {
	if w.hang == nil {
		w.hang = &hang{}
		w.hang.err = w.tryHang(w.hang)
		w.hang.notes = w.seen
	}
	w.seen = w.hang.notes
	return w.hang
}

func (w *world) tryHang(h *hang) error {
	_, before, err := w.cold(command{})
	if err != nil {
		return err
	}
	var frozen []process
	for _, d := range before {
		frozen = append(frozen, d.tree...)
	}
	if err := w.freeze(frozen); err != nil {
		return err
	}
	w.note("stopped pid %s with %s", pids(before), freezeWord)
	r, err := w.do(command{argv: w.Target.Client, within: w.Target.Limits.HangWithin})
	if err != nil {
		return err
	}
	w.note("the next client: %v", r)
	h.ended, h.ends = !r.timedOut, r.String()
	if !h.ended {
		return nil
	}
	serves := func() string {
		for _, d := range w.daemons() {
			if !slices.ContainsFunc(frozen, func(p process) bool { return p.pid == d.pid }) {
				return d.String()
			}
		}
		return ""
	}
	// Who notices the hang may say so and leave it to the next to be served.
	tries := 1
	for until := time.Now().Add(w.Target.Limits.HangWithin); ; tries++ {
		if r.expected {
			if h.replaced = serves(); h.replaced != "" {
				w.note("after %d clients there is %s", tries, h.replaced)
				return nil
			}
		}
		h.tried = r.String()
		if time.Now().After(until) || w.ctx.Err() != nil {
			w.note("%d clients later the last of them: %v", tries-1, r)
			return nil
		}
		w.sleep(time.Second)
		if r, err = w.do(command{argv: w.Target.Client, within: w.Target.Limits.HangWithin}); err != nil {
			return err
		}
	}
}

func hangEnds(w *world) verdict {
	h := w.stopped()
	switch {
	case h.err != nil:
		return undecided(h.err)
	case !h.ended:
		return broken("the client of a stopped daemon %s", h.ends)
	}
	return holds
}

func hangReplaced(w *world) verdict {
	h := w.stopped()
	switch {
	case h.err != nil:
		return undecided(h.err)
	case !h.ended:
		return notApplicable("no client of a stopped daemon ended, which hang-ends says")
	case h.replaced == "":
		return broken("within %v of the first client's end nothing but the stopped daemon is there, and the last client %s", w.Target.Limits.HangWithin, h.tried)
	}
	return holds
}

// names are all files below a directory, with what they are.
func names(dir string) map[string]fs.FileMode {
	all := map[string]fs.FileMode{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil {
			all[path] = d.Type()
		}
		return nil
	})
	return all
}

func looks(w *world) verdict {
	for _, when := range []string{"nothing runs", "the daemon runs", "the daemon was killed"} {
		var before []running
		if when != "nothing runs" {
			var err error
			if _, before, err = w.cold(command{}); err != nil {
				return undecided(err)
			}
		}
		if when == "the daemon was killed" {
			if err := w.kill(before); err != nil {
				return undecided(err)
			}
		}
		running := pids(w.daemons())
		had := names(w.dir)
		for _, status := range w.Target.Status {
			r, err := w.do(command{argv: status})
			if err != nil {
				return undecided(err)
			}
			text := strings.Join(status[max(0, len(status)-1):], " ")
			w.note("%s, while %s: %v", text, when, r)
			if r.timedOut {
				return broken("%s, while %s, %v", text, when, r)
			}
			settle(w, func() string { return pids(w.daemons()) })
			if now := w.daemons(); pids(now) != running {
				for _, d := range now {
					w.note("%v", d)
				}
				if len(now) > len(before) || running == "" {
					return broken("%s, while %s, started a daemon", text, when)
				}
				return broken("%s, while %s, ended or replaced the daemon: before it was pid %s", text, when, running)
			}
			has := names(w.dir)
			for path := range had {
				if _, still := has[path]; !still {
					return broken("%s, while %s, removed {dir}%s", text, when, strings.TrimPrefix(path, w.dir))
				}
			}
		}
	}
	return holds
}

func clientOthers(w *world) verdict {
	_, before, err := w.cold(command{})
	if err != nil {
		return undecided(err)
	}
	var all []process
	for _, d := range before {
		all = append(all, d.tree...)
	}
	return w.othersReach(all)
}
