package fastbind

import (
	"context"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// Bind says who binds the service's endpoint.
type Bind string

// The bind policies.
const (
	// BindBroker, the default: the launching process binds and listens, and the
	// daemon inherits the listener. Clients queue before the daemon exists.
	BindBroker Bind = "broker"

	// BindDaemon: the daemon binds the endpoint itself and must listen within
	// Service.BoundWithin of its exec.
	BindDaemon Bind = "daemon"
)

// EnvPolicy says what to do about a running daemon that was launched with other
// values of the contracted environment variables than this caller has.
type EnvPolicy string

// The environment policies.
const (
	EnvIgnore  EnvPolicy = "ignore"  // the default: use it; Status names the variables
	EnvCoexist EnvPolicy = "coexist" // a daemon for each environment
	EnvRefuse  EnvPolicy = "refuse"  // fail with ErrRefused and the variables' names
)

// HangPolicy says what to do about a daemon that answers neither its clients nor
// its control endpoint. If the running daemon was launched with HangReport, that
// holds for all its clients.
type HangPolicy string

// The hang policies.
const (
	HangReplace HangPolicy = "replace" // the default: note the evidence, kill it, launch the next
	HangReport  HangPolicy = "report"  // note the evidence and leave it
)

// VersionPolicy says what to do about a running daemon of another build than this
// caller would launch: of another version if both have one, else of another
// build id, else from another executable file.
type VersionPolicy string

// The version policies.
const (
	// VersionIgnore, the default: use whatever runs.
	VersionIgnore VersionPolicy = "ignore"

	// VersionCoexist: a daemon for each Version, which is part of the endpoint.
	VersionCoexist VersionPolicy = "coexist"

	// VersionReplace: a successor is launched, loads while the old daemon
	// serves, and takes its listener over; nobody is refused, and no connection
	// is cut before the old one's StopWithin is over. Who dials meanwhile is
	// served by whichever accepts; a daemon of a higher version is left alone.
	VersionReplace VersionPolicy = "replace"

	// VersionRefuse: fail with ErrRefused and the fields that differ.
	VersionRefuse VersionPolicy = "refuse"
)

// A Service is a named daemon, of which a user has at most one in an instance,
// and how to start it. Only Name is required. It is a plain value: copy and
// share it freely.
type Service struct {
	// Name has at most 64 of the characters a-z 0-9 . _ - and begins with a
	// letter or digit.
	Name string

	// Instance is a namespace of services, of the same form; "" is "default".
	Instance string

	// Args are arguments for this very executable, which is what is launched,
	// even after its file was replaced or deleted.
	Args []string

	// Command is another program and its arguments, used instead if it is set:
	// an absolute path, or a name to be found in PATH. It is an SDK backend,
	// one whose main calls daemon.Run, unless Foreign is set.
	Command []string

	// Foreign says that Command may know nothing of fastbind. It is handed the
	// listener by systemd's convention (LISTEN_FDS).
	Foreign bool

	Bind Bind   // "" is BindBroker
	Dir  string // the daemon's working directory, "" is /

	// Env extends the environment contract. A daemon gets HOME, USER, LOGNAME,
	// PATH, SHELL, LANG, LC_*, TZ, TMPDIR and XDG_* of its launcher, and nothing
	// else but what Env names: NAME passes the launcher's value on, NAME=VALUE
	// sets one.
	Env       []string
	EnvPolicy EnvPolicy // "" is EnvIgnore

	// FDEnv are NAME=TEMPLATE variables for foreign daemons; {fd} stands for
	// the listener's descriptor, {socket} for the endpoint's path.
	FDEnv []string

	// Endpoints name further endpoints of a foreign daemon, at most 16, each of at
	// most 32 of the characters a-z 0-9 _ -, beginning with a letter or digit. Their
	// listeners follow the first by systemd's convention, and {fd:NAME} and
	// {socket:NAME} stand for them in arguments and FDEnv. See Endpoint.Further.
	Endpoints []string

	Version string // "" is what the daemon says of itself

	BoundWithin time.Duration // BindDaemon: exec to listening; 0 is 500 ms
	AdoptWithin time.Duration // BindBroker: exec to adopting the listener; 0 is 10 s
	StopWithin  time.Duration // stop request to kill; 0 is 10 s

	// IdleExit ends a daemon made with package daemon that has had no
	// connection and no lease for that long, by a clock that counts while the
	// machine sleeps; 0 is never.
	IdleExit time.Duration

	// HangAfter is how long a connection's first answer may take, from its
	// first write, before the daemon is asked whether it lives at all; 0 is
	// 30 s. However busy, a daemon made with package daemon answers that.
	HangAfter time.Duration
	OnHang    HangPolicy // "" is HangReplace

	// OnVersion applies to a running daemon of another build. With
	// VersionReplace and VersionRefuse its version must also be at least
	// MinVersion, a semantic version, and match one of AllowVersions, if there
	// are any: "1.4.2", "1.4" or "1" for any such version, ">=1.2, <2". A daemon
	// that these exclude serves no dial of this caller: with VersionReplace Dial
	// returns when its successor has taken over.
	OnVersion     VersionPolicy // "" is VersionIgnore
	MinVersion    string
	AllowVersions []string
}

// definition returns the completed and checked definition. The error wraps
// ErrRefused and names the field.
func (s Service) definition() (definition.Definition, error) {
	d := definition.Definition{
		Service: s.Name, Instance: s.Instance, Command: s.Command, Foreign: s.Foreign,
		Bind: definition.Bind(s.Bind), Dir: s.Dir, Env: s.Env, EnvPolicy: definition.EnvPolicy(s.EnvPolicy),
		FDEnv: s.FDEnv, Endpoints: s.Endpoints, Version: s.Version,
		BoundWithin: s.BoundWithin, AdoptWithin: s.AdoptWithin, StopWithin: s.StopWithin,
		IdleExit: s.IdleExit, HangAfter: s.HangAfter, OnHang: definition.HangPolicy(s.OnHang),
		OnVersion: definition.VersionPolicy(s.OnVersion), MinVersion: s.MinVersion, AllowVersions: s.AllowVersions,
	}
	if len(s.Command) == 0 {
		// The path of this executable costs a system call, which the warm path
		// does not pay: the broker fills it in when it launches.
		d.Self = true
		d.Command = append([]string{""}, s.Args...)
	}
	d = d.Complete()
	if err := d.Check(); err != nil {
		return d, &launch.Fault{Class: launch.Refusal, Service: s.Name, Instance: d.Instance,
			Stage: launch.StagePolicy, Err: err, Status: -1}
	}
	return d, nil
}

// broker returns the embedded broker for the service in this process's
// environment, to be shared and not to be changed.
func (s *Service) broker() (*launch.Broker, error) {
	env := runtimedir.FromEnviron(os.Getenv, euid, accountHome)
	if p := latest.Load(); p != nil && p.service.equal(s) && p.env.Equal(&env) {
		return p.broker, nil
	}
	p := &prepared{service: *s, env: env}
	for _, list := range p.service.lists() {
		*list = slices.Clone(*list) // the caller may change what is in it
	}
	d, err := p.service.definition()
	if err != nil {
		return nil, err
	}
	p.broker = launch.NewBroker(env, d, os.Environ)
	p.broker.Remember()
	latest.Store(p)
	return p.broker, nil
}

// prepared is a service whose definition was completed and checked, in an
// environment. A tool dials one and the same service again and again, and that would
// be a tenth of a warm dial each time: to see that nothing has changed takes less.
type prepared struct {
	service Service
	env     runtimedir.Env
	broker  *launch.Broker
}

// latest is the service that was asked for last.
var latest atomic.Pointer[prepared]

// remembered returns the broker of the service if it was the last one, and is to be
// found where it was then, nil if not. Nothing else of the environment is compared: it
// is for Reach, which launches nobody.
func (s *Service) remembered() *launch.Broker {
	p := latest.Load()
	if p == nil || !p.service.equal(s) || !p.env.Leads(getenv) || p.broker.CheckSelf() != nil {
		return nil
	}
	return p.broker
}

// getenv is os.Getenv without its notes for the cache of go test, which broker makes.
func getenv(name string) string {
	value, _ := syscall.Getenv(name)
	return value
}

// equal reports whether t is the same service, launched in the same way.
func (s *Service) equal(t *Service) bool {
	if s.Name != t.Name || s.Instance != t.Instance || s.Foreign != t.Foreign || s.Bind != t.Bind || s.Dir != t.Dir ||
		s.EnvPolicy != t.EnvPolicy || s.Version != t.Version ||
		s.BoundWithin != t.BoundWithin || s.AdoptWithin != t.AdoptWithin || s.StopWithin != t.StopWithin ||
		s.IdleExit != t.IdleExit || s.HangAfter != t.HangAfter || s.OnHang != t.OnHang ||
		s.OnVersion != t.OnVersion || s.MinVersion != t.MinVersion {
		return false
	}
	own := s.lists()
	for i, list := range t.lists() {
		if !slices.Equal(*own[i], *list) {
			return false
		}
	}
	return true
}

func (s *Service) lists() [6]*[]string {
	return [...]*[]string{&s.Args, &s.Command, &s.Env, &s.FDEnv, &s.Endpoints, &s.AllowVersions}
}

// euid is who we were at the start: enough to guess where an endpoint is. Who
// we are now is asked where it decides anything, of a connection's peer and
// before a launch.
var euid = os.Geteuid()

func accountHome() string {
	home, _, _, err := proc.Account(os.Geteuid())
	if err != nil {
		return ""
	}
	return home
}

// An Endpoint is an address that clients dial: the path of a Unix socket, on Windows the
// name of a pipe. The zero Endpoint is invalid.
type Endpoint struct{ path string }

// NewEndpoint makes an endpoint of the path of a Unix socket: absolute, clean,
// without control characters and at most 103 bytes long; on Windows of a pipe's full name.
// The error wraps ErrInvalidEndpoint. Nothing needs to exist there.
func NewEndpoint(path string) (Endpoint, error) {
	reason := misnamed(path)
	if strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r == 0x7f }) {
		reason = "the path has control characters"
	}
	if path == "" {
		reason = "it is empty"
	}
	if reason != "" {
		return Endpoint{}, &endpointError{path, reason}
	}
	return Endpoint{path}, nil
}

type endpointError struct{ path, reason string }

func (e *endpointError) Error() string {
	return ErrInvalidEndpoint.Error() + " " + strconv.Quote(e.path) + ": " + e.reason
}

func (e *endpointError) Is(target error) bool { return target == ErrInvalidEndpoint }

// Path returns the path of the Unix socket, or the pipe's name. It fits into a socket
// address, so any program can dial it.
func (e Endpoint) Path() string { return e.path }

// Further returns the endpoint that a service names in Endpoints, where e is the
// service's own. It is bound whenever that one is.
func (e Endpoint) Further(name string) Endpoint { return Endpoint{e.path + "-" + name} }

// String returns the path.
func (e Endpoint) String() string { return e.path }

// Dial connects to whoever accepts at the endpoint, and launches nobody. It makes sure that
// the peer is of our own uid, and is [fs.ErrPermission] if not. While the queue is full it
// tries again, until ctx ends; it waits for nothing else, so that a missing daemon is an
// error at once.
func (e Endpoint) Dial(ctx context.Context) (net.Conn, error) {
	for {
		c, reach, err := endpoint.Connect(ctx, e.path)
		if reach == endpoint.Reached {
			return c, nil
		}
		if reach != endpoint.Busy {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		case <-time.After(time.Millisecond):
		}
	}
}

// Endpoint returns where clients of the service dial. Nothing needs to run
// there; nothing is created. It blocks for a few look-ups of paths.
func (s Service) Endpoint() (Endpoint, error) {
	b, err := s.broker()
	if err != nil {
		return Endpoint{}, publicError(err)
	}
	p, err := b.Env.Find(b.Def.Instance, b.DirName())
	if err == nil {
		return Endpoint{p.Sock()}, nil
	}
	if !errors.Is(err, runtimedir.ErrNotPlaced) {
		return Endpoint{}, publicError(b.DirectoryFault(err))
	}
	guess := b.Env.Guess(b.Def.Instance, b.DirName())
	if len(guess) == 0 { // an account of Windows without a folder for what is its own
		return Endpoint{}, publicError(b.DirectoryFault(err))
	}
	return Endpoint{guess[0]}, nil
}

// Start makes sure that the service's endpoint is bound, launching a daemon if
// need be, and returns the endpoint. It blocks as Dial does, without connecting
// to a daemon that it launched.
func (s Service) Start(ctx context.Context, opts ...Option) (Endpoint, error) {
	b, err := s.broker()
	if err != nil {
		return Endpoint{}, publicError(err)
	}
	if err := b.CheckSelf(); err != nil {
		return Endpoint{}, ErrSelfDial
	}
	o := apply(opts)
	b = b.Wanting(o.want)
	place, err := b.Start(ctx, time.Now())
	if err == nil {
		var held []*control.Client
		if held, err = o.lease(ctx, b); len(held) > 0 {
			closeAll(held)
			err = b.LeaseFault(errNoConnection)
		}
		if err == nil {
			err = o.wait(ctx, b)
		}
	}
	if err != nil {
		return Endpoint{}, publicError(err)
	}
	return Endpoint{place.Sock()}, nil
}

// Restart makes a new generation of the service take over from the one that
// runs, as VersionReplace does, whatever their builds are. It blocks until that
// is so. The error is ErrNotRunning if there is nothing to replace, or only one
// that drains already, and ErrRefused for a foreign daemon, which cannot hand its
// listener over.
func (s Service) Restart(ctx context.Context) error {
	b, err := s.broker()
	if err == nil {
		err = b.Replace(ctx)
	}
	return publicError(err)
}

var errNoConnection = errors.New("Start has no connection for a lease; take that of a directory or process")

// Stop ends every living generation of the service: each is asked to drain and,
// after StopWithin, killed. It blocks until their processes have ended, or
// until ctx ends. The error is ErrNotRunning or ErrNoService if there is
// nothing to stop.
func (s Service) Stop(ctx context.Context) error {
	b, err := s.broker()
	if err == nil {
		_, err = b.Stop(ctx)
	}
	return publicError(err)
}

func init() {
	launch.OfService = func(service any) (*launch.Broker, error) {
		s := service.(Service)
		return s.broker()
	}
	launch.Public = publicError
}
