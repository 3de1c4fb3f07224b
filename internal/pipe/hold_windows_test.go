package pipe

import (
	"errors"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

func claimHold(t testing.TB, name string) *Hold {
	t.Helper()
	h, err := ClaimHold(name)
	must(t, err)
	t.Cleanup(func() { h.Close() })
	return h
}

// serveHeld is a daemon that inherits what is held, in this process.
func serveHeld(t testing.TB, h *Hold) *Listener {
	t.Helper()
	copies, err := h.Inheritable()
	must(t, err)
	var values []uintptr
	for _, c := range copies.Handles {
		values = append(values, uintptr(c))
	}
	s, err := Adopt(h.Name(), values)
	must(t, err)
	ln, err := s.Listen()
	must(t, err)
	t.Cleanup(func() { ln.Close() })
	h.Lend("a")
	return ln
}

// follow has the hold follow a listener of this process, at once.
func follow(t testing.TB, h *Hold, ln *Listener) {
	t.Helper()
	anew := true
	must(t, ln.Tell(func(made, taken []uintptr) error {
		h.Follow("a", windows.CurrentProcess(), anew, made, taken)
		anew = false
		return nil
	}))
}

// TestHoldWatches: the first who waits is told of, once, also one who came before.
func TestHoldWatches(t *testing.T) {
	name := newName()
	h := claimHold(t, name)
	told := make(chan struct{}, Queue)
	watch := func() { must(t, h.Watch(func() { told <- struct{}{} })) }
	await := func() {
		t.Helper()
		select {
		case <-told:
		case <-patient(t).Done():
			t.Fatal("nobody is told of")
		}
	}
	watch()
	if h.Waits() || h.Waiting() != 0 {
		t.Error("somebody waits")
	}
	const some = Queue / 2
	for range some {
		dial(t, name)
	}
	await()
	if !h.Waits() || h.Waiting() != some {
		t.Errorf("%d wait, %v", h.Waiting(), h.Waits())
	}
	watch()
	await()
	h.Unwatch()
	wantFree(t, name, Queue-some)
	watch()
	await()
	select {
	case <-told:
		t.Error("told twice")
	case <-time.After(50 * time.Millisecond): // it is not
	}
	// While it is lent nothing is told, and then what has come meanwhile.
	h.Lend("a")
	watch()
	select {
	case <-told:
		t.Error("told of another one's client")
	case <-time.After(50 * time.Millisecond): // it is not
	}
	h.Return("a")
	await()
}

// TestHoldOutlives: of the instances that a daemon serves each is either its client's or
// kept. Whom it has taken sees the end that it makes; whom it has not the next one serves,
// with what was written before.
func TestHoldOutlives(t *testing.T) {
	name := newName()
	h := claimHold(t, name)
	queued := dial(t, name) // before anybody serves
	send(t, queued, "0")
	for generation := range 4 {
		ln := serveHeld(t, h)
		follow(t, h, ln)
		c := accept(t, ln)
		wantRead(t, c, strconv.Itoa(generation))
		// Many more than there are instances come and go.
		for i := range 3 * Queue {
			client := dial(t, name)
			send(t, client, "x")
			served := accept(t, ln)
			wantRead(t, served, "x")
			must(t, served.Close())
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Fatalf("client %d: the end of a connection is %v", i, err)
			}
			must(t, client.Close())
		}
		next := dial(t, name)
		send(t, next, strconv.Itoa(generation+1))
		if _, err := h.Inheritable(); !errors.Is(err, errLent) {
			t.Errorf("lent, and given to another: %v", err)
		}
		must(t, ln.Close()) // as the end of its process does
		must(t, c.Close())
		if _, err := queued.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("whom it had taken: %v", err)
		}
		h.Return("a")
		if h.Waiting() != 1 {
			t.Errorf("generation %d leaves %d who wait", generation, h.Waiting())
		}
		queued = next
	}
}

// TestHoldUnderLoad: the listener is closed amid clients, and another takes its place, again
// and again. Nobody is refused, and what one has taken another is never handed.
func TestHoldUnderLoad(t *testing.T) {
	name := newName()
	h := claimHold(t, name)
	ctx := patient(t)
	var clients sync.WaitGroup
	stop := make(chan struct{})
	for range 8 {
		clients.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
				}
				c, err := Dial(ctx, name)
				select {
				case <-stop: // nobody is there any more, perhaps
					if err == nil {
						_ = c.Close()
					}
					return
				default:
				}
				if err != nil {
					t.Errorf("refused: %v", err)
					return
				}
				_ = c.SetDeadline(time.Now().Add(patience))
				_, err = io.WriteString(c, "a")
				b := make([]byte, 1)
				if err == nil {
					_, err = c.Read(b)
				}
				_ = c.Close()
				if err == nil && b[0] != 'b' {
					t.Errorf("answered %q", b)
				}
			}
		})
	}
	for range 10 {
		ln := serveHeld(t, h)
		follow(t, h, ln)
		for range 30 {
			must(t, ln.SetDeadline(time.Now().Add(patience)))
			c, err := ln.AcceptPipe()
			must(t, err)
			_ = c.SetDeadline(time.Now().Add(patience))
			b := make([]byte, 1)
			if _, err := c.Read(b); err != nil || b[0] != 'a' {
				t.Errorf("the first byte of a client is %q, %v", b, err)
			}
			_, _ = c.Write([]byte("b"))
			_ = c.Close()
		}
		must(t, ln.Close())
		h.Return("a")
	}
	close(stop)
	must(t, h.Close()) // who waits has its end
	clients.Wait()
}

// TestHoldLoses: a daemon that tells nobody has everything for itself.
func TestHoldLoses(t *testing.T) {
	name := newName()
	h := claimHold(t, name)
	ln := serveHeld(t, h)
	client := dial(t, name)
	h.Drop("b") // of another
	h.Return("b")
	if !h.Lent() || !h.Waits() {
		t.Error("another one has returned it")
	}
	h.Drop("a")
	c := accept(t, ln)
	must(t, c.Close())
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("its end is %v", err)
	}
	must(t, ln.Close())
	h.Return("a")
	must(t, h.Watch(func() {})) // has a queue again
	wantFree(t, name, Queue)
}

// TestHoldShares: it is given up with the last.
func TestHoldShares(t *testing.T) {
	name := newName()
	h := claimHold(t, name)
	again, err := h.Copy()
	must(t, err)
	must(t, h.Close())
	client := dial(t, name)
	must(t, again.Close())
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("its end is %v", err)
	}
	if err := h.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("closed once more: %v", err)
	}
	if _, err := h.Copy(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("copied: %v", err)
	}
	for what, err := range map[string]error{"watched": h.Watch(func() {})} {
		if !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s: %v", what, err)
		}
	}
	h.Follow("a", windows.CurrentProcess(), true, nil, nil)
	if _, err := Connect(name); !isNotExist(err) {
		t.Errorf("the name is there: %v", err)
	}
}

// TestAwait: nobody is taken before somebody is told, or the wait is given up, which is said
// before.
func TestAwait(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	dial(t, name)
	untold := 0
	ln.Await(func() { untold++ })
	refused := func() {
		t.Helper()
		must(t, ln.SetDeadline(time.Now().Add(50*time.Millisecond)))
		if c, err := ln.AcceptPipe(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatalf("taken: %v, %v", c, err)
		}
	}
	refused()
	var all, gone []uintptr
	fails := errors.New("it does not hear")
	if err := ln.Tell(func([]uintptr, []uintptr) error { return fails }); !errors.Is(err, fails) {
		t.Errorf("told: %v", err)
	}
	refused()
	heard := true
	must(t, ln.Tell(func(made, taken []uintptr) error {
		all, gone = append(all, made...), append(gone, taken...)
		if !heard {
			return fails
		}
		return nil
	}))
	first := accept(t, ln)
	if len(all) != 3 || len(gone) != 1 || !slices.Contains(all[:2], gone[0]) || untold != 0 {
		t.Errorf("made %d, taken %d, untold %d", all, gone, untold)
	}
	must(t, first.Close())
	// Who does not hear once is told nothing more.
	heard = false
	dial(t, name)
	accept(t, ln)
	n := len(gone)
	dial(t, name)
	accept(t, ln)
	if len(gone) != n {
		t.Error("told after an error")
	}
	ln.Await(func() { untold++ })
	dial(t, name)
	refused()
	ln.StopAwaiting()
	ln.StopAwaiting()
	accept(t, ln)
	if untold != 1 {
		t.Errorf("%d times untold", untold)
	}
}

// TestAwaitShut: whoever is taken by a Shut is too.
func TestAwaitShut(t *testing.T) {
	name := newName()
	ln := listenOn(t, name, 2)
	dial(t, name)
	untold := 0
	ln.Await(func() { untold++ })
	must(t, ln.Shut())
	if untold != 1 {
		t.Errorf("%d times untold", untold)
	}
	accept(t, ln)
}
