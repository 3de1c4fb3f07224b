package broker

import "sync"

// workers do what takes a while apart from the loop, so many at once. What is more
// waits for its turn without a goroutine of its own: a broker begins to hold all of
// its services at the same moment. The zero value is usable, and safe for concurrent
// use.
type workers struct {
	mu    sync.Mutex
	busy  int
	queue []func()
}

// do has f done, in its turn. It does not wait; under does, for the goroutines.
func (w *workers) do(under *sync.WaitGroup, f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.busy == maxEffects {
		w.queue = append(w.queue, f)
		return
	}
	w.busy++
	under.Go(func() {
		for f := f; f != nil; f = w.next() {
			f()
		}
	})
}

// next is what the calling worker does next, nil if it is to end.
func (w *workers) next() func() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.queue) == 0 {
		w.busy--
		w.queue = nil // it may have been long
		return nil
	}
	f := w.queue[0]
	w.queue[0] = nil
	w.queue = w.queue[1:]
	return f
}
