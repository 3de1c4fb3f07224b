package endpoint

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"os"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/owner"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/record"
)

// Conn is a connection to an endpoint, or one that its listener accepted.
type Conn = pipe.Conn

// Listener is an endpoint's.
type Listener = pipe.Listener

// Address is where an endpoint is dialled.
type Address struct{ Name string }

func addressOf(path string) *Address { return &Address{path} }

func connect(_ context.Context, a *Address) (*Conn, Reach, error) {
	conn, err := pipe.Connect(a.Name)
	if err != nil {
		return nil, classify(err), err
	}
	return conn, Reached, nil
}

// classify says what a failed connect found.
func classify(err error) Reach {
	var foreign *owner.Error
	switch {
	case errors.Is(err, pipe.ErrBusy):
		return Busy
	case errors.Is(err, windows.ERROR_BROKEN_PIPE), errors.Is(err, windows.ERROR_NO_DATA), errors.Is(err, windows.ERROR_PIPE_NOT_CONNECTED):
		// It was closed as we asked it for its owner: whoever has the name now is
		// met the next time.
		return Busy
	case errors.Is(err, fs.ErrNotExist):
		return Absent
	case errors.As(err, &foreign), errors.Is(err, windows.ERROR_ACCESS_DENIED):
		// The pipe that does not let us in is none of ours.
		return Foreign
	}
	return Broken
}

func check(*Conn) error { return nil }

func peerPID(c net.Conn) (int, error) {
	pc, ok := c.(*Conn)
	if !ok {
		return 0, nil
	}
	pid, err := pc.PeerPID()
	if errors.Is(err, net.ErrClosed) {
		return 0, net.ErrClosed
	}
	return pid, nil
}

// A Socket is a claimed name of a pipe with the instances in which clients wait. It
// belongs to who claimed it, and is not safe for concurrent use.
type Socket struct {
	held   *pipe.Instances // to be served, or
	hold   *pipe.Hold      // kept beside who serves
	closed bool            // of hold, which others may have too
}

// Bind claims the name for n instances. A name that is served is fs.ErrExist.
func Bind(name string, n int) (*Socket, error) {
	held, err := pipe.Claim(name, n)
	if err != nil {
		return nil, err
	}
	return &Socket{held: held}, nil
}

// BindBeside is Bind beside a process that has shut its listener and still serves
// connections, whose name cannot be claimed until they have ended.
func BindBeside(name string, n int) (*Socket, error) {
	held, err := beside(name, func(name string) (*pipe.Instances, error) { return pipe.Claim(name, n) },
		func(name string) (*pipe.Instances, error) { return pipe.Join(name, n) })
	if err != nil {
		return nil, err
	}
	return &Socket{held: held}, nil
}

func beside[H any](name string, claim, join func(string) (H, error)) (held H, err error) {
	for range 8 { // its last connection may end between two looks
		if held, err = claim(name); errors.Is(err, pipe.ErrTaken) {
			held, err = join(name)
		}
		if !errors.Is(err, fs.ErrNotExist) {
			break
		}
	}
	return held, err
}

// Inheritable returns copies of the instances for a child, which the caller closes
// once it has started.
func (s *Socket) Inheritable() (*pipe.Copies, error) {
	if s.hold != nil {
		return s.hold.Inheritable()
	}
	return s.held.Inheritable()
}

func (s *Socket) close() error {
	switch {
	case s.hold == nil:
		return s.held.Close()
	case s.closed:
		return net.ErrClosed
	}
	s.closed = true
	return s.hold.Close()
}

// Listen: what is claimed has clients.
func (s *Socket) Listen() error { return nil }

// FD: there is no descriptor.
func (s *Socket) FD() int { return -1 }

// Listener serves the instances in this process.
func (s *Socket) Listener() (*Listener, error) { return s.held.Listen() }

// Adopt makes a listener of inherited instances of the name. On an error nothing was
// touched.
func Adopt(name string, handles []uintptr) (*Listener, error) {
	held, err := pipe.Adopt(name, handles)
	if err != nil {
		return nil, err
	}
	return held.Listen()
}

// Successor returns a listener of the name that lets nobody in before Relisten: a
// successor's, while the generation before it serves.
func Successor(name string) (*Listener, error) { return pipe.Closed(name, pipe.Queue) }

// Relisten lets clients in again after Shut, or for the first time to a Successor. Nobody
// else may serve the name.
func Relisten(ln *Listener) error { return ln.Reopen() }

// Yield lets nobody in any more: whoever listens at the name next has who comes, and who
// has come already stays ours.
func Yield(ln *Listener) error { return ln.Shut() }

// BusyWhenShut: a name without a free instance looks alike, whatever the reason is.
const BusyWhenShut = true

// QueueMoves: who waits in the instances of one process is its own, whoever listens next.
const QueueMoves = false

// Shut refuses new connections; those that wait in the queue can still be accepted.
func Shut(ln *Listener) error { return ln.Shut() }

func inodeAt(path string) (record.Inode, error) {
	return inodeBy(path, windows.FILE_FLAG_BACKUP_SEMANTICS|windows.FILE_FLAG_OPEN_REPARSE_POINT)
}

func fileID(path string, _ fs.FileInfo) record.Inode {
	i, _ := inodeBy(path, windows.FILE_FLAG_BACKUP_SEMANTICS)
	return i
}

func identity(string) (record.Inode, error) { return record.Inode{}, nil }

func inodeBy(path string, flags uint32) (record.Inode, error) {
	p, err := windows.UTF16PtrFromString(path)
	if err != nil {
		return record.Inode{}, sysError("open", path, err)
	}
	h, err := windows.CreateFile(p, windows.FILE_READ_ATTRIBUTES, windows.FILE_SHARE_READ|windows.FILE_SHARE_WRITE|windows.FILE_SHARE_DELETE,
		nil, windows.OPEN_EXISTING, flags, 0)
	if err != nil {
		return record.Inode{}, sysError("open", path, err)
	}
	defer windows.CloseHandle(h)
	i, err := inodeOfHandle(h)
	return i, sysError("inode", path, err)
}

func inodeOfFile(f *os.File) (i record.Inode, err error) {
	rc, err := f.SyscallConn()
	if err != nil {
		return i, err
	}
	if cerr := rc.Control(func(h uintptr) { i, err = inodeOfHandle(windows.Handle(h)) }); cerr != nil {
		return i, cerr
	}
	return i, sysError("inode", f.Name(), err)
}

func inodeOfHandle(h windows.Handle) (record.Inode, error) {
	var info windows.ByHandleFileInformation
	err := windows.GetFileInformationByHandle(h, &info)
	return record.Inode{Dev: uint64(info.VolumeSerialNumber), Ino: uint64(info.FileIndexHigh)<<32 | uint64(info.FileIndexLow)}, err
}

var lacks = []windows.Errno{windows.ERROR_TOO_MANY_OPEN_FILES, windows.ERROR_NOT_ENOUGH_MEMORY, windows.ERROR_OUTOFMEMORY,
	windows.ERROR_NO_SYSTEM_RESOURCES, windows.ERROR_NOT_ENOUGH_QUOTA, windows.ERROR_COMMITMENT_LIMIT}
