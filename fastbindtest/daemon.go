//go:build linux || windows

package fastbindtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// A judge decides a case: for a daemon that was started by its Command, and for
// what a client starts. Where the case does not apply it is nil.
type judge struct {
	daemon func(*world) verdict
	client func(*world) verdict
}

// judges are all, by the names of their cases.
func judges() map[string]judge {
	return map[string]judge{
		"starts":         {daemonStarts, clientStarts},
		"announced":      {daemon: announced},
		"listens-first":  {daemon: listensFirst},
		"queue":          {daemon: queue},
		"crowd":          {client: clientCrowd},
		"callers-pipe":   {client: callersPipe},
		"strays":         {client: strays},
		"deleted-socket": {daemonDeletedSocket, clientDeletedSocket},
		"live-socket":    {daemonLiveSocket, clientLiveSocket},
		"starters":       {daemon: starters},
		"kill9":          {daemonKill9, clientKill9},
		"stale-crowd":    {client: staleCrowd},
		"project":        {client: projectKept},
		"environment":    {client: environmentKept},
		"session":        {client: ownSession},
		"idle-exit":      {daemonIdleExit, clientIdleExit},
		"stop-start":     {daemonStopStart, clientStopStart},
		"graceful-stop":  {daemon: gracefulStop},
		"connected":      {daemon: connected},
		"exit-status":    {daemon: exitStatus},
		"hang-ends":      {client: hangEnds},
		"hang-replaced":  {client: hangReplaced},
		"looks":          {client: looks},
		"others":         {daemonOthers, clientOthers},
		"cloexec":        {daemon: cloexec},
		"grandchild":     {daemon: grandchild},
		"keeps-name":     {daemon: keepsName},
	}
}

func daemonStarts(w *world) verdict {
	d, err := w.launch()
	if err != nil {
		return undecided(err)
	}
	if err = d.bound(); err == nil {
		err = d.serves()
	}
	if err != nil {
		if d.alive() {
			for _, s := range listening(d.processes()) {
				w.note("it listens on %v", s)
			}
		}
		return broken("%v", err)
	}
	for _, p := range d.processes() {
		w.note("%v", p)
	}
	found := listening(d.processes())
	for _, s := range found {
		w.note("listens on %v", s)
	}
	if !w.speaks() {
		w.note("no request is known, so whether it answers was not seen")
	}
	if w.mode == Inherit && !slices.ContainsFunc(found, func(s socket) bool { return s.id == d.handed }) {
		return broken("it does not hold the listener that it was handed")
	}
	return holds
}

// announced: a descriptor that is no listener. A daemon that cannot use what it
// was promised and helps itself would be a second one.
func announced(w *world) verdict {
	o, err := w.falseOffer()
	if err != nil {
		return undecided(err)
	}
	defer o.close()
	d, err := w.spawn(o, nil)
	if err != nil {
		return undecided(err)
	}
	const within = 10 * time.Second
	var found []socket
	err = w.within(within, "it fails", func() bool {
		found = listening(d.processes())
		return !d.alive() || len(found) > 0
	})
	for _, s := range found {
		w.note("listens on %v", s)
	}
	switch {
	case len(found) > 0:
		return broken("%s was announced as a listener and is none; it binds one of its own", o.name)
	case err != nil:
		return broken("%s was announced as a listener and is none; it still lives after %v", o.name, within)
	case d.state.ExitCode() == 0:
		return broken("%s was announced as a listener and is none; it ends with status 0", o.name)
	}
	w.note("%s is no listener: %s", o.name, d.ending())
	return holds
}

// listensFirst takes the best of some starts, so that a busy machine is not
// taken for a slow daemon.
func listensFirst(w *world) verdict {
	const tries = 3
	best := time.Duration(-1)
	for range tries {
		d, err := w.launch()
		if err != nil {
			return undecided(err)
		}
		if err := d.bound(); err != nil {
			return broken("%v", err)
		}
		took := time.Since(d.began)
		w.note("listening %v after exec", took.Round(100*time.Microsecond))
		if best < 0 || took < best {
			best = took
		}
		if best <= w.Target.Limits.BoundWithin {
			return holds
		}
		if err := d.kill9(); err != nil {
			return undecided(err)
		}
		//fastbindvet:ignore unlink the directory is the case's own, and a case is what others do
		w.clear()
	}
	return broken("of %d starts, the fastest was listening %v after exec; its budget is %v", tries, best.Round(time.Millisecond), w.Target.Limits.BoundWithin)
}

func queue(w *world) verdict {
	d, err := w.launch()
	if err != nil {
		return undecided(err)
	}
	if err := d.bound(); err != nil {
		return broken("%v", err)
	}
	const n = 4
	conns, err := w.requests(n)
	if err != nil {
		return broken("connecting while it loads: %v", err)
	}
	connected := time.Since(d.began)
	answered, last := w.answers(conns)
	w.note("%d clients connected within %v of exec, %d were answered, the last %v after exec", n,
		connected.Round(time.Millisecond), answered, time.Since(d.began).Round(time.Millisecond))
	if answered < n {
		return broken("%d of %d who connected while it loads were not served: %v", n-answered, n, last)
	}
	return holds
}

// requests connects n clients and sends their requests.
func (w *world) requests(n int) ([]net.Conn, error) {
	var conns []net.Conn
	for range n {
		c, err := w.dial()
		if err == nil {
			conns = append(conns, c)
			err = w.send(c)
		}
		if err != nil {
			for _, c := range conns {
				_ = c.Close()
			}
			return nil, err
		}
	}
	return conns, nil
}

// answers counts those that are answered, all within one patience, and returns
// the last error.
func (w *world) answers(conns []net.Conn) (n int, last error) {
	end := time.Now().Add(w.patience())
	for _, c := range conns {
		if _, err := w.receive(c, time.Until(end)); err != nil {
			last = err
		} else {
			n++
		}
		_ = c.Close()
	}
	return n, last
}

func daemonDeletedSocket(w *world) verdict {
	first, err := w.up()
	if err != nil {
		return undecided(err)
	}
	//fastbindvet:ignore unlink the directory is the case's own, and a case is what others do
	if err := os.Remove(w.socket()); err != nil {
		return undecided(err)
	}
	second, err := w.launch()
	if err != nil {
		return undecided(err)
	}
	// The first may put the name back: whoever answers will do.
	if err = second.bound(); err == nil {
		_, err = w.ask()
	}
	w.note("the first: %s; the second: %s", first.ending(), second.ending())
	if err != nil {
		return broken("the socket of pid %d was deleted, and the next start does not serve at that path: %v", first.pid, err)
	}
	return holds
}

func daemonLiveSocket(w *world) verdict {
	first, err := w.up()
	if err != nil {
		return undecided(err)
	}
	before := inodeAt(w.socket())
	second, err := w.launch()
	if err != nil {
		return undecided(err)
	}
	// Most end at once; one that stays is watched for a while.
	const watched = 2 * time.Second
	_ = w.within(watched, "the second ends", func() bool {
		return !second.alive() || w.mode == Socket && inodeAt(w.socket()) != before
	})
	w.note("the first: %s; the second: %s", first.ending(), second.ending())
	if after := inodeAt(w.socket()); w.mode == Socket && after != before {
		return broken("a second start replaced the socket of pid %d, which lives (inode %d, then %d)", first.pid, before, after)
	}
	if second.alive() {
		for _, s := range listening(tree(second.pid)) {
			switch {
			case w.mode == Port && strings.HasSuffix(s.addr, ":"+w.port):
				return broken("a second start shares port %s with pid %d, which lives", w.port, first.pid)
			case w.mode == Socket && shared(s, w.socket()):
				return broken("a second start shares %v with pid %d, which lives", s, first.pid)
			}
		}
	}
	if _, err := w.ask(); err != nil {
		return broken("after a second start nobody answers: %v", err)
	}
	if !first.alive() && !first.forked() {
		return broken("a second start ended the first: %s", first.ending())
	}
	return holds
}

// starters: several daemons at the same moment, first over nothing, then over
// what a dead one left.
func starters(w *world) verdict {
	for _, over := range []string{"nothing", "a stale socket"} {
		//fastbindvet:ignore unlink the directory is the case's own, and a case is what others do
		w.clear()
		if over != "nothing" {
			if left, err := w.leave(); err != nil {
				return undecided(err)
			} else if !left {
				continue
			}
		}
		g, err := newGate()
		if err != nil {
			return undecided(err)
		}
		var all []*daemon
		for range w.Target.Limits.Crowd {
			d, err := w.spawn(nil, g)
			if err != nil {
				g.open()
				return undecided(err)
			}
			all = append(all, d)
		}
		g.open()
		owners := func() (list []string) {
			for _, d := range all {
				if d.alive() && len(listening(tree(d.pid))) > 0 {
					list = append(list, fmt.Sprint(d.pid))
				}
			}
			return list
		}
		_ = w.until("one listens", func() bool {
			return len(owners()) > 0 || !slices.ContainsFunc(all, func(d *daemon) bool { return d.alive() })
		})
		settle(w, func() string { return strings.Join(owners(), " ") })
		left := owners()
		for _, r := range w.daemons() {
			left = append(left, fmt.Sprint(r.pid))
		}
		w.note("%d starters over %s, %d left that listen: pid %s", len(all), over, len(left), strings.Join(left, ", "))
		switch {
		case len(left) > 1:
			return broken("of %d starters at once over %s, %d listen; all but one are stranded", len(all), over, len(left))
		case len(left) == 0:
			return broken("of %d starters at once over %s, none listens; one of them: %s", len(all), over, all[0].ending())
		}
		if _, err := w.ask(); err != nil {
			return broken("after %d starters at once over %s nobody answers: %v", len(all), over, err)
		}
		if err := w.family.endAll(); err != nil {
			return undecided(err)
		}
	}
	return holds
}

func daemonKill9(w *world) verdict {
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	if err := d.kill9(); err != nil {
		return undecided(err)
	}
	next, err := w.up()
	if err != nil {
		return broken("after %s of pid %d the next start fails: %v", killWord, d.pid, err)
	}
	w.note("killed pid %d; pid %d serves", d.pid, next.pid)
	return holds
}

// gracefulStop stops the process before clients connect, so that the order to end
// and the queue are there at the same moment. Some rounds of it, because one that
// forgets the queue may still be quick enough to serve it.
func gracefulStop(w *world) verdict {
	const rounds = 3
	for range rounds {
		d, err := w.up()
		if err != nil {
			return undecided(err)
		}
		list := d.processes()
		if err := w.freeze(list); err != nil {
			return undecided(err)
		}
		conns := w.queued(32)
		if len(conns) == 0 {
			return undecided(errors.New("nobody could connect while it was stopped"))
		}
		if err := d.terminate(); err != nil {
			return undecided(err)
		}
		thaw(list)
		answered, last := w.answers(conns)
		w.note("%d requests were in the queue when %s came; %d were answered", len(conns), stopWord, answered)
		if answered < len(conns) {
			return broken("%s with %d requests in the queue: %d were dropped (%v)", stopWord, len(conns), len(conns)-answered, last)
		}
		if err := d.gone(); err != nil {
			return broken("it answered all, and then: %v", err)
		}
	}
	return holds
}

// queued are up to n connections with their requests sent: fewer if the queue is
// full before.
func (w *world) queued(n int) (conns []net.Conn) {
	for range n {
		ctx, cancel := context.WithTimeout(w.ctx, 200*time.Millisecond) // a full queue of TCP does not say so
		c, err := w.dialContext(ctx)
		cancel()
		if err != nil {
			break
		}
		if err := w.send(c); err != nil {
			_ = c.Close()
			break
		}
		conns = append(conns, c)
	}
	return conns
}

// connected: a client that is in the middle of its request when the order to end
// comes.
func connected(w *world) verdict {
	request := w.Target.Request
	if len(request) < 2 {
		return notApplicable("a request of %d bytes has no middle", len(request))
	}
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	c, err := w.dial()
	if err != nil {
		return undecided(err)
	}
	defer c.Close()
	say := func(text string) error {
		_ = c.SetWriteDeadline(time.Now().Add(w.patience()))
		_, err := c.Write([]byte(text))
		return err
	}
	half := len(request) / 2
	if err := say(request[:half]); err != nil {
		return undecided(err)
	}
	// Who came later is answered, so this one has been accepted.
	if _, err := w.ask(); err != nil {
		return undecided(err)
	}
	if err := d.terminate(); err != nil {
		return undecided(err)
	}
	w.sleep(100 * time.Millisecond) // the order is there before the rest of the request
	err = say(request[half:])
	if err == nil {
		_, err = w.receive(c, w.patience())
	}
	w.note("half a request came before %s, the rest after it; the answer: %v", stopWord, err)
	if err != nil {
		return broken("%s in the middle of a request: it was dropped (%v)", stopWord, err)
	}
	_ = c.Close() // who stays connected is not what it is to wait for
	if err := d.gone(); err != nil {
		return broken("it answered, and then: %v", err)
	}
	return holds
}

func exitStatus(w *world) verdict {
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	if d.forked() {
		return notApplicable("it has put itself into the background: its exit status is nobody's")
	}
	if err := d.terminate(); err != nil {
		return undecided(err)
	}
	if err := w.until("it ends", func() bool { return !d.alive() }); err != nil {
		return broken("after %s: %v", stopWord, err)
	}
	w.note("after %s: %s", stopWord, d.ending())
	if d.state.ExitCode() != 0 {
		return broken("after %s: %v", stopWord, d.state)
	}
	return holds
}

func daemonStopStart(w *world) verdict {
	const loops = 5
	for i := range loops {
		d, err := w.up()
		if err != nil {
			if i == 0 {
				return undecided(err)
			}
			return broken("start %d, right after a stop: %v", i+1, err)
		}
		if err := d.terminate(); err != nil {
			return undecided(err)
		}
		if err := d.gone(); err != nil {
			return broken("after %s: %v", stopWord, err)
		}
	}
	w.note("%d starts, each right after the end of the one before", loops)
	return holds
}

// idleCycles is how often a client comes around the time of the idle exit.
const idleCycles = 20

// aroundIdle is the pause before a client: from a little before the idle exit to
// a little after.
func (w *world) aroundIdle(i int) time.Duration {
	const spread = 160 * time.Millisecond
	return max(0, w.Target.IdleExit-spread/4+spread*time.Duration(i%10)/10)
}

func daemonIdleExit(w *world) verdict {
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	starts := 1
	for i := range idleCycles {
		w.sleep(w.aroundIdle(i))
		if w.ctx.Err() != nil {
			return undecided(w.ctx.Err())
		}
		_, err := w.ask()
		if isRefused(err) || errors.Is(err, os.ErrNotExist) {
			// Refused is an honest word: the next is started when this one has gone.
			if err = d.gone(); err == nil {
				d, err = w.up()
				starts++
			}
		}
		if err != nil {
			return broken("client %d, %v after the one before, with an idle exit of %v: %v", i+1, w.aroundIdle(i), w.Target.IdleExit, err)
		}
	}
	w.note("%d clients around the idle exit, %d starts", idleCycles, starts)
	if starts == 1 {
		return notApplicable("it did not end within its idle exit of %v once", w.Target.IdleExit)
	}
	return holds
}

func cloexec(w *world) verdict {
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	var open []string
	held := 0
	see := func() bool {
		open, held = nil, 0
		for _, h := range holdings(d.pid, d.handed) {
			held++
			if h.executed {
				open = append(open, h.name)
			}
		}
		return held > 0 && len(open) == 0
	}
	// Without a request it is not known when it has adopted.
	err = w.within(5*time.Second, "", see)
	w.note("pid %d holds the listener as %d %s(s)", d.pid, held, descriptorWord)
	switch {
	case held == 0:
		return broken("it does not hold the listener any more")
	case err != nil:
		return broken("%s %s, the inherited listener, is %s: all that it executes inherits it", descriptorWord, strings.Join(open, ", "), executedWord)
	}
	return holds
}

func grandchild(w *world) verdict {
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	settle(w, func() int { return len(d.processes()) })
	own := image(d.pid)
	executed := 0
	for _, p := range d.processes() {
		// A worker that was forked and never executed anything has it all by right.
		if p.pid == d.pid || image(p.pid) == own {
			continue
		}
		executed++
		w.note("executed: %v", p)
		for _, h := range holdings(p.pid, d.handed) {
			return broken("%v has the listener as %s %s", p, descriptorWord, h.name)
		}
		for _, v := range environment(p.pid) {
			if name, _, set := strings.Cut(v, "="); set && slices.Contains(announcing, name) {
				return broken("%v sees %s", p, name)
			}
		}
	}
	if executed == 0 {
		return notApplicable("it executed nothing that could be looked at")
	}
	return holds
}

func keepsName(w *world) verdict {
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	before := inodeAt(w.socket())
	named := func(s socket) bool { return s.id == d.handed && s.addr == w.socket() }
	if before == 0 || !slices.ContainsFunc(listening(d.processes()), named) {
		return broken("the name of the inherited socket is gone, or another's, while it serves")
	}
	if err := d.terminate(); err != nil {
		return undecided(err)
	}
	if err := w.until("it ends", func() bool { return !d.alive() }); err != nil {
		return broken("after %s: %v", stopWord, err)
	}
	after := inodeAt(w.socket())
	w.note("%s has inode %d, and after its end %d", filepath.Base(w.socket()), before, after)
	if after != before {
		return broken("at its end it removed the name of the inherited socket: whoever comes next is not queued but refused")
	}
	return holds
}

func daemonOthers(w *world) verdict {
	d, err := w.up()
	if err != nil {
		return undecided(err)
	}
	return w.othersReach(d.processes())
}
