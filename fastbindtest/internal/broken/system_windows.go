package main

import (
	"bufio"
	"context"
	"errors"
	"flag"
	"fmt"
	"hash/fnv"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf16"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/pipe"
)

const (
	pingWithin   = time.Minute
	answerWithin = 15 * time.Second
	unseen       = 300 * time.Millisecond // processes start one after the other
)

// variable is the one convention that there is here, and inherited are the handles by it.
const variable = "FASTBIND_HANDOVER"

var inherited []uintptr

// handed: orders come at the control endpoint, whose name is the endpoint's and the
// generation's (docs/protocol.md).
func handed() (ask string, err error) {
	generation := ""
	for line := range strings.SplitSeq(os.Getenv(variable), "\n") {
		switch k, v, _ := strings.Cut(line, "="); k {
		case "instances":
			inherited = handles(v)
		case "gendir":
			generation = v
		}
	}
	if len(inherited) == 0 {
		return "", errors.New("no listener was handed down")
	}
	if !has("grandchild") {
		_ = os.Unsetenv(variable)
	}
	return nameOf(inherited[0]) + "+" + generation, nil
}

func handles(list string) (values []uintptr) {
	for part := range strings.SplitSeq(list, ",") {
		if v, err := strconv.ParseUint(part, 10, 64); err == nil {
			values = append(values, uintptr(v))
		}
	}
	return values
}

// nameOf is the name of the pipe that a handle is of.
func nameOf(h uintptr) string {
	var info struct {
		length uint32 // in bytes
		name   [300]uint16
	}
	_ = windows.GetFileInformationByHandleEx(windows.Handle(h), windows.FileNameInfo, (*byte)(unsafe.Pointer(&info)), uint32(unsafe.Sizeof(info)))
	return `\\.\pipe` + windows.UTF16ToString(info.name[:min(int(info.length/2), len(info.name))])
}

func adopted() listener {
	if flag.Arg(0) == "launched" {
		inherited = handles(flag.Arg(1))
	}
	held, err := pipe.Adopt(nameOf(inherited[0]), inherited)
	if err != nil {
		return nil
	}
	if has("cloexec") {
		for _, h := range inherited {
			_ = windows.SetHandleInformation(windows.Handle(h), windows.HANDLE_FLAG_INHERIT, windows.HANDLE_FLAG_INHERIT)
		}
	}
	ln, err := held.Listen()
	if err != nil {
		return nil
	}
	return ln
}

// claim takes a name, or with some defects a share in it.
func claim(name string) (*pipe.Instances, error) {
	if has("others") {
		return claimForAll(name)
	}
	held, err := pipe.Claim(name, pipe.Queue)
	if errors.Is(err, pipe.ErrTaken) {
		switch *defect {
		case "live-socket", "starters", "crowd", "stale-crowd":
			return pipe.Join(name, pipe.Queue)
		}
	}
	return held, err
}

// claimForAll makes a pipe that every user can open.
func claimForAll(name string) (*pipe.Instances, error) {
	user, err := windows.GetCurrentProcessToken().GetTokenUser()
	if err != nil {
		return nil, err
	}
	sd, err := windows.SecurityDescriptorFromString("O:" + user.User.Sid.String() + "D:(A;;FA;;;WD)")
	if err != nil {
		return nil, err
	}
	sa := &windows.SecurityAttributes{SecurityDescriptor: sd}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	p, err := windows.UTF16PtrFromString(name)
	if err != nil {
		return nil, err
	}
	const buffer = 4096
	var all []uintptr
	for first := uint32(windows.FILE_FLAG_FIRST_PIPE_INSTANCE); len(all) < pipe.Queue; first = 0 {
		h, err := windows.CreateNamedPipe(p, windows.PIPE_ACCESS_DUPLEX|windows.FILE_FLAG_OVERLAPPED|first,
			windows.PIPE_TYPE_BYTE|windows.PIPE_REJECT_REMOTE_CLIENTS, windows.PIPE_UNLIMITED_INSTANCES, buffer, buffer, 0, sa)
		if err != nil {
			return nil, err
		}
		all = append(all, uintptr(h))
	}
	return pipe.Adopt(name, all)
}

func listenAt(name string) (listener, error) {
	held, err := claim(name)
	if err != nil {
		return nil, err
	}
	return held.Listen()
}

// unlink: a pipe's name is gone with who serves it.
func unlink(string) {}

func lockIn(string) string {
	own, _ := bases()
	return own
}

func lockDir(dir string) (unlock func(), err error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	err = windows.LockFileEx(windows.Handle(f.Fd()), windows.LOCKFILE_EXCLUSIVE_LOCK, 0, 1, 0, &windows.Overlapped{})
	return func() { _ = f.Close() }, err
}

func answers(name string) bool {
	c, err := pipe.Connect(name)
	if err == nil {
		_ = c.Close()
	}
	return err == nil || errors.Is(err, pipe.ErrBusy)
}

func dial(name string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), answerWithin)
	defer cancel()
	c, err := pipe.Dial(ctx, name)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func listenTCP(addr string) (listener, error) {
	ln, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, err
	}
	return ln.(listener), nil
}

// drain: the last Accept after Shut says so.
func (s *server) drain(accepting chan error) {
	_ = s.ln.SetDeadline(time.Unix(1, 0))
	<-accepting
	end := time.Now() // a port's queue is served as far as it is there
	if p, ok := s.ln.(*pipe.Listener); ok {
		_ = p.Shut()
		end = end.Add(pingWithin)
	}
	_ = s.ln.SetDeadline(end)
	for {
		c, err := s.ln.Accept()
		if err != nil {
			break
		}
		s.handle(c)
	}
	if !has("connected") {
		s.serving.Wait()
	} else {
		time.Sleep(50 * time.Millisecond) // enough for the queue, not for who talks
	}
}

// orders come as requests, which end with a NUL, whatever they say.
func orders(name string) (<-chan struct{}, error) {
	stops := make(chan struct{}, 1)
	if name == "" {
		return stops, nil
	}
	held, err := pipe.Claim(name, 2)
	if err != nil {
		return nil, err
	}
	ln, err := held.Listen()
	if err != nil {
		return nil, err
	}
	go func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_ = c.SetDeadline(time.Now().Add(answerWithin))
			if _, err := bufio.NewReader(c).ReadString(0); err == nil {
				_, _ = io.WriteString(c, "{\"parameters\":{}}\x00")
				select {
				case stops <- struct{}{}:
				default: // it has been asked before
				}
			}
			_ = c.Close()
		}
	}()
	return stops, nil
}

func order(pid int, endpoint string) error {
	c, err := dial(stopAt(endpoint, pid))
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(answerWithin))
	if _, err := c.Write([]byte{0}); err != nil {
		return err
	}
	_, err = bufio.NewReader(c).ReadString(0)
	return err
}

// stopAt is where a daemon of the tool takes orders: its own, whoever shares its endpoint.
func stopAt(endpoint string, pid int) string { return fmt.Sprintf("%s+%d", endpoint, pid) }

func living(pid int) bool {
	h, err := windows.OpenProcess(windows.SYNCHRONIZE, false, uint32(pid))
	if err != nil {
		return false
	}
	defer windows.CloseHandle(h)
	e, err := windows.WaitForSingleObject(h, 0)
	return err == nil && e != windows.WAIT_OBJECT_0
}

func bases() (own, public string) { return os.Getenv("LOCALAPPDATA"), os.Getenv("LOCALAPPDATA") }

func endpointIn(dir string) string {
	h := fnv.New64a()
	_, _ = io.WriteString(h, strings.ToLower(dir))
	return fmt.Sprintf(`\\.\pipe\broken-%x`, h.Sum64())
}

// isStale: nothing at the name says so, but the pid that the daemon has left.
func isStale(dir string, _ error) bool {
	pid := daemonPID(dir)
	return pid > 0 && !living(pid)
}

// start: who comes before the daemon runs waits in an instance that it inherits.
func start(name string) error {
	held, err := claim(name)
	if errors.Is(err, pipe.ErrTaken) {
		return nil // by one that ends
	}
	if err != nil {
		return err
	}
	defer held.Close()
	copies, err := held.Inheritable()
	if err != nil {
		return err
	}
	defer copies.Close()
	self, err := os.Executable()
	if err != nil {
		return err
	}
	var list []string
	for _, h := range copies.Handles {
		list = append(list, strconv.FormatUint(uint64(h), 10))
	}
	cmd := exec.Command(self, append(asDaemon(), strings.Join(list, ","))...)
	cmd.Dir = os.Getenv("SYSTEMDRIVE") + `\`
	cmd.Env = []string{"LOCALAPPDATA=" + os.Getenv("LOCALAPPDATA"), "SYSTEMROOT=" + os.Getenv("SYSTEMROOT")}
	cmd.SysProcAttr = &syscall.SysProcAttr{CreationFlags: windows.CREATE_NO_WINDOW | windows.CREATE_NEW_PROCESS_GROUP,
		AdditionalInheritedHandles: copies.Handles}
	switch *defect {
	case "callers-pipe":
		cmd.Stderr = os.Stderr
	case "project":
		cmd.Dir = ""
	case "environment":
		cmd.Env = nil
	case "session":
		cmd.SysProcAttr.CreationFlags = 0
	case "strays":
		return startSloppily(cmd)
	}
	if err := cmd.Start(); err != nil {
		return err
	}
	return cmd.Process.Release()
}

// startSloppily has the process inherit all that can be, as a program does that knows of no
// list; but not our own standard streams.
func startSloppily(cmd *exec.Cmd) error {
	for _, f := range []*os.File{os.Stdin, os.Stdout, os.Stderr} {
		_ = windows.SetHandleInformation(windows.Handle(f.Fd()), windows.HANDLE_FLAG_INHERIT, 0)
	}
	path, err := windows.UTF16PtrFromString(cmd.Path)
	if err != nil {
		return err
	}
	line, err := windows.UTF16PtrFromString(windows.ComposeCommandLine(cmd.Args))
	if err != nil {
		return err
	}
	dir, err := windows.UTF16PtrFromString(cmd.Dir)
	if err != nil {
		return err
	}
	env := append(utf16.Encode([]rune(strings.Join(cmd.Env, "\x00"))), 0, 0)
	si := windows.StartupInfo{}
	si.Cb = uint32(unsafe.Sizeof(si))
	var pi windows.ProcessInformation
	err = windows.CreateProcess(path, line, nil, nil, true, cmd.SysProcAttr.CreationFlags|windows.CREATE_UNICODE_ENVIRONMENT, &env[0], dir, &si, &pi)
	if err != nil {
		return err
	}
	_, _ = windows.CloseHandle(pi.Thread), windows.CloseHandle(pi.Process)
	return nil
}
