package probe

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

// A script is a watch that sees one thing after the other.
type script struct {
	looks  []func(context.Context) (bool, string, error)
	event  chan struct{}
	at     []time.Duration // when it looked
	begun  time.Time
	closed int
}

func (s *script) look(ctx context.Context) (bool, string, error) {
	s.at = append(s.at, time.Since(s.begun))
	look := s.looks[min(len(s.at), len(s.looks))-1]
	return look(ctx)
}

func (s *script) changed() <-chan struct{} { return s.event }

func (s *script) close() { s.closed++ }

func sees(what string) func(context.Context) (bool, string, error) {
	return func(context.Context) (bool, string, error) { return false, what, nil }
}

func ready(context.Context) (bool, string, error) { return true, "", nil }

func scripted(s *script) *Probe {
	return &Probe{sign: Sign{Kind: Accept}, open: func(context.Context) (watch, error) {
		s.begun = time.Now()
		return s, nil
	}}
}

var errCause = errors.New("the daemon has ended")

// TestAwait: when it looks, and what it says.
func TestAwait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := &script{looks: []func(context.Context) (bool, string, error){sees("one"), sees("two"), sees("")}}
		ctx, cancel := context.WithTimeoutCause(t.Context(), 10*time.Second, errCause)
		defer cancel()
		err := scripted(s).Await(ctx)
		var not *NotReady
		if !errors.As(err, &not) || not.Err != errCause || not.Seen != "two" || !errors.Is(err, errCause) {
			t.Errorf("%v", err)
		}
		if want := "not ready by accept: two: the daemon has ended"; err.Error() != want {
			t.Errorf("%q, want %q", err, want)
		}
		want := []time.Duration{0, 2, 6, 14, 30, 62, 126, 254, 510, 1022, 2022, 3022, 4022, 5022, 6022, 7022, 8022, 9022}
		if len(s.at) != len(want) || s.closed != 1 {
			t.Fatalf("looked at %v, closed %d times", s.at, s.closed)
		}
		for i, at := range s.at {
			if at != want[i]*time.Millisecond {
				t.Errorf("looked at %v", s.at)
				break
			}
		}

		s = &script{looks: []func(context.Context) (bool, string, error){sees("one"), ready}, event: make(chan struct{}, 1)}
		time.AfterFunc(time.Hour, func() { s.event <- struct{}{} })
		if err := scripted(s).Await(t.Context()); err != nil || len(s.at) != 2 || s.at[1] != time.Hour {
			t.Errorf("with an event: %v, looked at %v", err, s.at)
		}

		s = &script{looks: []func(context.Context) (bool, string, error){sees("one"), func(context.Context) (bool, string, error) {
			return false, "", errors.ErrUnsupported
		}}}
		err = scripted(s).Await(t.Context())
		if !errors.Is(err, errors.ErrUnsupported) || !strings.Contains(err.Error(), ": one: ") || s.closed != 1 {
			t.Errorf("%v", err)
		}

		ctx, cancel = context.WithCancel(t.Context())
		cancel()
		s = &script{looks: []func(context.Context) (bool, string, error){ready}}
		err = scripted(s).Await(ctx)
		if !errors.Is(err, context.Canceled) || len(s.at) != 0 || err.Error() != "not ready by accept: context canceled" {
			t.Errorf("%v, looked at %v", err, s.at)
		}
	})
}

// TestLookInTime: a daemon that was ready at the last moment is ready.
func TestLookInTime(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	s := &script{looks: []func(context.Context) (bool, string, error){func(context.Context) (bool, string, error) {
		cancel()
		return true, "", nil
	}}}
	if err := scripted(s).Await(ctx); err != nil {
		t.Error(err)
	}
}

func TestDelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		begun := time.Now()
		p := New(Sign{Kind: Delay, Delay: 3 * time.Second}, Target{})
		if err := p.Await(t.Context()); err != nil || time.Since(begun) != 3*time.Second {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Await(ctx)
		if err == nil || err.Error() != "not ready by delay 3s: 3s have not passed: context deadline exceeded" {
			t.Error(err)
		}
	})
}

func TestNotify(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		announced := make(chan struct{})
		p := New(Sign{Kind: Notify}, Target{Announced: announced})
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		err := p.Await(ctx)
		if err == nil || err.Error() != "not ready by notify: it has not said READY=1: context deadline exceeded" {
			t.Error(err)
		}
		begun := time.Now()
		time.AfterFunc(time.Minute, func() { close(announced) })
		if err := p.Await(t.Context()); err != nil || time.Since(begun) != time.Minute {
			t.Errorf("%v after %v", err, time.Since(begun))
		}
	})
	if err := New(Sign{Kind: Notify}, Target{}).Await(t.Context()); err == nil {
		t.Error("ready without anybody who hears")
	}
	if err := New(Sign{}, Target{}).Await(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
	if err := New(Sign{Kind: Accept}, Target{Network: "tcp"}).Await(t.Context()); !errors.Is(err, errors.ErrUnsupported) {
		t.Error(err)
	}
}

func TestClean(t *testing.T) {
	for in, want := range map[string]string{
		"plain é":              "plain é",
		"a\tb\nc\x1b[0m\u202e": "a b c\ufffd[0m\ufffd",
		"\xff\xfe":             "\ufffd",
		"0123456789abcdef":     "0123456789abcdef",
		"0123456789abcdefg":    "0123456789abc…",
		"0123456789abéé€":      "0123456789ab…",
	} {
		if got := clean(in, 16); got != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
}
