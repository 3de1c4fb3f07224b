package runtimedir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"golang.org/x/sys/windows"

	"github.com/fastbind/fastbind/internal/owner"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }

// guessHelper prints where it looks for a service.
var guessHelper = reexec.Helper("guess", func(args []string) {
	fmt.Println(FromEnviron(os.Getenv, os.Geteuid(), nil).Guess(args[0], args[1]))
})

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// inAccount gives the process an account with an empty local application data.
func inAccount(t testing.TB) (e Env, data string) {
	t.Helper()
	data = filepath.Join(t.TempDir(), "Local")
	must(t, mkdir(data))
	old := localAppData
	t.Cleanup(func() { localAppData = old })
	localAppData = func() (string, error) { return data, nil }
	return Env{EUID: os.Geteuid(), Home: "/elsewhere", XDGRuntime: t.TempDir(), XDGState: t.TempDir()}, data
}

func nobody(string) bool { return false }

// describe replaces OWN in a security descriptor's text by our SID.
func describe(t testing.TB, sddl string) *windows.SECURITY_DESCRIPTOR {
	t.Helper()
	sid, err := owner.SID()
	must(t, err)
	sd, err := windows.SecurityDescriptorFromString(strings.ReplaceAll(sddl, "OWN", sid.String()))
	must(t, err)
	return sd
}

// makeDir makes a directory with the given security.
func makeDir(t testing.TB, path, sddl string) {
	t.Helper()
	sa := &windows.SecurityAttributes{SecurityDescriptor: describe(t, sddl)}
	sa.Length = uint32(unsafe.Sizeof(*sa))
	p, err := windows.UTF16PtrFromString(path)
	must(t, err)
	must(t, windows.CreateDirectory(p, sa))
	// Wine applies a umask above.
	h, err := windows.CreateFile(p, windows.WRITE_DAC, 0, nil, windows.OPEN_EXISTING, windows.FILE_FLAG_BACKUP_SEMANTICS, 0)
	must(t, err)
	defer windows.CloseHandle(h)
	must(t, windows.SetKernelObjectSecurity(h, windows.DACL_SECURITY_INFORMATION, sa.SecurityDescriptor))
}

func wantRefused(t *testing.T, err error, reason string) {
	t.Helper()
	var r *Refused
	if !errors.As(err, &r) || !strings.Contains(r.Error(), reason) {
		t.Errorf("%v, want a refusal: %s", err, reason)
	}
}

// TestOnePlace: the first launch makes what every other process has guessed, and a
// look makes nothing.
func TestOnePlace(t *testing.T) {
	e, data := inAccount(t)
	if _, err := e.Find("default", "gocache"); err != ErrNotPlaced {
		t.Errorf("Find before the first launch = %v", err)
	}
	if roots := e.Roots(); len(roots) != 0 {
		t.Errorf("roots before the first launch: %q", roots)
	}
	if names, err := os.ReadDir(data); len(names) != 0 || err != nil {
		t.Fatalf("looking made %v, %v", names, err)
	}

	p, err := e.Resolve(t.Context(), "default", "gocache", nobody)
	must(t, err)
	must(t, e.MakeService(p))
	root := filepath.Join(data, "fastbind", "run")
	if p.Root != root || p.Dir != filepath.Join(root, "default", "gocache") || p.Addr != p.Dir {
		t.Errorf("place %+v", p)
	}
	if guess := e.Guess("default", "gocache"); len(guess) != 1 || guess[0] != p.Sock() {
		t.Errorf("guessed %q, it is at %q", guess, p.Sock())
	}
	found, err := e.Find("default", "gocache")
	if err != nil || found.Dir != p.Dir || found.Sock() != p.Sock() {
		t.Errorf("found %+v, %v", found, err)
	}
	if roots := e.Roots(); len(roots) != 1 || roots[0] != root {
		t.Errorf("roots %q", roots)
	}
	for _, dir := range []string{filepath.Dir(root), root, filepath.Dir(p.Dir), p.Dir} {
		if err := e.Verify(dir); err != nil {
			t.Errorf("made %s: %v", dir, err)
		}
	}
	// Once more, beside others, is the same.
	again, err := e.Resolve(t.Context(), "default", "gocache", nobody)
	must(t, err)
	must(t, e.MakeService(again))
	if links := e.Placements(p, "default", "gocache"); links != nil || again.Dir != p.Dir {
		t.Errorf("again: %+v, placements %q", again, links)
	}
	must(t, e.Unplace(t.Context(), p, "default", "gocache"))
}

// TestSameForAll: no environment changes where a process looks (R13).
func TestSameForAll(t *testing.T) {
	var got []string
	for _, env := range [][]string{
		os.Environ(),
		append(os.Environ(), "LOCALAPPDATA=C:\\elsewhere", "USERPROFILE=C:\\elsewhere", "HOME=/elsewhere", "XDG_RUNTIME_DIR=C:\\elsewhere", "TMP=C:\\elsewhere"),
		{"SYSTEMROOT=" + os.Getenv("SYSTEMROOT")},
	} {
		cmd := reexec.Command(t, guessHelper, "default", "gocache")
		for _, v := range cmd.Env {
			if strings.HasPrefix(v, "REEXEC_") {
				env = append(env, v)
			}
		}
		cmd.Env = env
		out, err := cmd.Output()
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			t.Fatalf("%v: %s", err, ee.Stderr)
		}
		must(t, err)
		got = append(got, string(out))
	}
	if !strings.Contains(got[0], pipe.Prefix) || got[0] != got[1] || got[0] != got[2] {
		t.Errorf("looked at %q", got)
	}
}

// TestPipeNames are one for each service, and good for a pipe.
func TestPipeNames(t *testing.T) {
	long := strings.Repeat("x", 64)
	seen := map[string]string{}
	for _, root := range []string{`C:\a`, `C:\b`, `C:\` + strings.Repeat(`longer\`, 100)} {
		for _, names := range [][2]string{{"a", "b.c"}, {"a.b", "c"}, {"a-b", "c"}, {"a", "b-c"}, {long, long}} {
			name := pipeName(root, names[0], names[1])
			what := fmt.Sprint(root, names)
			if other := seen[name]; other != "" {
				t.Errorf("%s and %s have one pipe", what, other)
			}
			seen[name] = what
			if len(name)+1+maxGenerationName+len("+ctl") > 256 {
				t.Errorf("%s has %d characters", name, len(name))
			}
			if upper := pipeName(strings.ToUpper(root), names[0], names[1]); upper != name {
				t.Errorf("the same directory has %s and %s", name, upper)
			}
		}
	}
	e, _ := inAccount(t)
	p, err := e.Resolve(t.Context(), "default", "served", nobody)
	must(t, err)
	held, err := pipe.Claim(p.Sock(), 1)
	must(t, err)
	defer held.Close()
	c, err := pipe.Connect(e.Guess("default", "served")[0])
	must(t, err)
	must(t, c.Close())
}

func TestExplicit(t *testing.T) {
	_, data := inAccount(t)
	root := filepath.Join(t.TempDir(), strings.Repeat("d", 150), strings.Repeat("d", 150), "own") // R12
	e := Env{RuntimeDir: root + `\.`}
	p, err := e.Resolve(t.Context(), "ci", "gocache", nobody)
	must(t, err)
	must(t, e.MakeService(p))
	if p.Root != root || e.Guess("ci", "gocache")[0] != p.Sock() {
		t.Errorf("place %+v, guessed %q", p, e.Guess("ci", "gocache"))
	}
	if found, err := e.Find("ci", "gocache"); err != nil || found.Dir != p.Dir {
		t.Errorf("found %+v, %v", found, err)
	}
	if names, err := os.ReadDir(data); len(names) != 0 || err != nil {
		t.Errorf("the account has %v, %v", names, err)
	}
	for _, bad := range []string{"relative", `\rooted`, "C:relative", "C:\\a\nb"} {
		e := Env{RuntimeDir: bad}
		_, err := e.Resolve(t.Context(), "ci", "gocache", nobody)
		wantRefused(t, err, "absolute path")
		if guess := e.Guess("ci", "gocache"); guess != nil {
			t.Errorf("%q: guessed %q", bad, guess)
		}
	}
}

// TestSpelling: one directory is one root, by one name: others are refused with it, and
// letter case is none.
func TestSpelling(t *testing.T) {
	_, data := inAccount(t)
	root, err := finalName(t.TempDir())
	must(t, err)
	root = filepath.Join(root, "a rather long name")
	resolve := func(root string) (Place, error) {
		return Env{RuntimeDir: root}.Resolve(t.Context(), "ci", "gocache", nobody)
	}
	p, err := resolve(root)
	must(t, err)
	upper, err := resolve(strings.ToUpper(root))
	if err != nil || upper.Sock() != p.Sock() {
		t.Errorf("in capitals: %q, %v; else %q", upper.Sock(), err, p.Sock())
	}

	from, err := windows.UTF16PtrFromString(root)
	must(t, err)
	b := make([]uint16, windows.MAX_PATH)
	n, err := windows.GetShortPathName(from, &b[0], uint32(len(b)))
	must(t, err)
	for _, other := range []string{windows.UTF16ToString(b[:n]), `\\?\` + root, root + "."} {
		if sameName(other, root) {
			continue // a volume without short names
		}
		if p, err := resolve(other); err == nil {
			t.Errorf("%q is used, with the pipe %q", other, p.Sock())
		} else {
			wantRefused(t, err, "it is another name of "+root)
		}
		_, err := Env{RuntimeDir: other}.Find("ci", "gocache")
		wantRefused(t, err, "it is another name of "+root)
	}

	own := AccountRoot()
	if p, err := resolve(own); err != nil || p.Root != own {
		t.Errorf("the account's root by its name: %+v, %v", p, err)
	}
	final, err := finalName(data)
	must(t, err)
	_, err = resolve(`\\?\` + filepath.Join(final, "fastbind", "run"))
	wantRefused(t, err, "without FASTBIND_RUNTIME_DIR")
}

func TestVerifyRefuses(t *testing.T) {
	dir := t.TempDir()
	e := Env{}
	at := func(name string) string { return filepath.Join(dir, name) }

	makeDir(t, at("ours"), "O:OWND:P(A;OICI;FA;;;OWN)")
	must(t, e.Verify(at("ours")))
	makeDir(t, at("with the system"), "O:OWND:P(A;OICI;FA;;;OWN)(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)")
	must(t, e.Verify(at("with the system")))
	makeDir(t, at("open"), "O:OWND:P(A;OICI;FA;;;OWN)(A;OICI;FA;;;WD)")
	wantRefused(t, e.Verify(at("open")), "lets S-1-1-0 in")
	makeDir(t, at("readable"), "O:OWND:P(A;OICI;FA;;;OWN)(A;OICI;FR;;;WD)")
	wantRefused(t, e.Verify(at("readable")), "lets S-1-1-0 in")

	wantRefused(t, e.Verify(at("missing")), "cannot be used")
	must(t, os.WriteFile(at("file"), nil, 0o600))
	wantRefused(t, e.Verify(at("file")), "not a directory")
	t.Run("link", func(t *testing.T) {
		if err := os.Symlink(at("ours"), at("other")); err != nil {
			t.Skipf("needs the right to make a link: %v", err)
		}
		if _, err := os.Lstat(at("other")); err != nil {
			t.Skip("this system says that it makes links, and makes none (Wine)")
		}
		wantRefused(t, e.Verify(at("other")), "it is a link")
	})

	// A root that was there before, open to others, is refused and left as it is.
	own := Env{RuntimeDir: at("open")}
	_, err := own.Resolve(t.Context(), "default", "gocache", nobody)
	wantRefused(t, err, "lets S-1-1-0 in")
	_, err = own.Find("default", "gocache")
	wantRefused(t, err, "lets S-1-1-0 in")
	if roots := own.Roots(); roots != nil {
		t.Errorf("roots %q", roots)
	}
}

// TestAccess: what an access list means. Wine keeps of a file's only what Unix modes
// can say, so that these are read from text.
func TestAccess(t *testing.T) {
	const user = "S-1-5-21-1-2-3-1001"
	for _, c := range []struct{ sddl, any, write, replace string }{
		{"O:OWND:P(A;OICI;FA;;;OWN)", "", "", ""},
		{"O:OWND:P(A;OICI;FA;;;OWN)(A;;FA;;;SY)(A;;FA;;;BA)(A;;FA;;;" + trustedInstaller + ")", "", "", ""},
		{"O:OWND:P", "", "", ""}, // nobody, until we change it
		{"O:OWN", "everybody", "everybody", "everybody"},
		{"O:OWND:P(D;;FA;;;WD)(A;;FA;;;OWN)", "", "", ""},
		{"O:OWND:P(A;;FA;;;OWN)(A;;FR;;;" + user + ")", user, "", ""},
		{"O:OWND:P(A;;0x2;;;" + user + ")", user, user, ""},                       // makes files
		{"O:OWND:P(A;;0x4;;;" + user + ")", user, user, ""},                       // makes directories
		{"O:OWND:P(A;;GW;;;" + user + ")", user, user, ""},                        // both
		{"O:OWND:P(A;;0x40;;;" + user + ")", user, user, user},                    // deletes what is in it
		{"O:OWND:P(A;;SD;;;" + user + ")", user, user, user},                      // deletes it
		{"O:OWND:P(A;;WD;;;" + user + ")", user, user, user},                      // changes the list
		{"O:OWND:P(A;;WO;;;" + user + ")", user, user, user},                      // takes it
		{"O:OWND:P(A;;GA;;;" + user + ")", user, user, user},                      // everything
		{"O:OWND:P(A;OICIIO;FA;;;" + user + ")", user, "", ""},                    // for what is made in it
		{"O:OWND:P(A;OICIIO;FA;;;CO)(A;;FA;;;OWN)", "", "", ""},                   // and for who makes it
		{"O:OWND:P(A;;FA;;;CO)", "S-1-3-0", "S-1-3-0", "S-1-3-0"},                 // in no list that anybody made
		{"O:OWND:P(D;;0x40;;;WD)(A;;0x40;;;WD)", "S-1-1-0", "S-1-1-0", "S-1-1-0"}, // not weighed up
	} {
		sd := describe(t, c.sddl)
		for rights, want := range map[windows.ACCESS_MASK]string{everything: c.any, writes: c.write, replaces: c.replace} {
			if got, err := Access(sd, rights); got != want || err != nil {
				t.Errorf("%s: %#x for %q, %v; want %q", c.sddl, rights, got, err, want)
			}
		}
	}
	for sddl, self := range map[string]bool{"O:OWND:P": true, "O:SYD:P": false, "O:BAD:P": false, "O:" + user + "D:P": false, "O:WDD:P": false} {
		sd := describe(t, sddl)
		if err := verifySelf("x", sd); (err == nil) != self {
			t.Errorf("%s is ours: %v", sddl, err)
		} else if err != nil && !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%s: %v", sddl, err)
		}
		// The system's are good on the way.
		if err := verifyStep("x", sd); (err == nil) != (self || strings.HasPrefix(sddl, "O:SY") || strings.HasPrefix(sddl, "O:BA")) {
			t.Errorf("%s on the way: %v", sddl, err)
		}
	}
}

func TestState(t *testing.T) {
	e, data := inAccount(t)
	root := filepath.Join(data, "fastbind", "run")
	dir, err := e.State(root, "default")
	must(t, err)
	if want := filepath.Join(data, "fastbind", "state", "default"); dir != want {
		t.Errorf("state in %s, want %s", dir, want)
	}
	must(t, e.Verify(dir))
	must(t, e.VerifyState(root, dir))

	e.RuntimeDir = filepath.Join(t.TempDir(), "own")
	must(t, mkdir(e.RuntimeDir))
	dir, err = e.State(e.RuntimeDir, "default")
	must(t, err)
	if want := filepath.Join(e.RuntimeDir, ".state", "default"); dir != want {
		t.Errorf("state in %s, want %s", dir, want)
	}

	e.StateDir = filepath.Join(t.TempDir(), "state")
	dir, err = e.State(e.RuntimeDir, "default")
	must(t, err)
	if want := filepath.Join(e.StateDir, "default"); dir != want {
		t.Errorf("state in %s, want %s", dir, want)
	}
	for _, bad := range []string{"relative", `\rooted`} {
		_, err := Env{StateDir: bad}.State(root, "default")
		wantRefused(t, err, "absolute path")
	}

	// Directories that were there before, and in which others can replace a log.
	const all = "O:OWND:P(A;OICI;FA;;;OWN)(A;OICI;FA;;;WD)"
	e.StateDir = t.TempDir()
	open := filepath.Join(e.StateDir, "default")
	makeDir(t, open, all)
	_, err = e.State(root, "default")
	wantRefused(t, err, "lets S-1-1-0 replace what is in it")
	wantRefused(t, e.VerifyState(root, open), "lets S-1-1-0 replace what is in it")
	e.StateDir = filepath.Join(t.TempDir(), "open")
	makeDir(t, e.StateDir, all)
	_, err = e.State(root, "default")
	wantRefused(t, err, "lets S-1-1-0 replace what is in it")
	if names, err := os.ReadDir(e.StateDir); len(names) != 0 || err != nil {
		t.Errorf("made %v in it, %v", names, err)
	}
	// The way to a directory of the account's own is looked at too.
	e, data = inAccount(t)
	makeDir(t, filepath.Join(data, "fastbind"), all)
	_, err = e.State("", "default")
	wantRefused(t, err, "lets S-1-1-0 replace what is in it")
	_, err = e.Resolve(t.Context(), "default", "gocache", nobody)
	wantRefused(t, err, "lets S-1-1-0 replace what is in it")
}

func TestNoAccount(t *testing.T) {
	e, _ := inAccount(t)
	localAppData = func() (string, error) { return "", windows.ERROR_FILE_NOT_FOUND }
	_, err := e.Resolve(t.Context(), "default", "gocache", nobody)
	wantRefused(t, err, "no folder for local application data")
	var r *Refused
	if !errors.As(err, &r) || r.Cure == "" || !errors.Is(err, windows.ERROR_FILE_NOT_FOUND) {
		t.Errorf("%#v", err)
	}
	if guess := e.Guess("default", "gocache"); guess != nil {
		t.Errorf("guessed %q", guess)
	}
}

func TestNetworkFS(t *testing.T) {
	if kind, ok := networkFS(t.TempDir()); ok {
		t.Errorf("the temporary directory is on %s", kind)
	}
	for path, want := range map[string]bool{
		`\\server\share\dir`: true, `\\?\UNC\server\share\dir`: true, `\\?\C:\dir`: false, `C:\dir`: false,
	} {
		if kind, ok := networkFS(path); ok != want {
			t.Errorf("%s is remote: %v, %s", path, ok, kind)
		}
	}
}
