package standing

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/activation"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/broker/unit"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A broker becomes another version of itself by executing that: the process stays the
// same, and so do its pid, its locks, its listeners with who waits in their queues, and
// its children. In order:
//
//  1. The definition files are read, and the program at the broker's path is tried: it
//     says which forms of the hand-over it reads and what it would hold (see [Trial]).
//  2. The broker comes to rest, so that nothing is half done.
//  3. What it has is described in a sealed file without a name. Of every descriptor in
//     it there is a copy by then, close-on-exec like all.
//  4. With no fork under way, the copies lose that mark and the program is executed.
//
// Until the last step succeeds nothing is given up: why it fails is the answer, and the
// broker goes on. After it the kernel has closed everything but the copies; the program
// checks that each is what it was said to be (see [Inherit]), takes them over, and
// answers who has asked for the upgrade when it holds what was held.

// Format is the form of the hand-over that this release writes and reads. It is raised
// by a change that a reader of the former could not ignore.
const Format = 1

// variable names the descriptor of the hand-over.
const variable = "FASTBIND_BROKER_HANDOVER"

// checkFlag has a broker's command try itself.
const checkFlag = "--check-handover"

// Bounds of an upgrade.
const (
	tryWithin  = 10 * time.Second // for the new program to say what it is
	restWithin = 10 * time.Second // for what is under way
	maxTrial   = 4 << 20          // bytes that it may say
	maxPassed  = 16 << 20         // bytes of the hand-over
)

// A Program is a build of the command.
type Program struct {
	Version string `json:"version"`
	Build   string `json:"build"`
}

func (p Program) String() string {
	switch {
	case p.Version == "" && p.Build == "":
		return "an unknown version"
	case p.Build == "":
		return p.Version
	case p.Version == "":
		return p.Build
	}
	return p.Version + " (" + p.Build + ")"
}

// A Trial is what a program says of itself that is to become the broker.
type Trial struct {
	Formats  []int             `json:"formats"` // of the hand-over that it reads
	Program  Program           `json:"program"`
	Holds    []string          `json:"holds"`    // what it would hold
	Problems map[string]string `json:"problems"` // what it would not, and why
}

// Try is the trial of this program.
func Try(program Program, files []File) Trial {
	t := Trial{Formats: []int{Format}, Program: program, Holds: []string{}, Problems: map[string]string{}}
	for _, f := range files {
		if f.Err != nil {
			t.Problems[f.Name] = f.Err.Error()
		} else {
			t.Holds = append(t.Holds, f.Name)
		}
	}
	return t
}

// A Replacement is what a broker needs to execute another program in its place.
type Replacement struct {
	Path string // of the program, absolute
	Args []string
	Env  func() []string
}

// passed is the hand-over.
type passed struct {
	Format   int             `json:"format"`
	From     Program         `json:"from"`
	Services []passedService `json:"services"`
	Sockets  []passedSocket  `json:"sockets"` // of the service manager
	Asker    *descriptor     `json:"asker,omitempty"`
}

type passedSocket struct {
	Name   string     `json:"name"`
	Socket descriptor `json:"socket"`
}

type passedService struct {
	DirName  string          `json:"dir"`
	Listener *descriptor     `json:"listener,omitempty"`
	Device   uint64          `json:"device,omitempty"` // of the listener's names
	Inode    uint64          `json:"inode,omitempty"`
	Further  []passedFurther `json:"further,omitempty"`
	Number   uint64          `json:"number,omitempty"` // the generation that serves
	Backend  bool            `json:"backend,omitempty"`
	Ready    bool            `json:"ready,omitempty"`
	Leaving  bool            `json:"leaving,omitempty"`
	Owed     bool            `json:"owed,omitempty"`
	Runs     []passedRun     `json:"runs,omitempty"`
}

// passedFurther is a further endpoint's listener.
type passedFurther struct {
	Endpoint string     `json:"endpoint"`
	Listener descriptor `json:"listener"`
	Device   uint64     `json:"device"` // of the listener's names
	Inode    uint64     `json:"inode"`
}

type passedRun struct {
	Number uint64      `json:"number"`
	Hold   *descriptor `json:"hold,omitempty"`
	Notify *descriptor `json:"notify,omitempty"`
	Status string      `json:"status,omitempty"`
}

// A descriptor is one that is passed on, and by what it is recognized.
type descriptor struct {
	FD    int    `json:"fd"`
	Inode uint64 `json:"inode"` // the socket's own, not that of a name
	Kind  kind   `json:"kind"`
}

// A kind of socket.
type kind string

const (
	listening kind = "listener"
	connected kind = "connection"
	datagrams kind = "datagram"
)

// reached is told of each step of an upgrade. It is changed by tests.
var reached = func(step string) {}

// The steps, in their order; the last two are of the new program.
const (
	stepTried   = "tried"
	stepRested  = "rested"
	stepWritten = "written"
	stepMarked  = "marked" // the copies are inheritable
	stepTaken   = "taken"
	stepServes  = "serves"
)

// upgrade executes the program at the broker's path in place of this one. It returns
// only if that is not so, and why. asker is the connection of who asks, whom the new
// program answers, or nil.
func (p *process) upgrade(ctx context.Context, asker syscall.Conn) error {
	if !p.upgrading.TryLock() {
		return errors.New("an upgrade is under way")
	}
	defer p.upgrading.Unlock()
	if !canExecute {
		return errors.New("no program can be executed in place of a process here; stop the broker and start the other one")
	}
	if p.replacement.Path == "" {
		return errors.New("it is not known by which path to execute the broker again")
	}
	if err := p.reload(ctx); err != nil {
		return err
	}
	before, err := os.Stat(p.replacement.Path)
	if err != nil {
		return err
	}
	t, err := p.try(ctx)
	if err != nil {
		return fmt.Errorf("%s cannot be the broker: %w", p.replacement.Path, err)
	}
	reached(stepTried)
	p.reading.Lock() // what is held stays so
	defer p.reading.Unlock()
	if err := p.judge(t); err != nil {
		return err
	}
	p.Say("to be replaced by " + p.replacement.Path + ": " + t.Program.String() + ", after " + p.program().String())
	rest, cancel := context.WithTimeout(ctx, restWithin)
	defer cancel()
	return p.broker.Rest(rest, func(left map[string]broker.Left) error {
		reached(stepRested)
		now, err := os.Stat(p.replacement.Path)
		if err != nil {
			return err
		}
		if !os.SameFile(before, now) || before.Size() != now.Size() || !before.ModTime().Equal(now.ModTime()) {
			return errors.New(p.replacement.Path + " has changed since it was tried; try again")
		}
		return p.become(left, asker)
	})
}

func (p *process) program() Program { return Program{p.Version, p.Build} }

// try has the program say what it is.
func (p *process) try(ctx context.Context) (t Trial, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, tryWithin, errors.New("it has not said what it is within "+tryWithin.String()))
	defer cancel()
	cmd := exec.CommandContext(ctx, p.replacement.Path, append(slices.Clone(p.replacement.Args[1:]), checkFlag)...)
	cmd.Env = p.replacement.Env()
	alone(cmd)
	cmd.WaitDelay = time.Second
	out, problem := &bounded{room: maxTrial}, &bounded{room: 4 << 10}
	cmd.Stdout, cmd.Stderr = out, problem
	if err = cmd.Run(); err != nil {
		if ctx.Err() != nil {
			return t, context.Cause(ctx)
		}
		first, _, _ := strings.Cut(strings.TrimSpace(problem.b.String()), "\n")
		if first != "" {
			err = fmt.Errorf("%w: %s", err, first)
		}
		return t, err
	}
	if err = json.Unmarshal(out.b.Bytes(), &t); err != nil {
		return t, fmt.Errorf("what it says of itself is not understood: %w", err)
	}
	return t, nil
}

// bounded keeps the beginning of what is written to it.
type bounded struct {
	b    bytes.Buffer
	room int
}

func (w *bounded) Write(p []byte) (int, error) {
	w.b.Write(p[:min(len(p), w.room-w.b.Len())])
	return len(p), nil
}

// judge says why the program is not to become the broker.
func (p *process) judge(t Trial) error {
	if !slices.Contains(t.Formats, Format) {
		return fmt.Errorf("%s, %s, reads hand-overs of the formats %v, and this broker, %s, writes format %d; stop it and start the other",
			p.replacement.Path, t.Program, t.Formats, p.program(), Format)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for name := range p.held {
		if slices.Contains(t.Holds, name) {
			continue
		}
		why := t.Problems[name]
		if why == "" {
			why = "it does not know it"
		}
		return fmt.Errorf("%s, %s, would not hold %q, which is held: %s", p.replacement.Path, t.Program, name, why)
	}
	return nil
}

// become executes the program. It returns only if that is not so, with everything as it
// was.
func (p *process) become(left map[string]broker.Left, asker syscall.Conn) error {
	stand, ok := handover.Standing()
	if !ok {
		return errors.New("the broker has no generation of its own to go on with")
	}
	var c copies
	defer c.close()
	h := stand.Handover
	h.PID, h.Version = os.Getpid(), ""
	h.Listen, h.Control, h.Life = c.add(stand.Listener), c.add(stand.ControlListener), c.add(stand.LifeLock)
	out := passed{Format: Format, From: p.program()}
	for _, s := range p.Manager.Sockets {
		if s.Name == unit.SocketName {
			out.Sockets = append(out.Sockets, passedSocket{s.Name, *c.describe(s.File, listening)})
		}
	}
	if asker != nil {
		out.Asker = c.describe(asker, connected)
	}
	for dirName, l := range left {
		s := passedService{DirName: dirName, Device: l.Inode.Dev, Inode: l.Inode.Ino, Number: l.Run.Number, Backend: l.Run.Backend,
			Ready: l.Run.Ready, Leaving: l.Leaving, Owed: l.Owed}
		if l.File != nil {
			s.Listener = c.describe(l.File, listening)
		}
		for _, f := range l.Further {
			if d := c.describe(f.File, listening); d != nil {
				s.Further = append(s.Further, passedFurther{f.Endpoint, *d, f.Inode.Dev, f.Inode.Ino})
			}
		}
		for _, r := range l.Runs {
			run := passedRun{Number: r.Number, Status: r.Status}
			if r.Hold != nil {
				run.Hold = c.describe(r.Hold, connected)
			}
			if r.Notify != nil {
				run.Notify = c.describe(r.Notify, datagrams)
			}
			s.Runs = append(s.Runs, run)
		}
		out.Services = append(out.Services, s)
	}
	if c.err != nil {
		return fmt.Errorf("copying what is to be passed on: %w", c.err)
	}
	text, err := json.Marshal(out)
	if err != nil {
		return err
	}
	if len(text) > maxPassed {
		return fmt.Errorf("what is to be passed on takes %d bytes, more than %d", len(text), maxPassed)
	}
	fd, err := c.sealed(text)
	if err != nil {
		return fmt.Errorf("writing down what is passed on: %w", err)
	}
	reached(stepWritten)
	env := slices.Concat(p.replacement.Env(), p.Manager.Environ(), []string{handover.Variable + "=" + h.Encode(), variable + "=" + strconv.Itoa(fd)})
	if err := c.execute(p.replacement.Path, p.replacement.Args, env); err != nil {
		return fmt.Errorf("executing %s: %w", p.replacement.Path, err)
	}
	return nil
}

// An Inheritance is what this process has from the program that it was before.
type Inheritance struct {
	From     Program
	Sockets  []activation.Socket // of the service manager
	Problems []string            // what was announced and is not there
	left     map[string]broker.Left
	asker    net.Conn
}

// Inherit takes what this process has from the program that it was before; it is nil,
// without an error, if it was none. It is called once, before anything forks. It closes
// the inheritable descriptors that nobody knows.
//
// An error says that nothing can be used. Such a process ends: what it has then goes with
// it, and the next client launches as without a broker.
func Inherit() (*Inheritance, error) {
	value, announced := os.LookupEnv(variable)
	if !announced {
		return nil, nil
	}
	_ = os.Unsetenv(variable)
	fd, err := strconv.Atoi(value)
	if err != nil || fd < handover.FirstFD {
		return nil, fmt.Errorf("%s is %q, not a descriptor", variable, value)
	}
	text, err := readSealed(fd)
	if err != nil {
		return nil, fmt.Errorf("what the broker has passed on cannot be read: %w", err)
	}
	var in passed
	if err := json.Unmarshal(text, &in); err != nil {
		return nil, fmt.Errorf("what the broker has passed on is not understood: %w", err)
	}
	if in.Format != Format {
		return nil, fmt.Errorf("the broker has passed on format %d, and this release reads format %d", in.Format, Format)
	}
	i := &Inheritance{From: in.From, left: map[string]broker.Left{}}
	for _, s := range in.Sockets {
		if f := i.take(&s.Socket, "socket "+s.Name); f != nil {
			i.Sockets = append(i.Sockets, activation.Socket{Name: s.Name, File: f})
		}
	}
	if f := i.take(in.Asker, "connection"); f != nil {
		i.asker, _ = net.FileConn(f)
		_ = f.Close()
	}
	for _, s := range in.Services {
		l := broker.Left{Same: true, File: i.take(s.Listener, "listener of "+s.DirName), Inode: record.Inode{Dev: s.Device, Ino: s.Inode},
			Run: supervise.Run{Number: s.Number, Backend: s.Backend, Ready: s.Ready}, Leaving: s.Leaving, Owed: s.Owed}
		for _, f := range s.Further {
			if file := i.take(&f.Listener, "listener of "+s.DirName+", "+f.Endpoint); file != nil {
				l.Further = append(l.Further, launch.Left{Endpoint: f.Endpoint, Inode: record.Inode{Dev: f.Device, Ino: f.Inode}, File: file})
			}
		}
		for _, r := range s.Runs {
			of := " of generation " + strconv.FormatUint(r.Number, 10) + " of " + s.DirName
			l.Runs = append(l.Runs, broker.LeftRun{Number: r.Number, Status: r.Status, Hold: i.take(r.Hold, "hold"+of), Notify: i.take(r.Notify, "notify socket"+of)})
		}
		i.left[s.DirName] = l
	}
	closeUnknown()
	reached(stepTaken)
	return i, nil
}

// take takes a descriptor if it is what it was said to be.
func (i *Inheritance) take(d *descriptor, name string) *os.File {
	if d == nil {
		return nil
	}
	f, err := d.file(name)
	if err != nil {
		i.Problems = append(i.Problems, "the "+name+", descriptor "+strconv.Itoa(d.FD)+", is not what the broker has passed on: "+err.Error())
	}
	return f
}

// legacy is what the inheritance is to the broker.
func (i *Inheritance) legacy(env runtimedir.Env, instance string) *Legacy {
	l := newLegacy(env, instance)
	l.same = i.left
	return l
}

// clearNames removes what the former program has bound in the generation's directory.
func clearNames(addr string) { _ = os.Remove(filepath.Join(addr, heirName)) }
