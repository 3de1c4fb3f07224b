package limit

import (
	"bufio"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/godbus/dbus/v5"
	"github.com/google/go-cmp/cmp"
)

// A fakeManager is an org.freedesktop.systemd1 on a message bus of the test's own. It
// makes real cgroups where it can.
type fakeManager struct {
	conn    *dbus.Conn
	dir     string // where it makes cgroups; "" if it cannot
	version string
	result  string // of the job; "" if it never ends

	mu     sync.Mutex
	calls  []string // methods and their string arguments
	props  map[string]any
	failed map[string]bool // units it knows as failed, by name
}

func (f *fakeManager) note(call ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, strings.Join(call, " "))
}

func (f *fakeManager) noted() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	calls := f.calls
	f.calls = nil
	return calls
}

func (f *fakeManager) Subscribe() *dbus.Error { return nil }

func (f *fakeManager) StartTransientUnit(name, mode string, props []prop, _ []struct {
	Name  string
	Props []prop
}) (dbus.ObjectPath, *dbus.Error) {
	f.note("StartTransientUnit", name, mode)
	values := map[string]any{}
	for _, p := range props {
		values[p.Name] = p.Value.Value()
	}
	f.mu.Lock()
	f.props = values
	f.mu.Unlock()
	if f.dir != "" {
		dir := filepath.Join(f.dir, name)
		if err := os.Mkdir(dir, 0o755); err != nil {
			return "", dbus.MakeFailedError(err)
		}
		pid := strconv.Itoa(int(values["PIDs"].([]uint32)[0]))
		if err := write1(filepath.Join(dir, "cgroup.procs"), pid); err != nil {
			return "", dbus.MakeFailedError(err)
		}
	}
	const job = dbus.ObjectPath("/org/freedesktop/systemd1/job/7")
	// Others' jobs end as well, and this one perhaps before its path is known.
	_ = f.conn.Emit(object, managerName+".JobRemoved", uint32(6), dbus.ObjectPath("/org/freedesktop/systemd1/job/6"), "other.scope", "failed")
	if f.result != "" {
		_ = f.conn.Emit(object, managerName+".JobRemoved", uint32(7), job, name, f.result)
	}
	return job, nil
}

func (f *fakeManager) GetUnit(name string) (dbus.ObjectPath, *dbus.Error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	text, err := readText(filepath.Join(f.dir, name, "cgroup.procs"))
	switch {
	case f.failed[name]:
	case f.dir == "" || err != nil:
		return "", dbus.NewError(noSuchUnit, []any{"Unit " + name + " not loaded."})
	case text == "":
		// As the manager does: an empty scope ends, and its cgroup with it.
		_ = os.Remove(filepath.Join(f.dir, name))
	}
	return "/unit", nil
}

func (f *fakeManager) KillUnit(name, whom string, signal int32) *dbus.Error {
	f.note("KillUnit", name, whom, strconv.Itoa(int(signal)))
	text, _ := readText(filepath.Join(f.dir, name, "cgroup.procs"))
	for _, s := range strings.Fields(text) {
		pid, _ := strconv.Atoi(s)
		_ = syscall.Kill(pid, syscall.Signal(signal))
	}
	return nil
}

func (f *fakeManager) ResetFailedUnit(name string) *dbus.Error {
	f.note("ResetFailedUnit", name)
	f.mu.Lock()
	defer f.mu.Unlock()
	delete(f.failed, name)
	return nil
}

type listed struct {
	Name, Description, Load, Active, Sub, Following string
	Path                                            dbus.ObjectPath
	JobID                                           uint32
	JobType                                         string
	JobPath                                         dbus.ObjectPath
}

func (f *fakeManager) ListUnitsByPatterns(states, patterns []string) ([]listed, *dbus.Error) {
	f.note("ListUnitsByPatterns", fmt.Sprint(states, patterns))
	f.mu.Lock()
	defer f.mu.Unlock()
	var units []listed
	for name := range f.failed {
		units = append(units, listed{Name: name, Active: "failed", Path: "/unit", JobPath: "/"})
	}
	return units, nil
}

// fakeProps answers org.freedesktop.DBus.Properties.
type fakeProps struct{ f *fakeManager }

func (p fakeProps) Get(iface, name string) (dbus.Variant, *dbus.Error) {
	p.f.mu.Lock()
	defer p.f.mu.Unlock()
	switch {
	case name == "Version":
		return dbus.MakeVariant(p.f.version), nil
	case name == "Result" && len(p.f.failed) > 0:
		return dbus.MakeVariant("oom-kill"), nil
	case name == "Result":
		return dbus.MakeVariant("success"), nil
	case name == "ActiveState" && len(p.f.failed) > 0:
		return dbus.MakeVariant("failed"), nil
	}
	return dbus.MakeVariant("active"), nil
}

// fake runs a message bus with a manager on it.
func fake(t *testing.T, f *fakeManager) Manager {
	t.Helper()
	daemon, err := exec.LookPath("dbus-daemon")
	if err != nil {
		t.Skip("there is no dbus-daemon, the message bus of Debian's package of that name")
	}
	dir := t.TempDir()
	config := filepath.Join(dir, "config")
	err = os.WriteFile(config, []byte(`<busconfig><type>session</type><listen>unix:path=`+dir+`/bus</listen>
<policy context="default"><allow send_destination="*"/><allow own="*"/><allow eavesdrop="false"/></policy></busconfig>`), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(daemon, "--config-file="+config, "--nofork", "--print-address")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		t.Fatal("dbus-daemon:", err)
	}
	m := Manager{Address: address(filepath.Join(dir, "bus"))}
	f.conn, err = dbus.Connect(m.Address)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.conn.Close() })
	for _, path := range []dbus.ObjectPath{object, "/unit"} {
		if err := f.conn.Export(fakeProps{f}, path, "org.freedesktop.DBus.Properties"); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.conn.Export(f, object, managerName); err != nil {
		t.Fatal(err)
	}
	if _, err := f.conn.RequestName(destination, 0); err != nil {
		t.Fatal(err)
	}
	return m
}

// withManager is what this process has with that manager.
func withManager(t *testing.T, m Manager) Available {
	t.Helper()
	a := Claim(context.Background(), []Manager{{Address: "unix:path=/nonexistent/bus"}, m})
	if a.Scope.Why != "" || a.Manager != m {
		t.Fatalf("claimed %+v", a)
	}
	return a
}

// TestScope: what the manager is asked for, and what comes of it.
func TestScope(t *testing.T) {
	dir := needCgroup(t).Dir
	f := &fakeManager{dir: dir, version: "254.1", result: "done", failed: map[string]bool{}}
	a := withManager(t, fake(t, f))
	w := everything
	w.Memory = 512 << 20
	d, report := launch(t, w, a, state)
	p := d.e.Place()
	t.Logf("\n%s", report)
	f.mu.Lock()
	props := f.props
	f.mu.Unlock()
	if diff := cmp.Diff(map[string]any{
		"Description": "fastbind: " + strings.TrimPrefix(p.Name, prefix), "PIDs": []uint32{uint32(d.Process.Pid)}, "Slice": "app.slice",
		"MemoryMax": uint64(512 << 20), "MemorySwapMax": uint64(0), "OOMPolicy": "kill", "TasksMax": uint64(32), "CPUWeight": uint64(50)}, props); diff != "" {
		t.Errorf("properties: %s", diff)
	}
	if diff := cmp.Diff([]string{"StartTransientUnit " + p.Name + " fail"}, f.noted()); diff != "" {
		t.Error(diff)
	}
	if e := report.Of(Own); e.Force != InForce || e.By != Scope {
		t.Error(e)
	}
	// This manager took the limits and set none: the report tells, and memory has
	// its resource limit.
	for k, by := range map[Kind]Mechanism{Memory: Rlimit, Tasks: None, CPUWeight: None} {
		if e := report.Of(k); e.Force == InForce || e.By != by || e.Reason == "" {
			t.Error(e)
		}
	}
	if got := d.line(t); !strings.HasPrefix(got, fmt.Sprintf("cgroup=%s files=4096/4096 data=%d ", p.Cgroup, w.Memory)) {
		t.Error(got)
	}
	if again, err := ParsePlace(p.Encode()); err != nil || again != p {
		t.Errorf("%q: %+v, %v", p.Encode(), again, err)
	}

	adopted := Adopt(p, d.Process.Pid, w, a)
	if e := adopted.Report().Of(Own); e.Force != InForce || e.By != Scope {
		t.Error(e)
	}
	if e := adopted.Report().Of(OpenFiles); e.Force != InForce {
		t.Error(e)
	}
	d.e.Close()
	f.mu.Lock()
	f.failed[p.Name] = true
	f.mu.Unlock()
	if reason := adopted.Reason(context.Background()); reason != "systemd says that it was killed for want of memory (Result=oom-kill)" {
		t.Errorf("reason %q", reason)
	}
	remove(t, adopted)
	if diff := cmp.Diff([]string{"KillUnit " + p.Name + " all 9", "ResetFailedUnit " + p.Name}, f.noted()); diff != "" {
		t.Error(diff)
	}
}

// TestOldManager: before version 253 scopes have no OOMPolicy, and a manager
// refuses what it does not know.
func TestOldManager(t *testing.T) {
	for _, p := range scopeProps("x", everything, 252, true, 1) {
		if p.Name == "OOMPolicy" || p.Name == "Slice" {
			t.Errorf("asked for %v", p)
		}
	}
}

// TestScopeFails: whatever goes wrong with the manager, the daemon runs in the next
// place that there is, and the report says why.
func TestScopeFails(t *testing.T) {
	for name, c := range map[string]struct {
		f   *fakeManager
		has string
	}{
		"the job fails":               {&fakeManager{result: "failed"}, `ended as "failed"`},
		"the process is left outside": {&fakeManager{result: "done"}, "is in the cgroup"},
		"the manager refuses":         {&fakeManager{dir: "/nonexistent"}, "no such file"},
	} {
		t.Run(name, func(t *testing.T) {
			f := c.f
			f.version = "252"
			a := withManager(t, fake(t, f))
			d, report := launch(t, Wanted{Own: true, OpenFiles: 64}, a, state)
			e := report.Of(Own)
			switch {
			case e.By == Cgroup:
				if e.Force != InForce || d.e.found.Scope.Why == "" || !strings.Contains(d.e.found.Scope.Why, c.has) {
					t.Errorf("%s; no scope: %q, want %q", e, d.e.found.Scope.Why, c.has)
				}
			case !strings.Contains(e.Reason, c.has):
				t.Errorf("%s; want %q", e, c.has)
			}
			if got := d.line(t); !strings.Contains(got, "files=64/64") {
				t.Error(got)
			}
		})
	}
}

// TestSilentManager: a job that never ends, and a manager that never answers, cost
// what the bound says and not the launch.
func TestSilentManager(t *testing.T) {
	f := &fakeManager{version: "252"}
	a := withManager(t, fake(t, f)).without(Cgroup, "not here")
	d := fork(t, Wanted{Own: true, OpenFiles: 64}, a, state)
	ctx, cancel := context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	report, err := d.e.Admit(ctx, d.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if e := report.Of(Own); e.Force != Not || !strings.Contains(e.Reason, "deadline") {
		t.Error(e)
	}
	d.line(t)

	// One that accepts and says nothing.
	ln := filepath.Join(t.TempDir(), "deaf")
	deaf, err := net.Listen("unix", ln)
	if err != nil {
		t.Fatal(err)
	}
	defer deaf.Close()
	ctx, cancel = context.WithTimeout(context.Background(), 200*time.Millisecond)
	defer cancel()
	if a := Claim(ctx, []Manager{{Address: address(ln), Direct: true}}); !strings.Contains(a.Scope.Why, "deadline") {
		t.Errorf("claimed %+v", a)
	}
}

// TestOverlooked: a manager that reads our first message together with the end of the
// authentication, and overlooks it until more comes, is asked once more.
func TestOverlooked(t *testing.T) {
	path := filepath.Join(t.TempDir(), "private")
	ln, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	served := make(chan error, 1)
	go func() { served <- overlook(ln) }()
	ctx, cancel := context.WithTimeout(context.Background(), within)
	defer cancel()
	a := Claim(ctx, []Manager{{Address: address(path), Direct: true}})
	if a.Scope.Why != "" || a.Version != 252 {
		t.Errorf("claimed %+v", a)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// overlook serves one connection: it answers its first message when it has the
// second.
func overlook(ln net.Listener) error {
	conn, err := ln.Accept()
	if err != nil {
		return err
	}
	defer conn.Close()
	in := bufio.NewReader(conn)
	for _, step := range []struct{ want, answer string }{
		{"\x00AUTH", "REJECTED EXTERNAL"}, {"AUTH EXTERNAL", "OK 0123"}, {"NEGOTIATE_UNIX_FD", "ERROR"}, {"BEGIN", ""},
	} {
		line, err := in.ReadString('\n')
		if err != nil || !strings.HasPrefix(line, step.want) {
			return fmt.Errorf("%q, %v; want %q", line, err, step.want)
		}
		if step.answer != "" {
			if _, err := conn.Write([]byte(step.answer + "\r\n")); err != nil {
				return err
			}
		}
	}
	var overlooked []*dbus.Message
	for n := 0; ; n++ {
		msg, err := dbus.DecodeMessage(in)
		if err != nil {
			return err
		}
		if overlooked = append(overlooked, msg); n == 0 {
			continue
		}
		for _, msg := range overlooked {
			reply := &dbus.Message{Type: dbus.TypeMethodReply, Headers: map[dbus.HeaderField]dbus.Variant{}}
			reply.Headers[dbus.FieldReplySerial] = dbus.MakeVariant(msg.Serial())
			version := msg.Headers[dbus.FieldMember].Value() == "Get"
			if version {
				reply.Headers[dbus.FieldSignature] = dbus.MakeVariant(dbus.SignatureOf(dbus.Variant{}))
				reply.Body = []any{dbus.MakeVariant("252")}
			}
			if err := reply.EncodeTo(conn, binary.LittleEndian); err != nil || version {
				return err
			}
		}
		overlooked = nil
	}
}

// TestSweepScopes: those of this instance that failed and that nobody knows of.
func TestSweepScopes(t *testing.T) {
	lost, kept := Name("i", "a", "1")+scopeSuffix, Name("i", "a", "2")+scopeSuffix
	f := &fakeManager{version: "252", failed: map[string]bool{lost: true, kept: true, "fastbind-j-a-1.scope": true, "fastbind-i-A.scope": true}}
	a := withManager(t, fake(t, f)).without(Cgroup, "not here")
	removed, err := Sweep(context.Background(), "i", a, func(name string) bool { return name == kept })
	if err != nil || !cmp.Equal(removed, []string{lost}) {
		t.Errorf("removed %q, %v; want %q", removed, err, lost)
	}
	if diff := cmp.Diff([]string{"ListUnitsByPatterns [failed] [fastbind-i-*.scope]", "ResetFailedUnit " + lost}, f.noted()); diff != "" {
		t.Error(diff)
	}
}

// TestSweepAtMost: one call removes a bounded number of them.
func TestSweepAtMost(t *testing.T) {
	f := &fakeManager{version: "252", failed: map[string]bool{}}
	for i := range maxLeftovers + 10 {
		f.failed[Name("i", "a", strconv.Itoa(i))+scopeSuffix] = true
	}
	a := withManager(t, fake(t, f))
	names, err := a.Manager.failedScopes(context.Background(), namePrefix("i"))
	if err != nil || len(names) != maxLeftovers {
		t.Errorf("%d scopes, %v; want %d", len(names), err, maxLeftovers)
	}
}
