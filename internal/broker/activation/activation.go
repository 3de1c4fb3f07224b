// Package activation is the broker's end of the service manager that has started
// it: it takes the sockets that systemd or launchd holds for it, and tells systemd
// how it is (sd_listen_fds(3), sd_notify(3), launch_activate_socket(3)).
//
//	m, err := activation.Take("control")      // first of all in main
//	ln, err := m.Sockets[0].Listener()
//	err = m.Ready("4 services, none started") // once it holds what it has to
//	err = m.Alive()                           // every m.Watchdog/2, from the loop that must not hang
//	err = m.Stopping()
//
// Package handover does the same for daemons, of which each has one endpoint and
// its launcher for a manager. A broker has many, by name: its own, and those that it
// has left in the manager's keeping (see [Manager.Keep]).
//
// A process that no manager has started has no sockets, and what it says goes
// nowhere, without an error: there is nothing to tell apart for who uses this
// package.
package activation

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"
)

// MaxSockets bounds how many sockets a manager may hand down, beside the broker's
// own as many as FileDescriptorStoreMax= of its unit allows.
const MaxSockets = 4096 + 16

// A Manager is the service manager that has started this process; its zero value
// is none. Its methods may be called concurrently.
type Manager struct {
	// Sockets are what was handed down, in the manager's order. The caller owns
	// the files.
	Sockets []Socket

	// Watchdog is for how long the process may be silent, 0 for ever.
	Watchdog time.Duration

	address string // where it listens to us, or ""
}

// A Socket is a descriptor that was handed down, close-on-exec, and its name: that
// of the manager's configuration, or the one that it was kept under.
type Socket struct {
	Name string
	File *os.File
}

// Listener returns the socket as a listener, of which this process becomes the one
// that the kernel names to clients (SO_PEERCRED), and leaves File open. It fails if
// that is not a listening Unix socket. Closing the listener removes no name.
func (s Socket) Listener() (*net.UnixListener, error) { return s.listener() }

// Take takes what the service manager has handed to this process and clears its
// variables, so that no child is taken for the broker (R38). It is to
// be called once, before anything can start a process. launchd hands sockets down
// on request: those of the given names.
//
// The error says what was announced and cannot be used. Such a broker must fail,
// since its clients wait at a socket that nobody else will ever serve; it can still
// tell the manager why.
func Take(names ...string) (*Manager, error) {
	m := &Manager{address: os.Getenv("NOTIFY_SOCKET")}
	var notify, watchdog error
	if m.address != "" {
		if notify = checkAddress(m.address); notify != nil {
			m.address = ""
		}
	}
	m.Watchdog, watchdog = interval(os.Getenv, os.Getpid())
	announced, listen := announcement(os.Getenv, os.Getpid())
	for _, v := range variables {
		_ = os.Unsetenv(v)
	}
	var err error
	if listen == nil {
		m.Sockets, err = take(announced, names)
	}
	return m, errors.Join(notify, watchdog, listen, err)
}

// Environ returns the variables, NAME=VALUE, by which the program that this process
// executes in its place finds the manager again; to children they are of no use. The
// sockets are the caller's to pass on.
func (m *Manager) Environ() []string {
	var set []string
	if m.address != "" {
		set = append(set, "NOTIFY_SOCKET="+m.address)
	}
	if m.Watchdog != 0 {
		set = append(set, "WATCHDOG_PID="+strconv.Itoa(os.Getpid()), "WATCHDOG_USEC="+strconv.FormatInt(m.Watchdog.Microseconds(), 10))
	}
	return set
}

var variables = []string{"LISTEN_FDS", "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDNAMES", "NOTIFY_SOCKET", "WATCHDOG_PID", "WATCHDOG_USEC"}

// announcement returns the names of the descriptors, from firstFD on, that the
// environment announces to a process. Those meant for another process, whose child
// this is, are none.
func announcement(get func(string) string, pid int) ([]string, error) {
	count, names := get("LISTEN_FDS"), get("LISTEN_FDNAMES")
	if count == "" || get("LISTEN_PID") != strconv.Itoa(pid) {
		return nil, nil
	}
	n, err := strconv.Atoi(count)
	if err != nil || n < 0 {
		return nil, fmt.Errorf("LISTEN_FDS is %q, not a number of descriptors", bounded(count))
	}
	if n > MaxSockets {
		return nil, fmt.Errorf("LISTEN_FDS announces %d descriptors, of which %d are taken at most", n, MaxSockets)
	}
	var list []string
	if names != "" {
		list = strings.Split(names, ":")
		if len(list) != n {
			return nil, fmt.Errorf("LISTEN_FDNAMES has %d names for %d descriptors", len(list), n)
		}
		return list, nil
	}
	for range n {
		list = append(list, "unknown") // as sd_listen_fds_with_names(3) calls them
	}
	return list, nil
}

// interval returns the watchdog's interval (sd_watchdog_enabled(3)), 0 if there is
// none for this process.
func interval(get func(string) string, pid int) (time.Duration, error) {
	value := get("WATCHDOG_USEC")
	if p := get("WATCHDOG_PID"); value == "" || p != "" && p != strconv.Itoa(pid) {
		return 0, nil
	}
	usec, err := strconv.ParseInt(value, 10, 64)
	if err != nil || usec <= 0 || usec > int64(365*24*time.Hour/time.Microsecond) {
		return 0, fmt.Errorf("WATCHDOG_USEC is %q, not a number of microseconds", bounded(value))
	}
	return time.Duration(usec) * time.Microsecond, nil
}

// bounded is the beginning of a value that is repeated in an error.
func bounded(s string) string {
	if len(s) > 64 {
		return s[:64] + "…"
	}
	return s
}
