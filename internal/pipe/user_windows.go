package pipe

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"runtime"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/owner"
)

// checkOwner compares the owner of an opened pipe with our own user. The name's owner is
// not asked: it could be another's by the time it is opened.
func checkOwner(h windows.Handle) error {
	sd, err := windows.GetSecurityInfo(h, windows.SE_FILE_OBJECT, windows.OWNER_SECURITY_INFORMATION)
	if err != nil {
		return os.NewSyscallError("GetSecurityInfo", err)
	}
	sid, _, err := sd.Owner()
	if err != nil {
		return os.NewSyscallError("GetSecurityDescriptorOwner", err)
	}
	return owner.Check(sid)
}

var (
	advapi32                   = windows.NewLazySystemDLL("advapi32.dll")
	kernel32                   = windows.NewLazySystemDLL("kernel32.dll")
	impersonateNamedPipeClient = advapi32.NewProc("ImpersonateNamedPipeClient")
	peekNamedPipe              = kernel32.NewProc("PeekNamedPipe")
)

// checkClient compares the user at the other end of a server's handle, something of
// whom was read, with our own. The system's word is the token that it noted when
// the client opened the pipe; a process id would be anybody's once the client has ended.
func checkClient(h windows.Handle) error {
	token, err := clientToken(h)
	if errors.Is(err, windows.ERROR_CANT_OPEN_ANONYMOUS) {
		return owner.Check(nil) // it does not say who it is
	}
	if err != nil {
		return err
	}
	defer token.Close()
	user, err := token.GetTokenUser()
	if err != nil {
		return os.NewSyscallError("GetTokenInformation", err)
	}
	return owner.Check(user.User.Sid)
}

// clientToken becomes the client for a moment, in one thread.
func clientToken(h windows.Handle) (token windows.Token, err error) {
	runtime.LockOSThread()
	ok, _, err := impersonateNamedPipeClient.Call(uintptr(h))
	if ok == 0 {
		runtime.UnlockOSThread()
		return 0, os.NewSyscallError("ImpersonateNamedPipeClient", err)
	}
	err = windows.OpenThreadToken(windows.CurrentThread(), windows.TOKEN_QUERY, true, &token)
	if rerr := windows.RevertToSelf(); rerr != nil {
		// The thread stays locked: it ends with the goroutine and does nobody
		// else's work as the client.
		if err == nil {
			_ = token.Close()
		}
		return 0, os.NewSyscallError("RevertToSelf", rerr)
	}
	runtime.UnlockOSThread()
	return token, os.NewSyscallError("OpenThreadToken", err)
}

// begins reports whether the first bytes that wait in a pipe are mark. It reads none.
func begins(h windows.Handle, mark []byte) bool {
	b := make([]byte, len(mark))
	var n uint32
	ok, _, _ := peekNamedPipe.Call(uintptr(h), uintptr(unsafe.Pointer(&b[0])), uintptr(len(b)), uintptr(unsafe.Pointer(&n)), 0, 0)
	return ok != 0 && bytes.Equal(b[:n], mark)
}

// writeAll writes a few bytes, for which the pipe has room, to a handle that is not in
// the poller.
func writeAll(h windows.Handle, b []byte) error {
	event, err := windows.CreateEvent(nil, 1, 0, nil)
	if err != nil {
		return os.NewSyscallError("CreateEvent", err)
	}
	defer windows.CloseHandle(event)
	o := &windows.Overlapped{HEvent: event}
	var n uint32
	err = windows.WriteFile(h, b, &n, o)
	if err == nil || err == windows.ERROR_IO_PENDING {
		err = windows.GetOverlappedResult(h, o, &n, true)
	}
	return os.NewSyscallError("WriteFile", err)
}

func isNotExist(err error) bool { return errors.Is(err, fs.ErrNotExist) }
