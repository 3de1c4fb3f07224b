package daemon

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fastbind/fastbind/internal/generation"
)

// fakeNeed is a need on a clock that stands still.
func fakeNeed(after time.Duration) (n *need, clock *time.Duration) {
	clock = new(time.Duration)
	*clock = time.Hour
	n = newNeed(after)
	n.now = func() time.Duration { return *clock }
	n.whose.Since = *clock
	return n, clock
}

// TestNeed is the rules as a story.
func TestNeed(t *testing.T) {
	n, clock := fakeNeed(time.Minute)
	var ends []func()
	for _, step := range []struct {
		what   string
		do     func()
		leases int
		left   time.Duration // negative: it does not end by itself
	}{
		{"loading", func() { n.load() }, 0, -1},
		{"ready", n.release, 0, time.Minute},
		{"half a minute later", func() { *clock += 30 * time.Second }, 0, 30 * time.Second},
		{"a connection", n.connect, 0, -1},
		{"two", n.connect, 0, -1},
		{"one", n.release, 0, -1},
		{"none", n.release, 0, time.Minute},
		{"a lease", func() { ends = append(ends, n.lease()) }, 1, -1},
		{"two leases", func() { ends = append(ends, n.lease()) }, 2, -1},
		{"and a connection", n.connect, 2, -1},
		{"one lease", func() { ends[0]() }, 1, -1},
		{"no lease any more: soon, connected or not", func() { ends[1]() }, 0, generation.LeaseGrace},
		{"renewed in time", func() { *clock += generation.LeaseGrace / 2; ends = append(ends, n.lease()) }, 1, -1},
		{"gone", func() { ends[2]() }, 0, generation.LeaseGrace},
		{"a successor loads", func() { ends = append(ends, n.succession()) }, 0, -1},
		{"late", func() { *clock += time.Hour }, 0, -1},
		{"it is gone", func() { ends[3]() }, 0, 0},
	} {
		step.do()
		if leases, left := n.seen(); leases != step.leases || left != step.left && (left >= 0 || step.left >= 0) {
			t.Errorf("%s: %d leases, %v left, want %d and %v", step.what, leases, left, step.leases, step.left)
		}
	}
}

// A daemon that nobody has connected to yet waits for who launched it.
func TestNeedFirst(t *testing.T) {
	n, clock := fakeNeed(time.Millisecond)
	n.load()
	n.release()
	if _, left := n.seen(); left != generation.FirstGrace {
		t.Errorf("%v left", left)
	}
	*clock += generation.FirstGrace / 2
	n.connect()
	n.release()
	if _, left := n.seen(); left != time.Millisecond {
		t.Errorf("%v left after the first", left)
	}
	never, _ := fakeNeed(0)
	never.load()
	never.release()
	if _, left := never.seen(); left >= 0 {
		t.Errorf("%v left of ever", left)
	}
}

// TestNeedUnused: the time without a connection or lease begins with the last end of one.
func TestNeedUnused(t *testing.T) {
	n, clock := fakeNeed(0)
	var end func()
	later := func() { *clock += time.Minute }
	for _, step := range []struct {
		what string
		do   func()
		want time.Duration
	}{
		{"loading", n.load, -1},
		{"ready", func() { later(); n.release() }, 0},
		{"later", later, time.Minute},
		{"a connection", n.connect, -1},
		{"and a lease", func() { end = n.lease() }, -1},
		{"the lease alone", func() { later(); n.release() }, -1},
		{"none", func() { later(); end() }, 0},
		{"a minute", later, time.Minute},
		{"two", later, 2 * time.Minute},
	} {
		step.do()
		if got := n.unused(); got != step.want && (got >= 0 || step.want >= 0) {
			t.Errorf("%s: unused for %v, want %v", step.what, got, step.want)
		}
	}
}

// TestNeedAwait: whatever happens, what await sends is due, and it is sent.
func TestNeedAwait(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		after := time.Duration(rapid.IntRange(0, 5).Draw(t, "after")) * time.Second
		n, clock := fakeNeed(after)
		alarms := make(chan time.Duration, 64)
		fire := make(chan struct{}, 64)
		n.at = func(at time.Duration) (<-chan struct{}, func()) {
			alarms <- at
			return fire, func() {}
		}
		open, leases := 0, []func(){}
		for range rapid.IntRange(0, 30).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "step") {
			case 0:
				n.connect()
				open++
			case 1:
				if open > 0 {
					n.release()
					open--
				}
			case 2:
				leases = append(leases, n.lease())
			case 3:
				if len(leases) > 0 {
					leases[0]()
					leases = leases[1:]
				}
			case 4:
				*clock += time.Second
			}
		}
		// Everybody leaves, and long enough passes.
		for ; open > 0; open-- {
			n.release()
		}
		for _, end := range leases {
			end()
		}
		_, left := n.seen()
		*clock += time.Hour
		stop := make(chan struct{})
		defer close(stop)
		ended := n.await(stop)
		if left < 0 {
			select {
			case why := <-ended:
				t.Fatalf("%s, although nothing was due", why)
			case <-time.After(time.Millisecond):
			}
			return
		}
		select {
		case <-ended:
		case <-time.After(10 * time.Second):
			t.Fatal("it is due and not told")
		}
	})
}

// The first connection's end is told at once, not when the first grace is over.
func TestNeedAfterFirst(t *testing.T) {
	n := newNeed(time.Millisecond)
	waits := make(chan time.Duration, 8)
	at := n.at
	n.at = func(t time.Duration) (<-chan struct{}, func()) {
		waits <- t - n.now()
		return at(t)
	}
	stop := make(chan struct{})
	defer close(stop)
	ended := n.await(stop)
	if first := <-waits; first < generation.FirstGrace/2 {
		t.Errorf("it waits %v for the first connection", first)
	}
	n.connect()
	n.release()
	if next := <-waits; next > time.Millisecond {
		t.Errorf("it waits %v after the first connection", next)
	}
	<-ended
}

// TestNeedWakes: who waits without a time is woken by what makes one.
func TestNeedWakes(t *testing.T) {
	for name, do := range map[string]func(*need){
		"the last connection": func(n *need) { n.release() },
		"the last lease":      func(n *need) { n.lease()() },
	} {
		t.Run(name, func(t *testing.T) {
			n := newNeed(time.Millisecond)
			n.connect()
			stop := make(chan struct{})
			defer close(stop)
			ended := n.await(stop)
			select {
			case why := <-ended:
				t.Fatalf("%s, although it is needed", why)
			case <-time.After(20 * time.Millisecond):
			}
			do(n)
			select {
			case <-ended:
			case <-time.After(10 * time.Second):
				t.Fatal("never")
			}
		})
	}
}
