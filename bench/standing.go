//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// A holder is a standing broker that holds services of one command, and has a root
// of its own.
type holder struct {
	cmd  *exec.Cmd
	in   io.WriteCloser
	out  *bufio.Scanner
	root string
	n    int
	held time.Duration // from the start of its main until it held all of them
}

func (w *world) standing(n int, command ...string) (*holder, error) {
	root, err := w.inMemory()
	if err != nil {
		return nil, err
	}
	b := &holder{root: root, n: n, cmd: exec.Command(w.path("standing"), append([]string{strconv.Itoa(n)}, command...)...)}
	b.cmd.Env = append(os.Environ(), "FASTBIND_RUNTIME_DIR="+root, "FASTBIND_STATE_DIR="+filepath.Join(w.dir, "held"))
	b.cmd.Stderr = os.Stderr
	err = errors.Join(os.MkdirAll(filepath.Join(w.dir, "held"), 0o700), b.start())
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(root))
	}
	return b, nil
}

func (b *holder) start() (err error) {
	if b.in, err = b.cmd.StdinPipe(); err != nil {
		return err
	}
	out, err := b.cmd.StdoutPipe()
	if err != nil {
		return err
	}
	if err := b.cmd.Start(); err != nil {
		return err
	}
	b.out = bufio.NewScanner(out)
	word := b.read()
	ns, ok := strings.CutPrefix(word, "held ")
	n, err := strconv.ParseInt(ns, 10, 64)
	if !ok || err != nil {
		return errors.Join(fmt.Errorf("the broker says %q", word), b.cmd.Process.Kill(), ignoreExit(b.cmd.Wait()))
	}
	b.held = time.Duration(n)
	return nil
}

func (b *holder) read() string {
	b.out.Scan()
	return b.out.Text()
}

func (b *holder) sock(i int) string {
	return filepath.Join(b.root, "default", "s"+strconv.Itoa(i), "sock")
}

// stop ends the daemon of a service, and waits for that.
func (b *holder) stop(i int) error {
	if _, err := fmt.Fprintf(b.in, "stop s%d\n", i); err != nil {
		return err
	}
	if word := b.read(); word != "ok" {
		return fmt.Errorf("the broker says %q", word)
	}
	return nil
}

// processes are the broker and its children.
func (b *holder) processes() ([]int, error) {
	pid := b.cmd.Process.Pid
	pids := []int{pid}
	lists, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, path := range lists {
		text, _ := os.ReadFile(path) // or its thread has ended
		for _, f := range strings.Fields(string(text)) {
			child, aerr := strconv.Atoi(f)
			pids, err = append(pids, child), errors.Join(err, aerr)
		}
	}
	return pids, err
}

// close ends the broker; its daemons are strays then.
func (b *holder) close() error {
	return errors.Join(b.in.Close(), b.cmd.Wait(), os.RemoveAll(b.root))
}

// first connects, and returns what it took until the first byte.
func first(sock string) (time.Duration, error) {
	return timed(func() error {
		conn, err := net.Dial("unix", sock)
		if err != nil {
			return err
		}
		defer conn.Close()
		if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
			return err
		}
		_, err = conn.Read(make([]byte, 1))
		return err
	})
}

// holding compares what it takes to hold a service of n with what it takes of another
// number of them.
func holding(n, of int) func(context.Context, *world, size) (result, error) {
	return func(_ context.Context, w *world, s size) (result, error) {
		side := func(n int) sample {
			return func() (time.Duration, error) {
				b, err := w.standing(n, w.path("plain"))
				if err != nil {
					return 0, err
				}
				return b.held / time.Duration(n), b.close()
			}
		}
		return pairs(s.rounds*3, side(n), side(of))
	}
}

// holdingMemory is what a broker that holds n services is resident with.
func holdingMemory(n int) func(context.Context, *world, size) (result, error) {
	return func(_ context.Context, w *world, _ size) (r result, err error) {
		b, err := w.standing(n, w.path("plain"))
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, b.close()) }()
		time.Sleep(time.Second)
		pids, err := b.processes()
		if err != nil {
			return r, err
		}
		kB, each := 0, make([]string, len(pids))
		for i, pid := range pids {
			n, err := resident(pid)
			if err != nil {
				return r, err
			}
			kB, each[i] = kB+n, fmt.Sprintf("%d kB", n)
		}
		return result{Ours: strings.Join(each, " + "), Value: float64(kB) / 1000, Unit: "MB", Counts: "held after " + show(b.held)}, nil
	}
}

// apart is the time between two clients who come alone.
const apart = 200 * time.Millisecond

// activation compares the first byte of a daemon that a broker launches for a client
// with that of one that systemd-socket-activate becomes.
func activation(args ...string) func(context.Context, *world, size) (result, error) {
	return func(ctx context.Context, w *world, s size) (r result, err error) {
		static, err := w.static()
		if err != nil {
			return r, err
		}
		n := s.pairs
		b, err := w.standing(n+1, append([]string{static}, args...)...)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, b.close()) }()
		for i := range n + 1 { // each was used before, and has a log
			if _, err := first(b.sock(i)); err != nil {
				return r, err
			}
			if err := b.stop(i); err != nil {
				return r, err
			}
		}
		i := 0
		ours := func() (time.Duration, error) {
			time.Sleep(apart)
			d, err := first(b.sock(i))
			i++
			return d, errors.Join(err, b.stop(i-1))
		}
		sock := filepath.Join(b.root, "activator")
		their := args // the descriptor is 3
		if len(args) > 0 {
			their = []string{"3"}
		}
		// It has waited for as long as our service when its client comes: what a processor,
		// or a hypervisor, still knows of a program that waits is less by then.
		waiting, err := activate(ctx, sock, static, their...)
		if err != nil {
			return r, err
		}
		defer func() { err = errors.Join(err, end(waiting)) }()
		theirs := func() (time.Duration, error) {
			time.Sleep(apart)
			d, err := first(sock)
			if err = errors.Join(err, end(waiting), os.Remove(sock)); err != nil {
				return 0, err
			}
			waiting, err = activate(ctx, sock, static, their...)
			return d, err
		}
		return pairs(n, ours, theirs)
	}
}

// end kills a process, if there is one.
func end(cmd *exec.Cmd) error {
	if cmd == nil {
		return nil
	}
	return errors.Join(cmd.Process.Kill(), ignoreExit(cmd.Wait()))
}

const activator = "systemd-socket-activate"

// activate starts systemd's activator, and returns when it waits for a client. The
// caller ends it.
func activate(ctx context.Context, sock, static string, args ...string) (*exec.Cmd, error) {
	cmd := exec.Command(activator, append([]string{"--listen=" + sock, static}, args...)...)
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if err := await(ctx, func() error { return waits(cmd.Process.Pid, sock) }); err != nil {
		return nil, errors.Join(err, cmd.Process.Kill(), ignoreExit(cmd.Wait()))
	}
	return cmd, nil
}

// waits reports whether a process listens at sock and sleeps.
func waits(pid int, sock string) error {
	list, err := os.ReadFile("/proc/net/unix")
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(list)) {
		// Num RefCount Protocol Flags Type St Inode Path; __SO_ACCEPTCON of net.h
		if f := strings.Fields(line); len(f) == 8 && f[7] == sock && f[3] == "00010000" {
			stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
			if err != nil {
				return err
			}
			if _, rest, _ := strings.Cut(string(stat), ") "); strings.HasPrefix(rest, "S") {
				return nil
			}
		}
	}
	return errors.New("nobody waits at " + sock)
}

// atOnce compares the time per service in which n of the services held have answered
// their first clients, who come at once, with that of fewer.
func atOnce(n, of, held int) func(context.Context, *world, size) (result, error) {
	return func(_ context.Context, w *world, s size) (result, error) {
		static, err := w.static()
		if err != nil {
			return result{}, err
		}
		side := func(n int) sample {
			return func() (d time.Duration, err error) {
				b, err := w.standing(held, static, "{fd}")
				if err != nil {
					return 0, err
				}
				defer func() { err = errors.Join(err, b.close(), w.endStrays()) }()
				var clients sync.WaitGroup
				gate, errs := make(chan struct{}), make([]error, n)
				for i := range n {
					clients.Go(func() {
						<-gate
						_, errs[i] = first(b.sock(i * held / n))
					})
				}
				d, err = timed(func() error {
					close(gate)
					clients.Wait()
					return errors.Join(errs...)
				})
				return d / time.Duration(n), err
			}
		}
		return pairs(s.rounds, side(n), side(of))
	}
}
