package notify

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMerge(t *testing.T) {
	text := func(s string) Event { return Event{Message: Message{Status: status(s)}, At: 2} }
	pulse := Event{Message: Message{Pulse: Alive}, At: 3, From: 7}
	refused := func(s string) Event { return Event{Refused: s} }
	for name, c := range map[string]struct {
		a, b, want Event
		merged     bool
	}{
		"texts":             {text("a"), text("b"), Event{Message: Message{Status: status("b")}, At: 2, Merged: 1}, true},
		"text and pulse":    {text("a"), pulse, Event{Message: Message{Status: status("a"), Pulse: Alive}, At: 3, From: 7, Merged: 1}, true},
		"pulse and text":    {pulse, text("a"), Event{Message: Message{Status: status("a"), Pulse: Alive}, At: 2, Merged: 1}, true},
		"refusals":          {refused("a"), refused("b"), Event{Refused: "b", Merged: 1}, true},
		"ready and text":    {a: Event{Message: Message{State: Ready}}, b: text("a")},
		"text and ready":    {a: text("a"), b: Event{Message: Message{State: Ready, Status: status("b")}}},
		"text and trigger":  {a: text("a"), b: Event{Message: Message{Pulse: Trigger}}},
		"trigger and pulse": {a: Event{Message: Message{Pulse: Trigger}}, b: pulse},
		"text and interval": {a: text("a"), b: Event{Message: Message{WatchdogEvery: every(1)}}},
		"text and problem":  {a: text("a"), b: Event{Message: Message{Problem: "x"}}},
		"text and refusal":  {a: text("a"), b: refused("x")},
		"two extensions":    {a: Event{Message: Message{ExtendBy: 1}}, b: Event{Message: Message{ExtendBy: 2}}},
	} {
		t.Run(name, func(t *testing.T) {
			got := item{event: c.a}
			merged := merge(&got, item{event: c.b})
			if !c.merged {
				c.want = c.a
			}
			if diff := cmp.Diff(c.want, got.event); merged != c.merged || diff != "" {
				t.Errorf("merged: %v (-want +got):\n%s", merged, diff)
			}
		})
	}
	barrier := item{release: func() {}}
	if e := (item{event: pulse}); merge(&barrier, e) || merge(&e, barrier) {
		t.Error("a barrier is merged")
	}
}

// TestQueue: what is added before a barrier is taken before it is released, also
// when there is no receiver any more.
func TestQueue(t *testing.T) {
	for _, gone := range []bool{false, true} {
		q := newQueue()
		released := make(chan struct{})
		to, stop := make(chan Event), make(chan struct{})
		q.add(item{event: Event{From: 1, Message: Message{State: Ready}}})
		q.add(item{release: func() { close(released) }})
		q.add(item{event: Event{From: 2}})
		q.end()
		done := make(chan struct{})
		go func() {
			defer close(done)
			q.deliver(to, stop)
		}()
		if gone {
			close(stop)
			<-released
		} else {
			select {
			case <-released:
				t.Error("released before the event was taken")
			default:
			}
			if e := <-to; e.From != 1 {
				t.Errorf("%+v", e)
			}
			<-released
			if e := <-to; e.From != 2 {
				t.Errorf("%+v", e)
			}
		}
		<-done
	}
}

func TestWithin(t *testing.T) {
	for _, c := range []struct {
		cgroup, of string
		want       bool
	}{
		{"/a", "/a", true}, {"/a/b", "/a", true}, {"/ab", "/a", false}, {"/", "/a", false}, {"", "/a", false}, {"/b/a", "/a", false},
	} {
		if got := within(c.cgroup, c.of); got != c.want {
			t.Errorf("within(%q, %q) = %v", c.cgroup, c.of, got)
		}
	}
}

func TestAccessCheck(t *testing.T) {
	for access, want := range map[Access]string{
		"": "", AccessMain: "", AccessAll: "",
		"exec": `invalid notify_access "exec": use "main" or "all"`,
	} {
		got := ""
		if err := access.Check(); err != nil {
			got = err.Error()
		}
		if got != want {
			t.Errorf("%q: %s", access, got)
		}
	}
}
