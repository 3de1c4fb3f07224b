package launch

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// answers are the answers to a connection's questions, in their order; the last
// one is repeated.
type answers struct {
	hang    []*Fault
	takes   time.Duration // to answer
	verdict *Fault
	asked   atomic.Int32
	ended   atomic.Bool // a question was given up
	silence Silence     // of the last question
}

func (a *answers) Hang(ctx context.Context, s Silence) *Fault {
	n := int(a.asked.Add(1))
	a.silence = s
	select {
	case <-time.After(a.takes):
	case <-ctx.Done():
		a.ended.Store(true)
		return nil
	}
	if len(a.hang) == 0 {
		return nil
	}
	return a.hang[min(n, len(a.hang))-1]
}

func (a *answers) Verdict(Lost) *Fault { return a.verdict }

const hangAfter = 30 * time.Second

// watched makes a watched connection; the other end is the daemon's.
func watched(t *testing.T, a *answers) (*Conn, net.Conn) {
	ours, theirs := net.Pipe()
	b := NewBroker(runtimedir.Env{}, definition.Definition{Service: "t", HangAfter: hangAfter}.Complete(), func() []string { return nil })
	c := &Conn{asking: a}
	b.Watch(c, ours, time.Now())
	t.Cleanup(func() {
		_ = c.Close()
		_ = theirs.Close()
	})
	return c, theirs
}

// request writes a request that the daemon takes from the kernel and leaves
// unanswered.
func request(t *testing.T, c *Conn, theirs net.Conn) {
	t.Helper()
	go io.Copy(io.Discard, theirs)
	if _, err := c.Write([]byte("request")); err != nil {
		t.Error(err)
	}
}

var hung = &Fault{Class: Hung, Stage: StageServe, Err: errors.New("hung: no answer")}

// TestWatch: hang_after after the first write, and again after each answer, the
// daemon is asked; a blocked Read is woken only if it is hung.
func TestWatch(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{hang: []*Fault{nil, nil, hung}}
		c, theirs := watched(t, a)
		time.Sleep(3 * hangAfter)
		if a.asked.Load() != 0 {
			t.Error("asked although nothing was written")
		}
		began := time.Now()
		request(t, c, theirs)
		_, err := c.Read(make([]byte, 1))
		if !errors.Is(err, hung) || time.Since(began) != 3*hangAfter || a.asked.Load() != 3 {
			t.Errorf("%v after %v and %d questions", err, time.Since(began), a.asked.Load())
		}
		if a.silence.For != 3*hangAfter {
			t.Errorf("the question said %v of silence", a.silence.For)
		}
		// Nobody blocks on it again, whatever deadline is set.
		for _, set := range []func(time.Time) error{c.SetDeadline, c.SetReadDeadline, c.SetWriteDeadline} {
			if err := set(time.Time{}); err != nil {
				t.Error(err)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, hung) {
				t.Errorf("read again: %v", err)
			}
			if _, err := c.Write([]byte("x")); !errors.Is(err, hung) {
				t.Errorf("write again: %v", err)
			}
		}
		time.Sleep(3 * hangAfter)
		if a.asked.Load() != 3 {
			t.Error("asked on about a hung daemon")
		}
	})
}

// TestWatchWrite: a Write that the daemon does not take is woken as well.
func TestWatchWrite(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := watched(t, &answers{hang: []*Fault{hung}})
		began := time.Now()
		if _, err := c.Write([]byte("request")); !errors.Is(err, hung) || time.Since(began) != hangAfter {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// TestWatchEnds: with the first byte, and with Close, also while a question is
// under way. synctest fails if a goroutine is left.
func TestWatchEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := &answers{hang: []*Fault{hung}}
		c, theirs := watched(t, a)
		request(t, c, theirs)
		time.Sleep(hangAfter - 1)
		go theirs.Write([]byte("reply"))
		if n, err := c.Read(make([]byte, 9)); n != 5 || err != nil {
			t.Errorf("%d, %v", n, err)
		}
		time.Sleep(3 * hangAfter)
		_ = c.SetReadDeadline(time.Now().Add(time.Second))
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, hung) {
			t.Errorf("after the first byte: %v", err)
		}
		if a.asked.Load() != 0 {
			t.Error("asked after the first byte")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a := &answers{hang: []*Fault{hung}, takes: time.Hour}
		c, theirs := watched(t, a)
		request(t, c, theirs)
		time.Sleep(hangAfter + time.Second)
		if a.asked.Load() != 1 || a.ended.Load() {
			t.Error("no question is under way")
		}
		_ = c.Close()
		synctest.Wait()
		if !a.ended.Load() {
			t.Error("Close leaves the question waiting")
		}
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("a closed connection says %v", err)
		}
		time.Sleep(3 * hangAfter)
		if a.asked.Load() != 1 {
			t.Error("asked after Close")
		}
	})
	synctest.Test(t, func(t *testing.T) {
		a := &answers{}
		c, _ := watched(t, a)
		_ = c.Close()
		_, _ = c.Write([]byte("x"))
		time.Sleep(3 * hangAfter)
		if a.asked.Load() != 0 {
			t.Error("a write after Close starts the watch")
		}
	})
}

// TestWatchDeadline: at the caller's deadline the question delays the error by at
// most lateWithin; what is found then is also the deadline's error.
func TestWatchDeadline(t *testing.T) {
	for name, c := range map[string]struct {
		write bool
		hang  []*Fault
		takes time.Duration
		delay time.Duration
		hung  bool
		asked int32
	}{
		"nothing written":     {},
		"busy":                {write: true, takes: time.Millisecond, delay: time.Millisecond, asked: 1},
		"hung":                {write: true, hang: []*Fault{hung}, takes: 5 * time.Millisecond, delay: 5 * time.Millisecond, hung: true, asked: 1},
		"not known that soon": {write: true, hang: []*Fault{hung}, takes: time.Minute, delay: lateWithin, asked: 1},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := &answers{hang: c.hang, takes: c.takes}
				conn, theirs := watched(t, a)
				if c.write {
					request(t, conn, theirs)
				}
				const within = time.Second
				began := time.Now()
				_ = conn.SetReadDeadline(began.Add(within))
				_, err := conn.Read(make([]byte, 1))
				if !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(began) != within+c.delay || errors.Is(err, hung.Err) != c.hung {
					t.Errorf("%v after %v", err, time.Since(began))
				}
				var f *Fault
				if errors.As(err, &f) != c.hung || c.hung && (f.Class != Hung || f.Error() != hung.Error()) {
					t.Errorf("the error is %#v", err)
				}
				// Who polls is not delayed each time.
				_ = conn.SetReadDeadline(time.Now().Add(-1))
				again := time.Now()
				if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || !again.Equal(time.Now()) {
					t.Errorf("again: %v after %v", err, time.Since(again))
				}
				if a.asked.Load() != c.asked {
					t.Errorf("%d questions, want %d", a.asked.Load(), c.asked)
				}
			})
		})
	}
}

// TestWatchVerdict: a connection that ends before its first byte has the verdict
// on its generation, one that ends later has its own error.
func TestWatchVerdict(t *testing.T) {
	died := &Fault{Class: LaunchFailed, Stage: StageServe, Err: errors.New("died")}
	synctest.Test(t, func(t *testing.T) {
		c, theirs := watched(t, &answers{verdict: died})
		_ = theirs.Close()
		if _, err := c.Read(make([]byte, 1)); err != died {
			t.Errorf("before the first byte: %v", err)
		}
	})
	synctest.Test(t, func(t *testing.T) {
		c, theirs := watched(t, &answers{verdict: died})
		go func() {
			_, _ = theirs.Write([]byte("x"))
			_ = theirs.Close()
		}()
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		if _, err := c.Read(make([]byte, 1)); err != io.EOF {
			t.Errorf("after the first byte: %v", err)
		}
	})
}
