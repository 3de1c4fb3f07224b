//go:build linux

package broker

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fsnotify/fsnotify"

	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/lock"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// hold asks the generation that serves for a hold of its own.
func (w *world) hold(name string) (*control.Client, error) {
	w.t.Helper()
	e, ok := w.serving(name)
	if !ok {
		return nil, context.Canceled
	}
	dir := filepath.Dir(w.sock(name))
	c, err := launch.DialControl(w.t.Context(), runtimedir.Place{Dir: dir, Addr: dir}, e.Name)
	if err != nil {
		return nil, err
	}
	f, err := c.Hold(w.t.Context(), "")
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	_ = f.Close()
	return c, nil
}

func (w *world) serving(name string) (launch.Entry, bool) {
	dir := filepath.Dir(w.sock(name))
	entries, _ := launch.Generations(dir)
	return launch.Serving(dir, entries)
}

// holdTaken waits until the broker has the hold of who serves, who is not number.
func (w *world) holdTaken(name string, not uint64) {
	w.t.Helper()
	refused := 0 // in a row: the end of a hold of our own is seen a moment later
	w.eventually("the broker has the hold", func() bool {
		if e, ok := w.serving(name); !ok || e.Number == not {
			return false
		}
		c, err := w.hold(name)
		switch {
		case err == nil:
			_ = c.Close()
			refused = 0
		case strings.Contains(err.Error(), "another broker holds"):
			refused++
		}
		return refused > 50
	})
}

func (w *world) signal(name string, sig syscall.Signal) {
	w.t.Helper()
	e, ok := w.serving(name)
	if !ok {
		w.t.Fatal("nobody serves")
	}
	h, err := e.Open()
	if err != nil {
		w.t.Fatal(err)
	}
	defer h.Close()
	_ = h.Signal(sig)
	if err := h.Wait(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

// unlink deletes both names at once: the broker puts a single one back.
func (w *world) unlink(name string) {
	w.t.Helper()
	dir, err := os.Open(filepath.Dir(w.sock(name)))
	if err != nil {
		w.t.Fatal(err)
	}
	w.eventually("the launch lock is free", func() bool { ok, _ := lock.Try(dir); return ok })
	defer func() { _ = lock.Release(dir) }()
	for _, n := range []string{"sock", "keep"} {
		if err := syscall.Unlink(filepath.Join(filepath.Dir(w.sock(name)), n)); err != nil {
			w.t.Fatal(err)
		}
	}
}

// TestHoldOfLaunched: whom the broker launches knows for longer than it was promised that
// its queue is the broker's.
func TestHoldOfLaunched(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"))
	w.must("b")
	w.holdTaken("b", 0)
}

// TestAdoptAfterAnother: the holder before has died, and the daemon has not seen that
// yet: the next broker asks again.
func TestAdoptAfterAnother(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b")
	conn, err := launch.NewBroker(w.env, s.Definition, w.client).Dial(t.Context(), time.Now())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	var other *control.Client
	w.eventually("it can be held", func() bool { other, err = w.hold("b"); return err == nil })
	time.AfterFunc(300*time.Millisecond, func() { _ = other.Close() })
	w.run(s)
	w.holdTaken("b", 0)
}

// TestSuccessorOfAnother: a client has replaced the daemon. The broker holds what the
// successor serves, and that one's end is no gap.
func TestSuccessorOfAnother(t *testing.T) {
	w := newWorld(t)
	s := w.backend("b")
	w.run(s)
	w.must("b")
	w.holdTaken("b", 0)
	e, _ := w.serving("b")
	if err := launch.NewBroker(w.env, s.Definition, w.client).Replace(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.holdTaken("b", e.Number)
	w.signal("b", syscall.SIGTERM)
	w.must("b")
	w.holdTaken("b", e.Number+1)
}

// TestNamesDeleted: R11. Where both names are gone, whoever serves ends; the broker holds
// what a client has launched there, or binds anew.
func TestNamesDeleted(t *testing.T) {
	for i := range 4 {
		w, launched := newWorld(t), i&1 != 0
		w.blind = i&2 != 0
		s := w.backend("b")
		w.run(s)
		w.must("b")
		w.holdTaken("b", 0)
		e, _ := w.serving("b")
		h, err := e.Open()
		if err != nil {
			t.Fatal(err)
		}
		w.unlink("b")
		if launched {
			conn, err := launch.NewBroker(w.env, s.Definition, w.client).Dial(t.Context(), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			_ = conn.Close()
		}
		if err := h.Wait(t.Context()); err != nil {
			t.Fatal(err)
		}
		_ = h.Close()
		w.eventually("there is a name again", func() bool { _, err := w.ask("b"); return err == nil })
		w.holdTaken("b", e.Number)
		w.signal("b", syscall.SIGKILL)
		w.must("b")
	}
}

// TestNoProcess: R3. A launch that comes to no process is told to who waits, also where
// it came to no generation.
func TestNoProcess(t *testing.T) {
	w := newWorld(t)
	s := w.service(definition.Definition{Service: "b", Command: []string{w.dir + "/missing"}})
	w.run(s)
	b := launch.NewBroker(w.env, s.Definition, w.client)
	began := time.Now()
	raw, err := b.Dial(t.Context(), began)
	if err != nil {
		t.Fatal(err)
	}
	defer raw.Close()
	var c launch.Conn
	b.Watch(&c, raw, began)
	_ = c.SetDeadline(time.Now().Add(deadline))
	_, err = c.Read(make([]byte, 1))
	if f, ok := errors.AsType[*launch.Fault](err); !ok || f.Class != launch.LaunchFailed || f.Stage != launch.StageExecutable {
		t.Errorf("who waited was told %v", err)
	}
}

// TestNamesDeletedUnserved: R11. Both names of an endpoint that is held, and that nobody
// serves, are gone: the broker holds it anew.
func TestNamesDeletedUnserved(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"))
	for range 3 {
		w.unlink("b")
		w.eventually("there are names again", func() bool { // keep is the second to be made
			_, err := os.Lstat(filepath.Join(filepath.Dir(w.sock("b")), runtimedir.KeepName))
			return err == nil
		})
	}
	w.eventually("it is held", func() bool { _, err := w.ask("b"); return err == nil })
	if n := w.execs(); n != 1 {
		t.Errorf("%d execs", n)
	}
}

// TestDeletedWaiting: R3, R11. Who waits for a daemon that the broker has not launched yet
// when the names, or the directory with all that is in it, are deleted is told so: no
// name can be given to that listener again.
func TestDeletedWaiting(t *testing.T) {
	for _, launching := range []bool{true, false} {
		for _, all := range []bool{false, true} {
			w := newWorld(t)
			s := w.backend("b")
			w.run(s)
			b := launch.NewBroker(w.env, s.Definition, w.client)
			remove := func() {
				dir := filepath.Dir(w.sock("b"))
				err := errors.Join(os.Remove(w.sock("b")), os.Remove(filepath.Join(dir, runtimedir.KeepName)))
				if all {
					err = os.RemoveAll(dir)
				}
				if err != nil {
					t.Error(err)
				}
			}
			var conn launch.Conn
			wait := func() {
				began := time.Now()
				raw, err := b.Dial(t.Context(), began)
				if err != nil {
					t.Error(err)
					return
				}
				b.Watch(&conn, raw, began)
			}
			if launching {
				if err := w.broker.workers.rest(t.Context(), &w.broker.under); err != nil {
					t.Fatal(err)
				}
				wait()
				w.eventually("it is to be launched", func() bool { return w.view("b").State == supervise.Launching })
				remove()
				w.broker.workers.work(&w.broker.under)
			} else {
				done := make(chan struct{})
				w.broker.post(t.Context(), 0, func(*service) supervise.Event {
					defer close(done)
					wait()
					remove()
					w.broker.next(w.broker.names["b"], supervise.Stranded{}) // before it is known that somebody waits
					return nil
				})
				<-done
			}
			_ = conn.SetDeadline(time.Now().Add(deadline))
			_, err := conn.Read(make([]byte, 1))
			if f, ok := errors.AsType[*launch.Fault](err); !ok || f.Class != launch.LaunchFailed || !strings.Contains(f.Error(), errDeleted.Error()) {
				t.Errorf("launching %v, all deleted %v: who waited was told %v", launching, all, err)
			}
			w.eventually("it is held again", func() bool { _, err := w.ask("b"); return err == nil })
		}
	}
}

// TestNameDeleted: R11. Clients that know nothing of fastbind can put no name back: the
// broker does, for its own endpoint and a further one, whether somebody serves or not.
func TestNameDeleted(t *testing.T) {
	w := newWorld(t)
	s := w.foreign("f", "-pid")
	s.Definition.Endpoints = []string{"admin"}
	w.run(s)
	for _, serves := range []bool{false, true} {
		if serves {
			w.must("f")
		}
		before := w.inode("sock")
		for _, n := range []string{"sock", "keep", "sock-admin"} {
			path := filepath.Join(filepath.Dir(w.sock("f")), n)
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			w.eventually(n+" is there again", func() bool { _, err := os.Lstat(path); return err == nil })
		}
		if after := w.inode("sock"); after != before {
			t.Errorf("another endpoint is there: %v, not %v", after, before)
		}
		if n := len(w.living("f")); n != map[bool]int{true: 1}[serves] {
			t.Errorf("%d generations, serving: %v", n, serves)
		}
	}
	w.must("f")
	if _, err := w.askAt("f", "admin"); err != nil {
		t.Error(err)
	}
	if g := w.living("f"); len(g) != 1 || g[0].Number != 1 {
		t.Errorf("generations %v", g)
	}
}

// TestNameDeletedLaunching: R11. A name that goes when the launch has looked already, and
// is not yet known to have come to something, is put back as well.
func TestNameDeletedLaunching(t *testing.T) {
	w := newWorld(t)
	w.run(w.foreign("f", "-pid"))
	b := w.broker
	if err := b.workers.rest(t.Context(), &b.under); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() {
		_, err := w.ask("f")
		asked <- err
	}()
	w.eventually("it is to be launched", func() bool { return w.view("f").State == supervise.Launching })
	done := make(chan struct{})
	b.post(t.Context(), 0, func(*service) supervise.Event { // the loop hears of no launch meanwhile
		defer close(done)
		s := b.names["f"]
		b.workers.work(&b.under)
		if err := <-asked; err != nil {
			t.Error(err)
		}
		b.dirs.Delete(s.dir) // the watcher might tell of it later
		if err := os.Remove(w.sock("f")); err != nil {
			t.Error(err)
		}
		if e := b.lookAtNames(s); e != nil {
			t.Errorf("%#v", e)
		}
		return nil
	})
	<-done
	w.eventually("it is there again", func() bool { _, err := os.Lstat(w.sock("f")); return err == nil })
}

// TestDeletedSucceeding: R11. The names are deleted while a successor loads and the daemon
// before it has a connection still. Neither accepts from the listener that is bound then:
// who waits there is served by another one at once.
func TestDeletedSucceeding(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b", "-load=1s"))
	conn, err := net.Dial("unix", w.sock("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(deadline))
	if _, err := io.WriteString(conn, "1\n"); err != nil {
		t.Fatal(err)
	}
	if _, err := bufio.NewReader(conn).ReadString('\n'); err != nil {
		t.Fatal(err)
	}
	w.until("b", "it serves", func(v View) bool { return v.State == supervise.Ready })
	restarted := make(chan struct{})
	go func() {
		defer close(restarted)
		_, _ = w.broker.Request(t.Context(), "b", supervise.VerbRestart) // may be told that it came to nothing
	}()
	w.eventually("a successor loads", func() bool { return len(w.living("b")) == 2 })
	dir := filepath.Dir(w.sock("b"))
	if err := errors.Join(os.Remove(w.sock("b")), os.Remove(filepath.Join(dir, runtimedir.KeepName))); err != nil {
		t.Fatal(err)
	}
	var anew net.Conn
	w.eventually("it is bound anew", func() bool { anew, err = net.Dial("unix", w.sock("b")); return err == nil })
	if _, err := request(anew); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, "2\n"); err != nil {
		t.Error(err)
	}
	_ = conn.Close()
	<-restarted
	w.eventually("one serves", func() bool { return len(w.living("b")) == 1 })
	w.must("b")
}

// TestNameDeletedUnseen: R11. When the system says that it has lost events, as it does when
// its queue runs over, all names are looked at.
func TestNameDeletedUnseen(t *testing.T) {
	w := newWorld(t)
	w.run(w.foreign("f", "-pid"), w.foreign("g", "-pid"))
	b := w.broker
	names := []string{w.sock("f"), w.sock("g")}
	w.eventually("both are watched", func() bool { return len(b.files.WatchList()) == len(names) })
	done := make(chan struct{})
	b.post(t.Context(), 0, func(*service) supervise.Event { close(done); return nil }) // what began the watch is over
	<-done
	for _, name := range names {
		if err := errors.Join(b.files.Remove(filepath.Dir(name)), os.Remove(name)); err != nil {
			t.Fatal(err)
		}
	}
	b.files.Errors <- fsnotify.ErrEventOverflow
	for _, name := range names {
		w.eventually(name+" is there again", func() bool { _, err := os.Lstat(name); return err == nil })
	}
}

// inode is that of a name of service f.
func (w *world) inode(name string) uint64 {
	w.t.Helper()
	fi, err := os.Lstat(filepath.Join(filepath.Dir(w.sock("f")), name))
	if err != nil {
		w.t.Fatal(err)
	}
	return fi.Sys().(*syscall.Stat_t).Ino
}

// TestNumbersAnew: R11. A service's directory is deleted, so that generations are counted
// from one again while the first one still serves whom it has accepted: each is watched to
// its own end.
func TestNumbersAnew(t *testing.T) {
	w := newWorld(t)
	w.run(w.backend("b"))
	conn, err := net.Dial("unix", w.sock("b"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	ask := func() {
		t.Helper()
		_ = conn.SetDeadline(time.Now().Add(deadline))
		if _, err := io.WriteString(conn, "1\n"); err != nil {
			t.Fatal(err)
		}
		if _, err := in.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
	}
	ask()
	first, _ := w.serving("b")
	gone := w.dir + "/gone" // what is made anew meanwhile would be in the way of a removal
	if err := errors.Join(os.Rename(filepath.Dir(w.sock("b")), gone), os.RemoveAll(gone)); err != nil {
		t.Fatal(err)
	}
	w.eventually("it is held again", func() bool { _, err := w.ask("b"); return err == nil })
	second, _ := w.serving("b")
	if second.Number != first.Number || second.Name == first.Name {
		t.Fatalf("generation %d in %s, then %d in %s", first.Number, first.Name, second.Number, second.Name)
	}
	ask()
	w.signal("b", syscall.SIGKILL)
	w.must("b")
	ask()
}
