package daemon

import (
	"errors"
	"os"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/record"
)

// inherited is what a broker handed down to listen on. Handles that cannot be adopted are
// left as they are: they are closed when the process ends, after its verdict.
type inherited struct{ listen, ctl handover.Handles }

func inheritedOf(h *handover.Handover) inherited { return inherited{h.Instances, h.ControlInstances} }

func (inherited) close() {}

// listener returns the endpoint's listener, nil if the daemon binds it.
func (in inherited) listener(name string) (*endpoint.Listener, error) {
	if in.listen == "" {
		return nil, nil
	}
	return endpoint.Adopt(name, in.listen.List())
}

// control returns the control endpoint's listener, nil if the daemon makes it.
func (in inherited) control(name string) (*endpoint.Listener, error) {
	if in.ctl == "" {
		return nil, nil
	}
	return endpoint.Adopt(name, in.ctl.List())
}

// activated: no init system of Windows hands a listener down.
func activated(int) (*endpoint.Listener, error) { return nil, errors.ErrUnsupported }

// successor returns a listener that lets nobody in before it takes over: any process of
// the user can make instances of a name that is served, so that none is handed over.
func successor(_ *os.File, name string) (*endpoint.Listener, error) { return endpoint.Successor(name) }

// known: a pipe's name is its listener's.
func known(record.Inode) bool { return true }

// keep: no program can be executed in place of a process.
func (*stand) keep() {}
