package pipe

import (
	"errors"
	"io/fs"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/waitable"
)

// A Hold is the instances of a name that wait for a client, as a standing broker has
// them: it keeps them while a daemon serves them, so that they and who waits in them
// outlive the daemon, and watches them while none does.
//
// An instance that a daemon has taken a client from is not to be kept: the client would
// not see the daemon's end of it close. So the daemon tells of each before it hands
// it out ([Listener.Tell]), and of each that it makes, which the broker copies (Follow).
//
// While it is lent nothing is known for certain of who waits: what the daemon has told may
// not have been heard. It is returned when all has.
//
// It is safe for concurrent use. Copies share it; the last Close gives everything up.
type Hold struct {
	name string

	mu     sync.Mutex // guards the fields below
	shares int
	kept   []kept
	lent   string // to whom; "" if it is not
	wanted func() // of Watch, until it is called or unwatched
	watch  *watch // nil while nobody watches
}

// kept is one instance: our handle of it, and the value of the handle that serves it.
type kept struct {
	h      windows.Handle
	served uintptr // 0 while nobody serves it
}

// watch is a pending ConnectNamedPipe for each instance, all with one event.
type watch struct {
	event   windows.Handle
	wait    *waitable.Watch
	pending []*windows.Overlapped
	of      []windows.Handle
}

// ClaimHold is [Claim] for who holds the name and serves it to nobody.
func ClaimHold(name string) (*Hold, error) { return holdOf(Claim(name, Queue)) }

// JoinHold is [Join] for who holds the name beside a process that drains.
func JoinHold(name string) (*Hold, error) { return holdOf(Join(name, Queue)) }

func holdOf(s *Instances, err error) (*Hold, error) {
	if err != nil {
		return nil, err
	}
	h := EmptyHold(s.name)
	for _, handle := range s.take() {
		h.kept = append(h.kept, kept{h: handle})
	}
	return h, nil
}

// EmptyHold returns a hold of a name that somebody serves, for Follow.
func EmptyHold(name string) *Hold { return &Hold{name: name, shares: 1} }

// Name returns the pipe's name.
func (s *Hold) Name() string { return s.name }

// Copy returns the hold, to be closed once more. It is os.ErrClosed after the last Close.
func (s *Hold) Copy() (*Hold, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shares == 0 {
		return nil, pathError("copy", s.name, os.ErrClosed)
	}
	s.shares++
	return s, nil
}

// Close gives the instances up when it is the last: who waits in one that nobody serves
// sees its connection end.
func (s *Hold) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shares == 0 {
		return pathError("close", s.name, os.ErrClosed)
	}
	if s.shares--; s.shares == 0 {
		s.wanted = nil
		s.unwatchLocked()
		s.dropLocked()
	}
	return nil
}

// Lend says that somebody serves the instances, until that one returns them. The name is
// of one process alone.
func (s *Hold) Lend(to string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lent = to
	s.unwatchLocked()
}

// Return says that what is kept now is nobody else's: the process that served it does so
// no more, and all that it has told was heard. If it is lent to another it does nothing.
func (s *Hold) Return(by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lent != by {
		return
	}
	for i := range s.kept {
		s.kept[i].served = 0
	}
	s.lent = ""
	if f := s.wanted; f != nil && s.watchLocked() != nil {
		s.wanted = nil
		f() // who looks finds out
	}
}

// Lent reports whether it is.
func (s *Hold) Lent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.lent != ""
}

var errLent = errors.New("its instances are another process's")

func (s *Hold) dropLocked() {
	for _, k := range s.kept {
		_ = windows.CloseHandle(k.h)
	}
	s.kept = nil
}

// Drop gives up every instance, if it is lent to that one: it does not tell whom it takes,
// or was not heard.
func (s *Hold) Drop(by string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lent == by {
		s.dropLocked()
	}
}

// refillLocked makes up for the instances that were taken.
func (s *Hold) refillLocked() error {
	if s.shares == 0 {
		return os.ErrClosed
	}
	for len(s.kept) < Queue {
		h, err := create(s.name, windows.FILE_OPEN)
		if isNotExist(err) {
			h, err = create(s.name, windows.FILE_CREATE)
		}
		if err != nil {
			if len(s.kept) > 0 {
				return nil // a shorter queue, until the system has more to give
			}
			return err
		}
		s.kept = append(s.kept, kept{h: h})
	}
	return nil
}

// Inheritable returns copies for a child that is to serve the instances, as
// [Instances.Inheritable] does. It fails while they are lent.
func (s *Hold) Inheritable() (*Copies, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.lent != "" {
		return nil, pathError("copy", s.name, errLent)
	}
	if err := s.refillLocked(); err != nil {
		return nil, pathError("copy", s.name, err)
	}
	all := &Instances{name: s.name}
	for _, k := range s.kept[:min(len(s.kept), MaxQueue)] {
		all.handles = append(all.handles, k.h)
	}
	copies, err := all.Inheritable()
	if err == nil {
		for i, h := range copies.Handles {
			s.kept[i].served = uintptr(h)
		}
	}
	return copies, err
}

// Waits reports whether somebody has connected to an instance that nobody has taken.
func (s *Hold) Waits() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.waitsLocked()
}

func (s *Hold) waitsLocked() bool {
	return slices.ContainsFunc(s.kept, func(k kept) bool { return stateOf(k.h) != windows.FILE_PIPE_LISTENING_STATE })
}

// Waiting is how many have.
func (s *Hold) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for _, k := range s.kept {
		if stateOf(k.h) == windows.FILE_PIPE_CONNECTED_STATE {
			n++
		}
	}
	return n
}

// stateOf is the state of an instance; one that cannot be asked is no reason to wake.
func stateOf(h windows.Handle) uint32 {
	var info pipeLocalInformation
	var iosb windows.IO_STATUS_BLOCK
	if windows.NtQueryInformationFile(h, &iosb, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)), filePipeLocalInformation) != nil {
		return windows.FILE_PIPE_LISTENING_STATE
	}
	return info.state
}

// Watch has f called once when somebody waits, and at once if somebody does, instead of
// what an earlier Watch has; while it is lent, from its return on. It may also be called
// for nobody. f must not block, nor call the hold. The queue gets its length again.
func (s *Hold) Watch(f func()) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.unwatchLocked()
	if s.shares == 0 {
		return pathError("watch", s.name, os.ErrClosed)
	}
	s.wanted = f
	if s.lent != "" {
		return nil
	}
	return s.watchLocked()
}

func (s *Hold) watchLocked() error {
	if err := s.refillLocked(); err != nil {
		return pathError("watch", s.name, err)
	}
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return pathError("watch", s.name, os.NewSyscallError("CreateEvent", err))
	}
	w := &watch{event: event}
	s.watch = w
	for _, k := range s.kept {
		o := &windows.Overlapped{HEvent: event}
		if windows.ConnectNamedPipe(k.h, o) == windows.ERROR_IO_PENDING {
			w.pending, w.of = append(w.pending, o), append(w.of, k.h)
		}
	}
	// Each call has cleared the event, perhaps of the client of one before. From here on
	// it stays as it is.
	if s.waitsLocked() {
		_ = windows.SetEvent(event)
	}
	if w.wait, err = waitable.On(event, s.wanted); err != nil {
		s.unwatchLocked()
		return pathError("watch", s.name, err)
	}
	return nil
}

// Unwatch ends what Watch began. An f that was about to be called may still be.
func (s *Hold) Unwatch() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.wanted = nil
	s.unwatchLocked()
}

func (s *Hold) unwatchLocked() {
	w := s.watch
	if s.watch = nil; w == nil {
		return
	}
	if w.wait != nil {
		w.wait.Stop()
	}
	for i, o := range w.pending {
		_ = windows.CancelIoEx(w.of[i], o)
		// It is the kernel's until it has ended, which a cancelled one does at once. The
		// event, which is everybody's, does not tell.
		for n := uint32(0); windows.GetOverlappedResult(w.of[i], o, &n, false) == windows.ERROR_IO_INCOMPLETE; {
			time.Sleep(50 * time.Microsecond)
		}
	}
	_ = windows.CloseHandle(w.event)
}

// Follow, if it is lent to that one, makes what is kept the instances that wait for a client in the process that
// serves them, all of them with anew, which must be so the first time: made are the
// values of handles there, taken those of instances that have ceased to wait. A handle
// that is not, or no longer, an instance of the name is passed over: it was taken
// meanwhile, and the process is about to say so.
func (s *Hold) Follow(by string, process windows.Handle, anew bool, made, taken []uintptr) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.shares == 0 || s.lent != by {
		return
	}
	if anew { // of a process that we have launched, and that may be dead by now, we have them
		s.kept = slices.DeleteFunc(s.kept, func(k kept) bool {
			gone := !slices.Contains(made, k.served)
			if gone {
				_ = windows.CloseHandle(k.h)
			}
			return gone
		})
	}
	for _, v := range made {
		if anew && slices.ContainsFunc(s.kept, func(k kept) bool { return k.served == v }) {
			continue
		}
		if h, err := copyFrom(process, v, s.name); err == nil {
			s.kept = append(s.kept, kept{h, v})
		}
	}
	s.kept = slices.DeleteFunc(s.kept, func(k kept) bool {
		gone := slices.Contains(taken, k.served)
		if gone {
			_ = windows.CloseHandle(k.h)
		}
		return gone
	})
}

// copyFrom returns a handle of the instance that has the value in a process.
func copyFrom(process windows.Handle, value uintptr, name string) (windows.Handle, error) {
	var h windows.Handle
	err := windows.DuplicateHandle(process, windows.Handle(value), windows.CurrentProcess(), &h, 0, false, windows.DUPLICATE_SAME_ACCESS)
	if err != nil {
		return 0, os.NewSyscallError("DuplicateHandle", err)
	}
	if err := isInstance(h, name); err != nil {
		_ = windows.CloseHandle(h)
		return 0, err
	}
	return h, nil
}

// OpenSource opens a process for Follow. The caller closes it.
func OpenSource(pid int) (windows.Handle, error) {
	p, err := windows.OpenProcess(windows.PROCESS_DUP_HANDLE|windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return 0, &fs.PathError{Op: "open process", Path: strconv.Itoa(pid), Err: err}
	}
	return p, nil
}

// Tell has tell called with the instances that wait for a client, for a broker that keeps
// copies of them: at once with all, then with those that were made, and with each that
// ceases to wait, before AcceptPipe returns its connection. With neither it says that the
// listener is closed, and has taken all that it ever will. It is called by one at a time
// and under the listener's lock: it calls nothing of the listener. After an error, which
// Tell returns of the first call, it is not called any more. It ends an Await.
func (l *Listener) Tell(tell func(made, taken []uintptr) error) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == closed {
		return l.opError("tell", os.ErrClosed)
	}
	var all []uintptr
	for _, in := range l.armed {
		all = append(all, uintptr(in.h))
	}
	if err := tell(all, nil); err != nil {
		return l.opError("tell", err) // the next one may hear
	}
	l.tell = tell
	l.awaitedLocked()
	return nil
}

// Await has AcceptPipe hand out nobody until Tell is called, or StopAwaiting. untold is
// called once if the listener takes somebody, or is about to, without having told that;
// it calls nothing of the listener.
func (l *Listener) Await(untold func()) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.awaited == nil && l.tell == nil {
		l.awaited, l.untold = make(chan struct{}), untold
	}
}

// StopAwaiting ends what Await began, unless Tell has.
func (l *Listener) StopAwaiting() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.untoldLocked()
}

func (l *Listener) untoldLocked() {
	if l.awaited != nil {
		l.untold()
		l.awaitedLocked()
	}
}

func (l *Listener) awaitedLocked() {
	if l.awaited != nil {
		close(l.awaited)
		l.awaited, l.untold = nil, nil
	}
}

func (l *Listener) awaiting() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.awaited
}

func (l *Listener) madeLocked(made []uintptr) {
	if l.tell != nil && len(made) > 0 && l.tell(made, nil) != nil {
		l.tell = nil
	}
}

// takenLocked says that these do not wait any more.
func (l *Listener) takenLocked(all ...*instance) {
	if len(all) == 0 {
		return
	}
	l.untoldLocked()
	if l.tell == nil {
		return
	}
	var taken []uintptr
	for _, in := range all {
		taken = append(taken, uintptr(in.h))
	}
	if l.tell(nil, taken) != nil {
		l.tell = nil
	}
}
