package gocache

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
	"time"
)

// generate writes n entries, each with a use of its own, and for every hundredth
// the body; a load does not look at bodies.
func generate(t *testing.T, s store, n int) (action func(int) id, body func(int) []byte) {
	t.Helper()
	action = func(i int) id {
		var b [8]byte
		binary.BigEndian.PutUint64(b[:], uint64(i))
		return sha256.Sum256(b[:])
	}
	body = func(i int) []byte { return fmt.Appendf(nil, "the body of %d\n", i) }
	if err := s.make(); err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"objects", "actions"} {
		for x := range 256 {
			if err := os.MkdirAll(filepath.Join(s.dir, kind, fmt.Sprintf("%02x", x)), 0o700); err != nil {
				t.Fatal(err)
			}
		}
	}
	var wg sync.WaitGroup
	for part := range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := part; i < n; i += runtime.GOMAXPROCS(0) {
				e := entry{output: sha256.Sum256(body(i)), size: int64(len(body(i))), time: int64(i)}
				if err := os.WriteFile(s.action(action(i)), e.format(), 0o600); err != nil {
					t.Error(err)
					return
				}
				if i%100 == 0 {
					if err := os.WriteFile(s.body(e.output), body(i), 0o600); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	return action, body
}

// TestLoad: a daemon answers, with hits, before it has loaded its index, and its
// size is right when it has. With GOCACHE_LONG=1 there are 500,000 entries, and
// the figures are printed.
func TestLoad(t *testing.T) {
	n, env := 20_000, "GOCACHE_LOAD_FOR=1500ms"
	long := os.Getenv("GOCACHE_LONG") != ""
	if long {
		n, env = 500_000, "GOCACHE_MAX=100G"
	} else {
		t.Parallel()
	}
	r := newRig(t, env)
	action, body := generate(t, r.store(), n)

	began := time.Now()
	g := r.client()
	g.mustHit(action(0), body(0))
	answered := time.Since(began)
	g.mustMiss(actionOf("absent"))
	early := r.stats()
	if early.LoadSeconds == 0 {
		if early.Phase != "loading" || early.Progress == nil || early.Entries >= n {
			t.Errorf("while loading: %+v", early)
		}
	} else if !long {
		t.Errorf("ready after %v s: too early to show anything", early.LoadSeconds)
	}
	for i := 100; i < min(n, 20_000); i += 100 {
		g.mustHit(action(i), body(i))
	}
	until(t, "ready", func() bool { return r.stats().Phase == "ready" })
	s := r.stats()
	if s.Entries != n || s.Outputs != n || s.Malformed != 0 || s.Corrupt != 0 || s.Misses != 1 {
		t.Errorf("%+v", s)
	}
	g.mustHit(action(0), body(0))
	g.close()
	t.Logf("%d entries: first answer, a hit, after %v (from before the client's exec, daemon launched); %d entries were loaded a moment later; ready after %v; %s resident, %s of heap",
		n, answered.Round(100*time.Microsecond), early.Entries, seconds(s.LoadSeconds), formatSize(s.RSS), formatSize(s.Heap))
}
