package daemon

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/fastbind/fastbind/internal/dirwatch"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/generation"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
)

// A drain is what Serve's context carries for ConnContext.
type drain struct {
	serving <-chan struct{} // Done of Serve's context: a stop was asked for
	hard    context.Context // the bound of the drain is over
}

type drainKey struct{}

// serve runs the backend until it is stopped or stranded and drains it.
//
// A drain has an order. First nobody new is let in and what the kernel queued is
// handed out; then Serve's context ends; then Serve and the connections it
// accepted have the rest of the bound; then the process ends whatever is open.
func (st *stand) serve(ctx context.Context, p program, ln *listener, state any, stranded <-chan struct{}) error {
	hard, cutOff := context.WithCancel(context.Background())
	defer cutOff()
	// Not a child of ctx: a stop ends it only after the queue was handed out.
	stopping, finish := context.WithCancel(context.WithoutCancel(ctx))
	defer finish()
	serving := context.WithValue(stopping, drainKey{}, drain{stopping.Done(), hard})

	served := make(chan error, 1)
	go func() {
		served <- guard(launch.StageServe, func() error { return p.serve(serving, ln, state) })
	}()

	var noting sync.WaitGroup
	defer noting.Wait()
	unwatched := make(chan struct{})
	defer close(unwatched)
	for ending := false; !ending; {
		why := generation.EndAsked
		st.ended = ""
		select {
		case err := <-served:
			return early(err)
		case <-ctx.Done():
		case <-stranded:
			why = generation.EndStranded
		case <-st.inst.giver.taken:
		case st.ended = <-st.inst.need.await(unwatched):
			why = generation.EndItself
		}
		ending = st.inst.giver.ends(why, func() { st.inst.enter(record.Draining) })
	}
	asked := ctx // whose end begins the bound of the drain
	if st.ended == generation.EndedLeases {
		// Whoever is connected still is not who it was kept for. Of an idle
		// one nobody is: who slipped in is served to the end.
		done, end := context.WithCancel(ctx)
		end()
		asked = done
	}
	handedOn, replaced := st.inst.giver.drain()
	if handedOn && replaced {
		st.ended = endedReplaced
		done, end := context.WithCancel(ctx)
		end()
		asked = done
	}
	// A queue that has moved on is its new owner's. A broker's always has.
	queue := !handedOn || replaced && !endpoint.QueueMoves
	switch {
	case queue:
		if st.refuseNew(ln) && endpoint.BusyWhenShut {
			noting.Go(func() { st.noteShut(unwatched) })
		}
	case replaced:
		ln.handOn()
	default:
		ln.handOn()
		_ = ln.Close() // the broker's copy alone decides what becomes of the queue
	}
	bound, stop := drainBound(asked, st.within)
	defer stop()
	if queue {
		if err, ok := st.handOut(ln, served, bound); ok {
			served <- err
		}
	}
	finish()
	var err error
	select {
	case err = <-served:
	case <-bound:
		return nil // its time is up; the process ends
	}
	if err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, context.Canceled) {
		return err
	}
	select {
	case <-ln.idle():
	case <-bound:
	}
	return nil
}

// handOut waits until Serve has accepted what was queued. A Serve that takes one
// connection after the other has all the time there is; one that has stopped
// accepting gets its context ended. It returns what Serve returned, if it did.
func (st *stand) handOut(ln *listener, served <-chan error, bound <-chan struct{}) (error, bool) {
	t := time.NewTimer(acceptWithin)
	defer t.Stop()
	for {
		select {
		case <-ln.drained:
			return nil, false
		case err := <-served:
			return err, true // at the end of Accept, before its context ended
		case <-ln.asked:
			t.Reset(acceptWithin)
		case <-t.C:
			return nil, false
		case <-bound:
			return nil, false
		}
	}
}

// acceptWithin bounds the time between two Accepts of a Serve in a drain.
const acceptWithin = 2 * time.Second

var errEarly = errors.New("Serve returned although nobody asked it to stop")

// early is the failure of a Serve that returned on its own.
func early(err error) error {
	if err == nil {
		err = &stageError{launch.StageServe, errEarly}
	}
	return err
}

// drainBound returns a channel that closes within after ctx has ended. A
// stranded daemon, which nobody waits for, serves its connections to their end.
func drainBound(ctx context.Context, within time.Duration) (<-chan struct{}, func()) {
	bound := make(chan struct{})
	done := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		select {
		case <-ctx.Done():
		case <-done:
			return
		}
		t := time.NewTimer(within)
		defer t.Stop()
		select {
		case <-t.C:
			close(bound)
		case <-done:
		}
	}()
	return bound, func() { close(done); <-stopped }
}

// refuseNew lets nobody new in, and reports whether the kernel sees to that. Where it
// cannot refuse newcomers and keep its queue, the names are removed instead, under the
// launch lock, and who had connected by then is served.
func (st *stand) refuseNew(ln *listener) bool {
	if ln.refuse() == nil {
		return true
	}
	if st.handover != nil && st.handover.Dir != "" {
		launch.RemoveNames(st.handover.Dir, st.handover.Inode)
	}
	time.AfterFunc(lingerAfterUnlink, ln.drain)
	return false
}

// noteShut notes on record that nobody is let in any more. Where that looks like a queue
// that is full nothing else tells a dial to launch the next daemon, so that a record
// which cannot be written is tried again until stop is closed.
func (st *stand) noteShut(stop <-chan struct{}) {
	err := st.inst.append(record.ShutLine())
	for ; err != nil; err = record.Append(filepath.Join(st.inst.dir, record.FileName), record.ShutLine()) {
		select {
		case <-stop:
			return
		case <-time.After(noteAgain):
		}
	}
}

// noteAgain is how soon: dials wait for it.
const noteAgain = 50 * time.Millisecond

// lingerAfterUnlink is how long a connect that began before the name was gone
// may take to reach the queue.
const lingerAfterUnlink = 100 * time.Millisecond

// watchNames tells when neither of the endpoint's names is this daemon's
// listener any more: nobody can reach it again, another one takes its place. So it
// does when the generation's directory was deleted: nobody could find, ask or stop
// the daemon.
func (st *stand) watchNames() (<-chan struct{}, func()) {
	stranded := make(chan struct{})
	if st.handover == nil || st.handover.Dir == "" || !known(st.handover.Inode) {
		return stranded, func() {}
	}
	dir := st.handover.Dir
	// A deleted directory that somebody holds open is reported to the watchers
	// of its parent only, so the parents are watched up to the root's own.
	instance := filepath.Dir(dir)
	root := filepath.Dir(instance)
	w, every := watchWhatCanBe(dir, st.handover.GenPath(), instance, root, filepath.Dir(root))
	stop := make(chan struct{})
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		// Whoever removes one name may be about to remove all: what a cleaner
		// took is put back only after it has been quiet for a while.
		quiet := time.NewTimer(healAfter)
		defer quiet.Stop()
		var tick <-chan time.Time
		if every > 0 {
			t := time.NewTicker(every)
			defer t.Stop()
			tick = t.C
		}
		for st.named() && st.found() {
			select {
			case <-w.C():
				quiet.Reset(healAfter)
			case <-tick:
			case <-quiet.C:
				st.inst.heal()
			case <-stop:
				return
			}
		}
		close(stranded)
	}()
	return stranded, func() {
		close(stop)
		<-stopped
		w.Close()
	}
}

// watchWhatCanBe watches the directories, the most telling first. Where one of
// them cannot be watched, being deleted or another user's, the names are looked
// at regularly too.
func watchWhatCanBe(dirs ...string) (*dirwatch.Watcher, time.Duration) {
	w, err := dirwatch.Open(dirs...)
	if err == nil {
		return w, 0
	}
	var can []string
	for _, d := range dirs {
		if one, err := dirwatch.Open(d); err == nil {
			one.Close()
			can = append(can, d)
		}
	}
	if w, err = dirwatch.Open(can...); err != nil {
		w, _ = dirwatch.Open() // of nothing: it never wakes
	}
	return w, lookEvery
}

// lookEvery bounds how long a stranded daemon that sees no events lives on.
const lookEvery = time.Second

// healAfter is how long a directory must have been quiet.
const healAfter = 500 * time.Millisecond

// found reports whether the generation's directory is there.
func (st *stand) found() bool {
	_, err := os.Lstat(st.handover.GenPath())
	return !errors.Is(err, os.ErrNotExist)
}

// named reports whether a name leads to this daemon's listener.
func (st *stand) named() bool { return launch.IsNamed(st.handover.Dir, st.handover.Inode) }
