//go:build linux

package main

import (
	"context"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestPeers: what each says of itself is of use, and peers.sh has them all.
func TestPeers(t *testing.T) {
	script, err := os.ReadFile("peers.sh")
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, p := range peers {
		if p.name == "" || p.what == "" || len(p.version) == 0 || seen[p.name] {
			t.Errorf("%q: no name, no description, no version or not the only one", p.name)
		}
		seen[p.name] = true
		if _, err := regexp.Compile(p.expect); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		if (len(p.client) == 0) == (p.cache == "") {
			t.Errorf("%s has a client and is a cache, or neither", p.name)
		}
		if p.own == (p.why != "") && p.cache == "" {
			t.Errorf("%s launches its daemon itself, or says why not: %q", p.name, p.why)
		}
		if (len(p.activator) == 0) != (p.socket == "") {
			t.Errorf("%s: activator %q, socket %q", p.name, p.activator, p.socket)
		}
		if len(p.needs) > 0 && !strings.Contains(string(script), "\npeer "+p.name+" ") {
			t.Errorf("peers.sh does not install %s", p.name)
		}
	}
	all, err := chosenPeers("all")
	if err != nil || len(all) != len(peers) {
		t.Errorf("all are %d: %v", len(all), err)
	}
	some, err := chosenPeers("tmux,adb")
	if err != nil || len(some) != 2 || some[0].name != "tmux" || some[1].name != "adb" {
		t.Errorf("%v, %v", some, err)
	}
	if _, err := chosenPeers("tmux,nobody"); err == nil || !strings.Contains(err.Error(), `"nobody"`) {
		t.Errorf("error %v", err)
	}
}

// TestMissing: a peer that is not there is told with the reason.
func TestMissing(t *testing.T) {
	dir := t.TempDir()
	p := peer{name: "x", needs: []string{"no-such-executable"}}
	if got := p.missing(dir, nil, nil); got != `no executable "no-such-executable"; bench/peers.sh installs it` {
		t.Error(got)
	}
	if err := os.WriteFile(filepath.Join(dir, "x.missing"), []byte("the registry says no\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := p.missing(dir, nil, nil); !strings.HasSuffix(got, "bench/peers.sh: the registry says no") {
		t.Error(got)
	}
	p = peer{name: "x", ports: true}
	if got := p.missing(dir, nil, errors.New("not root")); got != "it insists on a port: not root" {
		t.Error(got)
	}
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "no-such-executable"), []byte("#!/bin/sh\n"), 0o700); err != nil {
		t.Fatal(err)
	}
	p = peer{name: "x", needs: []string{"no-such-executable"}}
	if got := p.missing(dir, nil, nil); got != "" {
		t.Error(got)
	}
}

// testWorld is a world with the tool in it.
func testWorld(t *testing.T) *world {
	for _, name := range []string{"FASTBIND_RUNTIME_DIR", "XDG_STATE_HOME", "FASTBIND_CONFIG_DIR"} {
		t.Setenv(name, os.Getenv(name)) // newWorld sets them for this process
	}
	w, err := newWorld()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := w.close(); err != nil {
			t.Error(err)
		}
	})
	if err := w.build(t.Context(), "tool"); err != nil {
		t.Fatal(err)
	}
	return w
}

// TestContests measures peers of which it is known how they do.
func TestContests(t *testing.T) {
	w := testWorld(t)
	s := size{pairs: 3, rounds: 2}
	for _, c := range []struct {
		peer
		within  time.Duration
		failed  bool
		first   string // of the failures
		started int    // in a crowd
		ratios  bool
	}{
		// Ourselves as a peer: one daemon, however many come.
		{peer: peer{name: "twin", client: []string{"{bin}/tool"}, expect: "hello", env: []string{"FASTBIND_RUNTIME_DIR={run}"}, crowd: 8}, started: 1, ratios: true},
		// Each starts a daemon, which keeps its output open.
		{peer: peer{name: "each", client: []string{"sh", "-c", "setsid sleep 300 & echo hello"}, expect: "hello", crowd: 5}, started: 5, ratios: true},
		// The same, and none of them lives for long: longer than the shell, which would bury it.
		{peer: peer{name: "gone", client: []string{"sh", "-c", "setsid sleep 0.2 & echo hello"}, expect: "hello", crowd: 4}, started: 4, ratios: true},
		{peer: peer{name: "fails", client: []string{"sh", "-c", "echo {root} is broken; exit 3"}, crowd: 3}, failed: true, first: "exit status 3: {root} is broken", started: 0},
		{peer: peer{name: "wrong", client: []string{"echo", "goodbye"}, expect: "hello", crowd: 3}, failed: true, first: `printed "goodbye"`},
		{peer: peer{name: "hangs", client: []string{"sleep", "300"}, crowd: 3}, within: 50 * time.Millisecond, failed: true, first: "not served within 50ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			e, err := w.enter(c.peer, t.TempDir(), nil)
			if err != nil {
				t.Fatal(err)
			}
			if c.within > 0 {
				e.within = c.within
			}
			got, err := e.contests(t.Context(), s, regexp.MustCompile(""))
			if err != nil {
				t.Fatal(err)
			}
			var names []string
			for _, co := range got {
				names = append(names, co.Name)
				n := 3
				if co.Name == crowded {
					n = s.rounds * c.crowd
					if c.within > 0 || c.failed {
						n = co.Theirs.Clients // rounds are as many as there is time for
					}
				}
				if co.Ours.Failed != 0 || co.Ours.P50 == 0 {
					t.Errorf("%s: ours %+v", co.Name, co.Ours)
				}
				if co.Theirs.Clients == 0 || co.Name != crowded && co.Theirs.Clients != n || c.failed != (co.Theirs.Failed == co.Theirs.Clients) || co.Theirs.First != c.first {
					t.Errorf("%s: theirs %+v", co.Name, co.Theirs)
				}
				if (co.Ratio > 0) != c.ratios {
					t.Errorf("%s: ratio %v", co.Name, co.Ratio)
				}
				if co.Name == crowded && (co.Ours.Started != [2]int{1, 1} || co.Theirs.Started != [2]int{c.started, c.started}) {
					t.Errorf("started %v, theirs %v, not %d", co.Ours.Started, co.Theirs.Started, c.started)
				}
				left := c.started
				if c.name == "gone" {
					left = 0
				}
				if co.Name == crowded && co.Theirs.Left != [2]int{left, left} {
					t.Errorf("left %v, not %d", co.Theirs.Left, left)
				}
			}
			if strings.Join(names, ", ") != "cold, warm, after kill -9, crowd" {
				t.Errorf("measured %q", names)
			}
			if pids, err := w.strays(); err != nil || len(pids) != 0 {
				t.Errorf("left are %v, %v", pids, err)
			}
		})
	}
}

// TestFresh: no daemon is left, no run-time file, and everything else.
func TestFresh(t *testing.T) {
	w := testWorld(t)
	e, err := w.enter(peer{name: "x", setup: "echo kept >kept", client: []string{"true"}, files: []string{"{root}/home/state*"}}, t.TempDir(), nil)
	if err != nil {
		t.Fatal(err)
	}
	root := filepath.Dir(e.dir)
	run := w.memory[len(w.memory)-1]
	at := func(name string) string {
		if sub, ok := strings.CutPrefix(name, "run"); ok {
			return run + sub
		}
		return filepath.Join(root, name)
	}
	for _, name := range []string{"run/sock", "run/.hidden", "tmp/x", "home/state.1", "home/key"} {
		if err := os.WriteFile(at(name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := e.fresh(); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"run/sock": false, "run/.hidden": false, "tmp/x": false, "home/state.1": false, "home/key": true, "project/kept": true, "run": true} {
		if _, err := os.Stat(at(name)); (err == nil) != want {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestEndStrays: with what they leave behind when they are ended.
func TestEndStrays(t *testing.T) {
	w := testWorld(t)
	pids := filepath.Join(w.dir, "pids")
	// A daemon with a child in a session of its own.
	if err := exec.Command("sh", "-c", `setsid sh -c 'setsid sleep 300 & echo $! $$ >"$0"; wait' "$0" &`, pids).Run(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var text []byte
	if err := await(ctx, func() (err error) {
		if text, err = os.ReadFile(pids); err == nil && len(strings.Fields(string(text))) != 2 {
			err = errors.New("not written yet")
		}
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if all, alive, err := w.settled(); err != nil || all != 1 || alive != 1 {
		t.Errorf("%d daemons, %d alive, %v", all, alive, err)
	}
	if err := w.endStrays(); err != nil {
		t.Fatal(err)
	}
	for _, f := range strings.Fields(string(text)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d is left: %v", pid, err)
		}
	}
}

// TestNetwork: it has loopback, up, and nothing else; this process stays outside.
func TestNetwork(t *testing.T) {
	n, err := newNetwork()
	if errors.Is(err, unix.EPERM) {
		t.Skipf("only root may make a network namespace: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer n.close()
	cmd := exec.Command("sh", "-c", "cat /proc/self/net/dev; readlink /proc/self/ns/net; cat /proc/self/net/route /proc/self/net/fib_trie")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := n.start(cmd); err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(out)
	if err := errors.Join(err, cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	// Of this thread: the network's may be the process's first, which is what self shows.
	mine, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	if text := string(b); strings.Contains(text, mine) || strings.Count(text, ":\u0020") < 1 || !strings.Contains(text, "lo:") ||
		regexp.MustCompile(`(?m)^ *(eth|en)\w*:`).MatchString(text) || !strings.Contains(text, "127.0.0.1") {
		t.Errorf("in the network, this process's being %s:\n%s", mine, text)
	}
}

func TestParseCalls(t *testing.T) {
	got, err := parseCalls([]byte(`% time     seconds  usecs/call     calls    errors syscall
------ ----------- ----------- --------- --------- ------------------
 29.14    0.009597         479        20           futex
  2.63    0.000866          12        68         7 newfstatat
  1.80    0.000594          24        24         2 openat
------ ----------- ----------- --------- --------- ------------------
100.00    0.032977          43       766       266 total
`))
	if err != nil || len(got) != 2 || got["newfstatat"] != 68 || got["openat"] != 24 {
		t.Errorf("%v, %v", got, err)
	}
	if _, err := parseCalls([]byte("what is this line here\n")); err == nil {
		t.Error("a line that is none was passed over")
	}
	c := callsResult{What: "a", Against: "b", Ours: map[string]int{"openat": 24, "read": 1}, Theirs: map[string]int{"read": 1, "stat": 2}}
	if got := c.line(); got != "| a | b | 25 | 3 | openat +24, stat -2 |" {
		t.Error(got)
	}
}

// sample reports of two runs.
func testReports() (first, second *report) {
	first = &report{Format: format, Runs: []runInfo{{Machine: "machine one", Took: time.Minute}},
		Rows: []result{
			{Row: "warm Dial, in process", Against: "net.Dial", Ours: "2.0 µs", Theirs: "1.0 µs", Value: 2, Low: 1.9, High: 2.1, Target: 1.1},
			{Row: "next tool after kill -9", Against: "cold tool", Value: 0.5, Low: 0.4, High: 0.6, Target: 1.1, Pass: true},
			{Row: "memory of a daemon", Against: "net.Listen", Value: 1.2, Unit: "MB more", Target: 1.5, Pass: true}},
		Stages: []stages{{Load: 0, Launches: 3, Main: 1e6, Bound: 2e6, Connected: 3e6, Daemon: 4e6, Ready: 5e6, Reply: 6e6, Exit: 7e6}}}
	second = &report{Format: format, Runs: []runInfo{{Machine: "machine two"}},
		Rows: []result{{Row: "warm Dial, in process", Against: "net.Dial", Value: 1, Low: 1, High: 1, Target: 1.1, Pass: true}},
		Peers: []peerResult{{Peer: "adb", Version: "1.2", Own: true, Contests: []contest{
			{Name: cold, Ours: standing{P50: 6e6, Clients: 9}, Theirs: standing{P50: 3e6, Clients: 9, Failed: 1, First: "exit status 1: why"}, Ratio: 2, Low: 1.5, High: 2.5},
			{Name: crowded, Ours: standing{Last: 5e8, P50: 1e8, Clients: 100, Started: [2]int{1, 1}}, Theirs: standing{Last: 9e8, P50: 1e8, Clients: 100, Failed: 3, Started: [2]int{4, 7}}, Ratio: 0.55}}},
			{Peer: "tmux", Own: true, Contests: []contest{{Name: cold, Ours: standing{P50: 6e6, Clients: 9}, Theirs: standing{P50: 4e6, Clients: 9}, Ratio: 1.5}}},
			{Peer: "gocacheprog", Missing: "not to be had"}}}
	return first, second
}

// TestReports: written, read, put together; others' are refused.
func TestReports(t *testing.T) {
	first, second := testReports()
	dir := t.TempDir()
	a, b, bad := filepath.Join(dir, "a"), filepath.Join(dir, "b"), filepath.Join(dir, "bad")
	if err := errors.Join(first.write(a), second.write(b), os.WriteFile(bad, []byte(`{"format": 99}`), 0o600)); err != nil {
		t.Fatal(err)
	}
	r, err := readReports([]string{a, b})
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Runs) != 2 || len(r.Rows) != 4 || r.Rows[0].Value != 1 || r.Rows[3].Unit != "MB more" || len(r.Peers) != 3 || r.Stages[0].Exit != 7*time.Millisecond {
		t.Errorf("%+v", r)
	}
	if _, err := readReports([]string{a, bad}); err == nil || !strings.Contains(err.Error(), "format 99") {
		t.Errorf("error %v", err)
	}
	// One that did not serve all is not the fastest.
	if best, ok := r.best(); !ok || best.Value != 1.5 || !strings.HasSuffix(best.Against, ": tmux") {
		t.Errorf("best %+v, %v", best, ok)
	}
	if r.broken(io.Discard) {
		t.Error("a count does not hold")
	}
	r.Peers[0].Contests[1].Ours.Started[1] = 2
	var out strings.Builder
	if !r.broken(&out) || !strings.Contains(out.String(), "2 daemons were started") {
		t.Errorf("two daemons were overlooked: %q", out.String())
	}
}

// TestPage: figures that are there, and charts that are XML and say whose they are.
func TestPage(t *testing.T) {
	first, second := testReports()
	for _, p := range profiles {
		first.Profile = append(first.Profile, profileResult{Profile: p.name, What: "one of " + p.name, Kinds: map[string]float64{p.rest: 1}})
	}
	dir := t.TempDir()
	a, b := filepath.Join(dir, "a"), filepath.Join(dir, "b")
	if err := errors.Join(first.write(a), second.write(b)); err != nil {
		t.Fatal(err)
	}
	page, charts := filepath.Join(dir, "docs", "P.md"), filepath.Join(dir, "docs", "performance")
	var out strings.Builder
	status, err := run(t.Context(), []string{"-from", a + "," + b, "-charts", charts, "-md", page}, &out)
	if err != nil || status != 0 {
		t.Fatalf("status %d, %v: %s", status, err, out.String())
	}
	text, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"machine one", "machine two", "| warm Dial, in process | net.Dial |", "| adb 1.2 | crowd of 100 | 500 ms | 900 ms | 0.55 |",
		"| one of processor time of a cold launch | 1000.00 ms |", "| one of processor time of a warm Dial | 1000000.00 µs |", "| one of memory of a daemon, by what it is | 1 kB |",
		"| one of processor time of a warm go build |  | 1000 ms |", "not measured: not to be had", "Failed, cold: `exit status 1: why`", "None of them has measured: warm Dial, in process / net.Dial and the check of who is there, by hand; warm Dial under replace / net.Dial; ", "(performance/cold-0s.svg)", "(performance/rows.svg)", "(performance/crowd.svg)", "(performance/peers.svg)"} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the page does not have %q", want)
		}
		if name := strings.Trim(want, "()"); strings.HasSuffix(name, ".svg") {
			f, err := os.Open(filepath.Join(dir, "docs", name))
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			dec, words := xml.NewDecoder(f), ""
			for {
				tok, err := dec.Token()
				if err == io.EOF {
					break
				}
				if err != nil {
					t.Fatalf("%s: %v", name, err)
				}
				if c, ok := tok.(xml.CharData); ok {
					words += string(c)
				}
			}
			want := map[string]string{"cold-0s": "bound until connected: 1.00 ms", "rows": "warm Dial, in process / net.Dial", "crowd": "3 of 100 failed, 7 daemons started", "peers": "tmux"}
			if w := want[strings.TrimSuffix(filepath.Base(name), ".svg")]; !strings.Contains(words, w) {
				t.Errorf("%s does not say %q", name, w)
			}
		}
	}
}

// TestPerformancePage: docs/PERFORMANCE.md and its charts are what a run has written.
func TestPerformancePage(t *testing.T) {
	const docs = "../docs"
	r, err := readReports([]string{docs + "/performance/run.json"})
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := errors.Join(r.draw(filepath.Join(dir, "performance")), r.page(filepath.Join(dir, "PERFORMANCE.md"), filepath.Join(dir, "performance"))); err != nil {
		t.Fatal(err)
	}
	made, err := filepath.Glob(dir + "/performance/*.svg")
	if err != nil || len(made) < 5 {
		t.Fatalf("%d charts, %v", len(made), err)
	}
	for _, path := range append(made, filepath.Join(dir, "PERFORMANCE.md")) {
		name, err := filepath.Rel(dir, path)
		if err != nil {
			t.Fatal(err)
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		got, err := os.ReadFile(filepath.Join(docs, name))
		if err != nil {
			t.Fatal(err)
		}
		if string(got) != string(want) {
			t.Errorf("docs/%s is not of docs/performance/run.json; run\n\tgo -C bench run . -from ../docs/performance/run.json -charts ../docs/performance -md ../docs/PERFORMANCE.md", name)
		}
	}
}

// TestStages measures a launch: the stages come in their order.
func TestStages(t *testing.T) {
	w := testWorld(t)
	if err := w.build(t.Context(), "stages"); err != nil {
		t.Fatal(err)
	}
	s, err := launchInStages(t.Context(), w, 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if !(0 < s.Main && s.Main < s.Connected && s.Connected < s.Reply && s.Reply < s.Exit && s.Main < s.Bound && s.Daemon < s.Ready && s.Ready < s.Reply) {
		t.Errorf("%+v", s)
	}
	if s.Ready-s.Daemon < 50*time.Millisecond {
		t.Errorf("it was ready %s after its main", s.Ready-s.Daemon)
	}
}
