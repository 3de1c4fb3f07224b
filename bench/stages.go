//go:build linux

package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind"
)

const stagesName = "stages of a cold launch"

// stages are when a cold launch reaches what, each the median of its launches, from
// the exec of the client process.
type stages struct {
	Load     time.Duration `json:"load"` // that the daemon takes to load
	Launches int           `json:"launches"`

	Main      time.Duration `json:"main"`      // the client's first instruction of its own
	Bound     time.Duration `json:"bound"`     // the endpoint has its name
	Connected time.Duration `json:"connected"` // Dial has returned
	Daemon    time.Duration `json:"daemon"`    // the daemon's first instruction of its own
	Ready     time.Duration `json:"ready"`     // it has loaded
	Reply     time.Duration `json:"reply"`
	Exit      time.Duration `json:"exit"` // the client has ended
}

// all are the stages by name, in the order of a figure.
func (s stages) all() []struct {
	name string
	at   time.Duration
} {
	return []struct {
		name string
		at   time.Duration
	}{{"main", s.Main}, {"bound", s.Bound}, {"connected", s.Connected}, {"daemon's main", s.Daemon}, {"ready", s.Ready}, {"reply", s.Reply}, {"exit", s.Exit}}
}

func (p plan) measureStages(ctx context.Context, w *world, out io.Writer, r *report) error {
	if !p.stages {
		return nil
	}
	fmt.Fprintf(os.Stderr, "%s …\n", stagesName)
	for _, load := range []time.Duration{0, 100 * time.Millisecond} {
		var all []stages
		for range max(4, p.size.pairs/2) {
			s, err := launchInStages(ctx, w, load)
			if err != nil {
				return fmt.Errorf("%s: %w", stagesName, err)
			}
			all = append(all, s)
		}
		r.Stages = append(r.Stages, medianStages(all[1:])) // the first was to warm up
	}
	fmt.Fprint(out, "\n", stagesTable(r.Stages))
	return nil
}

func medianStages(all []stages) stages {
	mid := func(of func(stages) time.Duration) time.Duration {
		var d []time.Duration
		for _, s := range all {
			d = append(d, of(s))
		}
		return quantile(d, 0.5)
	}
	return stages{Load: all[0].Load, Launches: len(all),
		Main:      mid(func(s stages) time.Duration { return s.Main }),
		Bound:     mid(func(s stages) time.Duration { return s.Bound }),
		Connected: mid(func(s stages) time.Duration { return s.Connected }),
		Daemon:    mid(func(s stages) time.Duration { return s.Daemon }),
		Ready:     mid(func(s stages) time.Duration { return s.Ready }),
		Reply:     mid(func(s stages) time.Duration { return s.Reply }),
		Exit:      mid(func(s stages) time.Duration { return s.Exit }),
	}
}

func stagesTable(all []stages) string {
	var b strings.Builder
	b.WriteString("| cold launch: the daemon loads for |")
	for _, s := range all[0].all() {
		b.WriteString(" " + s.name + " |")
	}
	b.WriteString("\n|---|" + strings.Repeat("---|", len(all[0].all())) + "\n")
	for _, s := range all {
		fmt.Fprintf(&b, "| %s |", s.Load)
		for _, st := range s.all() {
			fmt.Fprintf(&b, " %s |", show(st.at))
		}
		b.WriteString("\n")
	}
	return b.String()
}

// launchInStages is one launch. The client and the daemon say when they were
// where; that the socket has its name, the kernel tells this process (inotify(7)),
// which therefore sees it some tens of microseconds late.
func launchInStages(ctx context.Context, w *world, load time.Duration) (s stages, err error) {
	svc := fastbind.Service{Name: "stages"}
	root := os.Getenv("FASTBIND_RUNTIME_DIR")
	dir := filepath.Join(root, "default", "stages")
	// As if it had run before: a directory that is not there cannot be watched.
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return s, err
	}
	bound, end, err := whenCreated(dir, "sock")
	if err != nil {
		return s, err
	}
	defer end()
	began := monotonic()
	var out strings.Builder
	cmd := w.command("stages", load.String())
	cmd.Stdout, cmd.Stderr = &out, os.Stderr
	if err := cmd.Run(); err != nil {
		return s, err
	}
	exit := monotonic()
	var at [5]int64 // main, connected, reply, daemon, ready
	if _, err := fmt.Sscan(out.String(), &at[0], &at[1], &at[2], &at[3], &at[4]); err != nil {
		return s, fmt.Errorf("the client printed %q: %w", out.String(), err)
	}
	from := func(t int64) time.Duration { return time.Duration(t - began) }
	s = stages{Load: load, Main: from(at[0]), Connected: from(at[1]), Reply: from(at[2]), Daemon: from(at[3]), Ready: from(at[4]), Exit: from(exit)}
	select {
	case t := <-bound:
		s.Bound = from(t)
	case <-time.After(10 * time.Second):
		return s, errors.New("the kernel did not tell of the socket within 10s")
	}
	return s, errors.Join(svc.Stop(ctx), w.endStrays())
}

// whenCreated tells when a name appears in a directory, by the monotonic clock.
func whenCreated(dir, name string) (<-chan int64, func(), error) {
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		return nil, nil, err
	}
	f := os.NewFile(uintptr(fd), "inotify")
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO); err != nil {
		return nil, nil, errors.Join(err, f.Close())
	}
	when, ended := make(chan int64, 1), make(chan struct{})
	go func() {
		defer close(ended)
		buf := make([]byte, 4096)
		for {
			n, err := f.Read(buf)
			if err != nil {
				return // closed
			}
			t := monotonic()
			for b := buf[:n]; len(b) >= unix.SizeofInotifyEvent; {
				size := unix.SizeofInotifyEvent + int(binary.NativeEndian.Uint32(b[12:16])) // inotify_event.len
				if strings.TrimRight(string(b[unix.SizeofInotifyEvent:size]), "\x00") == name {
					when <- t
					return
				}
				b = b[size:]
			}
		}
	}()
	return when, func() { _ = f.Close(); <-ended }, nil
}

func monotonic() int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_MONOTONIC, &t); err != nil {
		panic(err) // a clock that every Linux has
	}
	return t.Nano()
}
