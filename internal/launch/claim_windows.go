package launch

import (
	"errors"
	"io/fs"
	"sync/atomic"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A claim is to the name of a service's pipe, for one of its generations. Whoever makes it
// has the launch lock, or a launcher that has it meanwhile.
type claim struct{ name, dir, generation string }

// bind claims the name, also beside generations that only drain. One that is served is
// fs.ErrExist.
func (c claim) bind() (*endpoint.Socket, error) {
	sock, err := endpoint.Bind(c.name, pipe.Queue)
	if errors.Is(err, fs.ErrExist) && onlyDrains(c.dir, c.generation) {
		return endpoint.BindBeside(c.name, pipe.Queue)
	}
	return sock, err
}

// granted is the claim of a process that is the daemon and binds itself, nil without one.
// It is the process's because Backend.Bind is told a name alone.
var granted atomic.Pointer[claim]

// One that was launched has it until it has bound: its launcher waits for that with the
// launch lock.
func init() {
	if h := handover.Pending(); h != nil && h.Dir != "" && h.Instances == "" && h.Succeeds == "" {
		granted.Store(&claim{runtimedir.Place{Dir: h.Dir, Addr: h.Addr}.Sock(), h.Dir, h.GenDir})
	}
}

// Claim claims an endpoint's name for a backend. One that is served is fs.ErrExist, but
// for a generation that may bind beside others that only drain.
func Claim(name string) (*endpoint.Socket, error) {
	c := granted.Load()
	if c == nil || c.name != name {
		return endpoint.Bind(name, pipe.Queue)
	}
	sock, err := c.bind()
	if err == nil {
		granted.CompareAndSwap(c, nil)
	}
	return sock, err
}
