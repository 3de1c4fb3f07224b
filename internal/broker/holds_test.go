package broker

import (
	"context"
	"testing"
	"time"
)

// TestHoldsAtTheEnd: who asks the loop as the broker ends gets an answer, although the
// loop takes no question any more, and waits for who has asked.
func TestHoldsAtTheEnd(t *testing.T) {
	b := &Broker{events: make(chan posted, maxEvents), ended: make(chan struct{})}
	ctx, cancel := context.WithCancel(t.Context())
	answered := make(chan bool, 1)
	go func() { answered <- b.holds(ctx, t.TempDir()) }()
	<-b.events // asked, and not to be answered any more
	cancel()
	select {
	case holds := <-answered:
		if holds {
			t.Error("a broker without services holds one")
		}
	case <-time.After(time.Minute):
		t.Fatal("no answer")
	}
}
