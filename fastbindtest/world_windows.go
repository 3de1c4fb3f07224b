package fastbindtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/pipe"
)

// What is told calls things as the system does.
const (
	killWord   = "TerminateProcess"
	freezeWord = "NtSuspendProcess"
	strayWord  = "inheritable handle"
	inUseWord  = "deleted"
)

func (w *world) places() []string {
	env := []string{
		"USERPROFILE=" + w.home(), "HOME=" + w.home(), "HOMEDRIVE=" + filepath.VolumeName(w.home()), "HOMEPATH=" + w.home()[len(filepath.VolumeName(w.home())):],
		"APPDATA=" + filepath.Join(w.home(), "AppData", "Roaming"), "LOCALAPPDATA=" + filepath.Join(w.home(), "AppData", "Local"),
		"TEMP=" + filepath.Join(w.dir, "tmp"), "TMP=" + filepath.Join(w.dir, "tmp"),
	}
	for _, name := range []string{"SYSTEMROOT", "SYSTEMDRIVE", "WINDIR", "COMSPEC", "PATHEXT", "PROGRAMDATA", "PROGRAMFILES", "PROGRAMFILES(X86)",
		"COMMONPROGRAMFILES", "OS", "NUMBER_OF_PROCESSORS", "PROCESSOR_ARCHITECTURE", "COMPUTERNAME", "USERNAME", "USERDOMAIN"} {
		if v := lookup(w.Env, name); v != "" {
			env = append(env, name+"="+v)
		}
	}
	return env
}

func dialSocket(ctx context.Context, name string) (net.Conn, error) {
	c, err := pipe.Dial(ctx, name)
	if err != nil {
		return nil, err
	}
	return c, nil
}

func isRefused(err error) bool { return errors.Is(err, windows.WSAECONNREFUSED) }

// A gate is processes that were created and do not run yet.
type gate struct{ held []*child }

func newGate() (*gate, error) { return &gate{}, nil }

func (g *gate) hold(c *child) { g.held = append(g.held, c) }

func (g *gate) open() {
	for _, c := range g.held {
		_ = c.proc.WithHandle(func(h uintptr) { _, _, _ = ntResumeProcess.Call(h) })
	}
}

// own: all commands but a terminal share the console of this process, which has no window.
// One of its own would have a host, whose working directory Wine has be the command's.
func (c command) own(path string, argv []string, attr *os.ProcAttr) (string, []string, func(), error) {
	attr.Sys = &syscall.SysProcAttr{}
	if lookup(c.env, terminal) != "" {
		attr.Sys.CreationFlags |= windows.CREATE_NO_WINDOW
	}
	if c.gate != nil {
		attr.Sys.CreationFlags |= windows.CREATE_SUSPENDED
	}
	if c.stray == nil {
		return path, argv, func() {}, nil
	}
	h, err := inheritable(c.stray)
	attr.Sys.AdditionalInheritedHandles = []syscall.Handle{h}
	return path, argv, func() { _ = syscall.CloseHandle(h) }, err
}

// cut: there is nothing that tells a command's children from what it has detached.
func (w *world) cut(b *begun) { _ = w.family.kill(b.pid) }

// noteHolders: whose a copy is the system does not tell, but who is left.
func (w *world) noteHolders(*os.File) {
	for _, p := range w.family.members() {
		w.note("%v is left", p)
	}
}

func inodeAt(string) uint64 { return 0 }

// terminal makes this package's init take a process over, which is then a terminal: its
// console is that of the command in its arguments, and the value is the file in which it
// says whom that has left in it.
const terminal = "FASTBINDTEST_TERMINAL"

func init() {
	if path := os.Getenv(terminal); path != "" {
		os.Exit(beTerminal(path, os.Args[1:]))
	}
}

var (
	getConsoleProcessList = kernel32.NewProc("GetConsoleProcessList")
	setConsoleCtrlHandler = kernel32.NewProc("SetConsoleCtrlHandler")
)

// beTerminal runs the command, looks who is left in the console, does what a Ctrl-C there
// does, and ends, and the console with it. It returns the exit status.
func beTerminal(path string, argv []string) int {
	_ = os.Unsetenv(terminal)
	// Whoever began all this may have had Ctrl-C ignored, which is inherited.
	_, _, _ = setConsoleCtrlHandler.Call(0, 0)
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(1, cmd.ProcessState.ExitCode())
	}
	var left []string
	for end := time.Now().Add(goneWithin); ; time.Sleep(pollEvery) { // who ends needs a moment
		if left = inConsole(); len(left) == 0 || time.Now().After(end) {
			break
		}
	}
	text, err := json.Marshal(left)
	if err == nil {
		err = os.WriteFile(path, text, 0o600)
	}
	if err == nil {
		_, _, _ = setConsoleCtrlHandler.Call(0, 1) // for others alone
		err = windows.GenerateConsoleCtrlEvent(windows.CTRL_C_EVENT, 0)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "the terminal:", err)
		return 1
	}
	return 0
}

// inConsole are the others that have this process's console.
func inConsole() (list []string) {
	pids := make([]uint32, 256)
	n, _, _ := getConsoleProcessList.Call(uintptr(unsafe.Pointer(&pids[0])), uintptr(len(pids)))
	for _, pid := range pids[:min(int(n), len(pids))] {
		if int(pid) != os.Getpid() {
			list = append(list, process{pid: int(pid)}.String())
		}
	}
	return list
}

// ownSession: what a Ctrl-C does to all that have the console, and its end.
func ownSession(w *world) verdict {
	self, err := os.Executable()
	if err != nil {
		return undecided(err)
	}
	said := filepath.Join(w.dir, "console")
	argv := slices.Concat([]string{self}, w.Target.Client)
	r, err := w.do(command{argv: argv, env: []string{terminal + "=" + said}, within: 2 * w.patience()})
	if err == nil && !r.expected {
		err = errors.New("the client in a terminal: " + r.String())
	}
	if err != nil {
		return undecided(err)
	}
	text, err := os.ReadFile(said)
	var left []string
	if err == nil {
		err = json.Unmarshal(text, &left)
	}
	if err != nil {
		return undecided(err)
	}
	if len(left) > 0 {
		return broken("%s is in its first client's console: Ctrl-C there, or the end of the terminal, ends it", left[0])
	}
	w.note("nobody was left in the client's console when it had ended")
	w.sleep(100 * time.Millisecond)
	if err := w.within(5*time.Second, "", func() bool { return len(w.daemons()) > 0 }); err != nil {
		return broken("after Ctrl-C in its first client's terminal nothing is left that listens")
	}
	w.note("after Ctrl-C there: %v", w.daemons()[0])
	return holds
}
