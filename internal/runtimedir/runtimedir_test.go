//go:build unix

package runtimedir

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/lock"

	"github.com/fastbind/fastbind/internal/reexec"
)

// machine is a file system with a /run/user, a /tmp and a home of its own,
// short enough for socket addresses below it.
type machine struct {
	base, run, tmp, home string
	uid                  int
}

// newMachine makes the machine's directories and leads the package to them. The
// user has no login session, that is no directory in /run/user.
func newMachine(t testing.TB) machine {
	t.Helper()
	base, err := os.MkdirTemp("", "f")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(base); err != nil {
			t.Error(err)
		}
	})
	m := at(base)
	mkdirs(t, 0o755, m.base, m.run)
	mkdirs(t, 0o777|fs.ModeSticky, m.tmp)
	mkdirs(t, 0o700, m.home)
	oldRun, oldTmp := runUser, tmp
	runUser, tmp = m.run, m.tmp
	t.Cleanup(func() { runUser, tmp = oldRun, oldTmp })
	return m
}

func at(base string) machine {
	return machine{base: base, run: base + "/run", tmp: base + "/tmp", home: base + "/h", uid: os.Geteuid()}
}

func mkdirs(t testing.TB, mode fs.FileMode, paths ...string) {
	t.Helper()
	for _, p := range paths {
		if err := os.MkdirAll(p, 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chmod(p, mode); err != nil { // whatever the umask is
			t.Fatal(err)
		}
	}
}

// login makes the user's directory in /run/user and returns it.
func (m machine) login(t testing.TB) string {
	t.Helper()
	mkdirs(t, 0o700, m.session())
	return m.session()
}

func (m machine) session() string { return m.run + "/" + strconv.Itoa(m.uid) }
func (m machine) runRoot() string { return m.session() + "/fastbind" }
func (m machine) tmpRoot() string { return m.tmp + "/fastbind-" + strconv.Itoa(m.uid) }
func (m machine) homeRoot() string {
	return m.home + "/.local/state/fastbind/run"
}

// env is the environment of a process with these variables.
func (m machine) env(vars ...string) Env {
	get := func(name string) string {
		for _, v := range vars {
			if value, ok := strings.CutPrefix(v, name+"="); ok {
				return value
			}
		}
		return ""
	}
	return FromEnviron(get, m.uid, func() string { return m.home })
}

func dead(string) bool { return false }

// answers connects for real, as a broker does.
func answers(sock string) bool {
	c, err := net.Dial("unix", sock)
	if err == nil {
		c.Close()
	}
	return err == nil
}

func resolve(t testing.TB, e Env, alive func(string) bool) Place {
	t.Helper()
	p, err := e.Resolve(t.Context(), "default", "svc", alive)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// listen starts a service at a place, as a launch does.
func listen(t testing.TB, e Env, p Place) net.Listener {
	t.Helper()
	if err := e.MakeService(p); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", p.Sock())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	return ln
}

// snapshot is everything below a directory that a change would change.
func snapshot(t testing.TB, dir string) (lines []string) {
	t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		fi, err := d.Info()
		if err != nil {
			return err
		}
		st := fi.Sys().(*syscall.Stat_t)
		target, _ := os.Readlink(path)
		lines = append(lines, fmt.Sprintf("%s %s uid %d inode %d size %d at %s → %s", path, fi.Mode(), st.Uid, st.Ino, fi.Size(), fi.ModTime().Format(time.RFC3339Nano), target))
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

func refused(t testing.TB, err error) *Refused {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) {
		t.Fatalf("not refused: %v", err)
	}
	return r
}

func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("needs root, to give a directory to another user")
	}
}

// TestCandidates: which root a new service gets, in their order, and that all
// are private.
func TestCandidates(t *testing.T) {
	m := newMachine(t)
	custom := m.base + "/xdg"
	mkdirs(t, 0o700, custom)
	e := m.env("XDG_RUNTIME_DIR="+custom, "HOME="+m.home)
	want := []string{custom + "/fastbind", m.runRoot(), m.homeRoot(), m.tmpRoot()}
	if diff := cmp.Diff(want, e.roots()); diff != "" {
		t.Errorf("candidates (-want +got):\n%s", diff)
	}
	services := 0
	next := func(want string) {
		t.Helper()
		services++
		p, err := e.Resolve(t.Context(), "default", "svc"+strconv.Itoa(services), dead)
		if err != nil {
			t.Fatal(err)
		}
		if p.Root != want || p.Dir != want+"/default/svc"+strconv.Itoa(services) || p.Addr != p.Dir || p.Sock() != p.Dir+"/sock" {
			t.Fatalf("%+v, want root %s", p, want)
		}
		if fi, err := os.Lstat(want); err != nil || fi.Mode() != fs.ModeDir|0o700 {
			t.Fatalf("%v, %v: not private (R34)", fi.Mode(), err)
		}
		if _, err := os.Lstat(p.Dir); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("the service's directory: %v", err)
		}
	}
	m.login(t)
	next(custom + "/fastbind")
	mkdirs(t, 0o777, custom)
	next(m.runRoot())
	mkdirs(t, 0o755, m.runRoot())
	next(m.homeRoot())
	mkdirs(t, 0o755, m.homeRoot())
	next(m.tmpRoot())
	mkdirs(t, 0o755, m.tmpRoot())
	p, err := e.Resolve(t.Context(), "default", "svc", dead)
	r := refused(t, err)
	if p.Root != "" || r.Path != "(none)" || r.Cure == "" {
		t.Errorf("%+v, %+v", p, r)
	}
	for _, part := range []string{m.runRoot(), m.homeRoot(), m.tmpRoot(), "its mode is 0755, not 0700"} {
		if !strings.Contains(r.Error(), part) {
			t.Errorf("the reasons lack %q: %v", part, r)
		}
	}
}

// TestUmask: a root is private under any umask.
func TestUmask(t *testing.T) {
	m := newMachine(t)
	defer syscall.Umask(syscall.Umask(0o777))
	p := resolve(t, Env{RuntimeDir: m.base + "/own", EUID: m.uid}, dead)
	if err := (Env{EUID: m.uid}).MakeService(p); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{p.Root, p.Dir, filepath.Dir(p.Dir)} {
		if fi, err := os.Lstat(dir); err != nil || fi.Mode().Perm() != 0o700 {
			t.Errorf("%s: %v, %v", dir, fi, err)
		}
	}
}

// TestRefusals: what is wrong with a directory is said of that directory, in
// these words (R33, R34).
func TestRefusals(t *testing.T) {
	m := newMachine(t)
	dir := m.base + "/d"
	type c struct {
		make func(t *testing.T)
		want string // of verify, after the path
	}
	for name, c := range map[string]c{
		"good":      {func(t *testing.T) { mkdirs(t, 0o700, dir) }, ""},
		"set gid":   {func(t *testing.T) { mkdirs(t, 0o700|fs.ModeSetgid, dir) }, ""},
		"missing":   {func(t *testing.T) {}, "cannot be used: no such file or directory"},
		"0755":      {func(t *testing.T) { mkdirs(t, 0o755, dir) }, "its mode is 0755, not 0700"},
		"0500":      {func(t *testing.T) { mkdirs(t, 0o500, dir) }, "its mode is 0500, not 0700"},
		"0070":      {func(t *testing.T) { mkdirs(t, 0o070, dir) }, "its mode is 0070, not 0700"},
		"a file":    {func(t *testing.T) { writeFile(t, dir) }, "it is not a directory"},
		"a link":    {func(t *testing.T) { symlink(t, m.home, dir) }, "it is a symbolic link"},
		"a foreign": {func(t *testing.T) { needRoot(t); mkdirs(t, 0o700, dir); chown(t, dir, 1234) }, "it belongs to uid 1234, not to uid 0: permission denied"},
	} {
		t.Run(name, func(t *testing.T) {
			defer os.RemoveAll(dir)
			c.make(t)
			err := m.env().Verify(dir)
			if c.want == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			if want := `runtime directory "` + dir + `": ` + c.want; err == nil || err.Error() != want {
				t.Errorf("got  %v\nwant %s", err, want)
			}
		})
	}
}

func writeFile(t testing.TB, path string) {
	t.Helper()
	if err := os.WriteFile(path, nil, 0o700); err != nil {
		t.Fatal(err)
	}
}

func symlink(t testing.TB, target, path string) {
	t.Helper()
	if err := os.Symlink(target, path); err != nil {
		t.Fatal(err)
	}
}

func chown(t testing.TB, path string, uid int) {
	t.Helper()
	if err := os.Lchown(path, uid, uid); err != nil {
		t.Fatal(err)
	}
}

// TestExplicit: a FASTBIND_RUNTIME_DIR is used, or refused by name; no other
// directory is touched instead of it, not even looked into.
func TestExplicit(t *testing.T) {
	m := newMachine(t)
	m.login(t)
	good := m.base + "/own/deep/root"
	if _, err := m.env("FASTBIND_RUNTIME_DIR="+good).Find("default", "svc"); err != ErrNotPlaced {
		t.Errorf("Find before there is one: %v", err)
	}
	for range 2 {
		e := m.env("FASTBIND_RUNTIME_DIR="+good+"//", "XDG_RUNTIME_DIR="+m.session())
		p := resolve(t, e, dead)
		if p.Root != good || p.Dir != good+"/default/svc" || !slices.Equal(e.Guess("default", "svc"), []string{p.Sock()}) || !slices.Equal(e.Roots(), []string{good}) {
			t.Errorf("%+v; guess %q; roots %q", p, e.Guess("default", "svc"), e.Roots())
		}
	}

	file, link, open := m.base+"/file", m.base+"/link", m.base+"/open"
	writeFile(t, file)
	symlink(t, good, link)
	mkdirs(t, 0o755, open)
	bad := map[string]string{
		"relative/dir": "FASTBIND_RUNTIME_DIR must be an absolute path without control characters",
		"/a\nb":        "FASTBIND_RUNTIME_DIR must be an absolute path without control characters",
		file:           "it is not a directory",
		file + "/x":    "cannot create",
		link:           "it is a symbolic link",
		open:           "its mode is 0755, not 0700",
	}
	if m.uid == 0 {
		foreign := m.base + "/foreign"
		mkdirs(t, 0o700, foreign)
		chown(t, foreign, 1234)
		bad[foreign] = "it belongs to uid 1234, not to uid 0"
	}
	// A service lives in every other candidate.
	for _, root := range []string{m.runRoot(), m.homeRoot(), m.tmpRoot()} {
		mkdirs(t, 0o700, root, root+"/default", root+"/default/svc")
	}
	before := snapshot(t, m.base)
	for dir, reason := range bad {
		e := m.env("FASTBIND_RUNTIME_DIR="+dir, "XDG_RUNTIME_DIR="+m.session(), "HOME="+m.home)
		p, err := e.Resolve(t.Context(), "default", "svc", func(string) bool { t.Error("another candidate was asked"); return true })
		if r := refused(t, err); r.Path != dir || !strings.HasPrefix(r.Reason, reason) || p.Dir != "" {
			t.Errorf("%q: %v, %+v", dir, err, p)
		}
		if _, err := e.Find("default", "svc"); err == nil {
			t.Errorf("%q: found", dir)
		} else if err != ErrNotPlaced && refused(t, err).Path != dir {
			t.Errorf("%q: %v", dir, err)
		}
		if roots := e.Roots(); roots != nil {
			t.Errorf("%q: roots %q", dir, roots)
		}
		for _, g := range e.Guess("default", "svc") {
			if !strings.HasPrefix(g, dir+"/") {
				t.Errorf("%q: guessed at %q", dir, g)
			}
		}
	}
	if diff := cmp.Diff(before, snapshot(t, m.base)); diff != "" {
		t.Errorf("a refusal changed (-before +after):\n%s", diff)
	}
}

// TestParents: a root that another user could rename away is none.
func TestParents(t *testing.T) {
	m := newMachine(t)
	if m.uid == 0 {
		// Nor is /tmp good if it belongs to another user than root or us.
		chown(t, m.tmp, 1234)
		if r := m.env().ensure(m.tmpRoot()); r == nil || r.Path != m.tmp || r.Reason != "it belongs to uid 1234, not to uid 0" {
			t.Errorf("a foreign /tmp: %v", r)
		}
		chown(t, m.tmp, 0)
	}
	for mode, reason := range map[fs.FileMode]string{
		0o777:                 "others can write to it (mode 0777)",
		0o775:                 "others can write to it (mode 0775)",
		0o757:                 "others can write to it (mode 0757)",
		0o755:                 "",
		0o777 | fs.ModeSticky: "",
	} {
		mkdirs(t, mode, m.tmp)
		r := m.env().ensure(m.tmpRoot())
		if reason == "" && r != nil || reason != "" && (r == nil || r.Path != m.tmp || r.Reason != reason) {
			t.Errorf("mode %v: %v", mode, r)
		}
		if verr := m.env().verifyRoot(m.tmpRoot()); (verr == nil) != (reason == "") {
			t.Errorf("mode %v, existing root: %v", mode, verr)
		}
	}

	// A session directory is not made: that is pam_systemd's.
	if r := m.env().ensure(m.runRoot()); r == nil || r.Path != m.session() {
		t.Errorf("no session directory: %v", r)
	}
	writeFile(t, m.session())
	if r := m.env().ensure(m.runRoot()); r == nil || r.Reason != "it is not a directory" {
		t.Errorf("a file for a session directory: %v", r)
	}
	// Names that would break a line of a record or a handover.
	odd := m.base + "/new\nline"
	mkdirs(t, 0o700, odd)
	p, err := m.env("XDG_RUNTIME_DIR="+odd).Resolve(t.Context(), "default", "svc", dead)
	if err != nil || p.Root != m.homeRoot() || !slices.ContainsFunc(p.Passed, func(r *Refused) bool { return r.Path == odd && r.Reason == "its name has control characters" }) {
		t.Errorf("%+v, %v", p, err)
	}
	if m.uid == 0 {
		chown(t, m.home, 1234)
		if r := m.env().ensure(m.homeRoot()); r == nil || r.Path != m.home || r.Reason != "it belongs to uid 1234, not to uid 0" {
			t.Errorf("a foreign home (sudo keeps HOME): %v", r)
		}
	}
}

// TestGuess: it reads nothing, says where Resolve will be, and is never about
// the caller's working directory.
func TestGuess(t *testing.T) {
	m := newMachine(t)
	run, home, tmpRoot := m.runRoot()+"/default/svc/sock", m.homeRoot()+"/default/svc/sock", m.tmpRoot()+"/default/svc/sock"
	before := snapshot(t, m.base)
	for name, c := range map[string]struct {
		vars []string
		want []string
	}{
		"env -i":             {nil, []string{run, tmpRoot}},
		"cron":               {[]string{"HOME=" + m.home}, []string{run, home, tmpRoot}},
		"a shell":            {[]string{"HOME=" + m.home, "XDG_RUNTIME_DIR=" + m.session()}, []string{run, home, tmpRoot}},
		"a slash more":       {[]string{"HOME=" + m.home + "/", "XDG_RUNTIME_DIR=" + m.session() + "/"}, []string{run, home, tmpRoot}},
		"another directory":  {[]string{"XDG_RUNTIME_DIR=/x"}, []string{"/x/fastbind/default/svc/sock", run, tmpRoot}},
		"relative":           {[]string{"HOME=h", "XDG_RUNTIME_DIR=x"}, []string{run, tmpRoot}},
		"control characters": {[]string{"HOME=/h\t", "XDG_RUNTIME_DIR=/x\n"}, []string{run, tmpRoot}},
		"relative, explicit": {[]string{"FASTBIND_RUNTIME_DIR=r", "HOME=" + m.home}, []string{}},
		"explicit":           {[]string{"FASTBIND_RUNTIME_DIR=/r/", "HOME=" + m.home}, []string{"/r/default/svc/sock"}},
	} {
		if diff := cmp.Diff(c.want, m.env(c.vars...).Guess("default", "svc")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if diff := cmp.Diff(before, snapshot(t, m.base)); diff != "" {
		t.Errorf("guessing changed (-before +after):\n%s", diff)
	}
	// The home of a crowd of users of long names gets a short name.
	for _, g := range m.env("HOME=/"+strings.Repeat("h", 300), "XDG_RUNTIME_DIR=/"+strings.Repeat("x", 300)).Guess("default", "svc") {
		if len(g) > maxAddr {
			t.Errorf("no socket address: %d bytes", len(g))
		}
	}
}

// TestLongPaths: a service below a path of any length has addresses for all its
// sockets, to be found by every later process (R12).
func TestLongPaths(t *testing.T) {
	long := strings.Repeat("/"+strings.Repeat("d", 99), 3)
	for name, c := range map[string]struct {
		login bool
		env   func(m machine, dir string) Env
	}{
		"XDG_RUNTIME_DIR":      {true, func(m machine, dir string) Env { return m.env("XDG_RUNTIME_DIR=" + dir) }},
		"FASTBIND_RUNTIME_DIR": {true, func(m machine, dir string) Env { return m.env("FASTBIND_RUNTIME_DIR=" + dir) }},
		"home": {false, func(m machine, dir string) Env {
			return Env{EUID: m.uid, Home: dir, AccountHome: func() string { return dir }}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m := newMachine(t)
			dir := m.base + long
			mkdirs(t, 0o700, dir)
			if c.login {
				m.login(t)
			}
			e := c.env(m, dir)
			p := resolve(t, e, answers)
			if !strings.HasPrefix(p.Dir, dir+"/") {
				t.Fatalf("placed at %s", p.Dir)
			}
			if n := len(p.Addr + "/" + strings.Repeat("g", maxGenerationName) + "/" + CtlName); n > maxAddr {
				t.Fatalf("a control endpoint's path has %d bytes", n)
			}
			ln := listen(t, e, p)
			if fi, err := os.Lstat(p.Dir + "/" + SockName); err != nil || fi.Mode().Type() != fs.ModeSocket {
				t.Fatalf("the endpoint is not in the service's directory: %v", err)
			}
			if !answers(p.Sock()) {
				t.Fatal("no connection through the short name")
			}
			if guess := e.Guess("default", "svc"); !slices.Contains(guess, p.Sock()) {
				t.Errorf("%q is not guessed: %q", p.Sock(), guess)
			}
			if f, err := e.Find("default", "svc"); err != nil || f.Addr != p.Addr || f.Dir != p.Dir {
				t.Errorf("Find: %+v, %v", f, err)
			}
			base := filepath.Dir(filepath.Dir(p.Addr))
			mkdirs(t, 0o755, base)
			if f, err := e.Find("default", "svc"); err == nil && f.Addr != f.Dir {
				t.Errorf("Find trusts a short name in an open directory: %+v", f)
			}
			mkdirs(t, 0o700, base)
			ctl := filepath.Join(p.Addr, strings.Repeat("g", maxGenerationName))
			if err := os.Mkdir(ctl, 0o700); err != nil {
				t.Fatal(err)
			}
			if c, err := net.Listen("unix", ctl+"/"+CtlName); err != nil {
				t.Error(err)
			} else {
				c.Close()
			}

			// A cleaner of /tmp removes the short name, somebody puts another there:
			// the next miss makes it again, status does not (R11, R32).
			for _, spoil := range []func() error{
				func() error { return os.Remove(p.Addr) },
				func() error {
					return errors.Join(os.Remove(p.Addr), os.Symlink(m.home, p.Addr))
				},
			} {
				if err := spoil(); err != nil {
					t.Fatal(err)
				}
				before := snapshot(t, m.base)
				if f, err := e.Find("default", "svc"); err != nil || f.Addr != p.Dir {
					t.Errorf("Find without the short name: %+v, %v", f, err)
				}
				if diff := cmp.Diff(before, snapshot(t, m.base)); diff != "" {
					t.Errorf("Find changed (-before +after):\n%s", diff)
				}
				if q := resolve(t, e, answers); q.Addr != p.Addr || !answers(q.Sock()) {
					t.Errorf("resolved again to %+v", q)
				}
			}
			ln.Close()
		})
	}
}

// TestOnePlace: whoever comes second follows who came first, whatever their
// environments are (R13).
func TestOnePlace(t *testing.T) {
	m := newMachine(t)
	custom := m.base + "/xdg"
	mkdirs(t, 0o700, custom)
	mkdirs(t, 0o755, m.base+"/open")
	envs := oddEnvironments(m)
	for first, e := range envs {
		for _, login := range []bool{false, true} {
			for _, p := range []string{m.session(), m.home + "/.local", m.tmpRoot(), custom + "/fastbind"} {
				if err := os.RemoveAll(p); err != nil {
					t.Fatal(err)
				}
			}
			if login {
				m.login(t)
			}
			p := resolve(t, m.env(e...), dead)
			for second, e := range envs {
				if q := resolve(t, m.env(e...), dead); q.Root != p.Root || q.Sock() != p.Sock() {
					t.Errorf("session %v: %s is at %s, then %s at %s", login, first, p.Root, second, q.Root)
				}
			}
		}
	}
}

// oddEnvironments are those in which one user's processes find themselves.
func oddEnvironments(m machine) map[string][]string {
	return map[string][]string{
		"shell":        {"HOME=" + m.home, "XDG_RUNTIME_DIR=" + m.session()},
		"env -i":       {},
		"cron":         {"HOME=" + m.home},
		"other home":   {"HOME=" + m.base + "/nowhere"},
		"relative":     {"HOME=home", "XDG_RUNTIME_DIR=run"},
		"missing":      {"XDG_RUNTIME_DIR=" + m.base + "/missing"},
		"own":          {"XDG_RUNTIME_DIR=" + m.base + "/xdg"},
		"open":         {"XDG_RUNTIME_DIR=" + m.base + "/open"},
		"not a dir":    {"XDG_RUNTIME_DIR=/dev/null"},
		"control char": {"XDG_RUNTIME_DIR=/\x01", "HOME=/\n"},
	}
}

// resolveHelper resolves a service on one machine after the other, each named
// by a line: its base, whether the account has a home, and variables.
var resolveHelper = reexec.Helper("resolve", func([]string) {
	in := bufio.NewScanner(os.Stdin)
	for in.Scan() {
		var q question
		reexec.Check(json.Unmarshal(in.Bytes(), &q))
		m := at(q.Base)
		runUser, tmp = m.run, m.tmp
		e := m.env(q.Vars...)
		if !q.Home {
			e.AccountHome = func() string { return "" }
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		p, err := e.Resolve(ctx, "default", "svc", answers)
		cancel()
		a := answer{Root: p.Root, Sock: p.Sock()}
		if err != nil {
			a.Err = err.Error()
		}
		reexec.Check(json.NewEncoder(os.Stdout).Encode(a))
	}
})

type question struct {
	Base string
	Home bool
	Vars []string
}

type answer struct{ Root, Sock, Err string }

// TestOnePlaceTogether: the same when they all come at once, in processes of
// their own, 100 rounds.
func TestOnePlaceTogether(t *testing.T) {
	m := newMachine(t)
	type proc struct {
		in  io.Writer
		out *json.Decoder
	}
	procs := map[string]proc{}
	for name := range oddEnvironments(m) {
		cmd := reexec.Command(t, resolveHelper)
		in, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			in.Close()
			if err := cmd.Wait(); err != nil {
				t.Error(err)
			}
		})
		procs[name] = proc{in, json.NewDecoder(out)}
	}
	roots := map[string]int{}
	for round := range 100 {
		r := at(fmt.Sprintf("%s/%d", m.base, round))
		mkdirs(t, 0o755, r.base, r.run, r.base+"/open")
		mkdirs(t, 0o777|fs.ModeSticky, r.tmp)
		mkdirs(t, 0o700, r.home, r.base+"/xdg")
		if round%2 == 0 {
			r.login(t)
		}
		home := round%3 != 0
		for name, vars := range oddEnvironments(r) {
			if !home { // then HOME is what each is told
				vars = slices.DeleteFunc(slices.Clone(vars), func(v string) bool { return strings.HasPrefix(v, "HOME=") })
			}
			line, err := json.Marshal(question{r.base, home, vars})
			if err != nil {
				t.Fatal(err)
			}
			if _, err := procs[name].in.Write(append(line, '\n')); err != nil {
				t.Fatal(err)
			}
		}
		var first answer
		for name, p := range procs {
			var a answer
			if err := p.out.Decode(&a); err != nil {
				t.Fatal(err)
			}
			if first.Sock == "" {
				first = a
				roots[strings.TrimPrefix(a.Root, r.base)]++
			}
			if a.Err != "" || a != first {
				t.Errorf("round %d: %s is at %+v, another at %+v", round, name, a, first)
			}
		}
		if err := os.RemoveAll(r.base); err != nil {
			t.Fatal(err)
		}
	}
	if len(roots) < 3 {
		t.Errorf("the rounds show too little: %v", roots)
	}
}

// TestLivingElsewhere: a service that lives in another candidate, or where only
// another anchor's placement leads, is found before one is launched beside it.
func TestLivingElsewhere(t *testing.T) {
	m := newMachine(t)
	custom := m.base + "/xdg"
	mkdirs(t, 0o700, custom)

	// Launched from a shell with a directory of its own, before the login.
	first := m.env("XDG_RUNTIME_DIR=" + custom)
	p := resolve(t, first, answers)
	ln := listen(t, first, p)
	if p.Root != custom+"/fastbind" {
		t.Fatalf("placed at %s", p.Root)
	}
	// Now there is a session, whose directory is a better anchor.
	m.login(t)
	if q := resolve(t, m.env(), answers); q.Root != p.Root {
		t.Errorf("a second place, %s, although the service lives at %s", q.Root, p.Root)
	}
	ln.Close()

	// No placement leads to this one: only a candidate of the environment.
	direct := Place{Root: m.tmpRoot(), Dir: m.tmpRoot() + "/default/svc", Addr: m.tmpRoot() + "/default/svc"}
	mkdirs(t, 0o700, direct.Root)
	ln = listen(t, m.env(), direct)
	if err := os.RemoveAll(m.runRoot()); err != nil {
		t.Fatal(err)
	}
	if q := resolve(t, m.env(), answers); q.Root != direct.Root {
		t.Errorf("a second place, %s, although the service lives at %s", q.Root, direct.Root)
	}
	// A dead one keeps no service in a worse place.
	ln.Close()
	if err := os.RemoveAll(m.runRoot()); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(m.homeRoot()); err != nil {
		t.Fatal(err)
	}
	if q := resolve(t, m.env(), answers); q.Root != m.runRoot() {
		t.Errorf("placed at %s", q.Root)
	}
}

// TestPlacementReplaced: a placement that leads nowhere good is made anew.
func TestPlacementReplaced(t *testing.T) {
	m := newMachine(t)
	m.login(t)
	custom := m.base + "/xdg"
	placement := m.runRoot() + "/.placed/default/svc"
	spoils := map[string]func(){
		"the root is gone":          func() { os.RemoveAll(custom) },
		"the root is open":          func() { mkdirs(t, 0o755, custom+"/fastbind") },
		"its parent is open":        func() { mkdirs(t, 0o777, custom) },
		"the root is a link":        func() { os.Rename(custom+"/fastbind", custom+"/x"); symlink(t, "x", custom+"/fastbind") },
		"the root is a file":        func() { os.RemoveAll(custom + "/fastbind"); writeFile(t, custom+"/fastbind") },
		"the placement is nonsense": func() { os.Remove(placement); symlink(t, "../..", placement) },
		"the placement is a file":   func() { os.Remove(placement); writeFile(t, placement) },
	}
	if m.uid == 0 {
		spoils["the root is foreign"] = func() { chown(t, custom+"/fastbind", 1234) }
	}
	for name, spoil := range spoils {
		if err := errors.Join(os.RemoveAll(custom), os.RemoveAll(m.runRoot())); err != nil {
			t.Fatal(err)
		}
		mkdirs(t, 0o700, custom)
		if p := resolve(t, m.env("XDG_RUNTIME_DIR="+custom), dead); p.Root != custom+"/fastbind" {
			t.Fatalf("placed at %s", p.Root)
		}
		if p := resolve(t, m.env(), dead); p.Root != custom+"/fastbind" {
			t.Fatalf("the placement is not followed: %s", p.Root)
		}
		spoil()
		if p := resolve(t, m.env(), dead); p.Root != m.runRoot() {
			t.Errorf("%s: placed at %s", name, p.Root)
		}
		if target, err := os.Readlink(placement); err != nil || target != m.runRoot() {
			t.Errorf("%s: the placement leads to %q, %v", name, target, err)
		}
		if names, _ := os.ReadDir(filepath.Dir(placement)); len(names) != 1 {
			t.Errorf("%s: left behind: %v", name, names)
		}
	}
}

// TestFindChangesNothing: status, version and doctor create nothing and change
// nothing, whether or not there is a service (R32).
func TestFindChangesNothing(t *testing.T) {
	m := newMachine(t)
	look := func(want error) {
		t.Helper()
		before := snapshot(t, m.base)
		for name, vars := range oddEnvironments(m) {
			e := m.env(vars...)
			p, err := e.Find("default", "svc")
			if err != want || err == nil && !answers(p.Sock()) {
				t.Errorf("%s: %+v, %v", name, p, err)
			}
			e.Guess("default", "svc")
			e.Roots()
		}
		e := m.env("FASTBIND_RUNTIME_DIR=" + m.base + "/missing/root")
		if _, err := e.Find("default", "svc"); err != ErrNotPlaced {
			t.Errorf("explicit and missing: %v", err)
		}
		if roots := e.Roots(); roots != nil {
			t.Errorf("explicit and missing: %q", roots)
		}
		if diff := cmp.Diff(before, snapshot(t, m.base)); diff != "" {
			t.Errorf("looking changed (-before +after):\n%s", diff)
		}
	}
	look(ErrNotPlaced)
	m.login(t)
	look(ErrNotPlaced)
	mkdirs(t, 0o700, m.base+"/xdg")
	e := m.env("XDG_RUNTIME_DIR=" + m.base + "/xdg")
	p := resolve(t, e, dead)
	look(ErrNotPlaced) // placed, never launched
	listen(t, e, p)
	look(nil)
	if other, err := e.Find("default", "other"); err != ErrNotPlaced {
		t.Errorf("another service: %+v, %v", other, err)
	}
	if other, err := e.Find("ci", "svc"); err != ErrNotPlaced {
		t.Errorf("another instance: %+v, %v", other, err)
	}
}

// TestRoots: where services can be, for a list of all: verified, each once.
func TestRoots(t *testing.T) {
	m := newMachine(t)
	if roots := m.env().Roots(); roots != nil {
		t.Errorf("%q on a new machine", roots)
	}
	m.login(t)
	custom := m.base + "/xdg"
	mkdirs(t, 0o700, custom)
	resolve(t, m.env("XDG_RUNTIME_DIR="+custom), dead)
	if _, err := m.env("XDG_RUNTIME_DIR="+custom).Resolve(t.Context(), "ci", "other", dead); err != nil {
		t.Fatal(err)
	}
	mkdirs(t, 0o755, m.tmpRoot())
	want := []string{m.runRoot(), custom + "/fastbind"}
	if diff := cmp.Diff(want, m.env().Roots()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	slices.Reverse(want) // the environment's own first
	if diff := cmp.Diff(want, m.env("XDG_RUNTIME_DIR="+custom).Roots()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestPassed: the configured directory that was passed over is told, with the
// reason, for the journal (R28).
func TestPassed(t *testing.T) {
	m := newMachine(t)
	m.login(t)
	mkdirs(t, 0o777, m.base+"/open")
	p := resolve(t, m.env("XDG_RUNTIME_DIR="+m.base+"/open"), dead)
	if p.Root != m.runRoot() || len(p.Passed) != 1 || p.Passed[0].Error() != `runtime directory "`+m.base+`/open": others can write to it (mode 0777)` {
		t.Errorf("%+v", p)
	}
}

// TestMakeService: the service's own directory is as private as its root.
func TestMakeService(t *testing.T) {
	m := newMachine(t)
	e := m.env("FASTBIND_RUNTIME_DIR=" + m.base + "/own")
	p := resolve(t, e, dead)
	for range 2 {
		if err := e.MakeService(p); err != nil {
			t.Fatal(err)
		}
	}
	for _, dir := range []string{p.Root, filepath.Dir(p.Dir), p.Dir} {
		if fi, err := os.Lstat(dir); err != nil || fi.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", dir, fi, err)
		}
	}
	for _, dir := range []string{filepath.Dir(p.Dir), p.Dir} {
		mkdirs(t, 0o711, dir)
		if r := refused(t, e.MakeService(p)); r.Path != dir || r.Reason != "its mode is 0711, not 0700" || r.Cure != "chmod 700 "+dir {
			t.Errorf("%v", r)
		}
		mkdirs(t, 0o700, dir)
	}
	if err := os.RemoveAll(p.Dir); err != nil {
		t.Fatal(err)
	}
	symlink(t, m.home, p.Dir)
	if r := refused(t, e.MakeService(p)); r.Path != p.Dir || r.Reason != "it is a symbolic link" {
		t.Errorf("%v", r)
	}
}

// TestLockIsBounded: whoever holds the placement's lock, stopped perhaps, takes
// no waiter along.
func TestLockIsBounded(t *testing.T) {
	m := newMachine(t)
	m.login(t)
	e := m.env()
	if r := e.ensure(m.runRoot()); r != nil {
		t.Fatal(r)
	}
	old, err := os.Open(m.runRoot())
	if err != nil {
		t.Fatal(err)
	}
	if ok, err := lock.Try(old); err != nil || !ok {
		t.Fatal(ok, err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	_, err = e.Resolve(ctx, "default", "svc", dead)
	var pe *fs.PathError
	if !errors.Is(err, context.DeadlineExceeded) || !errors.As(err, &pe) || pe.Path != m.runRoot() {
		t.Fatalf("while the lock is held: %v", err)
	}
	cause := errors.New("enough")
	ctx2, cancel2 := context.WithCancelCause(t.Context())
	cancel2(cause)
	if _, err := e.Resolve(ctx2, "default", "svc", dead); !errors.Is(err, cause) {
		t.Fatalf("cancelled with a cause: %v", err)
	}
	if err := lock.Release(old); err != nil {
		t.Fatal(err)
	}
	resolve(t, e, dead)
}

// TestLockOfDeletedDirectory: the lock excludes also while the directory is
// deleted and made again, here by each holder. One that was opened before, and
// locked after, is no lock.
func TestLockOfDeletedDirectory(t *testing.T) {
	m := newMachine(t)
	dir := m.base + "/locked"
	mkdirs(t, 0o700, dir)
	var inside, made atomic.Int32
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n := 0; n < 200; {
				unlock, err := tryDir(t.Context(), dir) // without turns, as of 8 processes
				if errors.Is(err, fs.ErrNotExist) {
					continue // being made again
				}
				if err != nil {
					t.Error(err)
					return
				}
				if inside.Add(1) != 1 {
					t.Error("two hold the lock")
				}
				err = os.Rename(dir, m.base+"/deleted"+strconv.Itoa(int(made.Add(1))))
				inside.Add(-1)
				if err == nil {
					err = os.Mkdir(dir, 0o700)
				}
				if err != nil {
					t.Error(err)
				}
				unlock()
				n++
			}
		})
	}
	wg.Wait()

	// Replaced by a link since it was verified.
	link := m.base + "/link"
	symlink(t, dir, link)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := lockDir(ctx, link); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("locked through a link: %v", err)
	}
}

// otherHelper resolves as another user, with the question on its command line.
var otherHelper = reexec.Helper("other", func(args []string) {
	uid, err := strconv.Atoi(args[0])
	reexec.Check(err)
	reexec.Check(syscall.Setgroups(nil))
	reexec.Check(syscall.Setgid(uid))
	reexec.Check(syscall.Setuid(uid))
	var q question
	reexec.Check(json.Unmarshal([]byte(args[1]), &q))
	m := at(q.Base)
	runUser, tmp = m.run, m.tmp
	e := m.env(q.Vars...)
	e.AccountHome = nil
	p, err := e.Resolve(context.Background(), "default", "svc", answers)
	a := answer{Root: p.Root, Sock: p.Sock()}
	if err == nil {
		err = e.MakeService(p)
	}
	if err != nil {
		a.Err = err.Error()
	}
	reexec.Check(json.NewEncoder(os.Stdout).Encode(a))
})

// TestOtherUser: root's /tmp serves everybody, root's variables nobody else,
// and two users have two services (R33).
func TestOtherUser(t *testing.T) {
	reexec.Used(otherHelper) // also where it cannot be
	needRoot(t)
	m := newMachine(t)
	own := m.login(t)
	mkdirs(t, 0o711, m.home)
	ask := func(uid int, vars ...string) (a answer) {
		t.Helper()
		line, err := json.Marshal(question{Base: m.base, Vars: vars})
		if err != nil {
			t.Fatal(err)
		}
		out, err := reexec.Command(t, otherHelper, strconv.Itoa(uid), string(line)).Output()
		if err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out, &a); err != nil {
			t.Fatal(err)
		}
		return a
	}
	root := resolve(t, m.env(), dead)
	// su and sudo -E keep root's variables.
	for _, vars := range [][]string{nil, {"HOME=" + m.home, "XDG_RUNTIME_DIR=" + own}} {
		a := ask(1234, vars...)
		if a.Err != "" || a.Root != m.tmp+"/fastbind-1234" {
			t.Errorf("%q: %+v", vars, a)
		}
		if a.Root == root.Root {
			t.Error("one place for two users")
		}
	}
	// Somebody was there first.
	if err := os.RemoveAll(m.tmp + "/fastbind-1234"); err != nil {
		t.Fatal(err)
	}
	mkdirs(t, 0o700, m.tmp+"/fastbind-1234")
	if a := ask(1234); !strings.Contains(a.Err, `fastbind-1234": it belongs to uid 0, not to uid 1234`) {
		t.Errorf("a squatter is not named: %+v", a)
	}
	chown(t, m.tmp, 4321)
	if a := ask(1234); !strings.Contains(a.Err, m.tmp+`": it belongs to uid 4321, not to uid 1234`) {
		t.Errorf("a foreign /tmp is not named: %+v", a)
	}
	chown(t, m.tmp, 0)
	if a := ask(1234, "FASTBIND_RUNTIME_DIR="+root.Root); !strings.HasPrefix(a.Err, `runtime directory "`+root.Root+`": `) {
		t.Errorf("root's directory, by FASTBIND_RUNTIME_DIR: %+v", a)
	}
}

// TestState: where logs and journals go.
func TestState(t *testing.T) {
	m := newMachine(t)
	m.login(t)
	root := m.runRoot()
	mkdirs(t, 0o700, root)
	noHome := func(e Env) Env { e.AccountHome = nil; return e }
	state := m.home + "/.local/state/fastbind/ci"
	for name, c := range map[string]struct {
		e    Env
		want string // "": refused
	}{
		"home":                  {m.env(), state},
		"XDG_STATE_HOME":        {m.env("XDG_STATE_HOME=" + m.base + "/s"), m.base + "/s/fastbind/ci"},
		"XDG_STATE_HOME bad":    {m.env("XDG_STATE_HOME=s"), state},
		"XDG_STATE_HOME a file": {m.env("XDG_STATE_HOME=/dev/null"), state},
		"HOME":                  {noHome(m.env("HOME=" + m.home)), state},
		"HOME relative":         {noHome(m.env("HOME=home")), root + "/.state/ci"},
		"no home":               {noHome(m.env()), root + "/.state/ci"},
		"runtime directory":     {m.env("FASTBIND_RUNTIME_DIR="+root, "XDG_STATE_HOME="+m.base+"/s"), root + "/.state/ci"},
		"FASTBIND_STATE_DIR":    {m.env("FASTBIND_STATE_DIR="+m.base+"/f", "FASTBIND_RUNTIME_DIR="+root), m.base + "/f/ci"},
		"… relative":            {m.env("FASTBIND_STATE_DIR=f"), ""},
		"… a file":              {m.env("FASTBIND_STATE_DIR=/dev/null"), ""},
	} {
		got, err := c.e.State(root, "ci")
		if c.want == "" {
			if r := refused(t, err); r.Path == "" || got != "" {
				t.Errorf("%s: %q, %v", name, got, err)
			}
			continue
		}
		if err != nil || got != c.want {
			t.Errorf("%s: %q, %v; want %q", name, got, err, c.want)
			continue
		}
		if fi, err := os.Stat(got); err != nil || fi.Mode() != fs.ModeDir|0o700 {
			t.Errorf("%s: %v, %v", name, fi.Mode(), err)
		}
	}
	if _, err := os.Lstat("home"); err == nil {
		t.Error("a directory in the caller's working directory")
	}
	if m.uid == 0 {
		chown(t, state, 1234)
		if got, err := m.env().State(root, "ci"); err != nil || got != root+"/.state/ci" {
			t.Errorf("a foreign state directory: %q, %v", got, err)
		}
		chown(t, root+"/.state/ci", 1234)
		if _, err := m.env().State(root, "ci"); refused(t, err).Reason != "it belongs to uid 1234, not to uid 0" {
			t.Error(err)
		}
	}
}

// TestStateWay: R33. Logs and journals are written nowhere that another user
// could lead us to; such a candidate is passed over and left as it is.
func TestStateWay(t *testing.T) {
	link := func(target, path string) {
		t.Helper()
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	for name, c := range map[string]struct {
		root bool // it needs another user
		make func(m machine, xdg string)
		why  string // "": it is used
	}{
		"plain":     {make: func(m machine, xdg string) {}},
		"umask 002": {make: func(m machine, xdg string) { mkdirs(t, 0o775, xdg) }},
		"our link":  {make: func(m machine, xdg string) { mkdirs(t, 0o700, m.base+"/disk"); link("../disk/../disk", xdg) }},
		"instance a link": {make: func(m machine, xdg string) {
			mkdirs(t, 0o700, xdg+"/fastbind")
			link(m.base+"/target", xdg+"/fastbind/ci")
		}, why: "symbolic link"},
		"open to others":    {make: func(m machine, xdg string) { mkdirs(t, 0o777, xdg) }, why: "others can write to it (mode 0777)"},
		"open further up":   {make: func(m machine, xdg string) { mkdirs(t, 0o700, xdg); mkdirs(t, 0o777, filepath.Dir(xdg)) }, why: "others can write to it"},
		"links in a circle": {make: func(m machine, xdg string) { link(xdg, xdg) }, why: "too many symbolic links"},
		"a file":            {make: func(m machine, xdg string) { link("/dev/null", xdg) }, why: "not a directory"},
		"another's": {root: true, make: func(m machine, xdg string) {
			mkdirs(t, 0o700, xdg)
			chown(t, xdg, 4321)
		}, why: "belongs to uid 4321"},
		"another's link to ours": {root: true, make: func(m machine, xdg string) {
			mkdirs(t, 0o755, xdg+"/fastbind")
			link(m.base+"/target", xdg+"/fastbind/ci")
			for _, p := range []string{xdg, xdg + "/fastbind", xdg + "/fastbind/ci"} {
				if err := os.Lchown(p, 4321, 4321); err != nil {
					t.Fatal(err)
				}
			}
		}, why: "belongs to uid 4321"},
		"another's link on the way": {root: true, make: func(m machine, xdg string) {
			mkdirs(t, fs.ModeSticky|0o777, filepath.Dir(xdg))
			link(m.base+"/target", xdg)
			if err := os.Lchown(xdg, 4321, 4321); err != nil {
				t.Fatal(err)
			}
		}, why: "belongs to uid 4321"},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root {
				needRoot(t)
			}
			m := newMachine(t)
			xdg, target := m.base+"/up/xdg", m.base+"/target"
			mkdirs(t, 0o700, m.base+"/up", target)
			c.make(m, xdg)
			e := m.env("XDG_STATE_HOME=" + xdg)
			got, err := e.State("", "ci")
			if err != nil {
				t.Fatal(err)
			}
			want := xdg + "/fastbind/ci"
			verr := e.VerifyState("", want)
			if c.why != "" {
				want = m.home + "/.local/state/fastbind/ci"
				if r := refused(t, verr); !strings.Contains(r.Reason+": "+fmt.Sprint(r.Err), c.why) {
					t.Errorf("refused for %v", r)
				}
			} else if verr != nil {
				t.Error(verr)
			}
			if got != want {
				t.Errorf("it is %s, want %s", got, want)
			}
			if left, _ := os.ReadDir(target); len(left) > 0 {
				t.Errorf("%s was made behind the link", left[0].Name())
			}
			// Of a directory that was named for us only what is below counts.
			if named, err := m.env("FASTBIND_STATE_DIR="+target).State("", "ci"); err != nil || named != target+"/ci" {
				t.Errorf("FASTBIND_STATE_DIR: %q, %v", named, err)
			}
		})
	}
}

// TestUnplace: a placement goes with its service and nobody else's, under the
// lock under which it was made.
func TestUnplace(t *testing.T) {
	m := newMachine(t)
	m.login(t)
	e := m.env()
	p := resolve(t, e, dead)
	other, err := e.Resolve(t.Context(), "default", "other", dead)
	if err != nil {
		t.Fatal(err)
	}
	link := m.runRoot() + "/" + placedName + "/default/svc"
	if got := e.Placements(p, "default", "svc"); !slices.Equal(got, []string{link}) {
		t.Fatalf("placements %q", got)
	}
	if err := e.MakeService(p); err != nil {
		t.Fatal(err)
	}
	if err := e.Unplace(t.Context(), p, "default", "svc"); err != nil || len(e.Placements(p, "default", "svc")) != 1 {
		t.Errorf("that of a service that was made again is removed: %v", err)
	}
	if err := os.Remove(p.Dir); err != nil {
		t.Fatal(err)
	}
	unlock, err := lockDir(t.Context(), m.runRoot())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := e.Unplace(ctx, p, "default", "svc"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("without the lock: %v", err)
	}
	unlock()
	for range 2 { // the second finds nothing to do
		if err := e.Unplace(t.Context(), p, "default", "svc"); err != nil {
			t.Error(err)
		}
	}
	if _, err := os.Lstat(link); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("it is left: %v", err)
	}
	if len(e.Placements(other, "default", "other")) != 1 {
		t.Error("another service's is gone too")
	}
	if err := e.Unplace(t.Context(), other, "default", "other"); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(m.runRoot() + "/" + placedName); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the empty directory is left: %v", err)
	}
}

// FuzzEnv: whatever the environment's directories are called, guessing and finding
// change nothing and name only addresses that a socket can have; and where a
// service may be made, it is found again, by the same environment and, wherever
// there is an agreed place, by an empty one. In a value, @ is the machine's base.
func FuzzEnv(f *testing.F) {
	f.Add("", "@/x", "", "@/state", "@/home")
	f.Add("@/r", "", "@/s", "", "")
	f.Add("@/../r", "relative", "relative", "\n", "@/home/./")
	f.Add("@/"+strings.Repeat("long/", 30), "@/"+strings.Repeat("x", 120), "@//s/", "@/tmp", "@/tmp")
	f.Add("@/a\x00b", "@/é\xff", "@", "@/..", "/")
	m := newMachine(f)
	f.Fuzz(func(t *testing.T, runtimeDir, xdg, stateDir, xdgState, home string) {
		in := func(s string) string { return strings.ReplaceAll(s, "@", m.base) }
		e := Env{RuntimeDir: in(runtimeDir), XDGRuntime: in(xdg), StateDir: in(stateDir), XDGState: in(xdgState), Home: in(home), EUID: m.uid}
		const instance, service = "default", "fuzz"
		before := tree(t, m.base)
		guesses := e.Guess(instance, service)
		if len(guesses) > 8 {
			t.Fatalf("%d guesses", len(guesses))
		}
		for _, g := range guesses {
			if len(g) > maxAddr || !filepath.IsAbs(g) || strings.ContainsAny(g, "\x00\n") || !strings.HasSuffix(g, "/"+SockName) {
				t.Fatalf("%q of %d bytes is no address", g, len(g))
			}
		}
		_, err := e.Find(instance, service)
		var refused *Refused
		if err == nil || err != ErrNotPlaced && !errors.As(err, &refused) {
			t.Fatalf("it is found before it was made: %v", err)
		}
		_ = e.Roots()
		states := e.StateDirs(m.base, instance)
		if after := tree(t, m.base); !slices.Equal(before, after) {
			t.Fatalf("looking has changed %q to %q", before, after)
		}
		// Nothing is made but below the base.
		for _, dir := range append([]string{e.RuntimeDir, e.XDGRuntime, e.StateDir, e.XDGState, e.Home}, states...) {
			if filepath.IsAbs(dir) && !strings.HasPrefix(filepath.Clean(dir)+"/", m.base+"/") {
				return
			}
		}
		defer func() {
			m.empty(t)
		}()
		nobody := func(string) bool { return false }
		p, err := e.Resolve(t.Context(), instance, service, nobody)
		if err != nil {
			if !errors.As(err, &refused) || refused.Reason == "" {
				t.Fatalf("refused as %#v", err)
			}
			return
		}
		if len(p.Sock()) > maxAddr || filepath.Clean(p.Dir) != p.Dir || !strings.HasPrefix(p.Dir, p.Root+"/") {
			t.Fatalf("%+v", p)
		}
		if err := e.MakeService(p); err != nil {
			t.Fatal(err)
		}
		found, err := e.Find(instance, service)
		if p.Passed = nil; err != nil || !cmp.Equal(found, p) {
			t.Fatalf("made at %+v, found at %+v, %v", p, found, err)
		}
		same, err := e.Resolve(t.Context(), instance, service, nobody)
		if same.Passed = nil; err != nil || !cmp.Equal(same, p) {
			t.Fatalf("resolved as %+v, then as %+v, %v", p, same, err)
		}
		if e.RuntimeDir == "" {
			bare := Env{EUID: m.uid}
			if found, err := bare.Find(instance, service); err != nil || found.Root != p.Root {
				t.Fatalf("made at %+v, found by env -i at %+v, %v", p, found, err)
			}
		}
		state, err := e.State(p.Root, instance)
		if err != nil && !errors.As(err, &refused) {
			t.Fatalf("no state: %v", err)
		}
		if err == nil && (!filepath.IsAbs(state) || !slices.Contains(e.StateDirs(p.Root, instance), state)) {
			t.Fatalf("state at %q", state)
		}
	})
}

// tree lists what is below a directory.
func tree(t testing.TB, dir string) []string {
	t.Helper()
	var names []string
	if err := filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		names = append(names, path)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	return names
}

// empty makes the machine new.
func (m machine) empty(t testing.TB) {
	t.Helper()
	entries, err := os.ReadDir(m.base)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if err := os.RemoveAll(filepath.Join(m.base, e.Name())); err != nil {
			t.Fatal(err)
		}
	}
	mkdirs(t, 0o755, m.run)
	mkdirs(t, 0o777|fs.ModeSticky, m.tmp)
	mkdirs(t, 0o700, m.home)
}
