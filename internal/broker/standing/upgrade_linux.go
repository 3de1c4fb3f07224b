package standing

import (
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// canExecute: a broker becomes another program.
const canExecute = true

// copies are descriptors that another program is to have. All are close-on-exec until
// it is executed.
type copies struct {
	fds []int
	err error // the first
}

// add returns a copy of a descriptor; -1 after an error.
func (c *copies) add(of syscall.Conn) int {
	if c.err != nil {
		return -1
	}
	raw, err := of.SyscallConn()
	fd := -1
	if err == nil {
		cerr := raw.Control(func(from uintptr) { fd, err = unix.FcntlInt(from, unix.F_DUPFD_CLOEXEC, 3) })
		err = errors.Join(cerr, err)
	}
	if err != nil {
		c.err = err
		return -1
	}
	c.fds = append(c.fds, fd)
	return fd
}

// describe adds a socket.
func (c *copies) describe(of syscall.Conn, k kind) *descriptor {
	d := &descriptor{FD: c.add(of), Kind: k}
	if c.err == nil {
		var st unix.Stat_t
		c.err = unix.Fstat(d.FD, &st)
		d.Inode = st.Ino
	}
	return d
}

func (c *copies) close() {
	for _, fd := range c.fds {
		_ = unix.Close(fd)
	}
}

// sealed adds a file with a text that nobody changes any more.
func (c *copies) sealed(text []byte) (fd int, err error) {
	fd, err = unix.MemfdCreate("fastbind-broker", unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	if err != nil {
		return -1, os.NewSyscallError("memfd_create", err)
	}
	c.fds = append(c.fds, fd)
	for rest := text; len(rest) > 0; {
		n, err := unix.Write(fd, rest)
		if err != nil && err != unix.EINTR {
			return -1, os.NewSyscallError("write", err)
		}
		rest = rest[max(n, 0):]
	}
	const seals = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_SEAL
	_, err = unix.FcntlInt(uintptr(fd), unix.F_ADD_SEALS, seals)
	return fd, os.NewSyscallError("fcntl", err)
}

// execute executes a program that has the copies. It returns only if that is not so,
// with everything as it was.
func (c *copies) execute(path string, argv, env []string) error {
	// No child that is forked meanwhile is to have them: who forks waits.
	syscall.ForkLock.Lock()
	defer syscall.ForkLock.Unlock()
	var limit unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &limit)
	err := c.mark(0)
	if err == nil {
		reached(stepMarked)
		err = syscall.Exec(path, argv, env)
	}
	_ = c.mark(unix.FD_CLOEXEC)
	_ = unix.Setrlimit(unix.RLIMIT_NOFILE, &limit) // package syscall has given back what it was at the start
	return err
}

func (c *copies) mark(flags int) error {
	for _, fd := range c.fds {
		if _, err := unix.FcntlInt(uintptr(fd), unix.F_SETFD, flags); err != nil {
			return os.NewSyscallError("fcntl", err)
		}
	}
	return nil
}

// readSealed reads the file that sealed has made, and closes it.
func readSealed(fd int) ([]byte, error) {
	const want = unix.F_SEAL_WRITE | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW
	seals, err := unix.FcntlInt(uintptr(fd), unix.F_GET_SEALS, 0)
	if err != nil || seals&want != want {
		// The number may be that of another file of this process, which is not touched.
		return nil, errors.Join(err, errors.New("descriptor "+strconv.Itoa(fd)+" is no sealed file"))
	}
	f := os.NewFile(uintptr(fd), "hand-over")
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, 0, maxPassed+1))
	if err == nil && len(text) > maxPassed {
		err = errors.New("it is too long")
	}
	return text, err
}

// file takes the descriptor over, if it is what it was said to be; else it may be
// another file of this process, and is not touched.
func (d *descriptor) file(name string) (*os.File, error) {
	var st unix.Stat_t
	if err := unix.Fstat(d.FD, &st); err != nil {
		return nil, os.NewSyscallError("fstat", err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFSOCK || st.Ino != d.Inode {
		return nil, errors.New("it is another file")
	}
	typ, err := unix.GetsockoptInt(d.FD, unix.SOL_SOCKET, unix.SO_TYPE)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	accepts, err := unix.GetsockoptInt(d.FD, unix.SOL_SOCKET, unix.SO_ACCEPTCONN)
	if err != nil {
		return nil, os.NewSyscallError("getsockopt", err)
	}
	is := datagrams
	if typ == unix.SOCK_STREAM {
		if is = connected; accepts != 0 {
			is = listening
		}
	}
	if is != d.Kind {
		return nil, errors.New("it is a " + string(is) + ", not a " + string(d.Kind))
	}
	unix.CloseOnExec(d.FD)
	return os.NewFile(uintptr(d.FD), name), nil
}

// closeUnknown closes the descriptors that some program before has left inheritable and
// that are not standard: this one opens none like that, and has marked those it knows.
func closeUnknown() {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return
	}
	for _, e := range entries {
		fd, err := strconv.Atoi(e.Name())
		if err != nil || fd < 3 {
			continue
		}
		if flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil && flags&unix.FD_CLOEXEC == 0 {
			_ = unix.Close(fd)
		}
	}
}

// alone has a command's processes end with it when its time is over.
func alone(cmd *exec.Cmd) {
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
}
