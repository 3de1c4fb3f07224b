package unit

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fastbind/fastbind/internal/definition"
)

// A scene is a manager's directory and what it was told.
type scene struct {
	Manager
	base   string
	u      Unit
	told   []string
	refuse string // the verb at which a command fails
}

var errTold = errors.New("told to fail")

func (s *scene) run(_ context.Context, argv []string) error {
	s.told = append(s.told, strings.Join(argv, " "))
	if s.refuse != "" && strings.Contains(strings.Join(argv, " "), s.refuse) {
		return errTold
	}
	return nil
}

// take returns what was told since the last time.
func (s *scene) take() []string {
	told := s.told
	s.told = nil
	return told
}

func newScene(t *testing.T, kind string) *scene {
	t.Helper()
	base := t.TempDir()
	exe := filepath.Join(base, "fastbind")
	if err := os.WriteFile(exe, []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	s := &scene{base: base, u: Unit{Executable: exe, Instance: "default", Root: "/tmp/fastbind-unit-test"}}
	if kind == "systemd" {
		s.Manager = Systemd(filepath.Join(base, "config"))
	} else {
		s.Manager = Launchd(base, 501)
		root, err := os.MkdirTemp("/tmp", "fb") // short enough for a socket
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(root) })
		s.u.Root = root
	}
	return s
}

// tree lists what is below the manager's directory.
func (s *scene) tree(t *testing.T) []string {
	t.Helper()
	var all []string
	err := filepath.WalkDir(s.Dir, func(path string, d fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err == nil && !d.IsDir() {
			rel, _ := filepath.Rel(s.Dir, path)
			all = append(all, rel)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func actions(changes []Change) string {
	var all []string
	for _, c := range changes {
		all = append(all, string(c.Action)+" "+filepath.Base(c.Path))
	}
	return strings.Join(all, ", ")
}

func same(t *testing.T, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestInstall: new, again, changed, gone, and gone again.
func TestInstall(t *testing.T) {
	for kind, want := range map[string]struct {
		files                   []string
		first, again, then, end []string
	}{
		"systemd": {
			[]string{"fastbind-broker.service", "fastbind-broker.socket"},
			[]string{"systemctl --user daemon-reload", "systemctl --user reset-failed fastbind-broker.service fastbind-broker.socket", "systemctl --user enable fastbind-broker.service fastbind-broker.socket",
				"systemctl --user restart fastbind-broker.service fastbind-broker.socket"},
			[]string{"systemctl --user daemon-reload", "systemctl --user reset-failed fastbind-broker.service fastbind-broker.socket", "systemctl --user enable fastbind-broker.service fastbind-broker.socket",
				"systemctl --user start fastbind-broker.service fastbind-broker.socket"},
			[]string{"systemctl --user daemon-reload", "systemctl --user reset-failed fastbind-broker.service fastbind-broker.socket", "systemctl --user enable fastbind-broker.service fastbind-broker.socket",
				"systemctl --user restart fastbind-broker.service fastbind-broker.socket"},
			[]string{"systemctl --user disable fastbind-broker.service fastbind-broker.socket",
				"systemctl --user stop fastbind-broker.service fastbind-broker.socket", "systemctl --user daemon-reload",
				"systemctl --user reset-failed fastbind-broker.service fastbind-broker.socket"},
		},
		"launchd": {
			[]string{"io.fastbind.broker.plist"},
			[]string{"launchctl bootout gui/501/io.fastbind.broker", "launchctl bootstrap gui/501 DIR/io.fastbind.broker.plist"},
			[]string{"launchctl bootstrap gui/501 DIR/io.fastbind.broker.plist", "launchctl kickstart gui/501/io.fastbind.broker"},
			[]string{"launchctl bootout gui/501/io.fastbind.broker", "launchctl bootstrap gui/501 DIR/io.fastbind.broker.plist"},
			[]string{"launchctl bootout gui/501/io.fastbind.broker"},
		},
	} {
		t.Run(kind, func(t *testing.T) {
			s := newScene(t, kind)
			install := func(action string, commands []string) {
				t.Helper()
				plan, err := s.Plan(s.u)
				if err != nil {
					t.Fatal(err)
				}
				r, err := s.Install(t.Context(), s.u, s.run)
				if err != nil {
					t.Fatal(err)
				}
				same(t, "plan", plan, r.Changes)
				for _, c := range r.Changes {
					if string(c.Action) != action {
						t.Errorf("%s of %s, want %s", c.Action, c.Path, action)
					}
					if b, err := os.ReadFile(c.Path); err != nil || string(b) != c.Text {
						t.Errorf("%s says %q, %v", c.Path, b, err)
					}
					if fi, err := os.Stat(c.Path); err != nil || fi.Mode() != 0o600 {
						t.Errorf("%s: %v, %v", c.Path, fi, err)
					}
				}
				told := s.take()
				for i := range told {
					told[i] = strings.ReplaceAll(told[i], s.Dir, "DIR")
				}
				same(t, "commands", commands, told)
				same(t, "files", want.files, s.tree(t))
				if len(r.Next) != 0 {
					t.Errorf("left to do: %q", r.Next)
				}
			}
			if plan, err := s.Plan(s.u); err != nil || len(plan) != len(want.files) {
				t.Error(plan, err)
			}
			if left := s.tree(t); len(left) > 0 {
				t.Errorf("a plan has written %q", left)
			}
			install("write", want.first)
			install("keep", want.again)
			s.u.Environment = []string{"A=b"}
			other := *s
			other.u.Instance = "other"
			if _, err := other.Install(t.Context(), other.u, nil); err != nil {
				t.Fatal(err)
			}
			// Nobody is told, so what is left to do is what still makes sense.
			r, err := s.Uninstall(t.Context(), "other", nil)
			if err != nil || len(r.Changes) != len(want.files) || len(r.Next) == 0 || slices.Contains(r.Next[0], "disable") {
				t.Error(r, err)
			}
			if kind == "systemd" { // its socket unit says nothing of the environment
				r, err := s.Install(t.Context(), s.u, s.run)
				if err != nil || actions(r.Changes) != "replace fastbind-broker.service, keep fastbind-broker.socket" {
					t.Error(actions(r.Changes), err)
				}
				same(t, "commands", want.then, s.take())
			} else {
				install("replace", want.then)
			}
			r, err = s.Uninstall(t.Context(), "default", s.run)
			if err != nil || len(r.Changes) != len(want.files) || len(r.Next) != 0 {
				t.Error(r, err)
			}
			same(t, "commands", want.end, s.take())
			if left := s.tree(t); len(left) > 0 {
				t.Errorf("left: %q", left)
			}
			if r, err := s.Uninstall(t.Context(), "default", s.run); err != nil || len(r.Changes) > 0 || len(s.take()) > 0 {
				t.Error("the second time it does something:", r, err)
			}
		})
	}
}

// TestNotOurs: what is not ours is neither changed nor removed, and nothing beside
// it.
func TestNotOurs(t *testing.T) {
	for name, c := range map[string]struct {
		make         func(path string) error
		reason, cure string
	}{
		"written by hand": {func(p string) error { return os.WriteFile(p, []byte("[Unit]\nDescription=mine\n"), 0o600) },
			"has not written it", "move it away"},
		"marked below": {func(p string) error {
			return os.WriteFile(p, []byte("[Unit]\n\n# Written by \"fastbind broker install\"\n"), 0o600)
		}, "has not written it", "move it away"},
		"empty": {func(p string) error { return os.WriteFile(p, nil, 0o600) }, "has not written it", "move it away"},
		"huge": {func(p string) error {
			return os.WriteFile(p, []byte(systemdMark+strings.Repeat("\n", maxFile)), 0o600)
		}, "has not written it", "move it away"},
		"masked":    {func(p string) error { return os.Symlink("/dev/null", p) }, "masked", "systemctl --user unmask fastbind-broker.socket"},
		"a link":    {func(p string) error { return os.Symlink("elsewhere", p) }, `link to "elsewhere"`, "move it away"},
		"directory": {func(p string) error { return os.Mkdir(p, 0o700) }, "regular file", "move it away"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "systemd")
			if err := os.MkdirAll(s.Dir, 0o700); err != nil {
				t.Fatal(err)
			}
			path := filepath.Join(s.Dir, "fastbind-broker.socket")
			if err := c.make(path); err != nil {
				t.Fatal(err)
			}
			before, _ := os.Lstat(path)
			check := func(what string, err error) {
				t.Helper()
				var refused *Refused
				if !errors.As(err, &refused) || refused.Path != path || !strings.Contains(refused.Reason, c.reason) || !strings.Contains(refused.Cure, c.cure) {
					t.Errorf("%s: %v", what, err)
				}
				after, err := os.Lstat(path)
				if err != nil || !os.SameFile(before, after) || before.ModTime() != after.ModTime() {
					t.Errorf("%s has changed it: %v", what, err)
				}
				if len(s.take()) > 0 {
					t.Errorf("%s has told the manager", what)
				}
			}
			_, err := s.Install(t.Context(), s.u, s.run)
			check("install", err)
			if _, err := os.Lstat(filepath.Join(s.Dir, "fastbind-broker.service")); !errors.Is(err, fs.ErrNotExist) {
				t.Error("it has written the other one")
			}
			_, err = s.Uninstall(t.Context(), "default", s.run)
			check("uninstall", err)
		})
	}
}

// TestLeftBehind: an uninstallation removes what a killed installation has left,
// and the links of a manager that cannot be reached; nothing else.
func TestLeftBehind(t *testing.T) {
	s := newScene(t, "systemd")
	if _, err := s.Install(t.Context(), s.u, nil); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{"default.target.wants", "sockets.target.wants", "fastbind-broker.service.d"} {
		if err := os.Mkdir(filepath.Join(s.Dir, d), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	links := map[string]string{
		"default.target.wants/fastbind-broker.service": s.Dir + "/fastbind-broker.service",
		"sockets.target.wants/fastbind-broker.socket":  "../fastbind-broker.socket",
		"default.target.wants/other.service":           s.Dir + "/other.service",
	}
	for link, target := range links {
		if err := os.Symlink(target, filepath.Join(s.Dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{".fastbind-broker.service.123", ".other.service.1", "fastbind-broker.service.d/mine.conf"} {
		if err := os.WriteFile(filepath.Join(s.Dir, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	plan, err := s.PlanRemoval("default")
	if err != nil {
		t.Fatal(err)
	}
	s.refuse = "stop"
	r, err := s.Uninstall(t.Context(), "default", s.run)
	if !errors.Is(err, errTold) || len(r.Next) != 3 {
		t.Error(r.Next, err)
	}
	same(t, "plan", plan, r.Changes)
	same(t, "left", []string{".other.service.1", "default.target.wants/other.service", "fastbind-broker.service.d/mine.conf"}, s.tree(t))
}

// TestManagerFails: the files are there, and the result says what is left to do.
func TestManagerFails(t *testing.T) {
	s := newScene(t, "systemd")
	s.refuse = "enable"
	r, err := s.Install(t.Context(), s.u, s.run)
	if !errors.Is(err, errTold) || len(r.Next) != 2 || r.Next[0][2] != "enable" || len(r.Changes) != 2 {
		t.Error(r, err)
	}
	s.refuse = "reset-failed" // there may be nothing to reset
	if r, err := s.Install(t.Context(), s.u, s.run); err != nil || len(r.Next) != 0 {
		t.Error(r, err)
	}
}

// TestHalf: of a pair of which somebody has removed one, the other is disabled and
// removed; where only links are left, nobody is stopped.
func TestHalf(t *testing.T) {
	s := newScene(t, "systemd")
	if _, err := s.Install(t.Context(), s.u, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(s.Dir, "fastbind-broker.service")); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Uninstall(t.Context(), "default", s.run); err != nil || actions(r.Changes) != "remove fastbind-broker.socket" {
		t.Error(actions(r.Changes), err)
	}
	if told := s.take(); len(told) != 4 || told[1] != "systemctl --user stop fastbind-broker.socket" {
		t.Errorf("%q", told)
	}
	wants := filepath.Join(s.Dir, "sockets.target.wants")
	if err := errors.Join(os.Mkdir(wants, 0o700), os.Symlink(s.Dir+"/fastbind-broker.socket", wants+"/fastbind-broker.socket")); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Uninstall(t.Context(), "default", s.run); err != nil || actions(r.Changes) != "remove fastbind-broker.socket" {
		t.Error(actions(r.Changes), err)
	}
	if told := s.take(); len(told) != 2 || told[0] != "systemctl --user daemon-reload" {
		t.Errorf("%q", told)
	}
}

// TestCannotWrite: a directory in the way of the second file's writing leaves no
// temporary file, and says what was written.
func TestCannotWrite(t *testing.T) {
	s := newScene(t, "systemd")
	if err := os.MkdirAll(filepath.Dir(s.Dir), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.Dir, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if r, err := s.Install(t.Context(), s.u, s.run); err == nil || len(r.Changes) > 0 || len(s.take()) > 0 {
		t.Error(r, err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "x.service")
	if err := os.MkdirAll(filepath.Join(path, "full"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := write(path, "text"); err == nil {
		t.Error("a directory was replaced")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Error(left, err)
	}
}

// TestExecutable: what cannot be executed is not installed.
func TestExecutable(t *testing.T) {
	s := newScene(t, "systemd")
	plain := filepath.Join(s.base, "plain")
	if err := os.WriteFile(plain, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for path, reason := range map[string]string{plain: "not an executable file", s.base: "not an executable file", s.base + "/gone": "no such file"} {
		s.u.Executable = path
		var invalid *definition.Invalid
		if _, err := s.Install(t.Context(), s.u, s.run); !errors.As(err, &invalid) || invalid.Field != "executable" || !strings.Contains(invalid.Reason, reason) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if left := s.tree(t); len(left) > 0 {
		t.Errorf("written: %q", left)
	}
}

// TestConcurrentInstall: whoever reads a file meanwhile finds a whole one.
func TestConcurrentInstall(t *testing.T) {
	s := newScene(t, "systemd")
	var wg sync.WaitGroup
	for i := range 8 {
		u := s.u
		u.Environment = []string{"A=" + strings.Repeat("x", i)}
		wg.Go(func() {
			for range 20 {
				if _, err := s.Install(t.Context(), u, nil); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Go(func() {
			for range 200 {
				text, err := s.ours(filepath.Join(s.Dir, "fastbind-broker.service"))
				if err == nil && !strings.HasSuffix(text, "Also=fastbind-broker.socket\n") || err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Errorf("%q, %v", text, err)
				}
			}
		})
	}
	wg.Wait()
	same(t, "files", []string{"fastbind-broker.service", "fastbind-broker.socket"}, s.tree(t))
}

// TestVerify: systemd itself takes the units, and a program whose path has what a
// path can have; one that this package refuses it refuses too.
func TestVerify(t *testing.T) {
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Skip("no systemd-analyze here")
	}
	verify := func(t *testing.T, files ...File) (string, error) {
		t.Helper()
		dir := t.TempDir()
		args := []string{"verify", "--user", "--man=no"}
		for _, f := range files {
			path := filepath.Join(dir, f.Name)
			if err := os.WriteFile(path, []byte(f.Text), 0o600); err != nil {
				t.Fatal(err)
			}
			args = append(args, path)
		}
		cmd := exec.CommandContext(t.Context(), "systemd-analyze", args...)
		cmd.Env = append(os.Environ(), "XDG_RUNTIME_DIR="+dir, "SYSTEMD_LOG_LEVEL=warning")
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for _, name := range []string{"plain", "a b", "a%hb", "a$b", "a${HOME}b", "$$", "a;b", "#", "ü", "%", "{}[]()<>|&*?~!@:=,"} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t, "systemd")
			s.u.Executable = filepath.Join(s.base, name, "fastbind")
			if err := os.Mkdir(filepath.Dir(s.u.Executable), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.Rename(filepath.Join(s.base, "fastbind"), s.u.Executable); err != nil {
				t.Fatal(err)
			}
			s.u.Root = "/" + name
			s.u.Environment = []string{"A=" + name + `'"\`}
			files, err := s.u.systemd()
			if err != nil {
				t.Fatal(err)
			}
			if out, err := verify(t, files...); err != nil || out != "" {
				t.Errorf("%v: %s", err, out)
			}
			// The same with another program is noticed: it did look.
			files[0].Text = strings.Replace(files[0].Text, `/fastbind" broker`, `/gone" broker`, 1)
			if out, err := verify(t, files...); err == nil || !strings.Contains(out, "is not executable") {
				t.Errorf("a program that is not there: %v: %s", err, out)
			}
		})
	}
	for _, name := range []string{`'`, `"`, `\`} {
		text := "[Service]\nExecStart=" + quote("/bin/"+name+"x") + "\n"
		if out, err := verify(t, File{"x.service", text}); err == nil || !strings.Contains(out, "special characters") {
			t.Errorf("systemd takes a program with %s in its path: %v: %s", name, err, out)
		}
	}
}

func TestHere(t *testing.T) {
	get := func(string) string { return "relative" }
	m, err := Here(get, "/home/user", 1000)
	switch runtime.GOOS {
	case "linux":
		if err != nil || m.Dir != "/home/user/.config/systemd/user" {
			t.Error(m, err)
		}
		if m, err := Here(func(string) string { return "/xdg" }, "/home/user", 1000); err != nil || m.Dir != "/xdg/systemd/user" {
			t.Error(m, err)
		}
	case "darwin":
		if err != nil || m.Dir != "/home/user/Library/LaunchAgents" {
			t.Error(m, err)
		}
	default:
		if !errors.Is(err, errors.ErrUnsupported) {
			t.Error(err)
		}
	}
}

// TestExec: a command's failure says what it printed, but not all of it, and a
// command that does not end is bounded by its context.
func TestExec(t *testing.T) {
	if err := Exec(t.Context(), []string{"sh", "-c", "echo fine"}); err != nil {
		t.Error(err)
	}
	var failed *Failed
	err := Exec(t.Context(), []string{"sh", "-c", "echo out; echo err >&2; exit 3"})
	if !errors.As(err, &failed) || failed.Output != "out\nerr" || !strings.Contains(err.Error(), "exit status 3: out\nerr") {
		t.Error(err)
	}
	err = Exec(t.Context(), []string{"sh", "-c", "head -c 100000 /dev/zero | tr '\\0' x; printf end; exit 1"})
	if !errors.As(err, &failed) || len(failed.Output) != maxOutput || !strings.HasSuffix(failed.Output, "xend") {
		t.Errorf("%d bytes: %v", len(failed.Output), errors.Unwrap(err))
	}
	if err := Exec(t.Context(), []string{"/nonexistent"}); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	ctx, cancel := context.WithCancelCause(t.Context())
	started := filepath.Join(t.TempDir(), "started")
	ended := make(chan error, 1)
	go func() { ended <- Exec(ctx, []string{"sh", "-c", "echo > '" + started + "'; exec sleep 1000"}) }()
	for {
		if _, err := os.Stat(started); err == nil {
			break
		}
		runtime.Gosched()
	}
	cancel(errTold)
	if err := <-ended; !errors.Is(err, errTold) {
		t.Error(err)
	}
}
