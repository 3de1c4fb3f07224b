package broker

import (
	"context"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
)

// TestWorkers: so many at once and no more, all in their turn, and nobody is left when
// they have ended.
func TestWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w workers
		var under sync.WaitGroup
		var mu sync.Mutex
		var began []int
		gate := make(chan struct{})
		const n = 5*maxEffects + 1
		for round := range 2 { // the second finds them idle
			began = nil
			for i := range n {
				w.do(&under, func() {
					mu.Lock()
					began = append(began, i)
					mu.Unlock()
					<-gate
				})
			}
			for i := range n {
				synctest.Wait()
				if want := min(n, maxEffects+i); len(began) != want {
					t.Fatalf("round %d: %d have begun when %d are done, want %d", round, len(began), i, want)
				}
				gate <- struct{}{}
			}
			synctest.Wait()
			if !slices.IsSorted(began[maxEffects:]) { // the first have begun together
				t.Errorf("round %d: not in their turn: %d", round, began)
			}
			if w.busy != 0 || w.queue != nil {
				t.Errorf("round %d: %d are busy, %d wait", round, w.busy, len(w.queue))
			}
		}
		w.end()
		under.Wait()
	})
}

// TestWorkersEnd: when they have ended nothing is begun, also by who has had them rest.
func TestWorkersEnd(t *testing.T) {
	var w workers
	var under sync.WaitGroup
	if err := w.rest(context.Background(), &under); err != nil {
		t.Fatal(err)
	}
	w.do(&under, func() { t.Error("what waited is begun") })
	w.end()
	w.work(&under)
	w.do(&under, func() { t.Error("another is begun") })
	under.Wait()
	if w.busy != 0 || w.queue != nil {
		t.Errorf("%d are busy, %d wait", w.busy, len(w.queue))
	}
}
