package try

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"fmt"
	"go/version"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/examples/gocache/gocache"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// module is the module that is built. Its go.mod is written at run time: a
// directory that has one belongs to another module and cannot be embedded.
//
//go:embed all:_module
var module embed.FS

const goMod = "module example.com/almanac\n\ngo 1.24\n"

// minGo is the first release with GOCACHEPROG.
const minGo = "go1.24"

// A world is the temporary directory of one run, and what runs in it.
type world struct {
	cfg       Config
	root      string
	goCommand string
	version   string
	broker    *launch.Broker // of the daemon; it launches nothing here
}

// A Missing error is what the demonstration needs and cannot find.
type Missing struct{ What, Cure string }

func (e *Missing) Error() string { return e.What }

func newWorld(ctx context.Context, cfg Config) (*world, error) {
	w := &world{cfg: cfg}
	var err error
	if w.root, err = os.MkdirTemp(base(cfg.Env), "fastbind-try-"); err != nil {
		return nil, err
	}
	if err := w.furnish(ctx); err != nil {
		w.close()
		return nil, err
	}
	return w, nil
}

// base is where the temporary directory goes: a short path, for socket addresses
// are short, and the user's choice if that is one.
func base(env []string) string {
	if dir := lookup(env, "TMPDIR"); filepath.IsAbs(dir) && len(dir) < 32 {
		return dir
	}
	if fi, err := os.Stat("/tmp"); err == nil && fi.IsDir() {
		return "/tmp"
	}
	return os.TempDir()
}

func lookup(env []string, name string) (value string) {
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

func (w *world) furnish(ctx context.Context) error {
	for _, d := range []string{"run", "state", "home", "tmp", "out", "store", "plain"} {
		if err := os.Mkdir(filepath.Join(w.root, d), 0o700); err != nil {
			return err
		}
	}
	if err := w.writeModule(); err != nil {
		return err
	}
	if err := w.findGo(ctx); err != nil {
		return err
	}
	env := w.cacheEnv()
	dirs := runtimedir.FromEnviron(func(name string) string { return lookup(env, name) }, os.Geteuid(), func() string { return "" })
	s, err := w.stats(ctx) // launches nothing
	if err != nil {
		return err
	}
	d := definition.Definition{Service: s.Service}.Complete()
	w.broker = launch.NewBroker(dirs, d, func() []string { return env })
	return nil
}

func (w *world) writeModule() error {
	to := filepath.Join(w.root, "module")
	from, err := fs.Sub(module, "_module")
	if err != nil {
		return err
	}
	if err := os.CopyFS(to, from); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(to, "go.mod"), []byte(goMod), 0o600)
}

// findGo finds the go command that the caller's resolves to, whatever wraps or
// switches it, and the version.
func (w *world) findGo(ctx context.Context) error {
	const install = "install Go 1.24 or later, from your system's packages or go.dev, and have it in PATH"
	found := ""
	for _, dir := range filepath.SplitList(lookup(w.cfg.Env, "PATH")) {
		path := filepath.Join(dir, "go")
		if fi, err := os.Stat(path); filepath.IsAbs(dir) && err == nil && fi.Mode().IsRegular() && fi.Mode()&0o111 != 0 {
			found = path
			break
		}
	}
	if found == "" {
		return &Missing{"there is no go command in PATH", install}
	}
	cmd := w.command(ctx, w.cfg.Env, found, "env", "-json", "GOROOT", "GOVERSION")
	text, err := cmd.Output()
	var got struct{ GOROOT, GOVERSION string }
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil {
		return fmt.Errorf("%s env: %w", found, err)
	}
	if version.Compare(got.GOVERSION, minGo) < 0 {
		return &Missing{fmt.Sprintf("%s is %s, and GOCACHEPROG came with %s", found, got.GOVERSION, minGo), install}
	}
	w.goCommand, w.version = filepath.Join(got.GOROOT, "bin", "go"), got.GOVERSION
	return nil
}

// env is the caller's environment without what could make a build differ, be
// remote, or write outside the temporary directory.
func (w *world) env(more ...string) []string {
	env := slices.DeleteFunc(slices.Clone(w.cfg.Env), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		return name == "HOME" || name == "TMPDIR" || strings.HasPrefix(name, "GO") || strings.HasPrefix(name, "CGO_") || strings.HasPrefix(name, "XDG_") ||
			strings.HasPrefix(name, "FASTBIND_")
	})
	in := func(name string) string { return filepath.Join(w.root, name) }
	return append(append(env, "HOME="+in("home"), "TMPDIR="+in("tmp"), "FASTBIND_RUNTIME_DIR="+in("run"), "FASTBIND_STATE_DIR="+in("state"),
		"GOENV=off", "GOFLAGS=", "GOPROXY=off", "GOTOOLCHAIN=local", "GOWORK=off", "CGO_ENABLED=0"), more...)
}

func (w *world) plainEnv() []string { return w.env("GOCACHE=" + filepath.Join(w.root, "plain")) }

func (w *world) cacheEnv() []string {
	return w.env("GOCACHEPROG="+quoted(w.cfg.Self)+" "+gocache.Hidden,
		"GOCACHE_DIR="+filepath.Join(w.root, "store"), "GOCACHE_LOAD_FOR="+w.cfg.LoadFor.String())
}

// quoted writes a word as cmd/go splits them (cmd/internal/quoted): it knows
// both quotes and no escapes.
func quoted(s string) string {
	switch {
	case !strings.ContainsAny(s, " \t\n'\""):
		return s
	case !strings.Contains(s, "'"):
		return "'" + s + "'"
	}
	return `"` + s + `"`
}

// stats is what gocache says of its daemon and store. It launches nothing.
type stats struct {
	Service      string `json:"service"`
	Hits, Misses int64
}

func (w *world) stats(ctx context.Context) (stats, error) {
	var s stats
	text, err := w.command(ctx, w.cacheEnv(), w.cfg.Self, gocache.Hidden, "stats", "--json").Output()
	if err == nil {
		err = json.Unmarshal(text, &s)
	}
	if err != nil {
		var ee *exec.ExitError
		if errors.As(err, &ee) {
			err = fmt.Errorf("%w: %s", err, ee.Stderr)
		}
		return s, fmt.Errorf("gocache stats: %w", err)
	}
	return s, nil
}

// launches is how many daemons were launched: each made a generation, and they
// are numbered from 1.
func (w *world) launches(ctx context.Context) (uint64, error) {
	s, err := w.broker.Inspect(ctx)
	if err != nil {
		return 0, err
	}
	var n uint64
	for _, e := range s.Generations {
		n = max(n, e.Number)
	}
	return n, nil
}

// A process is a daemon, held by handle.
type process struct {
	pid    int
	handle *proc.Handle
}

func (p *process) Close() { _ = p.handle.Close() }

func (p *process) kill(ctx context.Context) error {
	if err := p.handle.Signal(syscall.SIGKILL); err != nil && !errors.Is(err, proc.ErrGone) {
		return err
	}
	return p.handle.Wait(ctx)
}

func (w *world) daemon(ctx context.Context) (*process, error) {
	s, err := w.broker.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	if s.Shown == nil {
		return nil, errNoDaemon
	}
	h, err := s.Shown.Open()
	if err != nil {
		return nil, err
	}
	return &process{h.PID(), h}, nil
}

// stop stops the daemon and says which it was.
func (w *world) stop(ctx context.Context) (string, error) {
	stopped, err := w.broker.Stop(ctx)
	if err != nil {
		return "", err
	}
	var pids []string
	for _, s := range stopped {
		pids = append(pids, strconv.Itoa(s.PID))
	}
	return strings.Join(pids, ", "), nil
}

// closeWithin bounds the cleaning up.
const closeWithin = 20 * time.Second

// close ends the daemon, if one runs, and removes everything.
func (w *world) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	if w.broker != nil {
		w.broker.Def.StopWithin = time.Second
		_, _ = w.broker.Stop(ctx)
	}
	// A killed build's last child may still be writing.
	for os.RemoveAll(w.root) != nil && ctx.Err() == nil {
		time.Sleep(20 * time.Millisecond)
	}
}
