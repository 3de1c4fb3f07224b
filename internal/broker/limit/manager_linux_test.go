package limit

import (
	"context"
	"os"
	"path"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// realManager is what this process has with the systemd manager that serves it.
func realManager(t *testing.T) Available {
	t.Helper()
	a := Claim(context.Background(), Managers(os.Getuid(), os.Getenv("XDG_RUNTIME_DIR")))
	if a.Scope.Why != "" {
		t.Skip(a.Scope.Why + "; FASTBIND_E2E_VM=1 runs this under systemd in a virtual machine")
	}
	return a
}

// TestManagerLimits: limits of a real manager's scope. The daemon outlives its
// caller's unit, dies by its memory limit, its neighbour does not, and nothing is
// left.
func TestManagerLimits(t *testing.T) {
	a := realManager(t)
	w := Wanted{Memory: 64 << 20, Tasks: 40, CPUWeight: 50, OpenFiles: 300}
	neighbour, _ := launch(t, w, a, grow)
	neighbour.line(t)
	d, report := launch(t, w, a, grow)
	t.Logf("systemd %d at %s, in %s:\n%s", a.Version, a.Manager.Address, d.e.Place().Cgroup, report)
	if !report.Complete() || report.Of(Memory).By != Scope || report.Of(Tasks).By != Scope {
		t.Errorf("not all in force")
	}
	mine, err := Where(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	ok, why := Survives(d.e.Place().Cgroup, mine)
	if t.Logf("the caller is in %s: %s", mine, why); !ok {
		t.Error("it does not survive")
	}
	d.line(t)
	d.tell(t, "200")
	_ = d.Wait()
	if status := d.ProcessState.Sys().(syscall.WaitStatus); status.Signal() != syscall.SIGKILL {
		t.Errorf("it ended with %v", d.ProcessState)
	}
	reason := d.e.Reason(context.Background())
	if t.Logf("reason: %s", reason); !strings.Contains(reason, "reached its memory limit of 64M") && !strings.Contains(reason, "want of memory") {
		t.Errorf("reason %q", reason)
	}
	remove(t, d.e)
	if result, err := a.Manager.result(context.Background(), d.e.Place().Name); result != "" || err != nil {
		t.Errorf("the manager still knows it: %q, %v", result, err)
	}
	neighbour.tell(t, "10")
	if got := neighbour.line(t); got != "grown" {
		t.Errorf("the neighbour: %s", got)
	}
	if reason := neighbour.e.Reason(context.Background()); reason != "" {
		t.Errorf("the neighbour's reason: %q", reason)
	}
}

// TestManagerTasks: forks beyond the limit fail; what the daemon leaves ends with
// its scope, also after another broker has taken it up.
func TestManagerTasks(t *testing.T) {
	a := realManager(t)
	d, _ := launch(t, Wanted{Tasks: 40}, a, spawn)
	d.line(t)
	d.tell(t, "100")
	if got := d.line(t); !strings.Contains(got, "resource temporarily unavailable") {
		t.Errorf("the daemon: %s", got)
	}
	if reason := d.e.Reason(context.Background()); !strings.Contains(reason, "limit of 40 tasks") {
		t.Errorf("reason %q", reason)
	}
	p, err := ParsePlace(d.e.Place().Encode())
	if err != nil {
		t.Fatal(err)
	}
	d.e.Close()
	adopted := Adopt(p, d.Process.Pid, Wanted{Tasks: 40}, a)
	if !adopted.Report().Complete() {
		t.Errorf("adopted:\n%s", adopted.Report())
	}
	_ = d.Process.Kill()
	_ = d.Wait()
	remove(t, adopted)
}

// TestManagerRefuses: a name that is taken is refused by the manager, and the report
// has its words.
func TestManagerRefuses(t *testing.T) {
	a := realManager(t).without(Cgroup, "not here")
	d, _ := launch(t, Wanted{Own: true}, a, state)
	number--
	twin, report := launch(t, Wanted{Own: true}, a, state)
	if e := report.Of(Own); e.Force != Not || !strings.Contains(e.Reason, d.e.Place().Name) {
		t.Errorf("report:\n%s", report)
	}
	if p := twin.e.Place(); p.By != None {
		t.Errorf("place %+v", p)
	}
	if in, err := Where(d.Process.Pid); err != nil || path.Base(in) != d.e.Place().Name {
		t.Errorf("the first one is in %s, %v", in, err)
	}
	d.line(t)
	twin.line(t)
}

// TestDelegatedUnit: in a unit that was delegated to it, a broker without a manager
// limits its daemons in cgroups of their own, and says that they end with the unit.
func TestDelegatedUnit(t *testing.T) {
	if !systemdBooted() {
		t.Skip("systemd is not the first process; FASTBIND_E2E_VM=1 runs this in a virtual machine where it is")
	}
	a := needCgroup(t, Memory, Tasks)
	d, report := launch(t, Wanted{Own: true, Memory: 64 << 20, Tasks: 40}, a, state)
	t.Logf("in %s:\n%s", d.e.Place().Cgroup, report)
	for _, k := range []Kind{Memory, Tasks} {
		if e := report.Of(k); e.Force != InForce || e.By != Cgroup {
			t.Error(e)
		}
	}
	if e := report.Of(Own); e.Force != Not || !strings.Contains(e.Reason, ".service, its caller's, and ends with that") {
		t.Error(e)
	}
	if got := d.line(t); !strings.HasPrefix(got, "cgroup="+d.e.Place().Cgroup+" ") {
		t.Error(got)
	}
}

// BenchmarkAdmit is what a place costs a launch, from the fork to the exec.
func BenchmarkAdmit(b *testing.B) {
	a := Claim(context.Background(), Managers(os.Getuid(), os.Getenv("XDG_RUNTIME_DIR")))
	for name, found := range map[string]Available{
		"rlimit": a.without(Scope, "not here").without(Cgroup, "not here"),
		"cgroup": a.without(Scope, "not here"),
		"scope":  a,
	} {
		b.Run(name, func(b *testing.B) {
			w := Wanted{Own: true, Memory: 64 << 20, OpenFiles: 300}
			if p := Decide(w, found).Place; name != "rlimit" && string(p) != name {
				b.Skip("not available")
			}
			for i := range b.N {
				e, err := Prepare(Name("bench-"+strconv.Itoa(os.Getpid()), name, strconv.Itoa(i)), w, found)
				if err != nil {
					b.Fatal(err)
				}
				p, err := os.StartProcess("/bin/sh", []string{"sh", "-c", e.Script() + "exec /bin/true"}, &os.ProcAttr{
					Files: []*os.File{e.Stdin(), nil, nil}, Sys: &syscall.SysProcAttr{UseCgroupFD: e.Into() >= 0, CgroupFD: e.Into()}})
				if err != nil {
					b.Fatal(err)
				}
				if _, err := e.Admit(context.Background(), p.Pid); err != nil {
					b.Fatal(err)
				}
				b.StopTimer()
				if _, err := p.Wait(); err != nil {
					b.Fatal(err)
				}
				if err := e.Remove(context.Background()); err != nil {
					b.Fatal(err)
				}
				b.StartTimer()
			}
		})
	}
}

// TestManagerAnswers: every question of many is answered, whatever the manager reads
// together.
func TestManagerAnswers(t *testing.T) {
	a := realManager(t)
	for i := range 100 {
		if result, err := a.Manager.result(context.Background(), testName()+scopeSuffix); result != "" || err != nil {
			t.Fatalf("question %d: %q, %v", i, result, err)
		}
	}
}
