// Package launch is the embedded broker: it makes sure that a service's
// endpoint is bound and that a daemon was started behind it, together with
// however many other processes that want the same at the same time.
//
// Decisions are apart from effects. Machine is the protocol: a pure, comparable
// state machine that names the next Step. The driver in this file runs it
// against a system, the real one being in system.go and its twins. What is safe about a
// launch is in the order that Machine gives; what is true about the operating
// system is in the effects.
package launch

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
	"github.com/fastbind/fastbind/internal/version"
)

// OnStep is called before each step that a driver does. It is nil but in the
// fault matrix, whose launchers end themselves in it.
var OnStep func(Step)

// A Broker launches one service for the calling process. It is safe for
// concurrent use and holds nothing between calls.
type Broker struct {
	Env    runtimedir.Env
	Def    definition.Definition // completed and checked
	Client func() []string       // the client's environment, which the contract selects from

	// Want is what this dial asks of the version, beyond the definition; "" is
	// nothing. See version.ParseWant.
	Want string

	force bool // replace whatever builds there are

	// Dir names the service's directory, "" for the one that follows from the
	// definition. It is for looking at variants made by other environments.
	Dir string

	// Listen binds the endpoint in this process, for Mode ByHand.
	Listen func(sock string) (net.Listener, error)

	Hook *Hook // of a standing broker; nil in the SDK

	standing *standing // what modes Holds and Activates do
	held     *Holding  // what Mode Activates hands down a copy of
	holder   string    // in Mode Holds: the directory of the broker's generation

	// What Remember found.
	likely *atomic.Pointer[spot] // where the endpoint was last, or most probably is; nil: not remembered
	own    string                // what the name of a generation of the same build ends in, "": any will do

	contract *[]string // of one launch, which asks more than once and keeps it here; else nil
}

// NewBroker returns the broker of a definition for the calling process.
func NewBroker(env runtimedir.Env, def definition.Definition, client func() []string) *Broker {
	return &Broker{Env: env, Def: def, Client: client}
}

// Remember keeps what is the same at each dial, for Reach: where the endpoint is, and of
// which build this executable is. The broker must not be changed any more.
func (b *Broker) Remember() {
	if b.Def.EnvPolicy != definition.EnvIgnore {
		return // the whole environment matters, and is looked at each time
	}
	if b.judged() {
		if !b.Def.Self || !b.unlimited() {
			return
		}
		b.own = "." + buildDigest(b.build())
	}
	if guess := b.Env.Guess(b.Def.Instance, b.DirName()); len(guess) > 0 {
		b.likely = new(atomic.Pointer[spot])
		b.likely.Store(b.spotAt(guess[0]))
	}
}

// Wanting returns a copy with another Want.
func (b *Broker) Wanting(want string) *Broker {
	c := *b
	c.Want = want
	return &c
}

// Contract returns the environment that the service's daemon would get from
// this client. It is not to be changed.
func (b *Broker) Contract() []string {
	if b.contract == nil {
		return b.makeContract()
	}
	if *b.contract == nil {
		*b.contract = b.makeContract()
	}
	return *b.contract
}

func (b *Broker) makeContract() []string {
	return environ.Contract(b.Client(), b.Def.Env, func() environ.Account {
		home, name, shell, err := proc.Account(b.Env.EUID)
		if err != nil {
			return environ.Account{}
		}
		return environ.Account{Home: home, Name: name, Shell: shell}
	})
}

// variantSep separates a service's name from what tells its variants apart; no
// name contains it.
const variantSep = "+"

// DirName is the name of the service's directory: with policy coexist the
// environment, or the version, is part of the endpoint.
func (b *Broker) DirName() string {
	if b.Dir != "" {
		return b.Dir
	}
	name := b.Def.Service
	if b.Def.EnvPolicy == definition.EnvCoexist {
		name += variantSep + environ.Digest(b.Contract())
	}
	if b.Def.OnVersion == definition.VersionCoexist {
		name += variantSep + "v" + buildDigest(version.Identity{Version: b.Def.Version})
	}
	return name
}

// ServiceOf returns the service's name in the name of a service's directory.
func ServiceOf(dirName string) string {
	name, _, _ := strings.Cut(dirName, variantSep)
	return name
}

// Mode is how the definition's daemon gets its listener.
func (b *Broker) Mode() Mode {
	if b.Def.Bind == definition.BindDaemon {
		return DaemonBinds
	}
	return BrokerBinds
}

// A Generation is what a launch made.
type Generation struct {
	Number     uint64
	Dir        string // its directory
	PID        int
	There      time.Duration // boot-time clock when its process was
	BoundAfter time.Duration // launch start until the endpoint accepted; 0: it did before

	// Tied says what can end the daemon together with its launcher, "" if nothing of
	// that kind is known. It is the job of Windows that lets nobody out (R20).
	Tied string

	// Ended is closed when its process has ended and its record says how, nil
	// where the system gave no handle on it.
	Ended <-chan struct{}
}

// An Outlook is what came of Ensure.
type Outlook struct {
	Place  runtimedir.Place
	Result Result

	// Conn is a connection that was made on the way, or nil. The caller owns it.
	Conn *endpoint.Conn

	// Launched is the generation this call launched, nil if it attached.
	Launched *Generation

	// Hand is what a daemon started by hand now holds.
	Hand *Hand

	// Held is what a standing broker now holds, nil if it holds nothing, or the same
	// as before. The caller owns it.
	Held *Holding
}

// Ensure runs the launch protocol from the given step until the service's
// endpoint accepts connections. since is the boot-time clock at which the
// caller's dial began: a launch that failed later failed for this dial too.
//
// It blocks until that is so, until a *Fault says why it is not, or until ctx
// ends, which is looked at only where nothing is half done.
func (b *Broker) Ensure(ctx context.Context, mode Mode, first Step, since time.Duration) (Outlook, error) {
	s := newSystem(b.now(), mode, since)
	m := s.run(ctx, mode, first)
	if m.Result == Attached && first == StepConnect && s.furtherLost() {
		m = s.run(ctx, mode, StepLock) // whoever comes by the lock puts it back
	}
	return s.outlook(ctx, m)
}

// run runs the protocol from a step to its end.
func (s *system) run(ctx context.Context, mode Mode, first Step) Machine {
	m := Machine{Mode: mode, Step: first}
	for m.Step != StepDone {
		if OnStep != nil {
			OnStep(m.Step)
		}
		m = m.Next(s.do(ctx, m))
	}
	if OnStep != nil {
		OnStep(StepDone)
	}
	return m
}

// now returns the broker with what a launch needs and the warm path does not pay
// for: the uid of this moment and the path of this executable.
func (b *Broker) now() *Broker {
	c := *b
	c.Env.EUID = os.Geteuid()
	c.contract = new([]string)
	if c.Def.Self && c.Def.Command[0] == "" {
		c.Def.Command = append([]string{selfPath()}, c.Def.Command[1:]...)
	}
	return &c
}

// selfPath is the path of this executable as far as it is known; it names the
// program in records, so that a later process can restart the service.
func selfPath() string {
	path, err := os.Executable()
	if err != nil {
		return os.Args[0]
	}
	return strings.TrimSuffix(path, " (deleted)")
}

// DirectoryFault is the refusal for an unusable directory.
func (b *Broker) DirectoryFault(err error) *Fault {
	f := b.fault(Refusal, StageDirectory, err)
	if r, ok := errors.AsType[*runtimedir.Refused](err); ok {
		f.Cure = r.Cure
	}
	return f
}

// listFault is the fault of a service's directory that cannot be read: a refusal
// if that is because it is not as it must be.
func (b *Broker) listFault(place runtimedir.Place, err error) *Fault {
	if refused := b.Env.Verify(place.Dir); refused != nil && errors.Is(err, os.ErrPermission) {
		return b.DirectoryFault(refused)
	}
	return b.fault(LaunchFailed, StageDirectory, err)
}

// connectFault is the refusal for a connect that found what is no daemon of
// ours, or that the system forbids, or the failure of one that it cannot do.
func (b *Broker) connectFault(reach endpoint.Reach, err error) *Fault {
	f := b.fault(Refusal, StageConnect, err)
	switch reach {
	case endpoint.Foreign:
		f.Cure = "the endpoint belongs to another user: check who may write to its directory"
	case endpoint.Denied:
		f.Cure = "the system forbids connecting, perhaps in a sandbox: allow Unix sockets, or run without the daemon"
	default:
		f.Class = LaunchFailed
	}
	return f
}

// DeadlineFault is the fault of a caller whose time was up.
func (b *Broker) DeadlineFault(ctx context.Context) *Fault {
	return b.fault(Deadline, StageWait, context.Cause(ctx))
}

// fault makes a fault of the service. Inlined, it is 6 kB of code in every client.
//
//go:noinline
func (b *Broker) fault(class Class, stage string, err error) *Fault {
	return &Fault{Class: class, Service: b.Def.Service, Instance: b.Def.Instance, Stage: stage, Err: err, Status: -1}
}

// logPath and journalPath are the service's files below the state directory.
func logPath(state, dirName string) string     { return filepath.Join(state, dirName+".log") }
func journalPath(state, dirName string) string { return filepath.Join(state, dirName+".journal") }

// Note writes an event to the service's journal. A journal that cannot be
// written never fails what it reports on.
func (b *Broker) Note(root string, e journal.Event) {
	state, err := b.Env.State(root, b.Def.Instance)
	if err != nil {
		return
	}
	e.Service, e.Instance = b.Def.Service, b.Def.Instance
	now := time.Now()
	_ = journal.Append(journalPath(state, b.DirName()), now, e)
	if b.Hook != nil && b.Hook.Noted != nil {
		b.Hook.Noted(now, e)
	}
}

// program returns the path of the file that the definition's command names,
// looked up in the contracted PATH, and checks that it can be executed.
func program(def definition.Definition, contract []string) (string, error) {
	name := def.Command[0]
	if isPath(name) {
		if !filepath.IsAbs(name) {
			return "", &os.PathError{Op: "exec", Path: name, Err: errRelative}
		}
		return findExecutable(name)
	}
	path := pathOf(contract)
	var last error = &os.PathError{Op: "exec", Path: name, Err: errNotInPath}
	for _, dir := range filepath.SplitList(path) {
		if !filepath.IsAbs(dir) {
			continue // a daemon has no caller's directory to look in
		}
		p, err := findExecutable(filepath.Join(dir, name))
		if err == nil {
			return p, nil
		}
		if errors.Is(err, os.ErrPermission) {
			last = err
		}
	}
	return "", last
}

var (
	errEnvironment = errors.New("the daemon runs with another environment")
	errNoService   = errors.New("no such service: it was never launched here")
	errNameless    = errors.New("a generation holds its life lock and does not say who it is")
	errNotRunning  = errors.New("it is not running")

	errRelative  = errors.New("a command is an absolute path or a name to be found in PATH")
	errNotInPath = errors.New("no such program in PATH")
)
