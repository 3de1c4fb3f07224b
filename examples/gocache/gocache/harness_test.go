package gocache

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"log"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fastbind/fastbind"
)

// TestMain: the test binary is gocache too, client and daemon, as any executable
// that carries the package is.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == Hidden {
		os.Exit(Main(os.Args[1:], os.Environ(), os.Stdin, os.Stdout, os.Stderr))
	}
	os.Exit(testMain(m))
}

var testRoot string // of this run: run-time files, state, the warm store

func testMain(m *testing.M) int {
	dir, err := os.MkdirTemp(tempBase, "gct")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)
	testRoot = dir
	for k, v := range testDirs {
		if err := os.Mkdir(filepath.Join(dir, v), 0o700); err != nil {
			log.Fatal(err)
		}
		os.Setenv(k, filepath.Join(dir, v))
	}
	os.Setenv("FASTBIND_RUNTIME_DIR", filepath.Join(dir, "run")) // which fastbind makes, as private as it must be
	// The race detector's runtime sleeps a second before each exit otherwise.
	os.Setenv("GORACE", "atexit_sleep_ms=0")
	return m.Run()
}

// A rig is a store of its own, with its daemon.
type rig struct {
	t    *testing.T
	env  []string
	cfg  config
	self string
}

func newRig(t *testing.T, env ...string) *rig {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "store")
	r := &rig{t: t, env: append([]string{"GOCACHE_DIR=" + dir}, env...)}
	var err error
	if r.cfg, err = configOf(r.env); err != nil {
		t.Fatal(err)
	}
	if r.self, err = os.Executable(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// stop stops the daemon and reads its log: nobody else would see a data race.
func (r *rig) stop() {
	r.t.Helper()
	if st, err := service(r.cfg).Status(context.Background()); err == nil && st.Log != "" {
		defer func() {
			text, err := os.ReadFile(st.Log)
			if err != nil || bytes.Contains(text, []byte("DATA RACE")) || bytes.Contains(text, []byte("panic:")) {
				r.t.Errorf("the daemon's log: %v\n%s", err, text)
			}
		}()
	}
	err := service(r.cfg).Stop(context.Background())
	if err != nil && !errors.Is(err, fastbind.ErrNoService) && !errors.Is(err, fastbind.ErrNotRunning) {
		r.t.Error(err)
	}
}

func (r *rig) store() store { return store{r.cfg.dir} }

// run runs a verb and returns its output and exit status.
func (r *rig) run(args ...string) (string, int) {
	r.t.Helper()
	cmd := exec.Command(r.self, append([]string{Hidden}, args...)...)
	cmd.Env = append(os.Environ(), r.env...)
	out, err := cmd.CombinedOutput()
	if err != nil && cmd.ProcessState == nil {
		r.t.Fatal(err)
	}
	return string(out), cmd.ProcessState.ExitCode()
}

func (r *rig) stats() stats {
	r.t.Helper()
	out, code := r.run("stats", "--json")
	var s stats
	if err := json.Unmarshal([]byte(out), &s); err != nil || code != 0 {
		r.t.Fatalf("stats: status %d, %v\n%s", code, err, out)
	}
	return s
}

// until waits for a condition, to the test's deadline.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline, ok := t.Deadline()
	for !cond() {
		if ok && time.Until(deadline) < 5*time.Second {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// A goCommand is the scripted cmd/go side of one client process.
type goCommand struct {
	t      *testing.T
	cmd    *exec.Cmd
	in     io.WriteCloser
	stderr bytes.Buffer

	writing sync.Mutex // apart from mu: a full pipe must not keep responses from being read

	mu      sync.Mutex // guards the fields below
	next    int64
	waiting map[int64]chan response
	dead    bool
	ended   chan struct{}
}

func (r *rig) client() *goCommand {
	r.t.Helper()
	g := &goCommand{t: r.t, waiting: map[int64]chan response{}, ended: make(chan struct{})}
	g.cmd = exec.Command(r.self, Hidden)
	g.cmd.Env = append(os.Environ(), r.env...)
	g.cmd.Stderr = &g.stderr
	var err error
	if g.in, err = g.cmd.StdinPipe(); err != nil {
		r.t.Fatal(err)
	}
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		r.t.Fatal(err)
	}
	if err := g.cmd.Start(); err != nil {
		r.t.Fatal(err)
	}
	hello := make(chan response, 1)
	g.waiting[0] = hello
	go g.read(out)
	r.t.Cleanup(func() {
		_ = g.in.Close()
		<-g.ended
		_ = g.cmd.Wait()
	})
	if res := <-hello; !slices.Equal(res.KnownCommands, []string{"get", "put", "close"}) {
		r.t.Fatalf("first message %+v", res)
	}
	return g
}

func (g *goCommand) read(out io.Reader) {
	defer close(g.ended)
	for dec := json.NewDecoder(out); ; {
		var res response
		err := dec.Decode(&res)
		g.mu.Lock()
		if err != nil {
			for _, ch := range g.waiting {
				close(ch)
			}
			g.dead = true
			g.mu.Unlock()
			return
		}
		ch := g.waiting[res.ID]
		delete(g.waiting, res.ID)
		g.mu.Unlock()
		if ch == nil {
			g.t.Errorf("a response to nothing: %+v", res)
			continue
		}
		ch <- res
	}
}

var errChildGone = errors.New("the child is gone")

// start sends a request and returns where its response comes.
func (g *goCommand) start(req request, body string) (<-chan response, error) {
	ch := make(chan response, 1)
	g.writing.Lock()
	defer g.writing.Unlock()
	g.mu.Lock()
	if g.dead {
		g.mu.Unlock()
		return nil, errChildGone
	}
	g.next++
	req.ID = g.next
	g.waiting[req.ID] = ch
	g.mu.Unlock()
	b, err := json.Marshal(req)
	if err != nil {
		return nil, err
	}
	b = append(b, "\n\n"...) // as cmd/go does
	if req.BodySize > 0 {
		b = append(b, body...)
	}
	if _, err := g.in.Write(b); err != nil {
		return nil, errChildGone
	}
	return ch, nil
}

func (g *goCommand) do(req request, body string) (response, error) {
	ch, err := g.start(req, body)
	if err != nil {
		return response{}, err
	}
	res, ok := <-ch
	if !ok {
		return res, errChildGone
	}
	return res, nil
}

func actionOf(name string) id { return sha256.Sum256([]byte("action " + name)) }

func putOf(action id, body []byte) (request, string) {
	out := sha256.Sum256(body)
	return request{Command: "put", ActionID: action[:], OutputID: out[:], BodySize: int64(len(body))},
		`"` + base64.StdEncoding.EncodeToString(body) + "\"\n"
}

func (g *goCommand) put(action id, body []byte) response {
	g.t.Helper()
	res, err := g.do(putOf(action, body))
	if err != nil {
		g.t.Fatal(err)
	}
	return res
}

func (g *goCommand) get(action id) response {
	g.t.Helper()
	res, err := g.do(request{Command: "get", ActionID: action[:]}, "")
	if err != nil {
		g.t.Fatal(err)
	}
	return res
}

// mustPut puts and checks the answer.
func (g *goCommand) mustPut(action id, body []byte) (path string) {
	g.t.Helper()
	res := g.put(action, body)
	if res.Err != "" || res.Miss {
		g.t.Fatalf("put: %+v", res)
	}
	g.same(res.DiskPath, body)
	return res.DiskPath
}

// mustHit gets and checks that the body is this one.
func (g *goCommand) mustHit(action id, body []byte) (path string) {
	g.t.Helper()
	res := g.get(action)
	out := sha256.Sum256(body)
	if res.Miss || res.Err != "" || !bytes.Equal(res.OutputID, out[:]) || res.Size != int64(len(body)) || res.Time == nil {
		g.t.Fatalf("get: %+v", res)
	}
	g.same(res.DiskPath, body)
	return res.DiskPath
}

func (g *goCommand) mustMiss(action id) {
	g.t.Helper()
	if res := g.get(action); !res.Miss || res.Err != "" || res.DiskPath != "" {
		g.t.Fatalf("get: %+v, want a miss", res)
	}
}

func (g *goCommand) same(path string, body []byte) {
	g.t.Helper()
	if !filepath.IsAbs(path) {
		g.t.Fatalf("DiskPath %q is not absolute", path)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		g.t.Fatal(err)
	}
	if !bytes.Equal(b, body) {
		g.t.Fatalf("the body at %s is another one", path)
	}
}

// close says close and returns the exit status and what was on stderr.
func (g *goCommand) close() (int, string) {
	g.t.Helper()
	if res, err := g.do(request{Command: "close"}, ""); err != nil || res.Err != "" {
		g.t.Fatalf("close: %+v, %v", res, err)
	}
	return g.wait()
}

func (g *goCommand) wait() (int, string) {
	<-g.ended
	_ = g.cmd.Wait()
	return g.cmd.ProcessState.ExitCode(), g.stderr.String()
}

// body is n bytes that depend on name.
func bodyOf(name string, n int) []byte {
	seed := sha256.Sum256([]byte(name))
	b := make([]byte, 0, n+32)
	for len(b) < n {
		b = append(b, seed[:]...)
		seed = sha256.Sum256(seed[:])
	}
	return b[:n]
}

// tree lists a directory's files, for messages.
func tree(dir string) string {
	found := map[string]bool{}
	_ = filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && !d.IsDir() {
			found[path] = true
		}
		return nil
	})
	return strings.Join(slices.Sorted(maps.Keys(found)), "\n")
}
