package broker

import (
	"context"
	"runtime"
	"sync"
)

// workers do what takes a while apart from the loop, so many at once. What is more
// waits for its turn without a goroutine of its own: a broker begins to hold all of
// its services at the same moment. Of those that have nothing more to do one stays, since
// a goroutine's stack grows by being copied, and the next client may wait. The zero value
// is usable, and safe for concurrent use.
type workers struct {
	mu    sync.Mutex
	busy  int
	queue []func()
	rests bool
	over  bool
	idle  chan func()   // of the one that stays, nil if none does
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
	if w.idle != nil {
		w.idle <- f
		w.idle = nil
		return
	}
	under.Go(func() {
		for f := f; f != nil; f = w.next() {
			deepen()
			f()
		}
	})
}

// deepen has the calling goroutine's stack grow at once to what a launch needs, if it is
// new or the collector has made it smaller.
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
	if w.idle != nil {
		close(w.idle)
		w.idle = nil
	}
}

// next is what the calling worker does next, which it may have to wait for; nil if it is
// to end.
func (w *workers) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 || w.rests {
		if w.busy--; w.busy == 0 && w.rests {
			close(w.still)
		}
		if w.idle != nil || w.over {
			return nil
		}
		idle := make(chan func(), 1)
		w.idle = idle
		w.mu.Unlock()
		f := <-idle
		w.mu.Lock()
		return f
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
