//go:build linux || windows

package fastbindtest

import (
	"errors"
	"net/netip"
	"strings"
)

// The twins of this file: world.connectable are the sockets by the names under which
// others would find them, without those that have none; world.asOther says whether
// another user can connect to one that is no port, and how that was seen.

// othersReach tries every endpoint that processes listen on.
func (w *world) othersReach(list []process) verdict {
	found := listening(list)
	if len(found) == 0 {
		return undecided(errors.New("it listens on nothing"))
	}
	judged := 0
	for _, s := range w.connectable(found) {
		var open bool
		var how string
		switch {
		case s.network == "tcp" && loopback(s.addr):
			how = "every user of the machine can connect to a TCP port; whether a secret is asked for then was not tried"
			if w.mode == Port && strings.HasSuffix(s.addr, ":"+w.port) {
				w.note("%v, what was asked for: %s", s, how)
				continue
			}
			open = true
		case s.network == "tcp":
			how, open = "it is not bound to the loopback interface: other machines can connect too", true
		default:
			how, open = w.asOther(s)
		}
		judged++
		w.note("%v: %s", s, how)
		if open {
			return broken("%v: %s", s, how)
		}
	}
	if judged == 0 {
		return notApplicable("it listens on nothing but the port that it was given, and a port is open to every user")
	}
	return holds
}

func loopback(addr string) bool {
	a, err := netip.ParseAddrPort(addr)
	return err == nil && a.Addr().Unmap().IsLoopback()
}
