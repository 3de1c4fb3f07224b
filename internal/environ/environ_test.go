//go:build !windows

package environ

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/record"
)

const defaultPathLine = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

var jo = Account{Home: "/home/jo", Name: "jo", Shell: "/bin/zsh"}

func known(a Account) func() Account { return func() Account { return a } }

// TestContract: the daemon's environment says where and who the user is, has
// what the definition names, and nothing else of who happened to dial first (R18).
func TestContract(t *testing.T) {
	for name, c := range map[string]struct {
		client, env []string
		account     Account
		want        []string
	}{
		"nothing at all": {want: []string{defaultPathLine}},
		"env -i":         {account: jo, want: []string{"HOME=/home/jo", "LOGNAME=jo", defaultPathLine, "SHELL=/bin/zsh", "USER=jo"}},
		"who and where": {
			client: []string{"USER=al", "TZ=UTC", "SHELL=/bin/sh", "PATH=/bin", "LOGNAME=al", "LANG=C", "HOME=/home/al", "TMPDIR=/var/tmp"}, account: jo,
			want: []string{"HOME=/home/al", "LANG=C", "LOGNAME=al", "PATH=/bin", "SHELL=/bin/sh", "TMPDIR=/var/tmp", "TZ=UTC", "USER=al"},
		},
		"a canary secret": {
			client: []string{"AWS_SECRET_ACCESS_KEY=canary", "GITHUB_TOKEN=canary", "SSH_AUTH_SOCK=/canary", "LD_PRELOAD=/canary.so", "PWD=/canary",
				"OLDPWD=/canary", "MAKEFLAGS=--jobserver-auth=3,4", "TERM=canary", "HOMEX=canary", "XHOME=canary", "home=canary", "LC=canary", "LCX=canary",
				"XDG=canary", "MY_XDG_X=canary", "NOTIFY_SOCKET=/canary", "LISTEN_FDS=1", "FASTBIND_HANDOVER=canary", "INVOCATION_ID=canary", "DBUS_SESSION_BUS_ADDRESS=canary"},
			want: []string{defaultPathLine},
		},
		"families": {
			client: []string{"LC_ALL=C", "LC_TIME=de", "LC_=x", "XDG_RUNTIME_DIR=/run/user/1", "XDG_CONFIG_HOME=/c", "XDG_DATA_DIRS=/d"},
			want:   []string{"LC_=x", "LC_ALL=C", "LC_TIME=de", defaultPathLine, "XDG_CONFIG_HOME=/c", "XDG_DATA_DIRS=/d", "XDG_RUNTIME_DIR=/run/user/1"},
		},
		"of one login session": {
			client: []string{"XDG_SESSION_ID=3", "XDG_SESSION_TYPE=tty", "XDG_SESSION_CLASS=user", "XDG_SEAT=seat0", "XDG_SEAT_PATH=/org/seat", "XDG_VTNR=2", "XDG_ACTIVATION_TOKEN=canary"},
			want:   []string{defaultPathLine},
		},
		"named": {
			client: []string{"GOFLAGS=-v", "EMPTY=", "OTHER=canary"}, env: []string{"GOFLAGS", "EMPTY", "MISSING"},
			want: []string{"EMPTY=", "GOFLAGS=-v", defaultPathLine},
		},
		"set": {
			client: []string{"A=client", "PATH=/bin", "HOME=/home/al"}, env: []string{"A=one", "PATH=/opt/bin", "B=x=y", "C="}, account: jo,
			want: []string{"A=one", "B=x=y", "C=", "HOME=/home/al", "LOGNAME=jo", "PATH=/opt/bin", "SHELL=/bin/zsh", "USER=jo"},
		},
		"the last one set counts": {env: []string{"A=1", "A=2"}, want: []string{"A=2", defaultPathLine}},
		"a session's, if named":   {client: []string{"XDG_SESSION_ID=3"}, env: []string{"XDG_SESSION_ID"}, want: []string{defaultPathLine, "XDG_SESSION_ID=3"}},
		"empty is none":           {client: []string{"HOME=", "PATH=", "USER="}, account: jo, want: []string{"HOME=/home/jo", "LOGNAME=jo", defaultPathLine, "SHELL=/bin/zsh", "USER=jo"}},
		"no variables":            {client: []string{"LANG", "", "=C:=C:\\x", "=", "LC_ALL"}, want: []string{defaultPathLine}},
	} {
		if diff := cmp.Diff(c.want, Contract(c.client, c.env, known(c.account))); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	whole := []string{"HOME=/home/al", "USER=al", "LOGNAME=al", "SHELL=/bin/sh"}
	Contract(whole, nil, func() Account { t.Error("who says all is looked up"); return jo })
}

// TestDigest is golden: the digest is in the names of directories that other
// releases compare with.
func TestDigest(t *testing.T) {
	for _, c := range []struct {
		contract []string
		want     string
	}{
		{nil, "cbf29ce484222325"},
		{[]string{""}, "af63bd4c8601b7df"},
		{[]string{"a"}, "089be207b544f1e4"},
		{[]string{"HOME=/home/jo", defaultPathLine}, "964d3685104458e4"},
		{[]string{defaultPathLine, "HOME=/home/jo"}, "5d9d9b374a481e28"},
		{[]string{"ab"}, "e72003190541fc1e"},
		{[]string{"a", "b"}, "ab40d7820d408076"},
	} {
		if got := Digest(c.contract); got != c.want {
			t.Errorf("Digest(%q) = %q, want %q", c.contract, got, c.want)
		}
	}
	if got := hex(0x1f); got != "000000000000001f" {
		t.Errorf("hex %q", got)
	}
}

func TestDiff(t *testing.T) {
	at := []string{"A=1", "B=", "C=3", "LC_ODD NAME=x"}
	vars := Variables(at)
	for _, v := range vars {
		if len(v.Digest) != 16 || strings.Contains(v.Digest, "=") {
			t.Errorf("%+v: no digest", v)
		}
	}
	for name, c := range map[string]struct {
		have []record.Variable
		want []string
		diff []definition.Difference
	}{
		"alike":             {vars, at, nil},
		"nothing":           {nil, nil, nil},
		"another order":     {vars, []string{"C=3", "LC_ODD NAME=x", "B=", "A=1"}, nil},
		"another value":     {vars, []string{"A=2", "B=", "C=3", "LC_ODD NAME=x"}, []definition.Difference{{Field: "env A", Have: "another value", Want: "this client's value"}}},
		"empty, not unset":  {vars, []string{"A=1", "C=3", "LC_ODD NAME=x"}, []definition.Difference{{Field: "env B", Have: "set", Want: "unset"}}},
		"one more":          {vars, append([]string{"D=secret"}, at...), []definition.Difference{{Field: "env D", Have: "unset", Want: "set"}}},
		"a value with an =": {Variables([]string{"A=1=2"}), []string{"A=1=2"}, nil},
		"all at once": {vars, []string{"LC_ODD NAME=x", "B=", "C=4", "D=4"}, []definition.Difference{
			{Field: "env A", Have: "set", Want: "unset"}, {Field: "env C", Have: "another value", Want: "this client's value"}, {Field: "env D", Have: "unset", Want: "set"}}},
	} {
		diffs := Diff(c.have, c.want)
		if diff := cmp.Diff(c.diff, diffs); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
		for _, d := range diffs {
			if strings.Contains(d.String(), "secret") {
				t.Errorf("%s: a value is told: %s", name, d)
			}
		}
	}
}

// TestContractProperties: the same contract from any order of a client's
// variables, sorted and each name once; nothing that is neither allowed nor
// named; and Diff says nothing exactly if Digest is the same.
func TestContractProperties(t *testing.T) {
	name := rapid.SampledFrom([]string{"HOME", "PATH", "LANG", "LC_ALL", "XDG_X", "XDG_SESSION_ID", "SECRET", "A", "B"})
	vars := rapid.MapOf(name, rapid.StringMatching(`[a-z=/ ]{0,4}`))
	rapid.Check(t, func(t *rapid.T) {
		var env []string
		for n, v := range vars.Draw(t, "definition") {
			if rapid.Bool().Draw(t, "valued") {
				n += "=" + v
			}
			env = append(env, n)
		}
		client := func(label string) (list []string) {
			for n, v := range vars.Draw(t, label) {
				list = append(list, n+"="+v)
			}
			return list
		}
		one, two := client("one"), client("two")
		a := Contract(one, env, known(jo))
		if b := Contract(rapid.Permutation(one).Draw(t, "order"), env, known(jo)); !slices.Equal(a, b) {
			t.Fatalf("%q and %q of the same client", a, b)
		}
		if !slices.IsSorted(a) {
			t.Fatalf("not sorted: %q", a)
		}
		last := ""
		for _, e := range a {
			n, _, ok := strings.Cut(e, "=")
			if !ok || n == last {
				t.Fatalf("%q is twice in %q, or no variable", n, a)
			}
			last = n
			named := slices.ContainsFunc(env, func(d string) bool { return d == n || strings.HasPrefix(d, n+"=") })
			if !named && (n == "SECRET" || n == "A" || n == "B" || n == "XDG_SESSION_ID") {
				t.Fatalf("nobody named %s", n)
			}
		}
		b := Contract(two, env, known(jo))
		if same := Digest(a) == Digest(b); same != slices.Equal(a, b) || same != (Diff(Variables(a), b) == nil) {
			t.Fatalf("%q and %q: same digest %v, differences %v", a, b, same, Diff(Variables(a), b))
		}
	})
}

// FuzzContract: a daemon gets each variable once, allowed or named, with the
// client's last value, and is at once told to have what its client has.
func FuzzContract(f *testing.F) {
	f.Add("HOME=/h\nLC_ALL=C\nAWS_SECRET=canary\nHOME=/other", "AWS_SECRET\nMODE=fast")
	f.Add("XDG_SESSION_ID=3\n=C:=x\nPATH=", "PATH\nA=\nA")
	f.Add("A B=1\n\xff=2\nLC_=x=y", "A B\n\xff")
	f.Fuzz(func(t *testing.T, environment, contract string) {
		client, env := strings.Split(environment, "\n"), strings.Split(contract, "\n")
		got := Contract(client, env, known(Account{Home: "/home/jo"}))
		if !slices.IsSorted(got) {
			t.Fatalf("not sorted: %q", got)
		}
		named := func(name string) (value string, named, valued bool) {
			for _, e := range env {
				if n, v, ok := strings.Cut(e, "="); n == name {
					named = true
					if ok {
						value, valued = v, true
					} else if v, ok := last(client, name); ok {
						value, valued = v, true
					}
				}
			}
			return value, named, valued
		}
		seen := map[string]bool{}
		for _, e := range got {
			name, value, ok := strings.Cut(e, "=")
			if !ok || seen[name] {
				t.Fatalf("%q in %q", e, got)
			}
			seen[name] = true
			want, isNamed, valued := named(name)
			if !valued {
				want, valued = last(client, name)
			}
			switch {
			case value != want && (want != "" || name != "HOME" && name != "PATH"):
				t.Fatalf("%s is %q, not %q", name, value, want)
			case !isNamed && !isAllowed(name):
				t.Fatalf("%q is nobody's", e)
			case !valued && name != "HOME" && name != "PATH":
				t.Fatalf("%q is from nowhere", e)
			}
		}
		if diffs := Diff(Variables(got), got); diffs != nil {
			t.Fatalf("it differs from itself: %v", diffs)
		}
		other := append(slices.Clone(got), "LC_FUZZ=1")
		if diffs := Diff(Variables(got), other); !seen["LC_FUZZ"] && len(diffs) != 1 {
			t.Fatalf("one more variable is told as %v", diffs)
		}
	})
}

// last is the value that a client's environment has last.
func last(client []string, name string) (value string, ok bool) {
	for _, e := range client {
		if n, v, valued := strings.Cut(e, "="); valued && n == name && name != "" {
			value, ok = v, true
		}
	}
	return value, ok
}
