package standing

import (
	"context"
	"os"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// TestReloadTogether: however many ask to have the files read, they are read once for
// all who have asked before, and nobody is told that they were before they are.
func TestReloadTogether(t *testing.T) {
	dir := short(t)
	b, err := broker.New(broker.Config{Env: runtimedir.Env{RuntimeDir: dir + "/run", StateDir: dir + "/state", EUID: os.Geteuid()}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var reads, answered atomic.Int32
	gate := make(chan struct{})
	p := &process{Config: &Config{Manager: &activation.Manager{}, Say: func(string) {}, Read: func() []File {
		reads.Add(1)
		<-gate
		return nil
	}}, broker: b, woken: make(chan struct{}, 1), ctx: ctx}
	p.under.Go(func() { _ = b.Run(ctx, nil) })
	const many = 100
	var asked, done sync.WaitGroup
	asked.Add(many)
	for range many {
		done.Go(func() {
			asked.Done()
			if err := p.reload(t.Context()); err != nil {
				t.Error(err)
			}
			answered.Add(1)
		})
	}
	asked.Wait()
	gate <- struct{}{}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if err := p.reload(gone); err == nil && answered.Load() == 0 {
		t.Error("who has left is told that the files are read")
	}
	close(gate)
	done.Wait()
	if n := reads.Load(); n > 4 {
		t.Errorf("%d readings for %d", n, many)
	}
	before := reads.Load()
	if err := p.reload(t.Context()); err != nil || reads.Load() != before+1 {
		t.Errorf("a later one: %d readings, %v", reads.Load()-before, err)
	}
	cancel()
	p.under.Wait()
}
