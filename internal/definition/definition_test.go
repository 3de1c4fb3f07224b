package definition

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"
)

func valid() Definition {
	return Definition{Service: "gocache", Command: []string{"gocached"}}.Complete()
}

// further makes it a foreign daemon with these further endpoints.
func further(names ...string) func(*Definition) {
	return func(d *Definition) { d.Foreign, d.Endpoints = true, names }
}

func TestComplete(t *testing.T) {
	want := Definition{
		Service: "gocache", Instance: "default", Command: []string{"gocached"}, Bind: BindBroker, Dir: defaultDir(), EnvPolicy: EnvIgnore,
		BoundWithin: 500 * time.Millisecond, AdoptWithin: 10 * time.Second, StopWithin: 10 * time.Second,
		HangAfter: 30 * time.Second, OnHang: HangReplace, OnVersion: VersionIgnore,
	}
	if diff := cmp.Diff(want, valid()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	set := full()
	if diff := cmp.Diff(set, set.Complete()); diff != "" {
		t.Errorf("Complete changes what is set (-want +got):\n%s", diff)
	}
	if err := valid().Check(); err != nil {
		t.Error(err)
	}
	set.Bind = BindBroker // a daemon that binds itself has no further endpoints
	if err := set.Check(); err != nil {
		t.Error(err)
	}
}

// TestCheck holds the whole text of each refusal: it is what a user reads.
func TestCheck(t *testing.T) {
	long := strings.Repeat("a", 65)
	for _, c := range []struct {
		edit func(*Definition)
		want string
	}{
		{func(d *Definition) {}, ""},
		{func(d *Definition) { d.Service = "" }, `invalid service: it is empty`},
		{func(d *Definition) { d.Service = long }, `invalid service "` + long + `": longer than 64 bytes`},
		{func(d *Definition) { d.Service = long[:64] }, ""},
		{func(d *Definition) { d.Service = "0" }, ""},
		{func(d *Definition) { d.Service = "a.b_c-9" }, ""},
		{func(d *Definition) { d.Service = "Go" }, `invalid service "Go": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Service = ".." }, `invalid service "..": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Service = "-a" }, `invalid service "-a": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Service = "a/b" }, `invalid service "a/b": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Service = "a+b" }, `invalid service "a+b": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Service = "a\n" }, `invalid service "a\n": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Service = "é" }, `invalid service "é": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Instance = "CI" }, `invalid instance "CI": use lower-case letters, digits and, after the first character, . _ -`},
		{func(d *Definition) { d.Instance = "" }, `invalid instance: it is empty`},
		{func(d *Definition) { d.Command = nil }, `invalid command: it is empty`},
		{func(d *Definition) { d.Command = []string{""} }, `invalid command: it is empty`},
		{func(d *Definition) { d.Command = []string{"", "x"} }, `invalid command: it is empty`},
		{func(d *Definition) { d.Command = []string{"x", "", "\xff"} }, ""},
		{func(d *Definition) { d.Command = []string{"x", "a\x00b"} }, `invalid command "a\x00b": it contains a NUL byte`},
		{func(d *Definition) { d.Env = []string{"A=\x00"} }, `invalid env "A=\x00": it contains a NUL byte`},
		{func(d *Definition) { d.FDEnv = []string{"A=\x00"} }, `invalid fd_env "A=\x00": it contains a NUL byte`},
		{func(d *Definition) { d.Command = []string{"x", strings.Repeat("y", MaxVector-2*vectorOverhead-1)} }, ""},
		{func(d *Definition) { d.Command = []string{"x", strings.Repeat("y", MaxVector-2*vectorOverhead)} }, `invalid command: command and environment are longer than 64 KiB`},
		{func(d *Definition) { d.Env = []string{"A=" + strings.Repeat("y", MaxVector)} }, `invalid command: command and environment are longer than 64 KiB`},
		{func(d *Definition) { d.FDEnv = []string{"A=" + strings.Repeat("y", MaxVector)} }, `invalid command: command and environment are longer than 64 KiB`},
		{func(d *Definition) { d.Command = append([]string{"x"}, make([]string, MaxVector/2)...) }, `invalid command: command and environment are longer than 64 KiB`},
		{func(d *Definition) { d.Bind = "both" }, `invalid bind "both": use "broker" or "daemon"`},
		{func(d *Definition) { d.Bind = "" }, `invalid bind: use "broker" or "daemon"`},
		{func(d *Definition) { d.Bind = BindDaemon }, ""},
		{func(d *Definition) { d.EnvPolicy = "replace" }, `invalid env_policy "replace": use "ignore", "coexist" or "refuse"`},
		{func(d *Definition) { d.EnvPolicy = EnvCoexist }, ""},
		{func(d *Definition) { d.EnvPolicy = EnvRefuse }, ""},
		{func(d *Definition) { d.Dir = "work" }, `invalid dir "work": use an absolute path: a daemon has no caller's directory`},
		{func(d *Definition) { d.Dir = "" }, `invalid dir: use an absolute path: a daemon has no caller's directory`},
		{func(d *Definition) { d.Dir = defaultDir() + "a\x00" }, `invalid dir ` + strconv.Quote(defaultDir()+"a\x00") + `: it contains a NUL byte`},
		{func(d *Definition) { d.Dir = defaultDir() + strings.Repeat("d", 4096-len(defaultDir())) }, `invalid dir: the path is longer than 4095 bytes`},
		{func(d *Definition) { d.Dir = defaultDir() + strings.Repeat("d", 4095-len(defaultDir())) }, ""},
		{func(d *Definition) { d.Env = []string{"GOFLAGS", "A=b", "_x9=", "A=b=c"} }, ""},
		{func(d *Definition) { d.Env = []string{""} }, `invalid env: use NAME=VALUE`},
		{func(d *Definition) { d.Env = []string{"=x"} }, `invalid env "=x": use NAME=VALUE`},
		{func(d *Definition) { d.Env = []string{"9A=x"} }, `invalid env "9A=x": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"A-B=x"} }, `invalid env "A-B=x": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"A B"} }, `invalid env "A B": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"A\nB=x"} }, `invalid env "A\nB=x": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"@=x"} }, `invalid env "@=x": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"[=x"} }, `invalid env "[=x": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"`=x"} }, "invalid env \"`=x\": a variable's name has letters, digits and _"},
		{func(d *Definition) { d.Env = []string{"{=x"} }, `invalid env "{=x": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"É=x"} }, `invalid env "É=x": a variable's name has letters, digits and _`},
		{func(d *Definition) { d.Env = []string{"LISTEN_FDS=3"} }, `invalid env "LISTEN_FDS=3": this variable belongs to the handover`},
		{func(d *Definition) { d.Env = []string{"LISTEN_PID"} }, `invalid env "LISTEN_PID": this variable belongs to the handover`},
		{func(d *Definition) { d.Env = []string{"LISTEN_FDNAMES=x"} }, `invalid env "LISTEN_FDNAMES=x": this variable belongs to the handover`},
		{func(d *Definition) { d.FDEnv = []string{"FASTBIND_HANDOVER={fd}"} }, `invalid fd_env "FASTBIND_HANDOVER={fd}": this variable belongs to the handover`},
		{func(d *Definition) { d.FDEnv = []string{"A"} }, `invalid fd_env "A": use NAME=VALUE`},
		{func(d *Definition) { d.FDEnv = []string{"GRPC_FD={fd}"} }, ""},
		{func(d *Definition) { d.Endpoints = []string{"a"} }, `invalid endpoints: a daemon made with package daemon has one endpoint; only a foreign one is handed more`},
		{func(d *Definition) { d.Foreign, d.Bind, d.Endpoints = true, BindDaemon, []string{"a"} }, `invalid endpoints: a daemon that binds its endpoint itself is handed none; leave out bind = "daemon"`},
		{further("admin", "9_-", strings.Repeat("n", 32)), ""},
		{further(strings.Repeat("n", 33)), `invalid endpoints "` + strings.Repeat("n", 33) + `": use at most 32 lower-case letters, digits and, after the first character, _ -`},
		{further("a.b"), `invalid endpoints "a.b": use at most 32 lower-case letters, digits and, after the first character, _ -`},
		{further(""), `invalid endpoints: use at most 32 lower-case letters, digits and, after the first character, _ -`},
		{further("-a"), `invalid endpoints "-a": use at most 32 lower-case letters, digits and, after the first character, _ -`},
		{further("a/b"), `invalid endpoints "a/b": use at most 32 lower-case letters, digits and, after the first character, _ -`},
		{further("a:b"), `invalid endpoints "a:b": use at most 32 lower-case letters, digits and, after the first character, _ -`},
		{further("a", "b", "a"), `invalid endpoints "a": it is there twice`},
		{further("gocache"), `invalid endpoints "gocache": the service's own endpoint has this name`},
		{further(strings.Split("a b c d e f g h i j k l m n o p", " ")...), ""},
		{further(strings.Split("a b c d e f g h i j k l m n o p q", " ")...), `invalid endpoints: more than 16`},
		{func(d *Definition) { d.Version = "1.2.3-rc1+build (dirty) é" }, ""},
		{func(d *Definition) { d.Version = strings.Repeat("9", 128) }, ""},
		{func(d *Definition) { d.Version = "a\tb" }, `invalid version "a\tb": use at most 128 printable bytes`},
		{func(d *Definition) { d.Version = "\x7f" }, `invalid version "\x7f": use at most 128 printable bytes`},
		{func(d *Definition) { d.Version = strings.Repeat("9", 129) }, `invalid version "` + strings.Repeat("9", 129) + `": use at most 128 printable bytes`},
		{func(d *Definition) { d.BoundWithin = time.Millisecond }, ""},
		{func(d *Definition) { d.BoundWithin = time.Millisecond - 1 }, `invalid bound_within "999.999µs": use 1ms to 1h`},
		{func(d *Definition) { d.AdoptWithin = time.Hour }, ""},
		{func(d *Definition) { d.AdoptWithin = time.Hour + 1 }, `invalid adopt_within "1h0m0.000000001s": use 1ms to 1h`},
		{func(d *Definition) { d.StopWithin = -time.Second }, `invalid stop_within "-1s": use 1ms to 1h`},
		{func(d *Definition) { d.HangAfter = 2 * time.Hour }, `invalid hang_after "2h0m0s": use 1ms to 1h`},
		{func(d *Definition) { d.OnHang = "restart" }, `invalid on_hang "restart": use "replace" or "report"`},
		{func(d *Definition) { d.OnHang = HangReport }, ""},
		{func(d *Definition) { d.OnVersion = "kill" }, `invalid on_version "kill": use "ignore", "coexist", "replace" or "refuse"`},
		{func(d *Definition) { d.OnVersion = VersionCoexist }, `invalid on_version "coexist": it needs version, which becomes part of the endpoint`},
		{func(d *Definition) { d.OnVersion, d.Bind = VersionReplace, BindDaemon }, `invalid on_version "replace": a daemon that binds its endpoint itself cannot take a listener over`},
		{func(d *Definition) { d.MinVersion = "1.0.0" }, `invalid on_version "ignore": min_version and allow_versions go with "replace" or "refuse"`},
		{func(d *Definition) { d.OnVersion, d.MinVersion = VersionReplace, "1.0" }, `invalid min_version "1.0": character 4: expected . and a number`},
		{func(d *Definition) { d.OnVersion, d.AllowVersions = VersionReplace, []string{"1.x"} }, `invalid allow_versions "1.x": part 1, character 3: expected a number`},
		{func(d *Definition) {
			d.OnVersion, d.MinVersion, d.AllowVersions = VersionRefuse, "1.0.0", []string{"1.2", ">=2.0.0, <3"}
		}, ""},
		{func(d *Definition) { d.IdleExit = time.Millisecond }, ""},
		{func(d *Definition) { d.IdleExit = MaxIdleExit }, ""},
		{func(d *Definition) { d.IdleExit = -time.Second }, `invalid idle_exit "-1s": use 1ms to 8760h, or leave it out: it never ends by itself then`},
		{func(d *Definition) { d.IdleExit = MaxIdleExit + 1 }, `invalid idle_exit "8760h0m0.000000001s": use 1ms to 8760h, or leave it out: it never ends by itself then`},
	} {
		d := valid()
		c.edit(&d)
		err := d.Check()
		got := ""
		if err != nil {
			got = err.Error()
			var inv *Invalid
			if !errors.As(err, &inv) || inv.Field == "" {
				t.Errorf("%v names no field", err)
			}
		}
		if got != c.want {
			t.Errorf("got  %.120s\nwant %.120s", got, c.want)
		}
	}
	// A definition that nobody completed is refused, it is no crash.
	if err := (Definition{}).Check(); err == nil {
		t.Error("the zero definition is good")
	}
}

// TestCheckOrder: the first field that cannot be used is named, also if more
// cannot.
func TestCheckOrder(t *testing.T) {
	d := Definition{Service: "S", Instance: "I", Bind: "x", Dir: "y", EnvPolicy: "z"}
	var fields []string
	for _, fix := range []func(){
		func() {}, func() { d.Service = "s" }, func() { d.Instance = "i" }, func() { d.Command = []string{"c"} },
		func() { d.Bind = BindBroker }, func() { d.EnvPolicy = EnvIgnore }, func() { d.Dir = defaultDir() },
	} {
		fix()
		var inv *Invalid
		if !errors.As(d.Check(), &inv) {
			t.Fatal(d.Check())
		}
		fields = append(fields, inv.Field)
	}
	if want := []string{"service", "instance", "command", "bind", "env_policy", "dir", "bound_within"}; !slices.Equal(fields, want) {
		t.Errorf("order %v, want %v", fields, want)
	}
}

// full has another value than the default in every field. TestFieldsOfEvery
// fails when a new one is not here.
func full() Definition {
	return Definition{
		Service: "gocache", Instance: "ci", Command: []string{"gocached", "", "--flag", "a b", `"q"`, "line\nbreak"}, Self: true, Foreign: true,
		Bind: BindDaemon, Dir: defaultDir() + "srv", Env: []string{"GOFLAGS", "A=b c"}, EnvPolicy: EnvRefuse, FDEnv: []string{"F={fd}", "S={socket}"},
		Endpoints: []string{"admin", "metrics"},
		Version:   "1.2.3", BoundWithin: 123 * time.Millisecond, AdoptWithin: 7*time.Second + time.Nanosecond, StopWithin: 90 * time.Second,
		IdleExit: 10 * time.Minute, HangAfter: 12 * time.Second, OnHang: HangReport,
		OnVersion: VersionRefuse, MinVersion: "1.2.0", AllowVersions: []string{"1", "2.0.0-rc.1"},
	}
}

// TestCheckTemplates: a misspelt name of a further endpoint is found before a daemon gets
// it as it is.
func TestCheckTemplates(t *testing.T) {
	const reason = "it has {fd:NAME} or {socket:NAME} of a NAME that is not in endpoints"
	for _, c := range []struct {
		endpoints, command, fdEnv []string
		want                      string
	}{
		{nil, []string{"awk", "{fd:b}"}, nil, ""},
		{[]string{"a"}, []string{"x", "{fd:a}{socket:a}{fd}", "{fd", "fd:b"}, []string{"A={socket:a},{fd}"}, ""},
		{[]string{"a"}, []string{"x", "{fd:a},{fd:b}"}, nil, `invalid command "{fd:a},{fd:b}": ` + reason},
		{[]string{"a"}, []string{"x"}, []string{"A={socket:b}"}, `invalid fd_env "A={socket:b}": ` + reason},
	} {
		err := Definition{Service: "s", Command: c.command, FDEnv: c.fdEnv, Endpoints: c.endpoints, Foreign: true}.CheckTemplates()
		got := ""
		if err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func stored(t testing.TB, d Definition) Definition {
	t.Helper()
	var got Definition
	for _, f := range d.Fields() {
		if err := got.Set(f.Key, f.Value); err != nil {
			t.Fatalf("Set(%q, %q): %v", f.Key, f.Value, err)
		}
	}
	return got
}

// TestFieldsOfEvery: what is stored is the whole definition, so that any later
// process can restart the service and see a difference.
func TestFieldsOfEvery(t *testing.T) {
	if diff := cmp.Diff(full(), stored(t, full())); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	base := full()
	typ := reflect.TypeFor[Definition]()
	for i := range typ.NumField() {
		name := typ.Field(i).Name
		v := reflect.ValueOf(base).Field(i)
		if v.IsZero() || name != "Service" && cmp.Equal(v.Interface(), reflect.ValueOf(valid()).Field(i).Interface()) {
			t.Errorf("full() says nothing about %s", name)
		}
		// Without this field it is another definition, and the stored one too.
		without := full()
		reflect.ValueOf(&without).Elem().Field(i).SetZero()
		if cmp.Equal(stored(t, without), base) {
			t.Errorf("%s is not stored", name)
		}
		diffs := Diff(base, without)
		switch {
		case name == "Self":
			if diffs != nil {
				t.Errorf("how the program was found is told as a difference: %v", diffs)
			}
		case len(diffs) != 1:
			t.Errorf("%s: a difference is told as %v", name, diffs)
		}
	}
	// Each key that is stored is compared.
	for _, f := range base.Fields() {
		if f.Key != "self" && !slices.Contains(keys, f.Key) {
			t.Errorf("Diff does not know the key %q", f.Key)
		}
	}
}

func TestSetRefuses(t *testing.T) {
	var d Definition
	if err := d.Set("flavour", "x"); !errors.Is(err, ErrUnknownKey) {
		t.Errorf("unknown key: %v", err)
	}
	for _, key := range []string{"bound_within", "adopt_within", "stop_within", "idle_exit", "hang_after"} {
		if err := d.Set(key, "soon"); err == nil || errors.Is(err, ErrUnknownKey) {
			t.Errorf("%s soon: %v", key, err)
		}
	}
	for _, v := range []string{"", "false", "True", "1"} {
		d.Self, d.Foreign = true, true
		if err := errors.Join(d.Set("self", v), d.Set("foreign", v)); err != nil || d.Self || d.Foreign {
			t.Errorf("%q is true (%v)", v, err)
		}
	}
}

func TestDiff(t *testing.T) {
	for _, c := range []struct {
		edit func(*Definition)
		want []string
	}{
		{func(d *Definition) {}, nil},
		{func(d *Definition) { d.Self = !d.Self }, nil},
		{func(d *Definition) { d.Version = "2" }, []string{"version: have none, want 2"}},
		{func(d *Definition) { d.Command = []string{"gocached", "a b"} }, []string{`command: have gocached, want gocached "a b"`}},
		{func(d *Definition) { d.Command = []string{"gocached", ""} }, []string{`command: have gocached, want gocached ""`}},
		{func(d *Definition) { d.Env = []string{"A=1", "B"}; d.Foreign = true }, []string{"foreign: have none, want true", "env: have none, want A=1 B"}},
		{func(d *Definition) { d.StopWithin = time.Second; d.Instance = "ci" }, []string{"instance: have default, want ci", "stop_within: have 10s, want 1s"}},
	} {
		want := valid()
		c.edit(&want)
		var got []string
		for _, d := range Diff(valid(), want) {
			got = append(got, d.String())
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func draw(t *rapid.T) Definition {
	text := rapid.OneOf(rapid.SampledFrom([]string{"", "a", "a b", `"`, `a "b" c`, "\n", "\\", "é", "\xff", "\x1b[m"}), rapid.String())
	list := rapid.SliceOfN(text, 0, 4)
	return Definition{
		Service: text.Draw(t, "service"), Instance: text.Draw(t, "instance"), Command: list.Draw(t, "command"),
		Self: rapid.Bool().Draw(t, "self"), Foreign: rapid.Bool().Draw(t, "foreign"), Bind: Bind(text.Draw(t, "bind")), Dir: text.Draw(t, "dir"),
		Env:       slices.DeleteFunc(list.Draw(t, "env"), func(s string) bool { return s == "" }), // Check refuses an empty one
		EnvPolicy: EnvPolicy(text.Draw(t, "env policy")),
		FDEnv:     slices.DeleteFunc(list.Draw(t, "fd env"), func(s string) bool { return s == "" }),
		Endpoints: slices.DeleteFunc(list.Draw(t, "endpoints"), func(s string) bool { return s == "" }),
		Version:   text.Draw(t, "version"), BoundWithin: time.Duration(rapid.Int64().Draw(t, "bound within")),
		AdoptWithin: time.Duration(rapid.Int64().Draw(t, "adopt within")), StopWithin: time.Duration(rapid.Int64().Draw(t, "stop within")),
	}
}

// TestFieldsRoundTrip: Set is the inverse of Fields, and Diff sees every
// difference between any two definitions and none between equal ones.
func TestFieldsRoundTrip(t *testing.T) {
	alike := cmp.Comparer(func(a, b []string) bool { return slices.Equal(a, b) })
	rapid.Check(t, func(t *rapid.T) {
		a := draw(t)
		var got Definition
		for _, f := range a.Fields() {
			if err := got.Set(f.Key, f.Value); err != nil {
				t.Fatal(err)
			}
		}
		if diff := cmp.Diff(a, got, alike); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		b := a
		if rapid.Bool().Draw(t, "another") {
			b = draw(t)
		} else {
			b.Command = rapid.SliceOfN(rapid.SampledFrom([]string{"", "a", "a a", `""`, `"a"`, `\`}), 0, 3).Draw(t, "other command")
		}
		a.Self, b.Self = false, false
		if diffs := Diff(a, b); (diffs == nil) != cmp.Equal(a, b, alike) {
			t.Fatalf("differences %v of\n%+v\n%+v", diffs, a, b)
		}
	})
}

// FuzzSet: whatever pairs a stored definition has, what is taken of them is the
// same when it is stored and taken again, completing it twice is completing it
// once, and a refusal names a field that there is.
func FuzzSet(f *testing.F) {
	var whole strings.Builder
	for _, field := range full().Fields() {
		whole.WriteString(field.Key + " " + field.Value + "\n")
	}
	f.Add(whole.String())
	f.Add("service a\ncommand x\ncommand \nstop_within 1s\nstop_within 1h\nflavour new")
	f.Add("service a\ncommand /x\nidle_exit -1ns\nversion \x7f")
	f.Add("service a\ncommand x\non_version replace\nallow_versions >=1, <2\nmin_version 1.2.3-rc.1")
	f.Add("service a\nself true\ncommand \nenv A=\xff\nfd_env B={fd}{socket}\ndir /\x00")
	f.Fuzz(func(t *testing.T, text string) {
		var d Definition
		for line := range strings.SplitSeq(text, "\n") {
			key, value, _ := strings.Cut(line, " ")
			before := d.Fields()
			if err := d.Set(key, value); errors.Is(err, ErrUnknownKey) && !slices.Equal(before, d.Fields()) {
				t.Fatalf("the unknown key %q changed something", key)
			}
		}
		if kept := stored(t, d); !slices.Equal(d.Fields(), kept.Fields()) {
			t.Fatalf("%+v is stored as %+v", d, kept)
		}
		complete := d.Complete()
		alike(t, complete, complete.Complete())
		if diffs := Diff(d, complete); diffs != nil {
			t.Fatalf("completing makes a difference: %v", diffs)
		}
		err := complete.Check()
		var invalid *Invalid
		switch {
		case err == nil:
			kept := stored(t, complete)
			if alike(t, complete, kept); kept.Check() != nil {
				t.Fatalf("refused after it was stored: %+v", complete)
			}
		case !errors.As(err, &invalid) || !slices.Contains(keys, invalid.Field) || invalid.Reason == "":
			t.Fatalf("refused as %#v", err)
		case len(err.Error()) > 4*len(text)+200 || strings.Contains(err.Error(), "\n"):
			t.Fatalf("refused with %q", err)
		}
	})
}

func alike(t *testing.T, d, other Definition) {
	t.Helper()
	if diff := cmp.Diff(d, other, cmpopts.EquateEmpty()); diff != "" {
		t.Fatalf("(-one +other):\n%s", diff)
	}
}
