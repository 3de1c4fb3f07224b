package waitable

import (
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// patience bounds waiting for what must happen.
const patience = 30 * time.Second

func event(t testing.TB) windows.Handle {
	t.Helper()
	h, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { windows.CloseHandle(h) })
	return h
}

func signal(t testing.TB, h windows.Handle) {
	t.Helper()
	if err := windows.SetEvent(h); err != nil {
		t.Fatal(err)
	}
}

func await(t testing.TB, c <-chan struct{}) {
	t.Helper()
	select {
	case <-c:
	case <-time.After(patience):
		t.Fatal("not called")
	}
}

func pending() (n int) {
	calls.Range(func(any, any) bool { n++; return true })
	return n
}

func TestCalledOnce(t *testing.T) {
	for name, before := range map[string]bool{"signalled before": true, "signalled after": false} {
		t.Run(name, func(t *testing.T) {
			h := event(t)
			if before {
				signal(t, h)
			}
			c := make(chan struct{}) // closing it twice would panic
			w, err := On(h, func() { close(c) })
			if err != nil {
				t.Fatal(err)
			}
			if !before {
				select {
				case <-c:
					t.Fatal("called before it was signalled")
				case <-time.After(50 * time.Millisecond):
				}
				signal(t, h)
			}
			await(t, c)
			w.Stop()
			w.Stop()
		})
	}
	if n := pending(); n != 0 {
		t.Errorf("%d functions are kept", n)
	}
}

func TestStoppedIsNeverCalled(t *testing.T) {
	h := event(t)
	w, err := On(h, func() { t.Error("called after Stop") })
	if err != nil {
		t.Fatal(err)
	}
	w.Stop()
	signal(t, h)
	// Whoever is registered after is called after, if at all.
	c := make(chan struct{})
	next, err := On(h, func() { close(c) })
	if err != nil {
		t.Fatal(err)
	}
	await(t, c)
	next.Stop()
	if n := pending(); n != 0 {
		t.Errorf("%d functions are kept", n)
	}
}

// TestStopWaits: a function that runs has returned when Stop does.
func TestStopWaits(t *testing.T) {
	for range 200 {
		h := event(t)
		var running, done atomic.Bool
		w, err := On(h, func() {
			running.Store(true)
			time.Sleep(100 * time.Microsecond)
			done.Store(true)
		})
		if err != nil {
			t.Fatal(err)
		}
		var set sync.WaitGroup
		set.Go(func() { windows.SetEvent(h) })
		w.Stop()
		if running.Load() != done.Load() {
			t.Fatal("Stop returned while the function ran")
		}
		set.Wait()
	}
}

// TestMany: more than a thread of the system's waits for, signalled from all sides.
func TestMany(t *testing.T) {
	const n = 500
	var called sync.WaitGroup
	called.Add(n)
	var events []windows.Handle
	var watches []*Watch
	for range n {
		h := event(t)
		w, err := On(h, called.Done) // more calls than n would panic
		if err != nil {
			t.Fatal(err)
		}
		events, watches = append(events, h), append(watches, w)
	}
	for i := range 4 {
		go func() {
			for j := i; j < n; j += 4 {
				windows.SetEvent(events[j])
			}
		}()
	}
	c := make(chan struct{})
	go func() { called.Wait(); close(c) }()
	await(t, c)
	for _, w := range watches {
		w.Stop()
	}
	if n := pending(); n != 0 {
		t.Errorf("%d functions are kept", n)
	}
}
