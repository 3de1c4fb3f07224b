package pipe

import (
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"
)

// A stream reads and writes a handle that was opened for overlapped I/O, with deadlines,
// and in both directions at once. An [os.File] would do that too, but for one thing:
// its read and its write share a file offset without a lock, which is of no use to a
// pipe and which the race detector reports to every program that does both
// (internal/poll/fd_windows.go, Go 1.26).
//
// It is safe for concurrent use. Each direction does one operation at a time.
type stream struct {
	h    windows.Handle
	read direction
	wrt  direction

	// quiet: an operation that is done at once is not reported to the port as well.
	quiet bool

	closed chan struct{} // closed by close

	mu      sync.Mutex     // guards closing
	closing bool           // no operation may start any more
	running sync.WaitGroup // operations, and uses of the handle
}

type direction struct {
	one   sync.Mutex // held for one operation
	until deadline
}

// An operation is what the kernel has of ours while it works: the result comes to the
// port with the address of o, which is that of the whole.
type operation struct {
	o    windows.Overlapped
	n    uint32
	err  error
	done chan struct{} // one value for each completion
}

// maxTransfer bounds one operation, which has 32 bits for its length.
const maxTransfer = 1 << 30

var operations = sync.Pool{New: func() any { return &operation{done: make(chan struct{}, 1)} }}

// port is this process's completion port. One goroutine, and so one thread, waits there
// for all streams, from the first one on for good.
var port = sync.OnceValues(func() (windows.Handle, error) {
	p, err := windows.CreateIoCompletionPort(windows.InvalidHandle, 0, 0, 1)
	if err != nil {
		return 0, os.NewSyscallError("CreateIoCompletionPort", err)
	}
	go func() {
		for {
			var n uint32
			var key uintptr
			var o *windows.Overlapped
			err := windows.GetQueuedCompletionStatus(p, &n, &key, &o, windows.INFINITE)
			if o == nil {
				// The port itself failed, which nothing here can do to it.
				panic(os.NewSyscallError("GetQueuedCompletionStatus", err))
			}
			op := (*operation)(unsafe.Pointer(o))
			op.n, op.err = n, err
			op.done <- struct{}{}
		}
	}()
	return p, nil
})

// newStream owns h from here on, whatever comes of it.
func newStream(h windows.Handle) (*stream, error) {
	p, err := port()
	if err == nil {
		_, err = windows.CreateIoCompletionPort(h, p, 0, 0)
		err = os.NewSyscallError("CreateIoCompletionPort", err)
	}
	if err != nil {
		_ = windows.CloseHandle(h)
		return nil, err
	}
	s := &stream{h: h, closed: make(chan struct{})}
	s.read.until.init()
	s.wrt.until.init()
	s.quiet = windows.SetFileCompletionNotificationModes(h, windows.FILE_SKIP_COMPLETION_PORT_ON_SUCCESS) == nil
	return s, nil
}

// Read is [io.EOF] when the other end is closed and all is read. Of the system's errors
// it returns the number alone.
func (s *stream) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	s.read.one.Lock()
	defer s.read.one.Unlock()
	for {
		n, err := s.transfer(&s.read, b[:min(len(b), maxTransfer)], windows.ReadFile)
		switch {
		case err == windows.ERROR_BROKEN_PIPE:
			return n, io.EOF
		case n > 0 || err != nil:
			return n, err
		}
		// Somebody wrote no bytes, which is no end.
	}
}

// Write writes all of b, unless it returns an error.
func (s *stream) Write(b []byte) (n int, err error) {
	s.wrt.one.Lock()
	defer s.wrt.one.Unlock()
	for n < len(b) && err == nil {
		var m int
		m, err = s.transfer(&s.wrt, b[n:min(len(b), n+maxTransfer)], windows.WriteFile)
		n += m
	}
	return n, err
}

// transfer does one operation and waits until it is done, the deadline is reached or
// the stream is closed. In the latter cases it is cancelled, and has still ended when
// transfer returns: the kernel has no more to do with b. One that succeeded
// all the same has succeeded.
func (s *stream) transfer(d *direction, b []byte, do func(windows.Handle, []byte, *uint32, *windows.Overlapped) error) (int, error) {
	if !s.begin() {
		return 0, net.ErrClosed
	}
	defer s.running.Done()
	reached := d.until.reached()
	select {
	case <-reached:
		return 0, os.ErrDeadlineExceeded
	default:
	}
	// The caller's memory may be on its stack, which moves.
	var pins runtime.Pinner
	defer pins.Unpin()
	if len(b) > 0 {
		pins.Pin(&b[0])
	}
	op := operations.Get().(*operation)
	defer operations.Put(op)
	op.o = windows.Overlapped{}
	pins.Pin(op)

	var n uint32
	err := do(s.h, b, &n, &op.o)
	if err != nil && err != windows.ERROR_IO_PENDING {
		return int(n), err
	}
	if err == nil && s.quiet {
		return int(n), nil
	}
	var cancelled error
	select {
	case <-op.done:
		return int(op.n), op.err
	case <-reached:
		cancelled = os.ErrDeadlineExceeded
	case <-s.closed:
		cancelled = net.ErrClosed
	}
	_ = windows.CancelIoEx(s.h, &op.o) // or it is done by now
	<-op.done
	if op.err == windows.ERROR_OPERATION_ABORTED {
		return int(op.n), cancelled
	}
	return int(op.n), op.err
}

// begin keeps the handle open until running.Done, or says that it is closed.
func (s *stream) begin() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	s.running.Add(1)
	return true
}

// use runs f on the handle, which stays open meanwhile.
func (s *stream) use(f func(windows.Handle) error) error {
	if !s.begin() {
		return net.ErrClosed
	}
	defer s.running.Done()
	return f(s.h)
}

// close ends whatever waits, and closes the handle.
func (s *stream) close() error {
	s.mu.Lock()
	if s.closing {
		s.mu.Unlock()
		return net.ErrClosed
	}
	s.closing = true
	s.mu.Unlock()
	close(s.closed)
	s.running.Wait()
	return windows.CloseHandle(s.h)
}

// setDeadline bounds the directions. After close nothing is left to be bounded.
func (s *stream) setDeadline(t time.Time, directions ...*direction) error {
	return s.use(func(windows.Handle) error {
		for _, d := range directions {
			d.until.set(t)
		}
		return nil
	})
}
