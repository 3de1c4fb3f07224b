//go:build darwin || freebsd

package peer

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// uidOf reads cr_uid of LOCAL_PEERCRED (unix(4)), which is the effective uid.
func uidOf(c syscall.Conn) (uid int, err error) {
	err = control(c, func(fd int) error {
		cred, err := unix.GetsockoptXucred(fd, unix.SOL_LOCAL, unix.LOCAL_PEERCRED)
		if err == nil {
			uid = int(cred.Uid)
		}
		return os.NewSyscallError("getsockopt", err)
	})
	return uid, err
}

func control(c syscall.Conn, f func(fd int) error) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var ferr error
	if err := raw.Control(func(fd uintptr) { ferr = f(int(fd)) }); err != nil {
		return err
	}
	return ferr
}
