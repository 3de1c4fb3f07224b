package daemon

import (
	"errors"
	"testing"

	"github.com/fastbind/fastbind/internal/pipe"
)

// TestYieldFails: a successor that the name cannot be left to is told so, and who comes is
// served as before.
func TestYieldFails(t *testing.T) {
	ul, dial := listenForTest(t)
	defer ul.Close()
	n := newNeed(0)
	ln := newListener(ul, n)
	g := newGiver(n, func() bool { return true })
	g.bound(ln, func() {})
	s, err := g.begin()
	if err != nil {
		t.Fatal(err)
	}
	other, err := pipe.Join(ul.Addr().String(), 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.TakeOver(); !errors.Is(err, pipe.ErrShared) {
		t.Errorf("taken over beside another one that serves: %v", err)
	}
	if err := other.Close(); err != nil {
		t.Fatal(err)
	}
	c, err := dial()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer accepted.Close()
	if _, err := s.TakeOver(); err != nil {
		t.Error(err)
	}
	s.End() // without having taken over
	if g.isTaken() {
		t.Error("it is said to be taken over")
	}
	if _, err := g.begin(); err != nil {
		t.Errorf("the next successor: %v", err)
	}
}
