//go:build linux

package broker

import (
	"context"
	"errors"
	"os"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastbind/fastbind/internal/broker/supervise"
)

// TestWorkersRest: nothing begins during a rest, which begins when nothing is under way,
// and everything is done after it. One that does not come changes nothing.
func TestWorkersRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w workers
		var under sync.WaitGroup
		var mu sync.Mutex
		begun, gate := 0, make(chan struct{})
		work := func() {
			mu.Lock()
			begun++
			mu.Unlock()
			<-gate
		}
		for range maxEffects + 2 {
			w.do(&under, work)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := w.rest(ctx, &under); !errors.Is(err, context.DeadlineExceeded) {
			t.Fatal(err)
		}
		rested := make(chan error)
		go func() { rested <- w.rest(t.Context(), &under) }()
		synctest.Wait()
		for range maxEffects {
			select {
			case err := <-rested:
				t.Fatalf("it rests with work under way: %v", err)
			default:
			}
			gate <- struct{}{}
			synctest.Wait()
		}
		if err := <-rested; err != nil {
			t.Fatal(err)
		}
		w.do(&under, work)
		synctest.Wait()
		if begun != maxEffects {
			t.Fatalf("%d have begun, want %d", begun, maxEffects)
		}
		w.work(&under)
		for range 3 {
			gate <- struct{}{}
		}
		synctest.Wait()
		if begun != maxEffects+3 || w.busy != 0 || w.queue != nil {
			t.Errorf("%d have begun, %d are busy, %d wait", begun, w.busy, len(w.queue))
		}
		if err := w.rest(t.Context(), &under); err != nil { // of nobody
			t.Error(err)
		}
		w.work(&under)
		w.end()
		under.Wait()
	})
}

// TestRest: what a broker passes on, and that it goes on as if nothing had been if that
// comes to nothing.
func TestRest(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("sdk"), w.foreign("plain"), w.foreign("idle"))
	for _, name := range []string{"sdk", "plain"} {
		if a, err := w.broker.Request(t.Context(), name, supervise.VerbReady); err != nil || !a.Done {
			t.Fatal(name, a, err)
		}
	}
	failed := errors.New("failed")
	for range 3 {
		var files []*os.File
		err := w.broker.Rest(t.Context(), func(all map[string]Left) error {
			for name, runs := range map[string]int{"sdk": 1, "plain": 1, "idle": 0} {
				l := all[name]
				if !l.Same || l.File == nil || l.Inode.IsZero() || len(l.Runs) != runs || l.Leaving || l.Owed || (l.Run.Number != 0) != (runs > 0) ||
					l.Run.Ready != (runs > 0) || l.Run.Backend != (name == "sdk") {
					t.Errorf("%s: %+v", name, l)
				}
				for _, f := range l.Files() {
					if *f != nil {
						files = append(files, *f)
					}
				}
			}
			return failed
		})
		if !errors.Is(err, failed) {
			t.Fatal(err)
		}
		for _, f := range files {
			if _, err := f.Stat(); !errors.Is(err, os.ErrClosed) {
				t.Errorf("%s: %v", f.Name(), err)
			}
		}
	}
	for _, name := range []string{"sdk", "plain", "idle"} {
		if a, err := w.broker.Request(t.Context(), name, supervise.VerbReady); err != nil || !a.Done {
			t.Error(name, a, err)
		}
	}

	// Who is busy says with whom.
	gate, begun := make(chan struct{}), make(chan struct{})
	w.broker.workers.do(&w.broker.under, func() { close(begun); <-gate })
	<-begun
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if a, err := w.broker.Request(t.Context(), "plain", supervise.VerbStop); err != nil || !a.Done {
		t.Fatal(a, err)
	}
	err := w.broker.Rest(ctx, func(map[string]Left) error { t.Error("it rests"); return nil })
	if !errors.Is(err, ErrBusy) || !strings.HasPrefix(err.Error(), ErrBusy.Error()+" (") {
		t.Error(err)
	}
	close(gate)
	if a, err := w.broker.Request(t.Context(), "plain", supervise.VerbReady); err != nil || !a.Done {
		t.Error(a, err)
	}
	w.stop()
	if err := w.broker.Rest(t.Context(), nil); !errors.Is(err, ErrEnded) {
		t.Error(err)
	}
}
