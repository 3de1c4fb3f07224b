package pipe

import (
	"errors"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/owner"
)

// Prefix begins the name of every pipe of this machine.
const Prefix = `\\.\pipe\`

const (
	// Queue is a good number of instances: so many clients wait without trying again.
	Queue = 16

	// MaxQueue is the largest number of instances that a name is claimed with.
	MaxQueue = 64

	// maxName bounds a name in UTF-16 units (CreateNamedPipe).
	maxName = 256

	// quota is the size of an instance's buffer in each direction. The system
	// charges it to the process as it is used.
	quota = 64 << 10
)

// ErrTaken is the cause of a Claim for a name that is served already, by whomever. It
// is [fs.ErrExist].
var ErrTaken error = takenError{}

type takenError struct{}

func (takenError) Error() string        { return "the name is served already" }
func (takenError) Is(target error) bool { return target == fs.ErrExist }

// Instances are an accept queue that this process holds and does not serve. Several
// processes can hold the same ones; they are gone, and whoever waits in them is
// refused, when the last has closed them.
//
// Who made them closes them, or lets Listen take them over. They are safe for
// concurrent use.
type Instances struct {
	name string

	mu      sync.Mutex
	handles []windows.Handle // nil once closed or taken over
}

// Claim makes name this user's with n instances, from 1 to [MaxQueue], that clients can
// connect to from now on. It does not block.
//
// Errors are *[fs.PathError] with the operation "claim": [ErrTaken], a bad name or
// number ([syscall.EINVAL]), or the system's.
func Claim(name string, n int) (*Instances, error) {
	return newInstances("claim", name, n, windows.FILE_CREATE)
}

// Join adds n instances to a name that this user serves already. It is for starting
// beside a process that drains: while that has connections the name exists, cannot be
// claimed, and is [ErrBusy] to who dials. That nobody else joins is for the caller to
// see to, who holds a lock. It does not block.
//
// Errors are *[fs.PathError] with the operation "join": [fs.ErrNotExist] where there is
// nothing to join, *[owner.Error] where another user serves the name, else as of Claim.
func Join(name string, n int) (*Instances, error) {
	return newInstances("join", name, n, windows.FILE_OPEN)
}

func newInstances(op, name string, n int, first uint32) (*Instances, error) {
	if n < 1 || n > MaxQueue || !validName(name) {
		return nil, pathError(op, name, syscall.EINVAL)
	}
	s := &Instances{name: name}
	for disposition := first; len(s.handles) < n; disposition = windows.FILE_OPEN {
		h, err := create(name, disposition)
		if err != nil {
			s.Close()
			return nil, pathError(op, name, err)
		}
		s.handles = append(s.handles, h)
	}
	return s, nil
}

// Adopt takes over instances of name that this process has inherited or was given a
// copy of, by the values of their handles. It makes sure that each is the server's
// end of a pipe of that name and not for this process's children.
//
// Errors are *[fs.PathError] with the operation "adopt". Then no handle was touched: a
// value that is not what was announced may be anything of this process's.
func Adopt(name string, handles []uintptr) (*Instances, error) {
	if len(handles) == 0 || len(handles) > MaxQueue || !validName(name) {
		return nil, pathError("adopt", name, syscall.EINVAL)
	}
	s := &Instances{name: name}
	for i, v := range handles {
		h := windows.Handle(v)
		for _, other := range handles[:i] {
			if other == v {
				return nil, pathError("adopt", name, syscall.EINVAL)
			}
		}
		if err := isInstance(h, name); err != nil {
			return nil, pathError("adopt", name, err)
		}
		s.handles = append(s.handles, h)
	}
	for _, h := range s.handles {
		if err := windows.SetHandleInformation(h, windows.HANDLE_FLAG_INHERIT, 0); err != nil {
			return nil, pathError("adopt", name, err)
		}
	}
	return s, nil
}

// Name returns the pipe's name.
func (s *Instances) Name() string { return s.name }

// A Copies is a set of handles of the same instances, for a child.
type Copies struct {
	Handles []syscall.Handle
}

// Close closes them here.
func (c *Copies) Close() {
	for _, h := range c.Handles {
		_ = syscall.CloseHandle(h)
	}
	c.Handles = nil
}

// Inheritable returns copies for [syscall.SysProcAttr.AdditionalInheritedHandles]. The
// child finds them under the same values, which it must be told. The caller closes
// the copies when the child was started: until then any process that the host program
// starts by other means than package os inherits them too.
func (s *Instances) Inheritable() (*Copies, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.handles == nil {
		return nil, pathError("copy", s.name, os.ErrClosed)
	}
	self := windows.CurrentProcess()
	c := &Copies{}
	for _, h := range s.handles {
		var dup windows.Handle
		if err := windows.DuplicateHandle(self, h, self, &dup, 0, true, windows.DUPLICATE_SAME_ACCESS); err != nil {
			c.Close()
			return nil, pathError("copy", s.name, err)
		}
		c.Handles = append(c.Handles, syscall.Handle(dup))
	}
	return c, nil
}

// Listen serves the instances in this process: they are the listener's from now on, and
// these Instances are closed. It does not block.
func (s *Instances) Listen() (*Listener, error) {
	handles := s.take()
	if handles == nil {
		return nil, pathError("listen on", s.name, os.ErrClosed)
	}
	return listen(s.name, handles)
}

// Close closes this process's handles. If it is the last one that has them, clients
// that wait in them see their connection end. Closing again is [os.ErrClosed].
func (s *Instances) Close() error {
	handles := s.take()
	if handles == nil {
		return pathError("close", s.name, os.ErrClosed)
	}
	for _, h := range handles {
		_ = windows.CloseHandle(h)
	}
	return nil
}

func (s *Instances) take() []windows.Handle {
	s.mu.Lock()
	defer s.mu.Unlock()
	handles := s.handles
	s.handles = nil
	return handles
}

// validName: CreateNamedPipe forbids the backslash. Names go into line-based formats.
func validName(name string) bool {
	rest, ok := strings.CutPrefix(name, Prefix)
	return ok && rest != "" && len(name) <= maxName &&
		!strings.ContainsFunc(rest, func(r rune) bool { return r == '\\' || r < ' ' || r == 0x7f })
}

// create creates one instance: the first of its name, or none, with FILE_CREATE; one
// more of this user's with FILE_OPEN. CreateNamedPipe has a flag for the former, which Wine ignores.
func create(name string, disposition uint32) (windows.Handle, error) {
	sd, err := owner.Only(false)
	if err != nil {
		return 0, err
	}
	nt, err := windows.NewNTUnicodeString(`\??\pipe\` + strings.TrimPrefix(name, Prefix))
	if err != nil {
		return 0, err
	}
	oa := windows.OBJECT_ATTRIBUTES{ObjectName: nt, Attributes: windows.OBJ_CASE_INSENSITIVE, SecurityDescriptor: sd}
	oa.Length = uint32(unsafe.Sizeof(oa))
	var (
		h       windows.Handle
		iosb    windows.IO_STATUS_BLOCK
		timeout int64 = -50 * 10_000 // what WaitNamedPipe waits by default, 100 ns each
	)
	err = windows.NtCreateNamedPipeFile(&h, windows.GENERIC_READ|windows.GENERIC_WRITE|windows.SYNCHRONIZE, &oa, &iosb,
		windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE, disposition,
		0, // no synchronous I/O: overlapped
		windows.FILE_PIPE_BYTE_STREAM_TYPE|windows.FILE_PIPE_REJECT_REMOTE_CLIENTS, windows.FILE_PIPE_BYTE_STREAM_MODE,
		windows.FILE_PIPE_QUEUE_OPERATION, 0xffffffff, quota, quota, &timeout)
	var status windows.NTStatus
	if errors.As(err, &status) {
		err = status.Errno()
	}
	switch {
	case err == nil && disposition == windows.FILE_OPEN:
		// The name may have become another's, whose access list would then be ours.
		if err := checkOwner(h); err != nil {
			_ = windows.CloseHandle(h)
			return 0, err
		}
		return h, nil
	case err == nil:
		return h, nil
	case disposition == windows.FILE_CREATE && (err == windows.ERROR_ACCESS_DENIED || err == windows.ERROR_ALREADY_EXISTS || err == windows.ERROR_PIPE_BUSY):
		// The first is what Windows answers, whosever the name is.
		return 0, ErrTaken
	}
	return 0, os.NewSyscallError("NtCreateNamedPipeFile", err)
}

// isInstance returns nil if h is the server's end of a pipe of this name.
func isInstance(h windows.Handle, name string) error {
	if kind, err := windows.GetFileType(h); err != nil || kind != windows.FILE_TYPE_PIPE {
		return errNoInstance(h)
	}
	var flags uint32
	if err := windows.GetNamedPipeInfo(h, &flags, nil, nil, nil); err != nil || flags&pipeServerEnd == 0 {
		return errNoInstance(h)
	}
	var info struct {
		length uint32 // in bytes
		name   [maxName + 1]uint16
	}
	if err := windows.GetFileInformationByHandleEx(h, windows.FileNameInfo, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info))); err != nil {
		return os.NewSyscallError("GetFileInformationByHandleEx", err)
	}
	got := windows.UTF16ToString(info.name[:min(int(info.length/2), len(info.name))])
	if want := `\` + strings.TrimPrefix(name, Prefix); !strings.EqualFold(got, want) {
		return errors.New("handle " + strconv.FormatUint(uint64(h), 10) + " is of the pipe " + strconv.Quote(got))
	}
	return nil
}

// pipeServerEnd is PIPE_SERVER_END (winbase.h).
const pipeServerEnd = 1

func errNoInstance(h windows.Handle) error {
	return errors.New("handle " + strconv.FormatUint(uint64(h), 10) + " is no instance of a pipe")
}

// pathError gives err the form of the package's errors; nil stays nil.
func pathError(op, name string, err error) error {
	if err == nil {
		return nil
	}
	return &fs.PathError{Op: op, Path: name, Err: err}
}
