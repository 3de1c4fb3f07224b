// Package bindbad has backends that do more in Bind than to bind.
package bindbad

import (
	"context"
	"flag"
	"log/syslog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"example.com/shared"
	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

var (
	cache  map[string]string
	mu     sync.Mutex
	count  atomic.Int64
	events = make(chan int)
	where  string
	flags  struct{ verbose bool }
)

func parse() { flag.BoolVar(&flags.verbose, "v", false, "") }

func init() { where = os.Args[0] }

func setCache() { cache = map[string]string{} }

type state struct{}

func (state) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	mu.Lock()         // want `Bind takes a lock: sync.Mutex.Lock; Bind takes microseconds` `Bind uses a package variable that changes: mu, a sync.Mutex`
	defer mu.Unlock() // want `mu, a sync.Mutex`
	if cache != nil { // want `Bind uses a package variable that changes: cache, assigned in setCache; Bind takes microseconds and uses nothing but its endpoint; do this in Load`
		count.Add(1) // want `count, a atomic.Int64`
	}
	events <- 1                   // want `events, a channel`
	_ = shared.Settings["listen"] // want `shared.Settings, changed in Set`
	_ = flags.verbose             // want `flags, whose address is used in parse`
	_ = where                     // only set when the package is initialised
	return daemon.Listen(ep)
}

type disk struct{}

func (disk) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(ep.Path()), 0o700); err != nil { // want `Bind touches the disk: os.MkdirAll; Bind takes`
		return nil, err
	}
	return daemon.Listen(ep)
}

// Through another package, with the chain.
type far struct{}

func (far) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	if err := configure(); err != nil { // want `Bind touches the disk: bindbad.configure → shared.Read \(bindbad.go:\d+\) → shared.read \(shared.go:\d+\) → os.ReadFile \(shared.go:\d+\); Bind takes`
		return nil, err
	}
	return shared.Listen(ep)
}

func configure() error {
	_, err := shared.Read("/etc/example.conf")
	return err
}

// Through a function literal, a method value, a function that is given on, a
// variable, a field and a result.
type roundabout struct{}

type opener struct{ path string }

func (o opener) open() error {
	_, err := os.Open(o.path)
	return err
}

func (o opener) Open() error { return o.open() }

var dial = net.Dial

type deps struct{ run func() error }

var production = deps{run: func() error { return exec.Command("true").Run() }}

func (roundabout) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	func() {
		time.Sleep(time.Second)
	}() // want `Bind waits: a function in roundabout.Bind → time.Sleep \(bindbad.go:\d+\)`
	f := opener{"x"}.open
	_ = f()                           // want `Bind touches the disk: bindbad.opener.open → os.Open`
	_ = shared.Locked(f)              // want `Bind touches the disk: shared.Locked → bindbad.opener.open → os.Open`
	_ = shared.OpenOne(opener{"x"})   // want `Bind touches the disk: shared.OpenOne → bindbad.opener.Open`
	_ = shared.Open(opener{"x"})      // want `Bind touches the disk: shared.Open → bindbad.opener.Open`
	_, _ = dial("tcp", "localhost:1") // want `Bind uses the network: net.Dial`
	_ = production.run()              // want `Bind starts a process: a function in init → exec.Cmd.Run`
	_ = shared.Opener("x")()          // want `Bind touches the disk: what shared.Opener returned`
	_ = shared.Dir()                  // want `Bind touches the disk: shared.Dir → os.MkdirTemp`
	var once sync.Once
	once.Do(func() { _, _ = syslog.New(0, "x") }) // want `Bind uses the network: sync.Once.Do → a function in roundabout.Bind → syslog.New`
	go f()                                        // want `Bind starts a goroutine: go bindbad.opener.open`
	return daemon.Listen(ep)
}

// a generic function of this package.
type generic struct{}

func each[T interface{ Open() error }](list []T) {
	for _, x := range list {
		_ = x.Open()
	}
}

func (generic) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	each([]opener{{"x"}}) // want `Bind touches the disk: bindbad.each → bindbad.opener.Open`
	return daemon.Listen(ep)
}

type twice struct{}

func (twice) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	metrics, err := net.Listen("tcp", "localhost:9100")
	if err != nil {
		return nil, err
	}
	_ = metrics
	return daemon.Listen(ep) // want `Bind listens a second time, first at bindbad.go:\d+`
}

type loaded struct{}

func (loaded) Load(ctx context.Context, inst *daemon.Instance) (int, error) {
	_, err := os.ReadFile("index") // this is its place
	return 0, err
}
