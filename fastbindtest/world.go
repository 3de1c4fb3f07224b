//go:build linux || windows

package fastbindtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// The twins of this file:
//
//   - world.places are the variables that lead into the world, and those without
//     which nothing runs on the system;
//   - world.dialSocket connects to a path or pipe; isRefused reports whether an error
//     is that of an endpoint where nobody listens;
//   - a gate keeps processes from beginning until it opens; command.own starts a
//     command as a terminal does, and done is called when it was started;
//   - world.cut kills a command with its children, but not what it has detached;
//   - world.noteHolders notes who has a copy of the other end of a pipe;
//   - inodeAt is the inode of a name, 0 if there is none or the system has none;
//   - ownSession judges the case session.

// A world is the place in which one case is judged: directories, environment,
// and what was seen.
type world struct {
	*judging
	ctx  context.Context
	dir  string
	port string
	idle time.Duration // what {idle} is
	seen []string
}

// maxSeen bounds what is noted of one case.
const maxSeen = 40

// note keeps something that was seen.
func (w *world) note(format string, args ...any) {
	if len(w.seen) < maxSeen {
		w.seen = append(w.seen, strings.TrimSpace(fmt.Sprintf(format, args...)))
	}
}

// Where things are in a world. The project is the directory of the first client.
func (w *world) home() string    { return filepath.Join(w.dir, "home") }
func (w *world) project() string { return filepath.Join(w.dir, "home", "project") }
func (w *world) run() string     { return filepath.Join(w.dir, "run") }
func (w *world) log() string     { return filepath.Join(w.dir, "log") }

func (w *world) furnish() error {
	for _, d := range []struct {
		path string
		mode os.FileMode
	}{
		{w.dir, 0o711}, {w.home(), 0o755}, {w.project(), 0o755}, {w.run(), 0o700}, {filepath.Join(w.run(), "check"), 0o700},
		{filepath.Join(w.dir, "tmp"), 0o777 | os.ModeSticky}, // as systems have them
	} {
		if err := os.Mkdir(d.path, 0o700); err != nil {
			return err
		}
		if err := os.Chmod(d.path, d.mode); err != nil {
			return err
		}
	}
	if w.mode == Client {
		return w.setup(w.project())
	}
	return w.setup(w.dir)
}

// setup lets the target make what it needs in a directory.
func (w *world) setup(dir string) error {
	if len(w.Target.Setup) == 0 {
		return nil
	}
	r, err := w.do(command{argv: w.Target.Setup, dir: dir})
	if err == nil && (r.timedOut || r.status != 0) {
		r.expected = false
		err = errors.New("the setup " + r.String())
	}
	return err
}

// env is an environment that leads into the world. The caller's contributes PATH
// and what the target names.
func (w *world) env() []string {
	env := []string{
		// Tools made with fastbind look for a daemon of theirs in other places too.
		"FASTBIND_RUNTIME_DIR=" + filepath.Join(w.run(), "fastbind"), "FASTBIND_STATE_DIR=" + filepath.Join(w.home(), "fastbind"),
		"FASTBIND_CONFIG_DIR=" + filepath.Join(w.home(), ".config", "fastbind"),
	}
	env = append(env, w.places()...)
	if path := lookup(w.Env, "PATH"); path != "" {
		env = append(env, "PATH="+path)
	}
	for _, e := range w.Target.Env {
		if !strings.Contains(e, "=") {
			e += "=" + lookup(w.Env, e)
		}
		env = append(env, w.expand(e))
	}
	return env
}

// expand fills the placeholders in.
func (w *world) expand(s string) string {
	return strings.NewReplacer("{dir}", w.dir, "{socket}", w.socket(), "{port}", w.port, "{fd}", "3",
		"{idle}", w.idle.String(), "{idle_seconds}", fmt.Sprint(int(w.idle.Seconds()))).Replace(s)
}

func (w *world) expandAll(list []string) []string {
	var out []string
	for _, s := range list {
		out = append(out, w.expand(s))
	}
	return out
}

// pollEvery is the time between two looks at what gives no event.
const pollEvery = 10 * time.Millisecond

// patience bounds the wait for something that a daemon or a client has to do. It
// is generous: nothing is judged by it but whether it happens at all.
func (w *world) patience() time.Duration { return w.Target.Limits.Patience }

// until waits until f is true, or patience ends.
func (w *world) until(what string, f func() bool) error {
	return w.within(w.patience(), what, f)
}

func (w *world) within(d time.Duration, what string, f func() bool) error {
	ctx, cancel := context.WithTimeout(w.ctx, d)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for !f() {
		select {
		case <-ctx.Done():
			return fmt.Errorf("not within %v: %s", d, what)
		case <-tick.C:
		}
	}
	return nil
}

// sleep waits, less if the case's time ends.
func (w *world) sleep(d time.Duration) {
	select {
	case <-time.After(d):
	case <-w.ctx.Done():
	}
}

// settle waits until what f returns has not changed for a while, and returns it.
// Who lost a race may need a moment to notice.
func settle[T comparable](w *world, f func() T) T {
	const still, limit = 300 * time.Millisecond, 10 * time.Second
	last, since := f(), time.Now()
	for end := time.Now().Add(limit); time.Now().Before(end) && time.Since(since) < still && w.ctx.Err() == nil; {
		w.sleep(50 * time.Millisecond)
		if now := f(); now != last {
			last, since = now, time.Now()
		}
	}
	return last
}

// dial connects to the endpoint of a daemon that was started with Command.
func (w *world) dial() (net.Conn, error) { return w.dialContext(w.ctx) }

func (w *world) dialContext(ctx context.Context) (net.Conn, error) {
	if w.mode == Port {
		d := net.Dialer{}
		return d.DialContext(ctx, "tcp", "127.0.0.1:"+w.port)
	}
	return dialSocket(ctx, w.socket())
}

// speaks reports whether a request, or a greeting, is known.
func (w *world) speaks() bool { return w.Target.Request != "" || w.Target.Expect != "" }

// ask does one request on a new connection.
func (w *world) ask() (string, error) {
	c, err := w.dial()
	if err != nil {
		return "", err
	}
	defer c.Close()
	if !w.speaks() {
		return "", nil
	}
	if err := w.send(c); err != nil {
		return "", err
	}
	return w.receive(c, w.patience())
}

func (w *world) send(c net.Conn) error {
	_ = c.SetWriteDeadline(time.Now().Add(w.patience()))
	_, err := c.Write([]byte(w.Target.Request))
	return err
}

// maxAnswer bounds what is read of an answer.
const maxAnswer = 64 << 10

// receive reads until there is an answer.
func (w *world) receive(c net.Conn, within time.Duration) (string, error) {
	_ = c.SetReadDeadline(time.Now().Add(within))
	stop := context.AfterFunc(w.ctx, func() { _ = c.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	expect := regexp.MustCompile(w.Target.Expect)
	var got []byte
	buf := make([]byte, 4096)
	for {
		n, err := c.Read(buf)
		got = append(got, buf[:n]...)
		if len(got) > 0 && expect.Match(got) {
			return string(got), nil
		}
		switch {
		case err != nil && len(got) == 0:
			return "", fmt.Errorf("no answer: %w", err)
		case err != nil || len(got) > maxAnswer:
			return "", fmt.Errorf("the answer is not what is expected: %q", tail(got, 200))
		}
	}
}

// A run is a command that was run to its end.
type ran struct {
	pid      int
	status   int // -1: ended by a signal
	output   string
	took     time.Duration
	timedOut bool
	expected bool // status 0, and the output is what is expected
}

// String says how it ended.
func (r ran) String() string {
	if r.timedOut {
		return fmt.Sprintf("had not ended after %v", r.took.Round(time.Millisecond))
	}
	text := fmt.Sprintf("exit status %d after %v", r.status, r.took.Round(time.Millisecond))
	if !r.expected && r.output != "" {
		text += fmt.Sprintf(", and said %q", tail([]byte(r.output), 200))
	}
	return text
}

// A command is how a client, or another command of the target, is run.
type command struct {
	argv   []string
	dir    string   // "" is the project
	env    []string // added
	gate   *gate    // it begins when this opens
	stdout *os.File // instead of a file
	stray  *os.File // which a sloppy caller left open
	within time.Duration
}

// begun is a command that runs.
type begun struct {
	*child
	out    *os.File
	from   time.Time
	within time.Duration
}

// begin starts a command in a session of its own, as a terminal has one.
func (w *world) begin(c command) (*begun, error) {
	argv := w.expandAll(c.argv)
	path, err := exec.LookPath(argv[0])
	if err != nil {
		return nil, err
	}
	if c.dir == "" {
		c.dir = w.project()
	}
	out, err := os.CreateTemp(w.dir, "out")
	if err != nil {
		return nil, err
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		return nil, err
	}
	defer null.Close()
	attr := &os.ProcAttr{Dir: c.dir, Env: append(w.env(), c.env...), Files: []*os.File{null, out, out}}
	if c.stdout != nil {
		attr.Files[1], attr.Files[2] = c.stdout, c.stdout
	}
	path, argv, done, err := c.own(path, argv, attr)
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	ch, err := w.family.start(path, argv, attr)
	done()
	if err != nil {
		_ = out.Close()
		return nil, err
	}
	if c.gate != nil {
		c.gate.hold(ch)
	}
	if c.within == 0 {
		c.within = w.patience()
	}
	return &begun{ch, out, time.Now(), c.within}, nil
}

// end waits for a command. One that does not end in its time is killed.
func (w *world) end(b *begun) ran {
	defer b.out.Close()
	r := ran{pid: b.pid}
	limit := time.NewTimer(b.within)
	defer limit.Stop()
	select {
	case <-b.ended:
	case <-limit.C:
		r.timedOut = true
	case <-w.ctx.Done():
		r.timedOut = true
	}
	r.took = time.Since(b.from)
	if r.timedOut {
		w.cut(b)
		<-b.ended
	}
	r.status = b.state.ExitCode()
	text := make([]byte, maxAnswer)
	n, _ := b.out.ReadAt(text, 0)
	r.output = strings.TrimSpace(string(text[:n]))
	r.expected = !r.timedOut && r.status == 0 && regexp.MustCompile(w.Target.Expect).MatchString(r.output)
	return r
}

// do runs a command.
func (w *world) do(c command) (ran, error) {
	b, err := w.begin(c)
	if err != nil {
		return ran{}, err
	}
	return w.end(b), nil
}

// crowd runs n clients that begin at the same moment.
func (w *world) crowd(n int) ([]ran, error) {
	g, err := newGate()
	if err != nil {
		return nil, err
	}
	var all []*begun
	for range n {
		b, berr := w.begin(command{argv: w.Target.Client, gate: g, within: 2 * w.patience()})
		if err = berr; err != nil {
			break
		}
		all = append(all, b)
	}
	g.open()
	var list []ran
	for _, b := range all {
		list = append(list, w.end(b))
	}
	return list, err
}

// served notes how many clients succeeded, and returns what is wrong if not all.
func (w *world) served(list []ran) string {
	var failed []ran
	slowest := time.Duration(0)
	for _, r := range list {
		slowest = max(slowest, r.took)
		if !r.expected {
			failed = append(failed, r)
		}
	}
	w.note("%d of %d clients succeeded, the slowest after %v", len(list)-len(failed), len(list), slowest.Round(time.Millisecond))
	const shown = 3
	for _, r := range failed[:min(shown, len(failed))] {
		w.note("one that did not: %v", r)
	}
	if len(failed) > 0 {
		return fmt.Sprintf("%d of %d clients failed", len(failed), len(list))
	}
	return ""
}

// A running daemon is what a client left behind that listens.
type running struct {
	process
	tree    []process
	sockets []socket
}

func (r running) String() string {
	var addrs []string
	for _, s := range r.sockets {
		addrs = append(addrs, s.String())
	}
	return fmt.Sprintf("%v, listening on %s", r.process, strings.Join(addrs, ", "))
}

// daemons are the processes that clients left behind and that listen, in
// themselves or in a child.
func (w *world) daemons() []running {
	var list []running
	all := processes()
	roots := w.family.roots(all)
	if len(roots) == 0 {
		return nil
	}
	sockets := listeners()
	for _, p := range roots {
		t := all.tree(p.pid)
		if s := held(sockets, t); len(s) > 0 {
			list = append(list, running{p, t, s})
		}
	}
	slices.SortFunc(list, func(a, b running) int { return a.pid - b.pid })
	return list
}

// settledDaemons are the daemons when losers have gone.
func (w *world) settledDaemons() []running {
	settle(w, func() string { return pids(w.daemons()) })
	list := w.daemons()
	const shown = 4
	for _, d := range list[:min(shown, len(list))] {
		w.note("%v", d)
	}
	if len(list) > shown {
		w.note("and %d more", len(list)-shown)
	}
	return list
}

func pids(list []running) string {
	var text []string
	for _, d := range list {
		text = append(text, fmt.Sprint(d.pid))
	}
	return strings.Join(text, " ")
}

// client runs the target's client once and wants it to succeed.
func (w *world) client(c command) (ran, error) {
	c.argv = w.Target.Client
	r, err := w.do(c)
	if err == nil && !r.expected {
		err = errors.New("the client " + r.String())
	}
	return r, err
}

// cold runs the first client and returns what it left behind. Where it is not
// what is judged, it may fail twice: some give up early on a busy machine.
func (w *world) cold(c command) (ran, []running, error) {
	const tries = 3
	r, err := w.client(c)
	for i := 1; err != nil && i < tries && w.ctx.Err() == nil; i++ {
		w.note("a first client that failed: %v", r)
		r, err = w.client(c)
	}
	if err != nil {
		return r, nil, err
	}
	if err := w.within(5*time.Second, "a daemon listens", func() bool { return len(w.daemons()) > 0 }); err != nil {
		return r, nil, errors.New("the client left nothing running that listens")
	}
	return r, w.daemons(), nil
}
