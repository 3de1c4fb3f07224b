package gocache

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// kill9 kills the daemon, if one runs, and returns its pid or 0.
func (r *rig) kill9() int {
	st, err := service(r.cfg).Status(context.Background())
	if err != nil || st.PID == 0 {
		return 0
	}
	_ = syscall.Kill(st.PID, syscall.SIGKILL)
	return st.PID
}

// TestBuild: real go commands, cold, warm and at once.
func TestBuild(t *testing.T) {
	t.Parallel()
	warmUp(t)
	if warm.cold.Misses == 0 || warm.cold.Puts == 0 {
		t.Errorf("the cold build: %+v", warm.cold)
	}
	r := newRig(t)
	r.fill()
	dir := newModule(t, "build", 4, 1000)
	want := plainBuild(t, dir)
	for i := range 2 {
		if got, said := r.build(dir); !bytes.Equal(got, want) || said != "" {
			t.Errorf("build %d differs from the plain one; go said %q", i, said)
		}
	}
	if s := r.stats(); s.Hits < 50 || s.Entries < 50 {
		t.Errorf("after a warm build: %+v", s)
	}
	var wg sync.WaitGroup
	dir = newModule(t, "four", 8, 1000)
	want = plainBuild(t, dir)
	for range 4 {
		wg.Go(func() {
			if got, said := r.build(dir); !bytes.Equal(got, want) || said != "" {
				t.Errorf("one of four differs; go said %q", said)
			}
		})
	}
	wg.Wait()
	if out, code := r.run("verify"); code != 0 {
		t.Errorf("verify: %s", out)
	}
}

// TestBuildKilled: the daemon is killed all the time, and the build is right.
func TestBuildKilled(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.fill()
	dir := newModule(t, "killed", 6, 1000)
	want := plainBuild(t, dir)
	stop := make(chan struct{})
	var kills atomic.Int32
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			if r.kill9() != 0 {
				kills.Add(1)
			}
			select {
			case <-stop:
				return
			case <-time.After(time.Duration(rand.IntN(50)) * time.Millisecond):
			}
		}
	})
	for range 3 {
		got, said := r.build(dir)
		if !bytes.Equal(got, want) {
			t.Error("the build differs from the plain one")
		}
		if n := strings.Count(said, "gocache:"); n > 1 {
			t.Errorf("said %d times: %s", n, said)
		}
	}
	close(stop)
	wg.Wait()
	if kills.Load() == 0 {
		t.Error("nothing was killed")
	}
	if out, code := r.run("verify"); code != 0 {
		t.Errorf("verify: %s", out)
	}
}

// TestKilledInPut: the daemon and clients are killed in the middle of puts. What
// was answered is there afterwards, and nothing torn is.
func TestKilledInPut(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	type done struct {
		action id
		body   []byte
	}
	var mu sync.Mutex
	var acked []done
	var said atomic.Int32
	for round := range 6 {
		var wg sync.WaitGroup
		for n := range 3 {
			g := r.client()
			wg.Go(func() {
				for i := range 60 {
					name := fmt.Sprint(round, n, i)
					d := done{actionOf(name), bodyOf(name, rand.IntN(200<<10))}
					res, err := g.do(putOf(d.action, d.body))
					if errors.Is(err, errChildGone) && n == 0 {
						return // as it was meant to
					}
					if err != nil || res.Err != "" || res.DiskPath == "" {
						t.Errorf("put: %+v, %v", res, err)
						return
					}
					mu.Lock()
					acked = append(acked, d)
					mu.Unlock()
					if res, err = g.do(request{Command: "get", ActionID: d.action[:]}, ""); n > 0 && (err != nil || res.Miss) {
						t.Errorf("get after put: %+v, %v", res, err)
					}
				}
				if n > 0 {
					code, stderr := g.close()
					if code != 0 || strings.Count(stderr, "\n") > 1 {
						t.Errorf("status %d, stderr %q", code, stderr)
					}
					if strings.Contains(stderr, "going on without the daemon: ") {
						said.Add(1)
					}
				}
			})
			if n == 0 { // the victim, with a put half written
				wg.Go(func() {
					time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
					_ = g.cmd.Process.Kill()
				})
			}
		}
		for range 2 {
			time.Sleep(time.Duration(20+rand.IntN(100)) * time.Millisecond)
			r.kill9()
		}
		wg.Wait()
	}
	if said.Load() == 0 {
		t.Error("no client said that it goes on without the daemon")
	}
	if out, code := r.run("verify"); code != 0 || !strings.Contains(out, " 0 malformed entries, 0 without a body, 0 corrupt") {
		t.Errorf("verify: status %d, %s", code, out)
	}
	g := r.client()
	for _, d := range acked {
		g.mustHit(d.action, d.body)
	}
	t.Logf("%d puts were answered, %d clients lost their daemon", len(acked), said.Load())
	g.close()
	r.stop()
	// A client that was killed leaves nothing for long.
	if out, code := r.run("prune"); code != 0 {
		t.Errorf("prune: %s", out)
	}
	for _, d := range []string{"tmp", "pins"} {
		if left, _ := os.ReadDir(filepath.Join(r.cfg.dir, d)); len(left) > 0 {
			t.Errorf("left over in %s: %v", d, left)
		}
	}
}

// TestWithout: no daemon can be had. The store serves, and the reason is said
// once.
func TestWithout(t *testing.T) {
	t.Parallel()
	r := newRig(t, "FASTBIND_RUNTIME_DIR=/proc/self") // refused: not ours to write
	body := []byte("without")
	for i := range 2 {
		g := r.client()
		if i == 0 {
			g.mustMiss(actionOf("w"))
			g.mustPut(actionOf("w"), body)
		}
		g.mustHit(actionOf("w"), body)
		code, stderr := g.close()
		if code != 0 || strings.Count(stderr, "gocache: going on without the daemon: ") != 1 || strings.Count(stderr, "\n") != 1 {
			t.Errorf("status %d, stderr %q", code, stderr)
		}
	}
}

// TestStopped: a daemon that hangs holds a build up once, for a bounded time.
func TestStopped(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.client()
	g.mustPut(actionOf("a"), []byte("a"))
	g.mustHit(actionOf("a"), []byte("a"))
	st, err := service(r.cfg).Status(t.Context())
	if err != nil || st.PID == 0 {
		t.Fatal(st, err)
	}
	if err := syscall.Kill(st.PID, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	defer syscall.Kill(st.PID, syscall.SIGCONT)
	began := time.Now()
	g.mustHit(actionOf("a"), []byte("a"))
	if took := time.Since(began); took < answerWithin/2 || took > 3*answerWithin {
		t.Errorf("took %v", took)
	}
	for i := range 20 {
		g.mustPut(actionOf(fmt.Sprint(i)), []byte("b"))
	}
	if took := time.Since(began); took > 4*answerWithin {
		t.Errorf("20 more took %v", took)
	}
	_ = syscall.Kill(st.PID, syscall.SIGCONT)
	if _, stderr := g.close(); !strings.Contains(stderr, "no answer") {
		t.Errorf("stderr %q", stderr)
	}
}

// TestDamage: a body that is not what it is called, or has not its size, and a
// torn entry are misses, and the next put mends them.
func TestDamage(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	body := bodyOf("damage", 10000)
	for name, damage := range map[string]func(bodyPath, entryPath string) error{
		"a bit":             func(b, _ string) error { return rewrite(b, func(x []byte) []byte { x[5000] ^= 1; return x }) },
		"cut":               func(b, _ string) error { return os.Truncate(b, 9999) },
		"empty":             func(b, _ string) error { return os.Truncate(b, 0) },
		"longer":            func(b, _ string) error { return os.Truncate(b, 10001) },
		"gone":              func(b, _ string) error { return os.Remove(b) },
		"a directory":       func(b, _ string) error { return errors.Join(os.Remove(b), os.Mkdir(b, 0o700)) },
		"torn entry":        func(_, e string) error { return os.Truncate(e, 40) },
		"empty entry":       func(_, e string) error { return os.Truncate(e, 0) },
		"entry gone":        func(_, e string) error { return os.Remove(e) },
		"entry of nonsense": func(_, e string) error { return rewrite(e, func([]byte) []byte { return []byte("v9 what\n") }) },
	} {
		t.Run(name, func(t *testing.T) {
			for _, fresh := range []string{"this daemon", "the next daemon", "no daemon"} {
				action := actionOf(name + fresh)
				body := append(body, action[:]...)[len(action):] // another output each time
				g := r.client()
				g.mustPut(action, body)
				g.mustHit(action, body)
				g.close()
				if strings.Contains(name, "entry") && fresh == "this daemon" {
					continue // it has the entry in memory, and the body is right
				}
				if fresh == "the next daemon" {
					r.stop()
				}
				e, _, err := r.store().lookup(action)
				if err != nil {
					t.Fatal(err)
				}
				path := r.store().body(e.output)
				if err := damage(path, r.store().action(action)); err != nil {
					t.Fatal(err)
				}
				if fresh == "no daemon" {
					r := &rig{t: t, self: r.self, cfg: r.cfg, env: append(r.env[:1:1], "FASTBIND_RUNTIME_DIR=/proc/self")}
					g = r.client()
				} else {
					g = r.client()
				}
				g.mustMiss(action)
				if name == "a directory" { // nothing mends that, and nothing fails
					if res := g.put(action, body); res.Err != "" {
						t.Errorf("%+v", res)
					} else {
						g.same(res.DiskPath, body)
					}
					g.close()
					_ = os.Remove(path)
					continue
				}
				g.mustPut(action, body)
				g.mustHit(action, body)
				g.close()
			}
		})
	}
	if s := r.stats(); s.Phase != "ready" {
		t.Errorf("%+v", s)
	}
}

func rewrite(path string, change func([]byte) []byte) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	fi, err := os.Stat(path)
	if err != nil {
		return err
	}
	if err := os.WriteFile(path, change(b), 0o600); err != nil {
		return err
	}
	return os.Chtimes(path, fi.ModTime().Add(time.Nanosecond), fi.ModTime().Add(time.Nanosecond))
}

// TestVerifyDrops: verify finds what nobody asked for.
func TestVerifyDrops(t *testing.T) {
	t.Parallel()
	r := newRig(t, "FASTBIND_RUNTIME_DIR=/proc/self")
	g := r.client()
	for i := range 5 {
		g.mustPut(actionOf(fmt.Sprint(i)), bodyOf(fmt.Sprint(i), 5000))
	}
	g.close()
	e, _, err := r.store().lookup(actionOf("0"))
	if err != nil {
		t.Fatal(err)
	}
	if err := rewrite(r.store().body(e.output), func(b []byte) []byte { b[0]++; return b }); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(r.store().action(actionOf("1")), 10); err != nil {
		t.Fatal(err)
	}
	out, code := r.run("verify")
	if code != 1 || !strings.Contains(out, "5 entries, 4 bodies read: 1 malformed entries, 0 without a body, 1 corrupt") {
		t.Errorf("status %d, %s", code, out)
	}
	if out, code = r.run("verify"); code != 0 || !strings.Contains(out, "3 entries") {
		t.Errorf("the second time: status %d, %s", code, out)
	}
}

// TestPinsOutliveDaemon: what was handed out before the daemon was killed stays
// while the go command lives, although the next daemon has no room for it.
func TestPinsOutliveDaemon(t *testing.T) {
	t.Parallel()
	r := newRig(t, "GOCACHE_MAX=256K")
	g := r.client()
	var paths []string
	for i := range 10 {
		paths = append(paths, g.mustPut(actionOf(fmt.Sprint("held", i)), bodyOf(fmt.Sprint("held", i), 30<<10)))
	}
	if r.kill9() == 0 {
		t.Fatal("no daemon")
	}
	var h *goCommand
	until(t, "evictions by the next daemon", func() bool {
		h = r.client()
		for range 10 {
			name := fmt.Sprint(rand.Uint64())
			h.mustPut(actionOf(name), bodyOf(name, 30<<10))
		}
		h.close()
		return r.stats().Evictions > 20
	})
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	g.mustHit(actionOf("held3"), bodyOf("held3", 30<<10))
	g.close()
	until(t, "the store is within its size", func() bool { return r.stats().Disk <= 256<<10 })
	left := 0
	for _, path := range paths {
		if _, err := os.Stat(path); err == nil {
			left++
		}
	}
	if left > 7 { // 7 × (32 + 4) KiB are 252 KiB
		t.Errorf("%d of 10 are left", left)
	}
}

// TestHandedOutStays: the same with everything at once: go commands that get and
// put in a store far too small, daemons killed, each path there until close.
func TestHandedOutStays(t *testing.T) {
	t.Parallel()
	r := newRig(t, "GOCACHE_MAX=128K")
	var wg sync.WaitGroup
	stop := make(chan struct{})
	wg.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(300 * time.Millisecond):
				if n%2 == 0 {
					r.kill9()
				} else {
					_, _ = r.run("prune", "--max", "64K") // a second remover
				}
			}
		}
	})
	var clients sync.WaitGroup
	var hits atomic.Int32
	for range 3 {
		clients.Go(func() {
			for range 6 {
				g := r.client()
				handed := map[string][]byte{}
				for range 60 {
					n := rand.IntN(60)
					action, body := actionOf(fmt.Sprint(n)), bodyOf(fmt.Sprint(n), 1000*n)
					res := g.get(action)
					if res.Miss {
						res = g.put(action, body)
					} else {
						hits.Add(1)
					}
					if res.Err != "" || res.DiskPath == "" {
						t.Errorf("%+v", res)
						continue
					}
					handed[res.DiskPath] = body
				}
				for path, body := range handed {
					if b, err := os.ReadFile(path); err != nil || !bytes.Equal(b, body) {
						t.Errorf("handed out, and now: %v", err)
					}
				}
				g.close()
			}
		})
	}
	clients.Wait()
	close(stop)
	wg.Wait()
	if hits.Load() == 0 {
		t.Error("nothing was hit")
	}
}

// TestTinyStore: a store much smaller than one build.
func TestTinyStore(t *testing.T) {
	t.Parallel()
	r := newRig(t, "GOCACHE_MAX=1M")
	r.fill()
	dir := newModule(t, "tiny", 4, 100<<10)
	want := plainBuild(t, dir)
	if got, said := r.build(dir); !bytes.Equal(got, want) || said != "" {
		t.Errorf("the build differs from the plain one; go said %q", said)
	}
	until(t, "the store is within its size", func() bool { s := r.stats(); return s.Disk <= 1<<20 && s.Evictions > 0 })
}

// mounted runs a build with the store on a mount of its own, which ends with it.
func (r *rig) mounted(dir, mount string) ([]byte, string) {
	r.t.Helper()
	if os.Geteuid() != 0 {
		r.t.Skip("needs root, to mount")
	}
	if out, err := exec.Command("unshare", "-m", "true").CombinedOutput(); err != nil {
		r.t.Skipf("needs unshare -m: %v %s", err, out)
	}
	if err := os.MkdirAll(r.cfg.dir, 0o700); err != nil {
		r.t.Fatal(err)
	}
	env := append(r.goEnv(), "STORE="+r.cfg.dir, "WARM="+warm.dir)
	return build(r.t, dir, env, "unshare", "-m", "sh", "-ec", mount+"\nexec \"$@\"", "sh")
}

// TestFullDisk: no space is left in the middle of a build.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	warmUp(t)
	dir := newModule(t, "full", 5, 1<<20)
	want := plainBuild(t, dir)
	for name, mount := range map[string]string{
		"soon":     `mount -t tmpfs -o size=32m none $STORE; cp -a $WARM/. $STORE`,
		"at once":  `mount -t tmpfs -o size=32m none $STORE; cp -a $WARM/. $STORE; head -c 32m /dev/zero >$STORE/fill || true`,
		"no inode": `mount -t tmpfs -o size=99m,nr_inodes=1000 none $STORE; cp -a $WARM/. $STORE; for i in $(seq 1000); do echo $STORE/fill$i; done | xargs touch 2>/dev/null || true`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			tmp := t.TempDir()
			r.env = append(r.env, "TMPDIR="+tmp)
			got, said := r.mounted(dir, mount)
			if !bytes.Equal(got, want) || strings.Contains(said, "gocache:") {
				t.Errorf("the build differs from the plain one; go said %q", said)
			}
			if left := tree(tmp); left != "" {
				t.Errorf("left over:\n%s", left)
			}
		})
	}
}

// TestReadOnly: hits of what the store holds, and a build that works.
func TestReadOnly(t *testing.T) {
	t.Parallel()
	warmUp(t)
	dir := newModule(t, "readonly", 3, 1000)
	want := plainBuild(t, dir)
	for name, mount := range map[string]string{
		"filled": `mount --bind $WARM $STORE; mount -o remount,bind,ro $STORE`,
		"a file": `umount $STORE 2>/dev/null || rmdir $STORE; : >$STORE`,
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t)
			got, said := r.mounted(dir, mount)
			if !bytes.Equal(got, want) || strings.Contains(said, "gocache:") {
				t.Errorf("the build differs from the plain one; go said %q", said)
			}
			if s := r.stats(); name == "filled" && s.Hits < 50 {
				t.Errorf("%+v", s)
			}
		})
	}
}
