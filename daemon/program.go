package daemon

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/record"
)

// A stageError is why and in which stage a daemon failed.
type stageError struct {
	stage string
	err   error
}

func (e *stageError) Error() string { return "failed in stage " + e.stage + ": " + e.err.Error() }
func (e *stageError) Unwrap() error { return e.err }

// A panicError is a panic of the backend's.
type panicError struct {
	value any
	stack []byte
}

func (e *panicError) Error() string { return fmt.Sprintf("panic: %v", e.value) }

// guard runs one of the backend's methods.
func guard(stage string, f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &panicError{v, debug.Stack()}
		}
		if err != nil {
			err = &stageError{stage, err}
		}
	}()
	return f()
}

// Exit statuses of a daemon's process.
const (
	exitDrained = 0
	exitFailed  = 1
	exitPanic   = 2
)

// runProcess is run with the manners of a process.
func runProcess(p program, opts []Option) int {
	proc.GrowStack()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer stop()
	err := run(ctx, p, opts)
	if err == nil {
		return exitDrained
	}
	fmt.Fprintf(os.Stderr, "%s: %v\n", filepath.Base(os.Args[0]), err)
	var panicked *panicError
	if errors.As(err, &panicked) {
		_, _ = os.Stderr.Write(panicked.stack)
		return exitPanic
	}
	return exitFailed
}

// A stand is what a daemon stands on: what it adopted or made before it binds.
type stand struct {
	inst     *Instance
	handover *handover.Handover // nil: neither a broker nor by hand
	listener *endpoint.Listener // nil: the backend binds
	control  *endpoint.Listener
	old      *control.Client // to the generation that is to be succeeded, or nil
	life     *os.File        // the instance's, once there is one
	within   time.Duration   // bound of a drain
	ended    string          // why it ends by itself, "" if it was asked to
}

// run takes a daemon through its whole life.
func run(ctx context.Context, p program, opts []Option) error {
	var o options
	for _, opt := range opts {
		opt(&o)
	}
	st, err := adopt(ctx, p, o)
	if err != nil {
		return err
	}
	defer runtime.KeepAlive(st.inst)
	// A signal asks for a stop, and so can a peer at the control endpoint.
	ctx, st.inst.stop = context.WithCancel(ctx)
	defer st.inst.stop()
	st.inst.leases = newLeases(st.inst.need, st.inst.append)
	defer st.inst.leases.close()
	var wg sync.WaitGroup
	defer wg.Wait()
	if st.control != nil {
		server := control.NewServer(st.inst, endpoint.Check)
		wg.Go(func() { _ = server.Serve(st.control) })
		defer server.Close()
	}
	err = st.live(ctx, p)
	var se *stageError
	switch {
	case err == nil:
		if st.ended != "" {
			_ = st.inst.append(record.Line{Key: "ended", Value: st.ended})
		}
		st.inst.enter(record.Gone)
	case errors.As(err, &se):
		st.inst.fail(failureOf(ctx, se))
	}
	// Only now: whoever queued on it is to find the verdict.
	if st.listener != nil {
		_ = st.listener.Close()
	}
	return err
}

// failureOf makes what the record keeps. A daemon that was stopped before it
// was ready did not fail by itself, and spends no budget.
func failureOf(ctx context.Context, se *stageError) record.Failure {
	f := record.Failure{Stage: se.stage, Cause: se.err.Error(), Status: -1, At: proc.BootTime(), Time: time.Now()}
	_ = errors.As(se.err, &f.Errno)
	if se.stage == launch.StageBind {
		f.Kind = launch.BindKind(se.err)
	}
	if errors.Is(se.err, errStopped) && ctx.Err() != nil {
		f.Signal = syscall.SIGTERM.String()
	}
	return f
}

var errStopped = errors.New("stopped before it was ready")

// adopt takes what the process was launched with, or launches by hand.
func adopt(ctx context.Context, p program, o options) (*stand, error) {
	h, err := handover.Take()
	if err != nil {
		// Announced, and not to be used: a second listener would be worse.
		return nil, &stageError{launch.StageAdopt, err}
	}
	if h != nil {
		return adoptHandover(h, o)
	}
	if fds := handover.TakeActivated(); fds != nil {
		return adoptActivated(fds, o)
	}
	if o.service == nil {
		return nil, &stageError{launch.StageAdopt, errors.New(
			"no listener was handed down; start it with fastbind, or name its service with daemon.For")}
	}
	return byHand(ctx, p, o)
}

// adoptHandover takes what a broker handed down.
func adoptHandover(h *handover.Handover, o options) (*stand, error) {
	st := &stand{handover: h, within: h.StopWithin}
	inherited := inheritedOf(h)
	defer inherited.close() // after the verdict, if there is one
	err := st.adoptDescriptors(h, inherited)
	st.inst = newInstance(h, o)
	st.inst.life = st.life
	if err == nil {
		err = st.inst.announce()
	}
	if err != nil {
		se := &stageError{launch.StageAdopt, err}
		st.inst.fail(failureOf(context.Background(), se))
		return nil, se
	}
	capLog(st.inst.content)
	return st, nil
}

// errFurther: a backend would leave those who connect there waiting for ever.
var errFurther = errors.New("its definition has further endpoints, of which a daemon made with package daemon accepts none")

func (st *stand) adoptDescriptors(h *handover.Handover, inherited inherited) error {
	if len(h.Further) > 0 {
		return errFurther
	}
	var err error
	if h.Life != handover.None {
		st.life = os.NewFile(uintptr(h.Life), "life lock")
	} else if st.life, err = launch.CreateLife(h.GenPath()); err != nil {
		return err
	}
	if h.Succeeds != "" {
		if err := st.succeedTo(h); err != nil {
			return err
		}
	}
	if ln, err := inherited.listener(st.place().Sock()); err != nil {
		return err
	} else if ln != nil {
		st.listener = ln
	}
	if st.control, err = inherited.control(st.place().Ctl(h.GenDir)); err != nil || st.control != nil {
		return err
	}
	// Launched as a foreign daemon: its broker could not know better.
	sock, err := launch.BindControl(st.place().Ctl(h.GenDir))
	if err != nil {
		return err
	}
	st.control, err = sock.Listener()
	return err
}

// adoptActivated takes the first listener that an init system handed down by
// its own convention. Nobody keeps a record of such a daemon.
func adoptActivated(fds []int, o options) (*stand, error) {
	ln, err := activated(fds[0])
	if err != nil {
		return nil, &stageError{launch.StageAdopt, err}
	}
	h := &handover.Handover{Service: filepath.Base(os.Args[0]), Instance: "default"}
	if o.service != nil {
		h.Service = o.service.Name
	}
	return &stand{inst: newInstance(h, o), listener: ln, within: definition.DefaultStopWithin}, nil
}

// byHand launches this very process as the service's daemon.
func byHand(ctx context.Context, p program, o options) (*stand, error) {
	b, err := launch.OfService(*o.service)
	if err != nil {
		return nil, launch.Public(err)
	}
	if b.Def.Foreign {
		// It would get no life lock and no control endpoint, which a backend has.
		return nil, launch.Public(&launch.Fault{Class: launch.Refusal, Service: b.Def.Service, Instance: b.Def.Instance,
			Stage: launch.StagePolicy, Err: errForeign, Status: -1, Cure: "leave Foreign out of the service that daemon.For names"})
	}
	b.Listen = func(sock string) (ln net.Listener, err error) {
		ep, err := fastbind.NewEndpoint(sock)
		if err != nil {
			return nil, err
		}
		err = guard(launch.StageBind, func() error {
			ln, err = p.bind(ep)
			return err
		})
		return ln, err
	}
	out, err := b.Ensure(ctx, launch.ByHand, launch.StepConnect, proc.BootTime())
	if out.Conn != nil {
		_ = out.Conn.Close()
	}
	if err != nil {
		return nil, launch.Public(err)
	}
	if out.Result == launch.AlreadyBound {
		return nil, &stageError{launch.StageBind, fmt.Errorf("%q: %w", o.service.Name, fastbind.ErrAlreadyBound)}
	}
	hand := out.Hand
	st := &stand{handover: &hand.Handover, life: hand.Life, within: hand.Handover.StopWithin}
	st.inst = newInstance(st.handover, o)
	st.inst.life = st.life
	if st.listener, err = listenerOf(hand.Listener); err == nil {
		st.control, err = hand.Control.Listener()
	}
	if err == nil {
		err = st.inst.announce()
	}
	if err != nil {
		se := &stageError{launch.StageBind, err}
		st.inst.fail(failureOf(ctx, se))
		return nil, se
	}
	return st, nil
}

var errForeign = errors.New("a daemon that is started by hand is a backend, and its service says that it is foreign")

func newInstance(h *handover.Handover, o options) *Instance {
	i := &Instance{
		service: h.Service, instance: h.Instance, generation: h.Generation,
		args: os.Args[1:], changed: make(chan struct{}), phase: record.Launching, started: time.Now(),
		need: newNeed(h.IdleExit),
	}
	i.giver = newGiver(i.need, func() bool { return isOwner(h) })
	if h.Dir != "" {
		i.giver.dir = h.GenPath()
	}
	if h.Holder != "" {
		i.giver.promised(h.Holder)
	}
	i.need.load() // until it is ready
	if h.Dir != "" {
		i.dir = h.GenPath()
		i.inode = h.Inode
		i.content, _ = record.Content(filepath.Join(i.dir, record.FileName))
		i.endpoint, _ = fastbind.NewEndpoint(placeOf(h).Sock())
	}
	version, build := buildVersion()
	for _, v := range []string{o.version, h.Version, version} {
		if v != "" {
			version = v
			break
		}
	}
	i.identity = control.Identity{
		Service: h.Service, Instance: h.Instance, Generation: int64(h.Generation),
		PID: os.Getpid(), BootID: proc.BootID(), Version: version, BuildID: build, Executable: executable(),
	}
	if self, err := proc.Self(); err == nil {
		i.identity.StartedTicks, i.identity.PIDNamespace = self.Start, self.PIDNS
	}
	return i
}

// announce completes the record with who this process is.
func (i *Instance) announce() error {
	id := i.identity
	return i.append(record.IdentityLines(record.Record{
		PID: id.PID, Start: id.StartedTicks, PIDNamespace: id.PIDNamespace, Inode: i.inode, Version: id.Version, BuildID: id.BuildID, Backend: true,
		Executable: record.Executable{
			Path: id.Executable.Path, Inode: record.Inode{Dev: id.Executable.Device, Ino: id.Executable.Inode},
			Size: id.Executable.Size, MTimeNS: id.Executable.MtimeNS},
	})...)
}

// buildVersion returns the main module's version and what it was built from.
func buildVersion() (version, build string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "", ""
	}
	if v := info.Main.Version; v != "(devel)" {
		version = v
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			build = s.Value
		}
		if s.Key == "vcs.modified" && s.Value == "true" {
			build += "+modified"
		}
	}
	if build == "" {
		build = info.Main.Sum
	}
	return version, build
}

// executable is the identity of the file this process runs, which may have been
// replaced at its path since.
func executable() control.Executable {
	path, err := os.Executable()
	if err != nil {
		return control.Executable{}
	}
	x := control.Executable{Path: strings.TrimSuffix(path, " (deleted)")}
	fi, err := os.Stat(runningFile(path))
	if err != nil {
		return x
	}
	x.Size, x.MtimeNS = fi.Size(), fi.ModTime().UnixNano()
	id := endpoint.FileID(runningFile(path), fi)
	x.Device, x.Inode = id.Dev, id.Ino
	return x
}

// live takes the daemon from bind to its end. The error is nil after a drain,
// else a *stageError.
func (st *stand) live(ctx context.Context, p program) error {
	if err := st.bind(p); err != nil {
		return err
	}
	st.inst.enter(record.Bound)
	ln := newListener(st.listener, st.inst.need)
	st.inst.mu.Lock()
	st.inst.connections = ln.count
	st.inst.mu.Unlock()

	if st.handover != nil {
		st.keep()
	}
	st.inst.giver.bound(ln, st.inst.stop)
	if st.old != nil {
		defer st.old.Close() // gives the succession up, unless it was taken over
	}

	stranded, stopWatch := st.watchNames()
	defer stopWatch()

	if st.handover != nil && st.handover.Dir != "" {
		st.inst.leases.inherit(st.handover)
	}

	st.inst.enter(record.Loading)
	var state any
	err := guard(launch.StageLoad, func() (err error) {
		state, err = p.load(ctx, st.inst)
		return err
	})
	if err != nil && ctx.Err() != nil {
		if st.inst.giver.isTaken() {
			st.ended = endedReplaced // nobody needs what it was loading
			return nil
		}
		return &stageError{launch.StageLoad, errStopped}
	}
	if err != nil {
		return err
	}
	if st.old != nil {
		if err := st.takeOver(ctx); err != nil {
			return err
		}
		st.inst.leases.inherit(st.handover) // those taken of the old one meanwhile
	}
	st.inst.giver.serves()
	if !st.inst.later() {
		st.inst.Ready()
	}
	return st.serve(ctx, p, ln, state, stranded)
}

func (i *Instance) later() bool {
	i.mu.Lock()
	defer i.mu.Unlock()
	return i.readyLater
}

// bind makes the listener of a daemon that was handed none.
func (st *stand) bind(p program) error {
	if st.listener != nil {
		return nil
	}
	return guard(launch.StageBind, func() error {
		if st.inst.endpoint == (fastbind.Endpoint{}) {
			_, err := fastbind.NewEndpoint(st.place().Sock())
			return err
		}
		ln, err := p.bind(st.inst.endpoint)
		if err != nil {
			return err
		}
		if st.listener, err = listenerOf(ln); err != nil {
			return err
		}
		st.handover.Inode, err = endpoint.Identity(st.inst.endpoint.Path())
		return err
	})
}
