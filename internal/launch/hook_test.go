//go:build linux

package launch

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// hooked is a broker of a foreign daemon that writes its environment and ends when it
// is asked to.
func hooked(t *testing.T, h *Hook, script string) (b *Broker, dir string) {
	t.Helper()
	dir, err := os.MkdirTemp("/tmp", "fb")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	def := definition.Definition{Service: "h", Foreign: true, Command: []string{"/bin/sh", "-c", "env >" + dir + "/env.new; mv " + dir + "/env.new " + dir + "/env; " + script}}.Complete()
	if err := def.Check(); err != nil {
		t.Fatal(err)
	}
	b = NewBroker(runtimedir.Env{RuntimeDir: dir + "/run", StateDir: dir + "/state", EUID: os.Geteuid()}, def,
		func() []string { return []string{"PATH=" + os.Getenv("PATH")} })
	b.Hook = h
	return b, dir
}

func ensure(t *testing.T, b *Broker) (Outlook, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o, err := b.Ensure(ctx, BrokerBinds, StepConnect, proc.BootTime())
	if o.Conn != nil {
		_ = o.Conn.Close()
	}
	return o, err
}

// TestHook: what a hook adds reaches the daemon, what it knows of the daemon's end
// reaches the record, and what it is told is in the journal.
func TestHook(t *testing.T) {
	gate, word, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer gate.Close()
	var calls []string
	var noted []journal.Event
	var admitted int
	h := &Hook{
		Noted: func(_ time.Time, e journal.Event) { noted = append(noted, e) },
		Prepare: func(p Preparing) (*Aid, error) {
			calls = append(calls, "prepare")
			if filepath.Base(p.Dir) != filepath.Base(p.Addr) || p.Number != 1 {
				t.Errorf("%+v", p)
			}
			return &Aid{
				Env:   []string{"WATCHDOG_USEC=1000", "GIVEN=yes"},
				Lines: []record.Line{record.NotifyLine("/x/msg")},
				// It runs nothing before it is let through.
				Script: "read -r word\n[ \"$word\" = go ] || exit 99\nexec </dev/null\n",
				Stdin:  gate,
				Admit: func(_ context.Context, pid int) []record.Line {
					calls = append(calls, "admit")
					if admitted = pid; proc.Exiting(pid) {
						t.Error("it has not waited")
					}
					_, _ = word.WriteString("go\n")
					return record.LimitLines("", []string{"memory: in force"})
				},
				Ended: func(pid int, exit proc.Exit) Ending {
					calls = append(calls, "ended")
					if pid != admitted || exit.Signal != syscall.SIGKILL {
						t.Errorf("process %d, %v", pid, exit)
					}
					return Ending{Cause: "it was too fat", Memory: true}
				},
				Undo: func() { calls = append(calls, "undo") },
			}, nil
		},
	}
	b, dir := hooked(t, h, "kill -9 $$")
	o, err := ensure(t, b)
	if err != nil {
		t.Fatal(err)
	}
	<-o.Launched.Ended
	if got := strings.Join(calls, " "); got != "prepare admit ended" {
		t.Error(got)
	}
	env, err := os.ReadFile(dir + "/env")
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"GIVEN=yes", "WATCHDOG_USEC=1000", "WATCHDOG_PID="} {
		if !strings.Contains("\n"+string(env), "\n"+want) {
			t.Errorf("%s is missing in %q", want, env)
		}
	}
	r, err := record.Read(filepath.Join(o.Launched.Dir, record.FileName))
	if err != nil || r.Notify != "/x/msg" || len(r.Limits) != 1 || r.Failure == nil {
		t.Fatalf("%+v, %v", r, err)
	}
	if f := r.Failure; f.Cause != "it was too fat" || f.Kind != KindMemory || f.Signal != "killed" {
		t.Errorf("%+v", f)
	}
	kinds := ""
	for _, e := range noted {
		kinds += e.Kind + " "
	}
	if kinds != "launched failed " {
		t.Errorf("noted %q", kinds)
	}
}

// TestHookLives: of a process that has ended, and is not the generation any more,
// nothing goes on record.
func TestHookLives(t *testing.T) {
	h := &Hook{Prepare: func(Preparing) (*Aid, error) {
		return &Aid{Ended: func(int, proc.Exit) Ending { return Ending{Lives: true} }}, nil
	}}
	b, _ := hooked(t, h, "exit 3")
	o, err := ensure(t, b)
	if err != nil {
		t.Fatal(err)
	}
	<-o.Launched.Ended
	if r, err := record.Read(filepath.Join(o.Launched.Dir, record.FileName)); err != nil || r.Failure != nil || r.Phase != record.Bound {
		t.Errorf("%+v, %v", r, err)
	}
}

// TestHookFails: a hook that fails has failed the launch, and one whose launch comes to
// nothing is told.
func TestHookFails(t *testing.T) {
	reason := errors.New("no more of that")
	b, _ := hooked(t, &Hook{Prepare: func(Preparing) (*Aid, error) { return nil, reason }}, "exit 0")
	_, err := ensure(t, b)
	var f *Fault
	if !errors.As(err, &f) || f.Stage != StageSpawn || !errors.Is(err, reason) {
		t.Errorf("%v", err)
	}

	undone := 0
	b, dir := hooked(t, &Hook{Prepare: func(Preparing) (*Aid, error) {
		return &Aid{Undo: func() { undone++ }}, nil
	}}, "exit 0")
	b.Def.Dir = dir + "/away" // it is looked at, and gone when it is needed
	if err := os.Mkdir(b.Def.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	prepare := b.Hook.Prepare
	b.Hook.Prepare = func(p Preparing) (*Aid, error) {
		_ = os.Remove(dir + "/away")
		return prepare(p)
	}
	if _, err := ensure(t, b); err == nil || undone != 1 {
		t.Errorf("undone %d times, %v", undone, err)
	}
}

// TestStoppedBeforeAdopting: a backend that was asked to end before it could say so did
// what was asked: that is no failure, to nobody.
func TestStoppedBeforeAdopting(t *testing.T) {
	var noted []string
	b, _ := hooked(t, &Hook{Noted: func(_ time.Time, e journal.Event) { noted = append(noted, e.Kind) }}, "exec sleep 600")
	b.Def.Foreign = false
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	o, err := b.Ensure(ctx, BrokerBinds, StepConnect, proc.BootTime())
	if err != nil {
		t.Fatal(err)
	}
	if o.Conn != nil {
		defer o.Conn.Close()
	}
	e := Entry{Dir: o.Launched.Dir, Number: o.Launched.Number}
	if e.Record, err = record.Read(filepath.Join(e.Dir, record.FileName)); err != nil {
		t.Fatal(err)
	}
	h, err := e.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer h.Close()
	if err := AskToEnd(t.Context(), runtimedir.Place{}, e, h); err != nil {
		t.Fatal(err)
	}
	<-o.Launched.Ended
	r, err := record.Read(filepath.Join(e.Dir, record.FileName))
	if err != nil || r.Failure != nil || r.Phase != record.Gone || !r.Stopped {
		t.Errorf("on record is phase %s, failure %+v, %v", r.Phase, r.Failure, err)
	}
	if !slices.Equal(noted, []string{"launched"}) {
		t.Errorf("noted %q", noted)
	}
}
