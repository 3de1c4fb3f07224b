//go:build linux

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

// A peer is somebody else's tool with a daemon, or a way to have one. peers.sh
// installs them; what is missing is listed with the reason.
//
// {root} is the peer's private directory, {run} the one for its run-time files,
// {bin} where this module's programs are, {peers} where peers.sh installs. In {root} there
// are home, tmp and project: HOME, TMPDIR and the working directory. XDG_RUNTIME_DIR is
// {run}.
type peer struct {
	name, what string
	needs      []string // executables
	version    []string // a command that prints it
	setup      string   // for the shell, once, in project
	client     []string // a first use and each later one
	expect     string   // a regular expression that its output matches
	env        []string
	files      []string // its run-time files other than in run and tmp: patterns
	crowd      int      // this many clients at once; 0: 100
	ports      bool     // insists on a port: needs a network of its own

	// activator, if there is one, has to run before the first client, and then
	// listens at socket. It is in no figure.
	activator []string
	socket    string

	// own: its client launches its daemon. Otherwise why says what that means for
	// the figures.
	own bool
	why string

	// cache is the GOCACHEPROG command of a peer of examples/gocache: all else is
	// empty then, and it is measured by builds.
	cache string
}

var peers = []peer{
	{name: "adb", what: "device bridge, C++", own: true, ports: true, needs: []string{"adb"}, version: []string{"adb", "version"},
		client: []string{"adb", "devices"}, expect: "List of devices"},
	{name: "gpg-agent", what: "key agent, C", own: true, needs: []string{"gpg-connect-agent", "gpg-agent"},
		version: []string{"gpg-connect-agent", "--version"}, setup: `mkdir -m 700 "$HOME/.gnupg"`,
		client: []string{"gpg-connect-agent", "GETINFO pid", "/bye"}, expect: `D [0-9]+`, files: []string{"{root}/home/.gnupg/S.*"}},
	{name: "tmux", what: "terminal multiplexer, C", own: true, needs: []string{"tmux"}, version: []string{"tmux", "-V"},
		env: []string{"TMUX_TMPDIR={root}/tmp"}, expect: "off",
		client: []string{"tmux", "-f", "/dev/null", "start-server", ";", "set", "-s", "exit-empty", "off", ";", "show", "-s", "exit-empty"}},
	{name: "watchman", what: "file watcher, C++", own: true, needs: []string{"watchman"}, version: []string{"watchman", "--version"},
		client: []string{"watchman", "--sockname={run}/watchman.sock", "--logfile={root}/home/log", "--statefile={root}/home/state",
			"--pidfile={run}/watchman.pid", "get-pid"}, expect: `"pid"`},
	{name: "sccache", what: "compile cache, Rust", own: true, ports: true, needs: []string{"sccache"}, version: []string{"sccache", "--version"},
		client: []string{"sccache", "--show-stats"}, expect: "Compile requests"},
	{name: "emacs", what: "editor, C and Lisp", own: true, needs: []string{"emacs", "emacsclient"}, version: []string{"emacs", "--version"},
		client: []string{"emacsclient", "-a", "", "--eval", "(emacs-pid)"}, expect: `[0-9]`},
	{name: "turbo", what: "build tool, Rust; the native executable", own: true, needs: []string{"turbo"}, version: []string{"turbo", "--version"},
		setup: `echo '{"name":"x","packageManager":"npm@10.0.0"}' >package.json && echo '{}' >turbo.json`,
		env:   []string{"TURBO_TELEMETRY_DISABLED=1"}, crowd: 32,
		client: []string{"turbo", "daemon", "start"}, expect: "daemon is running"},
	{name: "biome", what: "linter, Rust; the native executable", own: true, needs: []string{"biome"}, version: []string{"biome", "--version"},
		client: []string{"biome", "start"}, expect: "server was (successfully started|already running)", files: []string{"{root}/home/.cache/biome/biome-daemon/*"}},
	// The server compiles a tool of Go's if the build cache does not have it; its
	// telemetry would start processes of its own.
	{name: "gopls", what: "language server, Go", own: true, needs: []string{"gopls", "go"}, version: []string{"gopls", "version"},
		setup: `printf 'module x\n\ngo 1.21\n' >go.mod && go tool buildid {bin}/lsp &&
			mkdir -p "$HOME/.config/go/telemetry" && echo off >"$HOME/.config/go/telemetry/mode"`, crowd: 32,
		env:    []string{"GOCACHE={peers}/go-build", "GOPATH={root}/home/go", "GOPROXY=off"},
		client: []string{"{bin}/lsp", "gopls", "-remote=auto", "serve"}, expect: "gopls"},
	{name: "eslint_d", what: "linter, JavaScript", own: true, ports: true, needs: []string{"eslint_d", "node"}, version: []string{"eslint_d", "--version"},
		setup: `echo 'module.exports = [{}]' >eslint.config.js && echo 'var x = 1;' >x.js && echo '{}' >package.json`, crowd: 32,
		client: []string{"eslint_d", "x.js"}, files: []string{"{peers}/node_modules/eslint/.eslint_d"}},
	{name: "pitchfork", what: "supervisor of daemons, Rust", own: true, ports: true, needs: []string{"pitchfork"}, version: []string{"pitchfork", "--version"},
		client: []string{"pitchfork", "list"}, files: []string{"{root}/home/.local/state/pitchfork/*"}},
	{name: "running-process", what: "supervisor of processes, Rust", own: true, ports: true, needs: []string{"runpm", "running-process-daemon"},
		version: []string{"sed", "-n", `s/^"running-process \([0-9.]*\) .*/\1/p`, "{peers}/.crates.toml"},
		client:  []string{"runpm", "--start-daemon"}, expect: "daemon ready"},
	{name: "go-plugin", what: "plugin library, Go", needs: nil, version: []string{"go", "version", "-m", "{bin}/goplugin"},
		client: []string{"{bin}/goplugin", "{run}"}, expect: "hello",
		why: "each client starts a plugin of its own unless it is told the way back to one, which the measured client keeps in a file"},
	{name: "systemd-socket-activate", what: "activator, C", needs: []string{"systemd-socket-activate"}, version: []string{"systemd-socket-activate", "--version"},
		activator: []string{"systemd-socket-activate", "--listen={run}/sock", "{bin}/plain"}, socket: "{run}/sock",
		client: []string{"{bin}/minimal", "{run}/sock"}, expect: "hello",
		why: "somebody has to start it before the first client, which is in no figure here, and it becomes the daemon: after kill -9 nobody listens"},
	{name: "s6-ipcserver", what: "activator, C", needs: []string{"s6-ipcserver"}, version: []string{"dpkg-query", "-W", "-f", "${Version}", "s6"},
		activator: []string{"s6-ipcserver", "-c", "1000", "-C", "1000", "{run}/sock", "cat"}, socket: "{run}/sock",
		client: []string{"{bin}/minimal", "{run}/sock"}, expect: "hello",
		why: "somebody has to start it before the first client, which is in no figure here, and it executes a server, cat, for each connection; after kill -9 nobody listens"},
	{name: "go-tool-cache", what: "GOCACHEPROG by bradfitz, Go", needs: []string{"go-cacher"}, version: []string{"go", "version", "-m", "{peers}/bin/go-cacher"},
		cache: "go-cacher --cache-dir={root}/cache"},
	{name: "gocacheprog", what: "GOCACHEPROG by vearutop, Go", needs: []string{"gocacheprog"}, version: []string{"go", "version", "-m", "{peers}/bin/gocacheprog"},
		cache: "gocacheprog"},
}

func (p peer) crowdSize() int {
	if p.crowd == 0 {
		return 100
	}
	return p.crowd
}

// chosenPeers are those that a list of names, or all, stands for.
func chosenPeers(names string) ([]peer, error) {
	if names == "" {
		return nil, nil
	}
	if names == "all" {
		return peers, nil
	}
	var out []peer
	for name := range strings.SplitSeq(names, ",") {
		i := slices.IndexFunc(peers, func(p peer) bool { return p.name == name })
		if i < 0 {
			var known []string
			for _, p := range peers {
				known = append(known, p.name)
			}
			return nil, fmt.Errorf("no peer is called %q; there are all, %s", name, strings.Join(known, ", "))
		}
		out = append(out, peers[i])
	}
	return out, nil
}

// peersDir is where peers.sh installs.
func peersDir() (string, error) {
	if dir := os.Getenv("FASTBIND_BENCH_PEERS"); dir != "" {
		return filepath.Abs(dir)
	}
	cache, err := os.UserCacheDir()
	return filepath.Join(cache, "fastbind-bench"), err
}

// lookup finds an executable where peers.sh puts it, else in PATH.
func lookup(name, dir string) (string, error) {
	if path, err := exec.LookPath(filepath.Join(dir, "bin", name)); err == nil {
		return path, nil
	}
	return exec.LookPath(name)
}

// missing says why a peer cannot be measured, "" if it can.
func (p peer) missing(dir string, n *network, nerr error) string {
	for _, need := range p.needs {
		if _, err := lookup(need, dir); err != nil {
			reason := "bench/peers.sh installs it"
			if b, err := os.ReadFile(filepath.Join(dir, p.name+".missing")); err == nil {
				reason = "bench/peers.sh: " + strings.TrimSpace(string(b))
			}
			return fmt.Sprintf("no executable %q; %s", need, reason)
		}
	}
	if p.ports && n == nil {
		return "it insists on a port: " + nerr.Error()
	}
	return ""
}

// An entrant is a peer in its private root, or ourselves.
type entrant struct {
	w      *world
	net    *network // nil: this process's
	peer   peer     // expanded
	tools  string   // where peers.sh installs
	env    []string
	dir    string // working directory
	expect *regexp.Regexp
	within time.Duration     // that a client may take; then it has failed
	public *strings.Replacer // of what it says, without names of this machine's
}

// enter prepares a peer's root.
func (w *world) enter(p peer, tools string, n *network) (*entrant, error) {
	root, err := w.sub("peer")
	if err != nil {
		return nil, err
	}
	for _, sub := range []string{"home", "tmp", "project"} {
		if err := os.Mkdir(filepath.Join(root, sub), 0o700); err != nil {
			return nil, err
		}
	}
	run, err := w.inMemory()
	if err != nil {
		return nil, err
	}
	expand := strings.NewReplacer("{root}", root, "{run}", run, "{bin}", w.bin, "{peers}", tools)
	all := func(list []string) []string {
		out := slices.Clone(list)
		for i := range out {
			out[i] = expand.Replace(out[i])
		}
		return out
	}
	p.version, p.client, p.activator, p.env, p.files = all(p.version), all(p.client), all(p.activator), all(p.env), all(p.files)
	p.setup, p.socket, p.cache = expand.Replace(p.setup), expand.Replace(p.socket), expand.Replace(p.cache)
	p.files = append(p.files, run+"/*", run+"/.*", root+"/tmp/*", root+"/tmp/.*")
	e := &entrant{w: w, net: n, peer: p, tools: tools, within: clientWithin,
		public: strings.NewReplacer(root, "{root}", run, "{run}", w.dir, "{dir}", tools, "{peers}", "|", "/"), dir: filepath.Join(root, "project"), env: append([]string{
			"HOME=" + root + "/home", "XDG_RUNTIME_DIR=" + run, "TMPDIR=" + root + "/tmp",
			"PATH=" + tools + "/bin:" + os.Getenv("PATH"), "LANG=C.UTF-8",
		}, p.env...)}
	if e.expect, err = regexp.Compile(p.expect); err != nil {
		return nil, err
	}
	if p.setup != "" {
		if out, err := e.command([]string{"/bin/sh", "-ec", p.setup}).CombinedOutput(); err != nil {
			return nil, fmt.Errorf("%s: %w: %s", p.setup, err, out)
		}
	}
	return e, nil
}

// ourselves is the tool made with fastbind as an entrant.
func (w *world) ourselves(n *network) *entrant {
	return &entrant{w: w, net: n, dir: w.dir, env: os.Environ(), expect: regexp.MustCompile("hello"), within: clientWithin,
		public: strings.NewReplacer(w.dir, "{dir}"),
		peer:   peer{name: "fastbind", client: []string{w.path("tool")}, files: []string{os.Getenv("FASTBIND_RUNTIME_DIR") + "/*"}}}
}

// command is a command in the entrant's surroundings.
func (e *entrant) command(argv []string) *exec.Cmd {
	cmd := exec.Command(argv[0], argv[1:]...)
	if path, err := lookup(argv[0], e.tools); err == nil {
		cmd.Path, cmd.Err = path, nil
	}
	cmd.Dir, cmd.Env = e.dir, e.env
	return cmd
}

func (e *entrant) start(cmd *exec.Cmd) error {
	if e.net == nil {
		return cmd.Start()
	}
	return e.net.start(cmd)
}

// fresh makes a first use: no daemon of anybody's is left, and none of the
// entrant's run-time files. What it keeps otherwise, such as a key, stays.
func (e *entrant) fresh() error {
	if err := e.w.endStrays(); err != nil {
		return err
	}
	for _, pattern := range e.peer.files {
		names, err := filepath.Glob(pattern)
		if err != nil {
			return err
		}
		for _, name := range names {
			if err := os.RemoveAll(name); err != nil {
				return err
			}
		}
	}
	if len(e.peer.activator) == 0 {
		return nil
	}
	cmd := e.command(e.peer.activator)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if err := e.start(cmd); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), e.within)
	defer cancel()
	err := await(ctx, func() error {
		// Its network's sockets; a connect would activate.
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/net/unix", cmd.Process.Pid))
		if err == nil && !bytes.Contains(b, []byte(e.peer.socket)) {
			err = fmt.Errorf("%s does not listen at %s", e.peer.name, e.peer.socket)
		}
		return err
	})
	return errors.Join(err, cmd.Process.Release()) // endStrays reaps it
}

// clientWithin is how long a client may take.
const clientWithin = 30 * time.Second

// A failure is a client that was not served: a result, not an error of the
// harness.
type failure struct{ why string }

func (f *failure) Error() string { return f.why }

// A process is that of a client.
type process struct {
	e     *entrant
	cmd   *exec.Cmd
	out   *os.File
	began time.Time
	took  time.Duration // set by wait
}

// prepare opens what a client process needs. Its output is a file, not a pipe:
// some daemons keep their first client's open.
func (e *entrant) prepare() (*process, error) {
	out, err := os.CreateTemp(e.w.dir, "out.")
	if err != nil {
		return nil, err
	}
	cmd := e.command(e.peer.client)
	cmd.Stdout, cmd.Stderr = out, out
	return &process{e: e, cmd: cmd, out: out}, nil
}

func (p *process) start() error {
	p.began = time.Now()
	return p.e.start(p.cmd)
}

// wait waits for the client and judges it.
func (p *process) wait() error {
	late := time.AfterFunc(p.e.within, func() { _ = p.cmd.Process.Kill() })
	err := p.cmd.Wait()
	p.took = time.Since(p.began)
	inTime := late.Stop()
	out := make([]byte, 4096)
	n, rerr := p.out.ReadAt(out, 0)
	if rerr != nil && rerr != io.EOF {
		return rerr
	}
	out = out[:n]
	_, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case !inTime:
		return &failure{fmt.Sprintf("not served within %s", p.e.within)}
	case exited:
		return &failure{fmt.Sprintf("%v: %s", err, p.e.public.Replace(firstLine(out)))}
	case err == nil && !p.e.expect.Match(out):
		return &failure{fmt.Sprintf("printed %q", p.e.public.Replace(firstLine(out)))}
	}
	return err
}

func (p *process) close() error { return errors.Join(p.out.Close(), os.Remove(p.out.Name())) }

// client runs one client process. The error is a *failure if it was not served.
func (e *entrant) client() (time.Duration, error) {
	p, err := e.prepare()
	if err != nil {
		return 0, err
	}
	if err := p.start(); err != nil {
		return 0, errors.Join(err, p.close())
	}
	err = p.wait()
	return p.took, errors.Join(err, p.close())
}

func firstLine(b []byte) string {
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" {
			return line[:min(len(line), 200)]
		}
	}
	return ""
}

var number = regexp.MustCompile(`v?\d+(\.\d+)+[-.~+:\w]*`)

// version is what the peer says it is.
func (e *entrant) version() string {
	if e.peer.version[0] == "go" { // how executables of the go command are asked
		out, _ := e.command(e.peer.version).Output()
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) > 2 && (f[0] == "mod" || f[0] == "dep") && strings.HasSuffix(f[1], e.peer.name) {
				return f[2]
			}
		}
	}
	out, _ := e.command(e.peer.version).CombinedOutput()
	return number.FindString(string(out))
}
