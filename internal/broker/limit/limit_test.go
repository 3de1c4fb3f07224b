package limit

import (
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/definition"
)

func TestParse(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		in   string
		want int64
		err  string // part of the reason
	}{
		{Memory, "1048576", 1 << 20, ""},
		{Memory, "1M", 1 << 20, ""},
		{Memory, "1024K", 1 << 20, ""},
		{Memory, "3G", 3 << 30, ""},
		{Memory, "2T", 2 << 40, ""},
		{Memory, "8388607T", 8388607 << 40, ""},
		{Memory, "8388608T", 0, "too large"},
		{Memory, "99999999999999999999", 0, "too large"},
		{Memory, "1023K", 0, "at least 1M"},
		{Memory, "", 0, "whole number of bytes"},
		{Memory, "M", 0, "whole number of bytes"},
		{Memory, "1.5G", 0, "whole number of bytes"},
		{Memory, "-1G", 0, "whole number of bytes"},
		{Memory, "+1G", 0, "whole number of bytes"},
		{Memory, "1g", 0, "whole number of bytes"},
		{Memory, "1GB", 0, "whole number of bytes"},
		{Memory, "0", 0, "leave it out"},
		{Tasks, "32", 32, ""},
		{Tasks, "1K", 0, "give a whole number"},
		{Tasks, "4194305", 0, "at most 4194304"},
		{CPUWeight, "10001", 0, "at most 10000"},
		{OpenFiles, "15", 0, "at least 16"},
		{OpenFiles, "4096", 4096, ""},
	} {
		n, err := Parse(c.kind, c.in)
		var invalid *definition.Invalid
		switch {
		case c.err == "" && (err != nil || n != c.want):
			t.Errorf("%s %q: %d, %v; want %d", c.kind, c.in, n, err, c.want)
		case c.err != "" && (!errors.As(err, &invalid) || !strings.Contains(invalid.Reason, c.err) || invalid.Field != string(c.kind)):
			t.Errorf("%s %q: %d, %v; want an error of the field with %q", c.kind, c.in, n, err, c.err)
		}
	}
}

// FuzzParse: what is taken is within bounds and printed as something that is read
// as the same.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"1M", "512M", "0", "1048577", "16T", "K", "９G", "9223372036854775807"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, k := range []Kind{Memory, Tasks, CPUWeight, OpenFiles} {
			n, err := Parse(k, s)
			if err != nil {
				continue
			}
			if again, err := Parse(k, format(k, n)); err != nil || again != n {
				t.Errorf("%s %q is %d, printed %q, read %d, %v", k, s, n, format(k, n), again, err)
			}
			if err := only(k, n).Check(); err != nil {
				t.Errorf("%s %q: %v", k, s, err)
			}
		}
	})
}

var everything = Wanted{Own: true, Memory: 64 << 20, Tasks: 32, CPUWeight: 50, OpenFiles: 4096}

func TestDecide(t *testing.T) {
	const noScope, noCgroup = "no systemd manager answers", "no cgroup can be made"
	all := Available{Files: 1 << 20, Data: true}
	for _, c := range []struct {
		name  string
		w     Wanted
		a     Available
		place Mechanism
		files int64
		data  int64
		lines []string // how each line begins
		has   []string // parts of the whole
	}{
		{name: "nothing wanted", a: all},
		{name: "a scope", w: everything, a: all, place: Scope, files: 4096, lines: []string{
			"own_scope: in force, scope", "memory 64M: in force, scope", "tasks 32: in force, scope", "cpu_weight 50: in force, scope", "open_files 4096: in force, rlimit"}},
		{name: "a cgroup", w: everything, a: all.without(Scope, noScope), place: Cgroup, files: 4096, lines: []string{
			"own_scope: in force, cgroup", "memory 64M: in force, cgroup", "tasks 32: in force, cgroup", "cpu_weight 50: in force, cgroup", "open_files 4096: in force, rlimit"}},
		{name: "a cgroup without the controllers", w: everything,
			a:     all.without(Scope, noScope).lacking(Cgroup, map[Kind]string{Memory: "lack m", Tasks: "lack t", CPUWeight: "lack c"}),
			place: Cgroup, files: 4096, data: 64 << 20, lines: []string{
				"own_scope: in force, cgroup", "memory 64M: partly in force, rlimit", "tasks 32: not in force: lack t", "cpu_weight 50: not in force: lack c", "open_files"},
			has: []string{"lack m", "RLIMIT_DATA", "RLIMIT_NPROC counts all processes of the user"}},
		{name: "no place", w: everything, a: all.without(Scope, noScope).without(Cgroup, noCgroup), files: 4096, data: 64 << 20, lines: []string{
			"own_scope: not in force: " + noScope + "; " + noCgroup, "memory 64M: partly in force, rlimit", "tasks 32: not in force", "cpu_weight 50: not in force", "open_files"}},
		{name: "no place, nor a resource limit that counts", w: Wanted{Memory: 1 << 30}, a: Available{Files: 10}.without(Scope, noScope).without(Cgroup, noCgroup),
			lines: []string{"memory 1G: not in force: " + noScope}, has: []string{whyNoData}},
		{name: "more files than may be had", w: Wanted{OpenFiles: 4096}, a: Available{Files: 1024}, files: 1024,
			lines: []string{"open_files 4096: partly in force, rlimit of 1024: the hard limit"}},
		{name: "open files need no place", w: Wanted{OpenFiles: 64}, a: all, files: 64, lines: []string{"open_files 64: in force, rlimit"}},
		{name: "no resource limits", w: Wanted{OpenFiles: 64}, a: Available{NoRlimit: "none here"}, lines: []string{"open_files 64: not in force: none here"}},
	} {
		p := Decide(c.w, c.a)
		lines := strings.Split(p.Report.String(), "\n")
		if len(p.Report) != len(c.lines) {
			t.Errorf("%s: %q, want %d lines", c.name, lines, len(c.lines))
			continue
		}
		for i, line := range c.lines {
			if !strings.HasPrefix(lines[i], line) {
				t.Errorf("%s: %q, want %q", c.name, lines[i], line)
			}
		}
		for _, part := range c.has {
			if !strings.Contains(p.Report.String(), part) {
				t.Errorf("%s: %q is not in %q", c.name, part, lines)
			}
		}
		if p.Place != c.place || p.Files != c.files || p.Data != c.data {
			t.Errorf("%s: place %q files %d data %d, want %q %d %d", c.name, p.Place, p.Files, p.Data, c.place, c.files, c.data)
		}
	}
}

// TestNeverSilentlyNone: whatever is available, each kind that is wanted has one
// entry, and one that is not in force as wanted has a reason (R30).
func TestNeverSilentlyNone(t *testing.T) {
	kinds := []Kind{Own, Memory, Tasks, CPUWeight, OpenFiles}
	for wanted := range 1 << len(kinds) {
		for facts := range 1 << 11 {
			w := everything
			for i, unset := range []func(){func() { w.Own = false }, func() { w.Memory = 0 }, func() { w.Tasks = 0 },
				func() { w.CPUWeight = 0 }, func() { w.OpenFiles = 0 }} {
				if wanted&(1<<i) == 0 {
					unset()
				}
			}
			bit := func(i int) bool { return facts&(1<<i) != 0 }
			a := Available{Files: math.MaxInt64, Data: bit(0)}
			if bit(1) {
				a.Files = 10
			}
			if bit(2) {
				a.NoRlimit = "none"
			}
			for i, place := range []Mechanism{Scope, Cgroup} {
				if bit(3 + 4*i) {
					a = a.without(place, "not there")
				}
				lacks := map[Kind]string{}
				for j, k := range []Kind{Memory, Tasks, CPUWeight} {
					if bit(4 + 4*i + j) {
						lacks[k] = "lacks it"
					}
				}
				a = a.lacking(place, lacks)
			}
			p := Decide(w, a)
			for _, k := range kinds {
				e := p.Report.Of(k)
				if w.value(k) != e.Wanted {
					t.Fatalf("%+v of %+v: %s is wanted to be %d", w, a, k, e.Wanted)
				}
				if e.Wanted == 0 {
					continue
				}
				if (e.Force == InForce) != (e.Reason == "") || (e.By == None) != (e.Force == Not) || (e.Actual == 0) != (e.Force == Not) {
					t.Fatalf("%+v of %+v: %+v", w, a, e)
				}
			}
		}
	}
}

func TestSurvives(t *testing.T) {
	const user = "/user.slice/user-1000.slice/"
	for _, c := range []struct {
		daemon, caller string
		want           bool
		has            string
	}{
		{user + "session-3.scope", user + "session-3.scope", false, "session-3.scope"},
		{user + "session-3.scope/x", user + "session-3.scope", false, "session-3.scope"},
		{user + "session-3.scope", user + "session-3.scope/sub", false, "session-3.scope"},
		{user + "session-31.scope", user + "session-3.scope", true, "session-3.scope"},
		{user + "user@1000.service/app.slice/fastbind-a.scope", user + "session-3.scope", true, "last logout"},
		{user + "user@1000.service/app.slice/a.scope", user + "user@1000.service/app.slice/b.service", true, "last logout"},
		{"/system.slice/fastbind-a.scope", "/system.slice/cron.service", true, "cron.service"},
		{"/system.slice/cron.service", "/system.slice/cron.service", false, "cron.service"},
		{"/", "/", false, `"/"`},
		{"/fastbind-a", "/", true, "not its caller's"},
		{"/fastbind-a", "/init.scope", true, "init.scope"},
	} {
		got, why := Survives(c.daemon, c.caller)
		if got != c.want || !strings.Contains(why, c.has) {
			t.Errorf("Survives(%q, %q) = %v, %q; want %v with %q", c.daemon, c.caller, got, why, c.want, c.has)
		}
	}
}

func TestPlace(t *testing.T) {
	name := Name("default", "web", "7.8beaf0df.5t9gk")
	for _, p := range []Place{
		{},
		{By: Cgroup, Name: name, Cgroup: "/a b/\n" + `"` + "/" + name},
		{By: Scope, Name: name + ".scope", Cgroup: "/user.slice/" + name + ".scope"},
		{By: Scope, Name: name + ".scope", Cgroup: "/" + name + ".scope", System: true},
	} {
		got, err := ParsePlace(p.Encode())
		if err != nil || got != p {
			t.Errorf("%+v as %q: %+v, %v", p, p.Encode(), got, err)
		}
		if strings.Contains(p.Encode(), "\n") {
			t.Errorf("%q is not one line", p.Encode())
		}
	}
	// What is named is emptied and removed: it must be ours.
	for _, s := range []string{
		`2 cgroup own "fastbind-a-b" "/fastbind-a-b"`,
		`1 cgroup own "system.slice" "/system.slice"`,
		`1 cgroup own "fastbind-a-b" "/system.slice"`,
		`1 cgroup own "fastbind-a-b" "/x/../fastbind-a-b"`,
		`1 cgroup own "fastbind-a-b" "fastbind-a-b"`,
		`1 cgroup own "fastbind-../b" "/fastbind-../b"`,
		`1 cgroup user "fastbind-a-b" "/fastbind-a-b"`,
		`1 scope user "fastbind-a-b" "/fastbind-a-b"`,
		`1 scope user "ssh.scope" "/ssh.scope"`,
		`1 scope user "fastbind-a-b.scope" "/fastbind-a-b.scope" `,
		`1 rlimit own "fastbind-a-b" "/fastbind-a-b"`,
		`1 cgroup own "fastbind-a-b`,
		`1 cgroup own "fastbind-` + strings.Repeat("a", maxPlace) + `" "/"`,
	} {
		if p, err := ParsePlace(s); err == nil {
			t.Errorf("%q is taken for %+v", s, p)
		}
	}
}

func FuzzParsePlace(f *testing.F) {
	f.Add(`1 cgroup own "fastbind-a-b" "/fastbind-a-b"`)
	f.Add(`1 scope user "fastbind-a-b.scope" "/user.slice/fastbind-a-b.scope"`)
	f.Fuzz(func(t *testing.T, s string) {
		p, err := ParsePlace(s)
		if err != nil {
			return
		}
		if p.Encode() != s || p.By != None && !strings.HasPrefix(p.Name, prefix) {
			t.Errorf("%q is %+v, which is %q", s, p, p.Encode())
		}
	})
}

func TestParseOwn(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"0::/\n", "/"},
		{"4:memory:/x\n1:name=systemd:/y\n0::/user.slice/a:b.scope\n", "/user.slice/a:b.scope"},
		{"0::/a (deleted)\n", "/a"},
		{"4:memory:/x\n", ""},
		{"0::/../b\n", ""},
		{"0::x\n", ""},
		{"", ""},
	} {
		got, err := parseOwn(c.in)
		if got != c.want || (err == nil) != (c.want != "") {
			t.Errorf("%q: %q, %v; want %q", c.in, got, err, c.want)
		}
	}
}

func TestParseMounts(t *testing.T) {
	const v1 = `32 24 0:28 / /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory` + "\n"
	for _, c := range []struct {
		in   string
		want mount
	}{
		{v1, mount{}},
		{"", mount{}},
		{v1 + "40 24 0:36 / /sys/fs/cgroup rw,nosuid shared:9 master:2 - cgroup2 cgroup2 rw\n", mount{"/sys/fs/cgroup", "/"}},
		{"40 24 0:36 /docker/x /a\\040b rw - cgroup2 c rw\n", mount{"/a b", "/docker/x"}},
		{"40 24 0:36 / /old rw - cgroup2 c rw\n41 24 0:36 / /new rw - cgroup2 c rw\n", mount{"/new", "/"}},
		{"40 24 0:36 / /x rw cgroup2 - tmpfs t rw\n", mount{}},
	} {
		got, err := parseMounts(c.in)
		if got != c.want || (err == nil) != (c.want != mount{}) {
			t.Errorf("%q: %+v, %v; want %+v", c.in, got, err, c.want)
		}
	}
	m := mount{"/mnt", "/docker/x"}
	for cgroup, dir := range map[string]string{"/docker/x": "/mnt", "/docker/x/y": "/mnt/y", "/docker/xy": "", "/": ""} {
		if got := m.dir(cgroup); got != dir {
			t.Errorf("dir of %q is %q, want %q", cgroup, got, dir)
		}
		if dir != "" && m.cgroup(dir) != cgroup {
			t.Errorf("cgroup of %q is %q, want %q", dir, m.cgroup(dir), cgroup)
		}
	}
}

func TestExplain(t *testing.T) {
	by := func(m Mechanism) Report {
		return Report{{Kind: Memory, Wanted: 64 << 20, Actual: 64 << 20, By: m, Force: InForce},
			{Kind: Tasks, Wanted: 32, Actual: 32, By: m, Force: InForce}}
	}
	read := func(memory, pids string) events {
		return parseEvents(parseEvents(events{}, "memory.events", memory), "pids.events", pids)
	}
	for _, c := range []struct {
		r      Report
		e      events
		result string
		want   string
	}{
		{by(Cgroup), read("low 0\nhigh 0\nmax 12\noom 0\noom_kill 0\noom_group_kill 0\n", "max 0\n"), "", ""},
		{by(Cgroup), read("max 12\noom 1\noom_kill 1\n", ""), "", "the service reached its memory limit of 64M, and the kernel killed a process of it"},
		{by(Cgroup), read("oom 1\noom_kill 2\noom_group_kill 1\n", ""), "", "the service reached its memory limit of 64M, and the kernel killed all of it"},
		{by(Scope), read("oom 2\noom_kill 3\n", "max 1\n"), "oom-kill", "the service reached its memory limit of 64M, and the kernel killed 3 processes of it; it was refused a process or thread once at its limit of 32 tasks"},
		{by(Cgroup), read("oom 0\noom_kill 1\n", ""), "", "the machine, or a cgroup around the service's, ran out of memory, and the kernel killed a process of it"},
		{nil, read("oom 0\noom_kill 1\n", ""), "", "the machine, or a cgroup around the service's, ran out of memory, and the kernel killed a process of it"},
		{by(Scope), events{}, "oom-kill", "systemd says that it was killed for want of memory (Result=oom-kill)"},
		{by(Scope), events{}, "success", ""},
		{by(Scope), read("oom 1\n", ""), "", "the service reached its memory limit of 64M"},
		{by(Cgroup), read("", "max 7\nnew_key 3\n"), "", "it was refused a process or thread 7 times at its limit of 32 tasks"},
		{Report{{Kind: Memory, By: Rlimit, Force: Partly}}, events{}, "", ""},
	} {
		if got := explain(c.r, c.e, c.result); got != c.want {
			t.Errorf("%+v, %q: %q, want %q", c.e, c.result, got, c.want)
		}
	}
	if diff := cmp.Diff(events{1, 2, 4, 3}, events{1, 0, 4, 3}.max(events{0, 2, 0, 3}), cmp.AllowUnexported(events{})); diff != "" {
		t.Error(diff)
	}
}

func TestManagers(t *testing.T) {
	for _, c := range []struct {
		uid  int
		dir  string
		want []Manager
	}{
		{0, "/run/user/0", []Manager{{"unix:path=/run/systemd/private", true, true}, {"unix:path=/run/dbus/system_bus_socket", false, true}}},
		{7, "", []Manager{{"unix:path=/run/user/7/bus", false, false}, {"unix:path=/run/user/7/systemd/private", true, false}}},
		{7, "/run/user/7", []Manager{{"unix:path=/run/user/7/bus", false, false}, {"unix:path=/run/user/7/systemd/private", true, false}}},
		{7, "relative", []Manager{{"unix:path=/run/user/7/bus", false, false}, {"unix:path=/run/user/7/systemd/private", true, false}}},
		{7, "/x,y", []Manager{{"unix:path=/x%2cy/bus", false, false}, {"unix:path=/x%2cy/systemd/private", true, false},
			{"unix:path=/run/user/7/bus", false, false}, {"unix:path=/run/user/7/systemd/private", true, false}}},
	} {
		if diff := cmp.Diff(c.want, Managers(c.uid, c.dir)); diff != "" {
			t.Errorf("%d %q: %s", c.uid, c.dir, diff)
		}
	}
	for s, want := range map[string]int{"252.38-1~deb12u1": 252, "v1": 0, "": 0, "257": 257} {
		if got := leadingNumber(s); got != want {
			t.Errorf("version of %q is %d, want %d", s, got, want)
		}
	}
}
