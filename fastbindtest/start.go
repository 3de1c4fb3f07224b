//go:build linux || windows

package fastbindtest

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/record"
)

// The twins of this file:
//
//   - world.socket is the endpoint, world.service its service's directory;
//     world.clear removes its name, and world.leave puts there what a daemon that was
//     killed leaves, or says that this is nothing; shared reports whether a socket is
//     a share in the endpoint of that name;
//   - world.offer makes a listener there and its announcement, as fastbind's broker
//     does; world.falseOffer announces something that is no listener. Who called it
//     closes it;
//   - world.spawn starts the daemon's process with the manners of fastbind's broker:
//     cut off from any terminal, with no descriptor but those it is handed, in the
//     root directory, in an environment without anything of the caller's; with a gate
//     it begins when that opens;
//   - writeCurrent leads the service to a generation;
//   - executed reports whether a process that was spawned has become the daemon;
//   - daemon.terminate asks it to end, and does not wait for that.

// A daemon is a process of the target's Command.
type daemon struct {
	*child
	w      *world
	handed string // what the socket that it was handed is called in all processes
	offer  *offer // nil if it was handed none
	began  time.Time
}

// An offer is what a daemon is to inherit.
type offer struct {
	inheritance        // the system's part
	name        string // for people
	id          string // of the socket
	handover    handover.Handover
	env         []string
}

// launch starts the daemon with what it is to serve on.
func (w *world) launch() (*daemon, error) {
	switch w.mode {
	case Inherit:
		o, err := w.offer()
		if err != nil {
			return nil, err
		}
		defer o.close() // the daemon's copy is the only one
		return w.spawn(o, nil)
	case Port:
		if w.port == "" {
			ln, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			_, w.port, _ = net.SplitHostPort(ln.Addr().String())
			_ = ln.Close()
		}
	case Socket, Client:
	}
	return w.spawn(nil, nil)
}

// generation is what a broker says of one that it launches, but for the listener. It
// makes what the daemon is to find in the file system.
func (w *world) generation() (handover.Handover, error) {
	h := handover.Handover{
		Service: "check", Instance: "default", Generation: 1,
		Dir: w.service(), Addr: w.service(), GenDir: fmt.Sprintf("1.%x.check", time.Now().UnixNano()),
		Listen: handover.None, Control: handover.None, Life: handover.None,
		StopWithin: w.patience(), IdleExit: w.idle,
	}
	if err := os.Mkdir(h.GenPath(), 0o700); err != nil {
		return h, err
	}
	if err := record.Create(filepath.Join(h.GenPath(), record.FileName), []record.Line{record.Int("generation", 1)}); err != nil {
		return h, err
	}
	return h, writeCurrent(h.Dir, h.GenDir)
}

// bound waits until somebody listens at the endpoint.
func (d *daemon) bound() error {
	if d.w.mode == Inherit {
		return nil
	}
	var last error
	err := d.w.until("it listens", func() bool {
		var c net.Conn
		if c, last = d.w.dial(); last == nil {
			_ = c.Close()
			return true
		}
		return d.failed()
	})
	if err == nil && last != nil {
		err = errors.New("it ended before it listened: " + d.ending())
	}
	return err
}

// failed reports whether the process has ended otherwise than one that leaves a
// child in the background does.
func (d *daemon) failed() bool { return !d.alive() && d.state.ExitCode() != 0 }

// ending says how it ended, with the last lines of its log.
func (d *daemon) ending() string {
	if d.alive() {
		return fmt.Sprintf("pid %d lives", d.pid)
	}
	text := fmt.Sprintf("pid %d: %v", d.pid, d.state)
	if last := lastOf(d.w.log(), 300); last != "" {
		text += fmt.Sprintf(", log %q", last)
	}
	return text
}

// lastOf is the end of a file that may be of any size.
func lastOf(path string, n int64) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	if fi, err := f.Stat(); err == nil && fi.Size() > n {
		_, _ = f.Seek(-n, io.SeekEnd)
	}
	b, _ := io.ReadAll(io.LimitReader(f, n))
	return strings.TrimSpace(string(b))
}

// up launches the daemon and waits until it serves.
func (w *world) up() (*daemon, error) {
	d, err := w.launch()
	if err != nil {
		return nil, err
	}
	if err := d.bound(); err != nil {
		return nil, err
	}
	if err := d.serves(); err != nil {
		return nil, err
	}
	return d, nil
}

// serves wants an answer, or without a request what can be seen of one.
func (d *daemon) serves() error {
	if !d.w.speaks() {
		// The trampoline has become it, and it did not end at once.
		err := d.w.until("it was executed", func() bool {
			return !d.alive() || executed(d.pid)
		})
		if err == nil {
			d.w.sleep(200 * time.Millisecond)
			if !d.alive() && !d.forked() {
				err = errors.New("it ended: " + d.ending())
			}
		}
		return err
	}
	// One that turns clients away while it loads has started all the same.
	var last error
	err := d.w.until("it answers", func() bool {
		_, last = d.w.ask()
		return last == nil || d.failed() || errors.Is(last, os.ErrDeadlineExceeded)
	})
	switch {
	case last != nil && d.failed():
		return fmt.Errorf("%w; it ended: %s", last, d.ending())
	case last != nil:
		return last
	}
	return err
}

// forked reports whether the process has left a child that listens and ended
// with success, as daemons do that put themselves into the background.
func (d *daemon) forked() bool {
	return !d.alive() && d.state.ExitCode() == 0 && len(d.w.daemons()) > 0
}

// processes are the daemon and its children, wherever it has put itself.
func (d *daemon) processes() []process {
	if d.alive() {
		return tree(d.pid)
	}
	var list []process
	for _, r := range d.w.daemons() {
		list = append(list, r.tree...)
	}
	return list
}

// gone waits until nothing of the daemon's is left.
func (d *daemon) gone() error {
	return d.w.until("it has ended", func() bool { return !d.alive() && len(d.w.daemons()) == 0 })
}

// kill9 kills the daemon itself, not its children, and waits for its end.
func (d *daemon) kill9() error {
	pid := d.pid
	if !d.alive() {
		for _, r := range d.w.daemons() {
			pid = r.pid
		}
	}
	if err := d.w.family.kill(pid); err != nil {
		return err
	}
	return d.w.until("the kernel has ended it", func() bool { return !living(pid) })
}
