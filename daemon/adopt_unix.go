//go:build !windows

package daemon

import (
	"os"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/record"
)

// inherited is what a broker handed down to listen on.
type inherited struct {
	listen *os.File // nil: the daemon binds
	ctl    int
}

func inheritedOf(h *handover.Handover) inherited {
	in := inherited{ctl: h.Control}
	if h.Listen != handover.None {
		in.listen = os.NewFile(uintptr(h.Listen), "inherited listener")
	}
	return in
}

func (in inherited) close() {
	if in.listen != nil {
		_ = in.listen.Close()
	}
}

// listener returns the endpoint's listener, nil if the daemon binds it.
func (in inherited) listener(string) (*endpoint.Listener, error) {
	if in.listen == nil {
		return nil, nil
	}
	return endpoint.AdoptCopy(in.listen)
}

// control returns the control endpoint's listener, nil if the daemon makes it.
func (in inherited) control(string) (*endpoint.Listener, error) {
	if in.ctl == handover.None {
		return nil, nil
	}
	return endpoint.Adopt(in.ctl)
}

// activated returns the listener of a descriptor that an init system handed down.
func activated(fd int) (*endpoint.Listener, error) { return endpoint.Adopt(fd) }

// successor returns the listener that the old generation has handed over.
func successor(f *os.File, _ string) (*endpoint.Listener, error) { return endpoint.AdoptFile(f) }

// known reports whether the inode tells the endpoint's listener from others.
func known(inode record.Inode) bool { return !inode.IsZero() }

// keep says what the daemon stands on, for who executes another program in its place.
func (st *stand) keep() { handover.Keep(st.kept) }

// kept is what the daemon stands on.
func (st *stand) kept() handover.Kept {
	st.inst.mu.Lock()
	defer st.inst.mu.Unlock()
	h := *st.handover
	h.Succeeds = "" // that is done
	return handover.Kept{Handover: h, Listener: st.listener, ControlListener: st.control, LifeLock: st.inst.life}
}
