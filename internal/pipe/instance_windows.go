package pipe

import (
	"errors"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/waitable"
)

// An instance is a pipe's server end with a pending ConnectNamedPipe. It is used by
// one goroutine at a time.
type instance struct {
	h     windows.Handle
	event windows.Handle
	o     *windows.Overlapped // the kernel's until the connect has ended
	watch *waitable.Watch     // nil if the connect ended at once
}

// errAgain says that the connect ended without a client.
var errAgain = errors.New("no client yet")

// arm begins to wait for a client of h, and sends the instance to ready once there is
// one. ready must have room for it. On an error h is untouched.
func arm(h windows.Handle, ready chan<- *instance) (*instance, error) {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return nil, err
	}
	in := &instance{h: h, event: event}
	if err := in.rearm(ready); err != nil {
		_ = windows.CloseHandle(event)
		return nil, err
	}
	return in, nil
}

// rearm is arm for an instance whose connect has ended.
func (in *instance) rearm(ready chan<- *instance) error {
	in.unwatch()
	// Clears the event; a new one each time, as the old may be in use until then.
	in.o = &windows.Overlapped{HEvent: in.event}
	switch err := windows.ConnectNamedPipe(in.h, in.o); err {
	case nil, windows.ERROR_PIPE_CONNECTED, windows.ERROR_NO_DATA:
		// The last: the client has gone already. What it wrote can be read.
		in.o = nil
		ready <- in
		return nil
	case windows.ERROR_IO_PENDING:
	default:
		in.o = nil
		return err
	}
	watch, err := waitable.On(in.event, func() { ready <- in })
	if err != nil {
		in.cancel()
		return err
	}
	in.watch = watch
	return nil
}

// result says how the connect ended, once it has: nil for a client, errAgain for none.
func (in *instance) result() error {
	if in.o == nil {
		return nil
	}
	var n uint32
	err := windows.GetOverlappedResult(in.h, in.o, &n, true)
	in.o = nil
	switch err {
	case nil, windows.ERROR_PIPE_CONNECTED, windows.ERROR_NO_DATA:
		return nil
	case windows.ERROR_OPERATION_ABORTED:
		// The system cancels what a thread has begun when the thread ends, which
		// it does with a goroutine that was locked to it.
		return errAgain
	}
	return err
}

// cancel ends the connect, unless it has ended, and returns how.
func (in *instance) cancel() error {
	if in.o != nil {
		_ = windows.CancelIoEx(in.h, in.o)
	}
	return in.result()
}

// unwatch: what it has not sent to ready by now it never will.
func (in *instance) unwatch() {
	if in.watch != nil {
		in.watch.Stop()
		in.watch = nil
	}
}

// disarm gives everything back but the handle: whoever asks it next for a client
// finds one that came meanwhile.
func (in *instance) disarm() {
	_ = in.cancel()
	in.unwatch()
	_ = windows.CloseHandle(in.event)
}

// close is disarm, and ends the instance.
func (in *instance) close() {
	in.disarm()
	_ = windows.CloseHandle(in.h)
}
