package fastbindtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// stopWord is what daemon.terminate sends.
const stopWord = "Drain"

func (w *world) service() string { return filepath.Join(w.run(), "check") }

// place: a pipe is named after the directory.
func (w *world) place() runtimedir.Place {
	return runtimedir.Place{Root: w.dir, Dir: w.service(), Addr: w.service()}
}

func (w *world) socket() string { return w.place().Sock() }

// clear: a pipe's name is gone with its last instance, and cannot be removed before.
func (w *world) clear() {}

// leave: so that nobody leaves one.
func (w *world) leave() (bool, error) { return false, nil }

// shared: each has instances of the same pipe.
func shared(s socket, name string) bool { return s.id == pipeID(name) }

func writeCurrent(dir, generation string) error { return runtimedir.WriteCurrent(dir, generation) }

// An inheritance is the instances of a pipe, in which clients wait, or something else.
type inheritance struct {
	instances *pipe.Instances
	handles   []syscall.Handle // copies for the child
}

func (o *offer) close() {
	for _, h := range o.handles {
		_ = syscall.CloseHandle(h)
	}
	_ = o.instances.Close()
}

func (w *world) offer() (*offer, error) {
	held, err := pipe.Claim(w.socket(), pipe.Queue)
	if err != nil {
		return nil, err
	}
	o := &offer{inheritance: inheritance{instances: held}, id: pipeID(w.socket())}
	copies, err := held.Inheritable()
	if err == nil {
		o.handles = copies.Handles
		err = w.announce(o)
	}
	if err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// falseOffer: the null device, once for each handle.
func (w *world) falseOffer() (*offer, error) {
	o, err := w.offer()
	if err != nil {
		return nil, err
	}
	null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
	if err != nil {
		o.close()
		return nil, err
	}
	defer null.Close()
	for i, h := range o.handles {
		_ = syscall.CloseHandle(h)
		if o.handles[i], err = inheritable(null); err != nil {
			o.handles = slices.Delete(o.handles, i, i+1)
			o.close()
			return nil, err
		}
	}
	if err := w.announce(o); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

// announce makes the variable with which the broker hands a listener down.
func (w *world) announce(o *offer) (err error) {
	if o.handover, err = w.generation(); err != nil {
		return err
	}
	o.name = fmt.Sprintf("handle %d", o.handles[0])
	o.handover.Instances = handover.HandlesOf(o.handles)
	o.env = []string{handover.Variable + "=" + o.handover.Encode()}
	return nil
}

// inheritable is a copy of a file's handle for a child.
func inheritable(f *os.File) (syscall.Handle, error) {
	self := windows.CurrentProcess()
	var dup windows.Handle
	err := windows.DuplicateHandle(self, windows.Handle(f.Fd()), self, &dup, 0, true, windows.DUPLICATE_SAME_ACCESS)
	return syscall.Handle(dup), os.NewSyscallError("DuplicateHandle", err)
}

// spawn: a hidden console and a process group of its own, in the root of the system's
// drive.
func (w *world) spawn(o *offer, g *gate) (*daemon, error) {
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	log, err := os.OpenFile(w.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	defer log.Close()
	d := &daemon{w: w, offer: o}
	sys := &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP}
	env := w.env()
	if o != nil {
		sys.AdditionalInheritedHandles, env = o.handles, append(env, o.env...)
		d.handed = o.id
	}
	if g != nil {
		sys.CreationFlags |= windows.CREATE_SUSPENDED
	}
	argv := w.expandAll(w.Target.Command)
	d.child, err = w.family.start(argv[0], argv, &os.ProcAttr{Dir: lookup(w.Env, "SYSTEMDRIVE") + `\`, Env: env,
		Files: []*os.File{null, log, log}, Sys: sys})
	if err != nil {
		return nil, err
	}
	if g != nil {
		g.hold(d.child)
	}
	d.began = time.Now()
	return d, nil
}

// executed: it has been the daemon from the beginning.
func executed(int) bool { return true }

// terminate sends the order to the control endpoint, where one that was handed its
// listener answers (docs/protocol.md). The answer is not waited for: it may be suspended.
func (d *daemon) terminate() error {
	if d.offer == nil {
		return errors.New("it has no control endpoint, so that it cannot be asked to end") // see lacking
	}
	name := d.w.place().Ctl(d.offer.handover.GenDir)
	var c *pipe.Conn
	var last error
	err := d.w.until("its control endpoint "+name+" can be reached", func() bool {
		ctx, cancel := context.WithTimeout(d.w.ctx, d.w.patience())
		defer cancel()
		c, last = pipe.Dial(ctx, name)
		return !errors.Is(last, fs.ErrNotExist) || !d.alive()
	})
	if err = errors.Join(last, err); err != nil {
		return err
	}
	_ = c.SetDeadline(time.Now().Add(d.w.patience()))
	_, err = c.Write([]byte(`{"method":"io.fastbind.Daemon.Drain"}` + "\x00"))
	go func() {
		_, _ = io.Copy(io.Discard, c)
		_ = c.Close()
	}()
	return err
}
