package try

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// builds are what each round builds, all at the same time: two programs of the
// module that is carried along, and two packages of the standard library.
var builds = []struct{ name, pkg string }{
	{"almanac", "./cmd/almanac"},
	{"feed", "./cmd/feed"},
	{"template.a", "html/template"},
	{"printer.a", "go/printer"},
}

func names() string {
	var list []string
	for _, b := range builds {
		list = append(list, strings.TrimPrefix(b.pkg, "./cmd/"))
	}
	return strings.Join(list, ", ")
}

// A buildRound is what came of building everything once.
type buildRound struct {
	took time.Duration
	sums [][sha256.Size]byte // of the outputs; zero where a build failed
	errs []error
	said []string
}

func (r buildRound) failure() error { return errors.Join(r.errs...) }

func (r buildRound) succeeded() (n int) {
	for _, err := range r.errs {
		if err == nil {
			n++
		}
	}
	return n
}

// sameAs is how many outputs are the other round's.
func (r buildRound) sameAs(other buildRound) (n int) {
	for i, sum := range r.sums {
		if r.errs[i] == nil && other.errs[i] == nil && sum == other.sums[i] {
			n++
		}
	}
	return n
}

// wentOn says in how many builds the client went on without its daemon.
func (r buildRound) wentOn() string {
	n := 0
	for _, text := range r.said {
		if strings.Contains(text, "going on without the daemon") {
			n++
		}
	}
	return fmt.Sprintf("in %d of %d the cache said that it went on without its daemon for a moment", n, len(builds))
}

// build runs all builds at once. A build that fails is in the round; the error is
// for one that could not be run.
func (d *demo) build(ctx context.Context, how string, env []string) (buildRound, error) {
	r := buildRound{sums: make([][sha256.Size]byte, len(builds)), errs: make([]error, len(builds)), said: make([]string, len(builds))}
	what := "building " + how
	d.working(what, 0)
	began := time.Now()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards done
	done := 0
	for i, b := range builds {
		wg.Go(func() {
			out := filepath.Join(d.world.root, "out", b.name)
			_ = os.Remove(out)
			r.said[i], r.errs[i] = d.world.goBuild(ctx, env, out, b.pkg)
			if r.errs[i] == nil {
				r.sums[i], r.errs[i] = sumOf(out)
			}
			mu.Lock()
			done++
			part := float64(done) / float64(len(builds))
			mu.Unlock()
			d.working(what, part)
		})
	}
	wg.Wait()
	r.took = time.Since(began)
	return r, ctx.Err()
}

// goBuild builds one package and returns what go said.
func (w *world) goBuild(ctx context.Context, env []string, out, pkg string) (string, error) {
	cmd := w.command(ctx, env, w.goCommand, "build", "-trimpath", "-buildvcs=false", "-o", out, pkg)
	cmd.Dir = filepath.Join(w.root, "module")
	text, err := cmd.CombinedOutput()
	if err != nil {
		return string(text), fmt.Errorf("go build %s: %w\n%s", pkg, err, text)
	}
	return string(text), nil
}

func sumOf(path string) (sum [sha256.Size]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, err
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, err
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// command makes a command that dies with all its children when ctx ends.
func (w *world) command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = env
	cmd.Dir = w.root
	ownGroup(cmd)
	cmd.WaitDelay = 5 * time.Second // who holds its output longer is not waited for
	return cmd
}
