package limit

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

// within is a deadline that only something that hangs reaches.
const within = 20 * time.Second

// A daemon is one of the test binary's helpers, launched as the broker would.
type daemon struct {
	*exec.Cmd
	e   *Enforcement
	out *bufio.Reader
	in  io.WriteCloser // its descriptor 3
}

// number makes the names of the test's places unique.
var number int

func testName() string {
	number++
	return Name("test-"+strconv.Itoa(os.Getpid()), "d", strconv.Itoa(number))
}

// launch forks a helper under limits, and lets it through.
func launch(t *testing.T, w Wanted, found Available, helper string, args ...string) (*daemon, Report) {
	t.Helper()
	d := fork(t, w, found, helper, args...)
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	report, err := d.e.Admit(ctx, d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return d, report
}

// fork is launch up to the gate.
func fork(t *testing.T, w Wanted, found Available, helper string, args ...string) *daemon {
	t.Helper()
	e, err := Prepare(testName(), w, found)
	if err != nil {
		t.Fatal(err)
	}
	cmd := reexec.Command(t, helper, args...)
	cmd.Path, cmd.Args = e.Wrap(cmd.Path, cmd.Args)
	if e.Gated() {
		cmd.Stdin = e.Stdin()
	}
	if e.Into() >= 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: e.Into()}
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	r, in, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.ExtraFiles = []*os.File{r}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	r.Close()
	d := &daemon{Cmd: cmd, e: e, out: bufio.NewReader(stdout), in: in}
	t.Cleanup(func() {
		in.Close()
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		remove(t, d.e)
	})
	return d
}

// remove removes the place, whatever is left in it, and proves that it is gone.
func remove(t *testing.T, e *Enforcement) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	p := e.Place()
	if err := e.Kill(ctx); err != nil {
		t.Error("kill:", err)
	}
	if err := e.Remove(ctx); err != nil {
		t.Error("remove:", err)
	}
	if p.By == None {
		return
	}
	if dir, err := dirOf(p); err != nil {
		t.Error(err)
	} else if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", dir, err)
	}
}

// line reads what the daemon says next.
func (d *daemon) line(t *testing.T) string {
	t.Helper()
	timer := time.AfterFunc(within, func() { _ = d.Process.Kill() })
	defer timer.Stop()
	s, err := d.out.ReadString('\n')
	if err != nil {
		t.Fatalf("the daemon said %q and nothing more: %v", s, err)
	}
	return strings.TrimSuffix(s, "\n")
}

// tell lets the daemon go on.
func (d *daemon) tell(t *testing.T, s string) {
	t.Helper()
	if _, err := io.WriteString(d.in, s+"\n"); err != nil {
		t.Fatal(err)
	}
}

// told is the helper's side of tell; the test's end ends the helper.
func told() string {
	s, err := bufio.NewReader(os.NewFile(3, "told")).ReadString('\n')
	if err != nil {
		os.Exit(0)
	}
	return strings.TrimSuffix(s, "\n")
}

// state says in one line how the daemon finds itself, and waits.
var state = reexec.Helper("state", func([]string) {
	var files, data unix.Rlimit
	_ = unix.Getrlimit(unix.RLIMIT_NOFILE, &files)
	_ = unix.Getrlimit(unix.RLIMIT_DATA, &data)
	in, err := where(os.Getpid())
	if err != nil {
		fmt.Println(err)
	}
	stdin, _ := os.Readlink("/proc/self/fd/0")
	var pipes []string
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		if target, err := os.Readlink("/proc/self/fd/" + fd.Name()); err == nil && strings.HasPrefix(target, "pipe:") {
			pipes = append(pipes, target)
		}
	}
	fmt.Printf("cgroup=%s files=%d/%d data=%d stdin=%s argv=%q pipes=%s\n", in, files.Cur, files.Max, data.Max, stdin, os.Args[1:], pipes)
	told()
})

// grow maps and touches as many MiB as it is told, then says so.
var grow = reexec.Helper("grow", func(args []string) {
	debug.SetGCPercent(-1)
	fmt.Println("ready")
	mib, _ := strconv.Atoi(told())
	for range mib {
		b, err := unix.Mmap(-1, 0, 1<<20, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_PRIVATE|unix.MAP_ANON)
		if err != nil {
			fmt.Println("refused:", err)
			told()
		}
		for i := 0; i < len(b); i += 4096 {
			b[i] = 1
		}
	}
	fmt.Println("grown")
	told()
})

// spawn starts as many children that stay as it is told, and says how many it got.
var spawn = reexec.Helper("spawn", func([]string) {
	fmt.Println("ready")
	n, _ := strconv.Atoi(told())
	for i := range n {
		cmd := exec.Command("/bin/sleep", "1000")
		if err := cmd.Start(); err != nil {
			fmt.Println(i, err)
			told()
		}
	}
	fmt.Println(n, "all")
	told()
})

// claimed is what this process has, without systemd.
func claimed() Available { return Claim(context.Background(), nil) }

// needCgroup skips where no cgroup can be made, and where one would limit nothing.
func needCgroup(t *testing.T, kinds ...Kind) Available {
	t.Helper()
	a := claimed()
	if a.Cgroup.Why != "" {
		t.Skip(a.Cgroup.Why)
	}
	for _, k := range kinds {
		if why := a.Cgroup.Lacks[k]; why != "" {
			t.Skipf("%s cannot be had here: %s; FASTBIND_E2E_VM=1 runs this in a virtual machine", k, why)
		}
	}
	return a
}

// TestOwnCgroup: the daemon is executed in a cgroup of its own, and finds itself as
// it would without: nothing of the gate is left.
func TestOwnCgroup(t *testing.T) {
	a := needCgroup(t, Own)
	d := fork(t, Wanted{Own: true, OpenFiles: 300}, a, state, "with spaces", "")
	gate, err := os.Readlink(fmt.Sprintf("/proc/self/fd/%d", d.e.gate.Fd()))
	if err != nil {
		t.Fatal(err)
	}
	report, err := d.e.Admit(context.Background(), d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if !report.Complete() || report.Of(Own).By != Cgroup {
		t.Errorf("report:\n%s", report)
	}
	p := d.e.Place()
	want := fmt.Sprintf("cgroup=%s files=300/300 data=%d stdin=/dev/null argv=%q pipes=", p.Cgroup, uint64(unix.RLIM_INFINITY), []string{"with spaces", ""})
	if got := d.line(t); !strings.HasPrefix(got, want) || strings.Contains(got, gate) {
		t.Errorf("the daemon finds\n%s\nwant\n%s… and not the gate, %s", got, want, gate)
	}
	mine, err := Where(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	if ok, why := Survives(p.Cgroup, mine); !ok {
		t.Error(why)
	}
	again, err := ParsePlace(p.Encode())
	if err != nil || again != p {
		t.Errorf("%q: %+v, %v", p.Encode(), again, err)
	}
}

// TestNothingBeforeTheGate: whatever happens to the launcher, the daemon does not
// run unlimited: the fork waits, and ends with its launcher.
func TestNothingBeforeTheGate(t *testing.T) {
	a := claimed()
	d := fork(t, Wanted{OpenFiles: 100}, a, state)
	d.e.Close()
	if b, err := d.out.ReadString('\n'); err != io.EOF {
		t.Errorf("it said %q, %v", b, err)
	}
	var exit *exec.ExitError
	if err := d.Wait(); !errors.As(err, &exit) || exit.ExitCode() != 126 {
		t.Errorf("it ended with %v, want status 126", err)
	}
	d.e.Close() // again: does nothing
}

// TestDiedAtTheGate: Admit says so, and leaves nothing.
func TestDiedAtTheGate(t *testing.T) {
	a := claimed()
	d := fork(t, Wanted{Own: true, OpenFiles: 100}, a, state)
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait()
	d.e.stdin.Close() // the fork's end was the last but this one
	report, err := d.e.Admit(context.Background(), d.Process.Pid)
	if err == nil || !strings.Contains(err.Error(), "ended before") {
		t.Errorf("error %v", err)
	}
	if e := report.Of(Own); e.Force != Not || e.Reason == "" {
		t.Errorf("report:\n%s", report)
	}
	if e := report.Of(OpenFiles); e.Force != Not || !strings.Contains(e.Reason, "prlimit") {
		t.Errorf("report:\n%s", report)
	}
	if p := d.e.Place(); p.By != None {
		t.Errorf("place %+v", p)
	}
	if left := placesLeft(t, a); len(left) > 0 {
		t.Errorf("left: %v", left)
	}
}

func placesLeft(t *testing.T, a Available) []Place {
	t.Helper()
	if a.Cgroup.Why != "" {
		return nil
	}
	left, err := leftovers(a.Dir, namePrefix("test-"+strconv.Itoa(os.Getpid())))
	if err != nil {
		t.Fatal(err)
	}
	return left
}

// TestCutShort: a context that has ended leaves the daemon unplaced and says so,
// and it runs.
func TestCutShort(t *testing.T) {
	a := claimed().without(Cgroup, "not here")
	a.Scope.Why, a.Manager = "", Manager{Address: "unix:path=/nonexistent"}
	d := fork(t, Wanted{Own: true, OpenFiles: 100}, a, state)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	report, err := d.e.Admit(ctx, d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if e := report.Of(Own); e.Force != Not || !strings.Contains(e.Reason, "no scope: context canceled; not here") {
		t.Errorf("report:\n%s", report)
	}
	if got := d.line(t); !strings.Contains(got, " files=100/100 ") {
		t.Error(got)
	}
}

// TestBornOrMoved: a fork that was not born in its cgroup is moved there, and before
// Admit the place is empty or has the fork alone, and goes with it.
func TestBornOrMoved(t *testing.T) {
	a := needCgroup(t, Own)
	for _, born := range []bool{true, false} {
		e, err := Prepare(testName(), Wanted{Own: true}, a)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", e.Script()+"exec sleep 1000")
		cmd.Stdin = e.Stdin()
		if born {
			cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: e.Into()}
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		in, err := where(cmd.Process.Pid)
		if err != nil || (in == e.Place().Cgroup) != born {
			t.Errorf("born %v: in %q, %v", born, in, err)
		}
		if report, err := e.Admit(context.Background(), cmd.Process.Pid); err != nil || !report.Complete() {
			t.Errorf("born %v: %v\n%s", born, err, report)
		}
		if in, err := where(cmd.Process.Pid); err != nil || in != e.Place().Cgroup || e.Into() != -1 {
			t.Errorf("born %v: then in %q, %v; into %d", born, in, err, e.Into())
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		remove(t, e)
	}
	e, err := Prepare(testName(), Wanted{Own: true}, a)
	if err != nil {
		t.Fatal(err)
	}
	remove(t, e) // never forked
}

// TestOnlyOurs: nothing is read, emptied or removed that this package cannot have
// made.
func TestOnlyOurs(t *testing.T) {
	for _, p := range []Place{{By: Cgroup, Name: "fastbind-a-b", Cgroup: "/"}, {By: Cgroup, Cgroup: "/"}, {By: Scope, Name: "init.scope", Cgroup: "/init.scope"}} {
		if err := removeDir(p); !errors.Is(err, errPlace) {
			t.Errorf("remove %+v: %v", p, err)
		}
		if err := killAll(p); !errors.Is(err, errPlace) {
			t.Errorf("kill %+v: %v", p, err)
		}
	}
}

// TestShellBefore: where the launcher's own shell lowers the soft limit at any time
// before the step, as that of foreign daemons does, the wanted one is in force.
func TestShellBefore(t *testing.T) {
	for _, after := range []bool{false, true} {
		e, err := Prepare(testName(), Wanted{OpenFiles: 300}, claimed())
		if err != nil {
			t.Fatal(err)
		}
		defer e.Close()
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		first, admitted, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command("/bin/sh", "-c", "read -r x <&3\nulimit -S -n 100\necho lowered\n"+e.Script()+"ulimit -S -n; ulimit -H -n")
		cmd.Stdin, cmd.Stdout, cmd.ExtraFiles = e.Stdin(), w, []*os.File{first}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		w.Close()
		out := bufio.NewReader(r)
		lower := func() {
			admitted.Close()
			if s, err := out.ReadString('\n'); s != "lowered\n" {
				t.Error(s, err)
			}
		}
		if !after {
			lower()
		}
		if _, err := e.Admit(context.Background(), cmd.Process.Pid); err != nil {
			t.Error(err)
		}
		if after {
			lower()
		}
		if rest, err := io.ReadAll(out); string(rest) != "300\n300\n" || err != nil {
			t.Errorf("lowered after Admit %v: limits %q, %v", after, rest, err)
		}
		if err := cmd.Wait(); err != nil {
			t.Error(err)
		}
		r.Close()
		first.Close()
	}
}

// TestLeft: who adopts a daemon that is not where it was put, or is gone with its
// place, is told so.
func TestLeft(t *testing.T) {
	a := needCgroup(t)
	w := Wanted{Own: true, Memory: 1 << 30}
	d, _ := launch(t, w, a, state)
	adopted := Adopt(d.e.Place(), os.Getpid(), w, a)
	defer adopted.Close()
	for _, e := range adopted.Report() {
		if e.Force != Not || !strings.Contains(e.Reason, "has left") {
			t.Error(e)
		}
	}
	_ = d.Process.Kill()
	_ = d.Wait()
	p := d.e.Place()
	remove(t, d.e)
	gone := Adopt(p, 0, w, a)
	for _, e := range gone.Report() {
		if e.Force != Not || !strings.Contains(e.Reason, "no such file") {
			t.Error(e)
		}
	}
	remove(t, gone)
}

// TestNothingWanted: no gate, no shell, no place.
func TestNothingWanted(t *testing.T) {
	d, report := launch(t, Wanted{}, claimed(), state)
	if d.e.Gated() || report != nil || d.e.Script() != "" || strings.HasSuffix(d.Path, "sh") {
		t.Errorf("gated %v, report %v, path %s", d.e.Gated(), report, d.Path)
	}
	d.line(t)
	if reason := d.e.Reason(context.Background()); reason != "" {
		t.Errorf("reason %q", reason)
	}
}

// TestKernelsOwnLink: the link of the kernel to this program is not the shell's.
func TestKernelsOwnLink(t *testing.T) {
	e, err := Prepare(testName(), Wanted{OpenFiles: 100}, claimed())
	if err != nil {
		t.Fatal(err)
	}
	defer e.Close()
	path, argv := e.Wrap("/proc/self/exe", []string{"x", "y"})
	if want := fmt.Sprintf("/proc/%d/exe", os.Getpid()); path != "/bin/sh" || !slices.Equal(argv[3:], []string{"sh", want, "y"}) {
		t.Errorf("%s %q", path, argv)
	}
}

// TestDataLimit: without a place the memory limit falls back to a resource limit, and an
// allocation beyond it fails; the report says what that is worth.
func TestDataLimit(t *testing.T) {
	none := claimed().without(Scope, "no systemd").without(Cgroup, "no cgroup")
	d, report := launch(t, Wanted{Memory: 512 << 20}, none, grow)
	if e := report.Of(Memory); e.Force != Partly || e.By != Rlimit || e.Actual != 512<<20 || !strings.Contains(e.Reason, "RLIMIT_DATA") {
		t.Errorf("report:\n%s", report)
	}
	if got := d.line(t); got != "ready" {
		t.Fatal(got)
	}
	d.tell(t, "600")
	if got := d.line(t); got != "refused: cannot allocate memory" {
		t.Errorf("the daemon: %s", got)
	}
	adopted := Adopt(d.e.Place(), d.Process.Pid, Wanted{Memory: 512 << 20, Tasks: 5}, none)
	defer adopted.Close()
	if e := adopted.Report().Of(Memory); e.Force != Partly || e.Actual != 512<<20 {
		t.Errorf("adopted:\n%s", adopted.Report())
	}
	if e := adopted.Report().Of(Tasks); e.Force != Not || e.Reason == "" {
		t.Errorf("adopted:\n%s", adopted.Report())
	}
}

// TestOpenFiles: the limit holds.
func TestOpenFiles(t *testing.T) {
	d, report := launch(t, Wanted{OpenFiles: 64}, claimed(), open)
	if !report.Complete() {
		t.Errorf("report:\n%s", report)
	}
	if got := d.line(t); !strings.Contains(got, "too many open files") {
		t.Error(got)
	}
}

var open = reexec.Helper("open", func([]string) {
	for i := 0; ; i++ {
		if fd, err := unix.Open("/dev/null", unix.O_RDONLY, 0); err != nil || fd >= 64 {
			fmt.Println(fd, err)
			told()
		}
	}
})

// TestPopulated: what the daemon leaves running is named, and nothing is removed
// under it; Kill ends it.
func TestPopulated(t *testing.T) {
	a := needCgroup(t, Own)
	d, _ := launch(t, Wanted{Own: true}, a, spawn)
	d.line(t)
	d.tell(t, "3")
	if got := d.line(t); got != "3 all" {
		t.Fatal(got)
	}
	if err := d.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = d.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	var left *PopulatedError
	if err := d.e.Remove(ctx); !errors.As(err, &left) || len(left.PIDs) != 3 || !strings.Contains(err.Error(), d.e.Place().Cgroup) {
		t.Fatalf("remove: %v", err)
	}
	// Another broker takes it up, from what was kept.
	p, err := ParsePlace(d.e.Place().Encode())
	if err != nil {
		t.Fatal(err)
	}
	d.e.Close()
	adopted := Adopt(p, 0, Wanted{Own: true}, a)
	if r := adopted.Report(); !r.Complete() {
		t.Errorf("adopted:\n%s", r)
	}
	remove(t, adopted)
	for _, pid := range left.PIDs {
		if err := syscall.Kill(pid, 0); err == nil && !zombie(pid) {
			t.Errorf("process %d is left", pid)
		}
	}
}

func zombie(pid int) bool {
	text, _ := readText(fmt.Sprintf("/proc/%d/stat", pid))
	return text == "" || strings.Contains(text, ") Z ")
}

// TestNamesAtMost: an error names a bounded number of processes.
func TestNamesAtMost(t *testing.T) {
	a := needCgroup(t)
	d, _ := launch(t, Wanted{Own: true}, a, spawn)
	d.line(t)
	d.tell(t, strconv.Itoa(maxPIDs+5))
	d.line(t)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	var left *PopulatedError
	if err := d.e.Remove(ctx); !errors.As(err, &left) || len(left.PIDs) != maxPIDs {
		t.Errorf("remove: %v", err)
	}
}

// TestSweep: what a killed broker left is removed, unless somebody knows of it.
func TestSweep(t *testing.T) {
	a := needCgroup(t)
	instance := "sweep-" + strconv.Itoa(os.Getpid())
	lost, kept, foreign := Name(instance, "a", "1"), Name(instance, "a", "2"), Name("other"+instance, "a", "1")
	for _, name := range []string{lost, kept, foreign} {
		dir := filepath.Join(a.Dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.Remove(dir) })
	}
	removed, err := Sweep(context.Background(), instance, a, func(name string) bool { return name == kept })
	if err != nil || !slices.Equal(removed, []string{lost}) {
		t.Errorf("removed %q, %v; want %q", removed, err, lost)
	}
	for name, want := range map[string]bool{lost: false, kept: true, foreign: true} {
		if _, err := os.Stat(filepath.Join(a.Dir, name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestBounds: what is read of a file, and what one Sweep looks for.
func TestBounds(t *testing.T) {
	dir := t.TempDir()
	big := filepath.Join(dir, "big")
	if err := os.WriteFile(big, make([]byte, maxText+1), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, err := readText(big); err != nil || len(text) != maxText {
		t.Errorf("%d bytes read, %v; want %d", len(text), err, maxText)
	}
	for i := range maxLeftovers + 10 {
		lost := filepath.Join(dir, Name("i", "s", strconv.Itoa(i)))
		if err := os.Mkdir(lost, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(lost, "cgroup.events"), []byte("populated 0\nfrozen 0\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if places, err := leftovers(dir, namePrefix("i")); err != nil || len(places) != maxLeftovers {
		t.Errorf("%d places, %v; want %d", len(places), err, maxLeftovers)
	}
}

// TestSameNameTwice: a place is never shared: the second one says so and stays out.
func TestSameNameTwice(t *testing.T) {
	a := needCgroup(t, Own)
	d, _ := launch(t, Wanted{Own: true}, a, state)
	number--
	twin, report := launch(t, Wanted{Own: true}, a, state)
	if e := report.Of(Own); e.Force != Not || !strings.Contains(e.Reason, "exists") {
		t.Errorf("report:\n%s", report)
	}
	if p := twin.e.Place(); p.By != None {
		t.Errorf("place %+v", p)
	}
	d.line(t)
	twin.line(t)
}

// TestMemoryLimit: who allocates beyond the limit dies, all of it, and the reason says so;
// its neighbour, whose limit is the same, lives.
func TestMemoryLimit(t *testing.T) {
	a := needCgroup(t, Memory)
	w := Wanted{Memory: 64 << 20, Tasks: 100, CPUWeight: 50}
	neighbour, _ := launch(t, w, a, grow)
	neighbour.line(t)
	d, report := launch(t, w, a, grow)
	if !report.Complete() {
		t.Errorf("report:\n%s", report)
	}
	d.line(t)
	if reason := d.e.Reason(context.Background()); reason != "" {
		t.Errorf("reason before: %q", reason)
	}
	d.tell(t, "200")
	_ = d.Wait()
	if status := d.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", d.ProcessState)
	}
	const want = "the service reached its memory limit of 64M, and the kernel killed all of it"
	if reason := d.e.Reason(context.Background()); reason != want {
		t.Errorf("reason %q, want %q", reason, want)
	}
	adopted := Adopt(d.e.Place(), 0, w, a)
	if reason := adopted.Reason(context.Background()); reason != want {
		t.Errorf("adopted: reason %q, want %q", reason, want)
	}
	adopted.Close()
	neighbour.tell(t, "10")
	if got := neighbour.line(t); got != "grown" {
		t.Errorf("the neighbour: %s", got)
	}
	if reason := neighbour.e.Reason(context.Background()); reason != "" {
		t.Errorf("the neighbour's reason: %q", reason)
	}
}

// TestTasksLimit: forks beyond the limit fail, and the reason says so.
func TestTasksLimit(t *testing.T) {
	a := needCgroup(t, Tasks)
	d, report := launch(t, Wanted{Tasks: 40}, a, spawn)
	if !report.Complete() {
		t.Errorf("report:\n%s", report)
	}
	d.line(t)
	d.tell(t, "100")
	if got := d.line(t); !strings.Contains(got, "resource temporarily unavailable") {
		t.Errorf("the daemon: %s", got)
	}
	reason := d.e.Reason(context.Background())
	if !strings.Contains(reason, "refused a process or thread") || !strings.Contains(reason, "limit of 40 tasks") {
		t.Errorf("reason %q", reason)
	}
	adopted := Adopt(d.e.Place(), d.Process.Pid, Wanted{Tasks: 30, OpenFiles: 1 << 20}, a)
	defer adopted.Close()
	if e := adopted.Report().Of(Tasks); e.Force != Partly || e.Actual != 40 {
		t.Errorf("adopted:\n%s", adopted.Report())
	}
}

// An account is what another uid tells of itself, below.
type account struct {
	Found  Available
	Report Report
	Line   string
	In     string
}

// ample is room enough for a Go program, but for the files.
var ample = Wanted{Own: true, Memory: 512 << 20, Tasks: 100, CPUWeight: 50, OpenFiles: 1 << 20}

// unprivileged claims, launches state, and says what it got.
var unprivileged = reexec.Helper("unprivileged", func([]string) {
	found := claimed()
	e, err := Prepare(Name("u", "d", strconv.Itoa(os.Getpid())), ample, found)
	if err != nil {
		panic(err)
	}
	exe, _ := os.Executable()
	cmd := exec.Command(exe)
	cmd.Env = append(os.Environ(), "REEXEC_HELPER=state")
	cmd.Path, cmd.Args = e.Wrap(cmd.Path, cmd.Args)
	cmd.Stdin = e.Stdin()
	stdout, _ := cmd.StdoutPipe()
	r, wr, _ := os.Pipe()
	cmd.ExtraFiles = []*os.File{r}
	if err := cmd.Start(); err != nil {
		panic(err)
	}
	r.Close()
	report, err := e.Admit(context.Background(), cmd.Process.Pid)
	if err != nil {
		panic(err)
	}
	line, _ := bufio.NewReader(stdout).ReadString('\n')
	wr.Close()
	_ = cmd.Wait()
	if err := e.Remove(context.Background()); err != nil {
		panic(err)
	}
	in, _ := where(os.Getpid())
	_ = json.NewEncoder(os.Stdout).Encode(account{found, report, line, in})
})

const nobody = 65534

// asNobody runs the unprivileged helper as another user, in what before has put its
// fork into.
func asNobody(t *testing.T, before func(pid int)) account {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can become another user")
	}
	cmd := reexec.Command(t, unprivileged)
	// The other user cannot look into the directory of the test binary.
	dir, err := os.MkdirTemp("", "limit-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(cmd.Path)
	if err != nil {
		t.Fatal(err)
	}
	exe := filepath.Join(dir, "limit.test")
	if err := os.WriteFile(exe, b, 0o755); err != nil {
		t.Fatal(err)
	}
	cmd.Path, cmd.Args = "/bin/sh", []string{"sh", "-c", `ulimit -n 500 && read -r go && exec "$0"`, exe}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: nobody, Gid: nobody}}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	timer := time.AfterFunc(within, func() { _ = cmd.Process.Kill() })
	defer timer.Stop()
	before(cmd.Process.Pid)
	_, _ = io.WriteString(stdin, "go\n")
	var got account
	if err := json.NewDecoder(stdout).Decode(&got); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
	return got
}

// TestUnprivileged: without any right to cgroups the report says so, with what
// refused, and resource limits are in force.
func TestUnprivileged(t *testing.T) {
	got := asNobody(t, func(int) {})
	t.Logf("\n%s", got.Report)
	for k, want := range map[Kind]struct {
		force  Force
		by     Mechanism
		actual int64
		reason string
	}{
		Own:       {Not, None, 0, "permission denied"},
		Memory:    {Partly, Rlimit, ample.Memory, "permission denied"},
		Tasks:     {Not, None, 0, "RLIMIT_NPROC"},
		CPUWeight: {Not, None, 0, "permission denied"},
		OpenFiles: {Partly, Rlimit, 500, "hard limit"},
	} {
		e := got.Report.Of(k)
		if e.Force != want.force || e.By != want.by || e.Actual != want.actual || !strings.Contains(e.Reason, want.reason) {
			t.Errorf("%s: want %+v", e, want)
		}
	}
	if want := fmt.Sprintf("cgroup=%s files=500/500 data=%d ", got.In, ample.Memory); !strings.HasPrefix(got.Line, want) {
		t.Errorf("the daemon: %s\nwant %s", got.Line, want)
	}
}

// delegate makes a cgroup and gives it to another user as root does (cgroups(7),
// "Delegation").
func delegate(t *testing.T, a Available) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("only root can give a cgroup to another user")
	}
	dir := filepath.Join(a.Dir, fmt.Sprintf("delegated-%d", os.Getpid()))
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, d := range []string{filepath.Join(dir, leaf), dir} {
			if err := os.Remove(d); err != nil && !errors.Is(err, os.ErrNotExist) {
				t.Error(err)
			}
		}
	})
	for _, name := range []string{"", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		if err := os.Chown(filepath.Join(dir, name), nobody, nobody); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// put moves a process into a cgroup.
func put(t *testing.T, pid int, dir string) {
	t.Helper()
	if err := write1(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
		t.Fatal(err)
	}
}

// TestDelegated: in a cgroup that was delegated to it, another user limits
// everything, after it has made room for that.
func TestDelegated(t *testing.T) {
	dir := delegate(t, needCgroup(t, Memory, Tasks))
	got := asNobody(t, func(pid int) { put(t, pid, dir) })
	t.Logf("\n%s", got.Report)
	for _, k := range []Kind{Own, Memory, Tasks} {
		if e := got.Report.Of(k); e.Force != InForce || e.By != Cgroup {
			t.Error(e)
		}
	}
	if got.Found.Dir != dir || filepath.Base(got.In) != leaf {
		t.Errorf("places are made in %s by a process in %s", got.Found.Dir, got.In)
	}
}

// TestDelegatedToMore: where it is not alone, no controller is enabled, not even
// those with which the kernel would let it spoil its cgroup, and the report says why.
func TestDelegatedToMore(t *testing.T) {
	dir := delegate(t, needCgroup(t, Memory, Tasks))
	other := exec.Command("/bin/sleep", "1000")
	if err := other.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // before the cgroup is removed
		_ = other.Process.Kill()
		_ = other.Wait()
	})
	put(t, other.Process.Pid, dir)
	got := asNobody(t, func(pid int) { put(t, pid, dir) })
	t.Logf("\n%s", got.Report)
	for _, k := range []Kind{Memory, Tasks, CPUWeight} {
		if e := got.Report.Of(k); e.Force == InForce || !strings.Contains(e.Reason, "has processes of its own") {
			t.Error(e)
		}
	}
	if e := got.Report.Of(Own); e.Force != InForce || e.By != Cgroup {
		t.Error(e)
	}
	if text, err := readText(filepath.Join(dir, "cgroup.type")); strings.TrimSpace(text) != "domain" {
		t.Errorf("the cgroup has become %q, %v", text, err)
	}
}
