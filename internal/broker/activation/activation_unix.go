//go:build unix

package activation

import (
	"errors"
	"net"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/endpoint"
)

func (s Socket) listener() (*net.UnixListener, error) { return endpoint.AdoptCopy(s.File) }

// write sends one datagram, and f with it. Package net sends descriptors on no
// socket that is connected.
func write(conn *net.UnixConn, message string, f *os.File) error {
	if f == nil {
		_, err := conn.Write([]byte(message))
		return err
	}
	to, err := conn.SyscallConn()
	if err != nil {
		return err
	}
	of, err := f.SyscallConn() // unlike f.Fd it leaves a listener non-blocking
	if err != nil {
		return err
	}
	var sent error
	held := of.Control(func(fd uintptr) {
		waited := to.Write(func(socket uintptr) bool {
			sent = unix.Sendmsg(int(socket), []byte(message), unix.UnixRights(int(fd)), nil, 0)
			return sent != unix.EAGAIN
		})
		if waited != nil {
			sent = waited
		}
	})
	return errors.Join(held, sent)
}
