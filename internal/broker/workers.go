package broker

import (
	"context"
	"runtime"
	"sync"
)

// workers do what takes a while apart from the loop, so many at once. What is more
// waits for its turn without a goroutine of its own: a broker begins to hold all of
// its services at the same moment. The zero value is usable, and safe for concurrent
// use.
type workers struct {
	mu    sync.Mutex
	busy  int
	queue []func()
	rests bool
	over  bool
	still chan struct{} // closed when none is busy and they rest
}

// do has f done, in its turn. It does not wait; under does, for the goroutines.
func (w *workers) do(under *sync.WaitGroup, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.over {
		return
	}
	if w.busy == maxEffects || w.rests {
		w.queue = append(w.queue, f)
		return
	}
	w.startLocked(under, f)
}

func (w *workers) startLocked(under *sync.WaitGroup, f func()) {
	w.busy++
	under.Go(func() {
		deepen()
		for f := f; f != nil; f = w.next() {
			f()
		}
	})
}

// deepen has the calling goroutine's stack grow at once to what a launch needs. Otherwise
// it would be copied three times while a client waits.
//
//go:noinline
func deepen() {
	var room [12 << 10]byte
	runtime.KeepAlive(&room[0])
}

// rest has nothing begun until work, and waits for what is under way; ctx's error says
// that this takes too long, and all goes on.
func (w *workers) rest(ctx context.Context, under *sync.WaitGroup) error {
	w.mu.Lock()
	still := make(chan struct{})
	if w.rests, w.still = true, still; w.busy == 0 {
		close(still)
	}
	w.mu.Unlock()
	select {
	case <-still:
		return nil
	case <-ctx.Done():
		w.work(under)
		return ctx.Err()
	}
}

// work ends a rest.
func (w *workers) work(under *sync.WaitGroup) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rests = false
	for len(w.queue) > 0 && w.busy < maxEffects {
		w.startLocked(under, w.popLocked())
	}
}

// end has nothing begun any more, whoever still asks or ends a rest: under can be waited
// for.
func (w *workers) end() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.over, w.queue = true, nil
}

// next is what the calling worker does next, nil if it is to end.
func (w *workers) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 || w.rests {
		if w.busy--; w.busy == 0 && w.rests {
			close(w.still)
		}
		return nil
	}
	return w.popLocked()
}

func (w *workers) popLocked() func() {
	f := w.queue[0]
	w.queue[0] = nil
	if w.queue = w.queue[1:]; len(w.queue) == 0 {
		w.queue = nil // it may have been long
	}
	return f
}
