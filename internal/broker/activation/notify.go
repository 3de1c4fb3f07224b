package activation

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"time"
)

// sendLimit bounds how long a message waits for a manager that does not read.
const sendLimit = time.Second

// maxStatus bounds the text of a status, in bytes; it is one line of output.
const maxStatus = 256

// maxName is the longest name of a descriptor (sd_pid_notify_with_fds(3)).
const maxName = 255

// Ready says that the broker holds what it has to. With Type=notify its start has
// succeeded then, and not before. Like all messages it waits for at most a second.
func (m *Manager) Ready(status string) error {
	return m.send("READY=1\nSTATUS="+line(status), nil)
}

// Status replaces the text that systemctl status shows: one line, of which at
// most 256 bytes are sent.
func (m *Manager) Status(status string) error { return m.send("STATUS="+line(status), nil) }

// Stopping says that the broker is about to end.
func (m *Manager) Stopping() error { return m.send("STOPPING=1", nil) }

// Alive says that the broker does not hang.
func (m *Manager) Alive() error { return m.send("WATCHDOG=1", nil) }

// Keep leaves a copy of a descriptor in the manager's keeping, which hands it to
// the next run of the broker among its Sockets, by that name: who has queued at a
// listener then waits through a crash of the broker. systemd keeps it until
// [Manager.Drop], until the service has ended and is not about to be restarted, or
// until the listener is shut down; other managers keep nothing. A name has at most
// 255 bytes, printable ASCII without a colon.
func (m *Manager) Keep(name string, f *os.File) error {
	if err := checkName(name); err != nil {
		return err
	}
	return m.send("FDSTORE=1\nFDNAME="+name, f)
}

// Drop has the manager close what it keeps by that name.
func (m *Manager) Drop(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	return m.send("FDSTOREREMOVE=1\nFDNAME="+name, nil)
}

// send sends a message, with a descriptor if there is one. The manager's socket is
// dialled each time, as libsystemd does: a manager may have made another one.
func (m *Manager) send(message string, f *os.File) error {
	if m.address == "" {
		return nil
	}
	conn, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: m.address, Net: "unixgram"})
	if err == nil {
		err = errors.Join(conn.SetWriteDeadline(time.Now().Add(sendLimit)), write(conn, message, f), conn.Close())
	}
	if err != nil {
		first, _, _ := strings.Cut(message, "\n")
		return fmt.Errorf("telling the service manager %q: %w", first, err)
	}
	return nil
}

// checkAddress reports an address that this process cannot dial: a path and an
// abstract name it can, what a virtual machine's manager has (vsock) not.
func checkAddress(address string) error {
	if !strings.HasPrefix(address, "/") && !strings.HasPrefix(address, "@") {
		return fmt.Errorf("NOTIFY_SOCKET is %q, neither a path nor an abstract name", bounded(address))
	}
	return nil
}

func checkName(name string) error {
	odd := func(r rune) bool { return r < ' ' || r > '~' || r == ':' }
	if name == "" || len(name) > maxName || strings.ContainsFunc(name, odd) {
		return fmt.Errorf("no name for a descriptor: %q", bounded(name))
	}
	return nil
}

// line makes one line of at most maxStatus bytes of a text: a second one would be
// another message.
func line(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) > maxStatus {
		s = strings.ToValidUTF8(s[:maxStatus], "")
	}
	return s
}
