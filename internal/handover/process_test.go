//go:build linux

package handover

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fastbind/fastbind/internal/reexec"
)

// A report is what a process finds in itself.
type report struct {
	PID         int
	Pending     *Handover
	Taken       *Handover
	TakeErr     string
	Takers      int // of eight that tried at once
	Again       *Handover
	AgainErr    string
	Activated   []int
	Env         []string // of the handover's variables
	Umask       int
	Soft, Hard  map[string]uint64
	Inheritable []int    // descriptors, of those a test hands over
	Open        []string // what the descriptors lead to
	Child       *report  // of a child of this process
}

var handoverVariables = []string{Variable, "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_PID"}

var limits = map[string]int{"cpu": unix.RLIMIT_CPU, "fsize": unix.RLIMIT_FSIZE, "data": unix.RLIMIT_DATA,
	"stack": unix.RLIMIT_STACK, "core": unix.RLIMIT_CORE, "as": unix.RLIMIT_AS, "nofile": unix.RLIMIT_NOFILE}

// surroundings is what a child of a daemon must not see either.
func surroundings() (r report) {
	r.PID = os.Getpid()
	for _, v := range handoverVariables {
		if value, ok := os.LookupEnv(v); ok {
			r.Env = append(r.Env, v+"="+value)
		}
	}
	r.Umask = unix.Umask(0)
	unix.Umask(r.Umask)
	r.Soft, r.Hard = map[string]uint64{}, map[string]uint64{}
	for name, resource := range limits {
		var l unix.Rlimit
		reexec.Check(unix.Prlimit(0, resource, nil, &l))
		r.Soft[name], r.Hard[name] = l.Cur, l.Max
	}
	for fd := range 64 {
		flags, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0)
		if err != nil {
			continue
		}
		if flags&unix.FD_CLOEXEC == 0 && fd < 9 { // a higher one is a stray of the test's own caller
			r.Inheritable = append(r.Inheritable, fd)
		}
		target, err := os.Readlink("/proc/self/fd/" + strconv.Itoa(fd))
		reexec.Check(err)
		r.Open = append(r.Open, target)
	}
	return r
}

// reportHelper is a daemon that was handed something, or not.
var reportHelper = reexec.Helper("report", func(args []string) {
	r := surroundings()
	r.Pending = Pending()
	var mu sync.Mutex
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			h, err := Take()
			mu.Lock()
			defer mu.Unlock()
			if h != nil {
				r.Taken = h
				r.Takers++
			}
			if err != nil {
				r.TakeErr = err.Error()
			}
		})
	}
	wg.Wait()
	var err error
	if r.Again, err = Take(); err != nil {
		r.AgainErr = err.Error()
	}
	if Pending() != nil {
		reexec.Check(fmt.Errorf("pending although it is taken"))
	}
	if r.Activated = TakeActivated(); r.Activated != nil {
		after := surroundings()
		r.Env, r.Inheritable = after.Env, after.Inheritable
	}
	if len(args) == 0 {
		exe, err := os.Executable()
		reexec.Check(err)
		cmd := exec.Command(exe, "child")
		cmd.Stderr = os.Stderr
		out, err := cmd.Output()
		reexec.Check(err)
		reexec.Check(json.Unmarshal(out, &r.Child))
	}
	reexec.Check(json.NewEncoder(os.Stdout).Encode(r))
})

// run runs the report helper under a shell, with these variables and the test's
// listener, control listener and life lock from descriptor 3 on.
func run(t *testing.T, prelude string, vars ...string) (r report) {
	t.Helper()
	cmd := underShell(reexec.Command(t, reportHelper), prelude)
	cmd.Env = append(cmd.Env, vars...)
	dir := t.TempDir()
	for _, name := range []string{"sock", "ctl"} {
		ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: filepath.Join(dir, name), Net: "unix"})
		if err != nil {
			t.Fatal(err)
		}
		defer ln.Close()
		f, err := ln.File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		cmd.ExtraFiles = append(cmd.ExtraFiles, f)
	}
	life, err := os.Create(filepath.Join(dir, "life"))
	if err != nil {
		t.Fatal(err)
	}
	defer life.Close()
	cmd.ExtraFiles = append(cmd.ExtraFiles, life)
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if err := json.Unmarshal(out, &r); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return r
}

// underShell lets a shell set up the process, as a trampoline does.
func underShell(cmd *exec.Cmd, prelude string) *exec.Cmd {
	sh := exec.Command("/bin/sh", append([]string{"-c", prelude + "\nexec \"$@\"", "sh", cmd.Path}, cmd.Args[1:]...)...)
	sh.Env, sh.Stderr = cmd.Env, cmd.Stderr
	return sh
}

func handed() Handover {
	h := full()
	h.PID = 0
	return h
}

// sees checks that a process has none of what was handed to another (R38).
func (r report) sees(t *testing.T, who string) {
	t.Helper()
	if r.Env != nil {
		t.Errorf("%s has %q", who, r.Env)
	}
	for _, o := range r.Open {
		if strings.HasPrefix(o, "socket:") || strings.HasSuffix(o, "/life") {
			t.Errorf("%s has %s open", who, o)
		}
	}
	if !slices.Equal(r.Inheritable, []int{0, 1, 2}) {
		t.Errorf("%s passes on the descriptors %v", who, r.Inheritable)
	}
}

// TestTaken: a backend finds what was handed to it, once; its children find
// nothing (R38).
func TestTaken(t *testing.T) {
	for name, c := range map[string]struct {
		prelude string
		vars    []string
	}{
		"by a broker": {"", []string{Variable + "=" + handed().Encode()}},
		"by a trampoline": {
			"FASTBIND_HANDOVER=\"$FASTBIND_HANDOVER\npid=$$\"\nexport LISTEN_PID=$$",
			[]string{Variable + "=" + handed().Encode(), "LISTEN_FDS=1", "LISTEN_FDNAMES=gocache"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := run(t, c.prelude, c.vars...)
			want := handed()
			if c.prelude != "" {
				want.PID = r.PID
			}
			for _, got := range []*Handover{r.Pending, r.Taken} {
				if diff := cmp.Diff(&want, got); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			}
			if r.Takers != 1 || r.TakeErr != "" || r.Again != nil || r.AgainErr != "" || r.Activated != nil {
				t.Errorf("%+v", r)
			}
			if r.Env != nil || !slices.Equal(r.Inheritable, []int{0, 1, 2}) {
				t.Errorf("left for a child: %q, descriptors %v", r.Env, r.Inheritable)
			}
			if n := len(slices.DeleteFunc(slices.Clone(r.Open), func(s string) bool { return !strings.HasPrefix(s, "socket:") && !strings.HasSuffix(s, "/life") })); n != 3 {
				t.Errorf("the backend itself has %q open", r.Open)
			}
			if r.Child.Pending != nil || r.Child.Taken != nil || r.Child.TakeErr != "" {
				t.Errorf("its child was handed %+v", r.Child)
			}
			r.Child.sees(t, "its child")
		})
	}
}

// TestNotForUs: a foreign daemon that runs an SDK program passes its variables
// on; they are ignored, and cleared, and its descriptors left alone.
func TestNotForUs(t *testing.T) {
	other := handed()
	other.PID = os.Getpid()
	r := run(t, "umask 077", Variable+"="+other.Encode(), "LISTEN_FDS=1", "LISTEN_PID=1", "LISTEN_FDNAMES=x")
	if r.Pending != nil || r.Taken != nil || r.TakeErr != "" || r.Activated != nil || r.Env != nil {
		t.Errorf("%+v", r)
	}
	if !slices.Equal(r.Inheritable, []int{0, 1, 2, 3, 4, 5}) || r.Umask != 0o077 {
		t.Errorf("descriptors %v and umask %o of its own are changed", r.Inheritable, r.Umask)
	}
	if r.Child.Env != nil || r.Child.Pending != nil {
		t.Errorf("its child: %+v", r.Child)
	}
}

// TestUnusable: what was announced and cannot be used is an error at each Take:
// such a daemon fails, it never binds a second listener.
func TestUnusable(t *testing.T) {
	for _, value := range []string{"", "nonsense", "2" + golden[1:], "1\nlisten=2", golden[:40]} {
		r := run(t, "", Variable+"="+value, "LISTEN_FDS=1", "LISTEN_PID=1")
		_, err := Decode(value)
		if err == nil {
			t.Fatalf("%q is good", value)
		}
		if r.TakeErr != err.Error() || r.AgainErr != err.Error() || r.Pending != nil || r.Taken != nil || r.Activated != nil {
			t.Errorf("%q: %+v", value, r)
		}
		if r.Env != nil || r.Child.Env != nil || r.Child.TakeErr != "" {
			t.Errorf("%q is passed on: %q, %q", value, r.Env, r.Child.Env)
		}
	}
}

// TestNothing: a program that only links the SDK is left as it is.
func TestNothing(t *testing.T) {
	r := run(t, "umask 031; ulimit -S -c 0; ulimit -S -f 2000")
	if r.Pending != nil || r.Taken != nil || r.TakeErr != "" || r.Activated != nil {
		t.Errorf("%+v", r)
	}
	if r.Umask != 0o031 || r.Soft["fsize"] != 2000*512 || !slices.Equal(r.Inheritable, []int{0, 1, 2, 3, 4, 5}) {
		t.Errorf("changed: %+v", r)
	}
}

// TestActivated: by systemd's convention alone, and only for the process that
// the variables name (sd_listen_fds(3)).
func TestActivated(t *testing.T) {
	r := run(t, "export LISTEN_PID=$$", "LISTEN_FDS=2", "LISTEN_FDNAMES=a:b")
	if !slices.Equal(r.Activated, []int{3, 4}) || r.Pending != nil || r.Taken != nil || r.TakeErr != "" {
		t.Errorf("%+v", r)
	}
	if r.Env != nil || !slices.Equal(r.Inheritable, []int{0, 1, 2, 5}) {
		t.Errorf("left for a child: %q, descriptors %v", r.Env, r.Inheritable)
	}
	if r.Child.Activated != nil || r.Child.Env != nil {
		t.Errorf("its child: %+v", r.Child)
	}
	for name, c := range map[string]struct{ prelude, fds string }{
		"another's":     {"export LISTEN_PID=1", "2"},
		"nobody's":      {"", "2"},
		"its parent's":  {"export LISTEN_PID=$PPID", "2"},
		"none":          {"export LISTEN_PID=$$", "0"},
		"minus one":     {"export LISTEN_PID=$$", "-1"},
		"too many":      {"export LISTEN_PID=$$", "65"},
		"no number":     {"export LISTEN_PID=$$", "two"},
		"an odd number": {"export LISTEN_PID=$$", "2 "},
		"overflow":      {"export LISTEN_PID=$$", "18446744073709551618"},
		"odd pid":       {"export LISTEN_PID=\" $$\"", "2"},
	} {
		r := run(t, c.prelude, "LISTEN_FDS="+c.fds)
		if r.Activated != nil || !slices.Equal(r.Inheritable, []int{0, 1, 2, 3, 4, 5}) {
			t.Errorf("%s: %v, descriptors %v", name, r.Activated, r.Inheritable)
		}
	}
}

// odd are limits that no daemon should have; the race detector's runtime, and
// with a bound on its memory any, needs more than the last two.
const (
	odd       = "umask 077; ulimit -S -c 100; ulimit -S -t 2000; ulimit -H -t 4000; ulimit -S -f 2000000; ulimit -H -f 4000000; ulimit -S -s 4096"
	oddMemory = "; ulimit -S -d 9000000; ulimit -S -v 90000000"
)

// TestReset: umask and soft limits are a daemon's own, not a shell's; hard
// limits stay (I5).
func TestReset(t *testing.T) {
	prelude := odd
	if !raceEnabled {
		prelude += oddMemory
	}
	before := run(t, prelude)
	if before.Umask != 0o077 || before.Soft["core"] != 51200 || before.Soft["cpu"] != 2000 || before.Soft["stack"] != 4<<20 {
		t.Fatalf("the shell's limits did not take: %+v", before)
	}
	r := run(t, prelude, Variable+"="+handed().Encode())
	if r.Umask != Umask || r.Child.Umask != Umask {
		t.Errorf("umask %o", r.Umask)
	}
	const infinity = unix.RLIM_INFINITY & (1<<64 - 1)
	want := map[string]uint64{"cpu": 4000, "fsize": 4000000 * 512, "data": infinity, "stack": 8 << 20, "core": 0, "as": infinity, "nofile": before.Soft["nofile"]}
	if diff := cmp.Diff(want, r.Soft); diff != "" {
		t.Errorf("soft limits (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(before.Hard, r.Hard); diff != "" {
		t.Errorf("hard limits (-want +got):\n%s", diff)
	}
}
