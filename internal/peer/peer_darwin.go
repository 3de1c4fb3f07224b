package peer

import (
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

func pidOf(c syscall.Conn) (pid int, err error) {
	err = control(c, func(fd int) (err error) {
		pid, err = unix.GetsockoptInt(fd, unix.SOL_LOCAL, unix.LOCAL_PEERPID)
		return os.NewSyscallError("getsockopt", err)
	})
	if err == nil && pid == 0 {
		err = os.NewSyscallError("getsockopt", syscall.ESRCH)
	}
	return pid, err
}
