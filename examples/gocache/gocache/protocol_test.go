package gocache

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// TestProtocol: what cmd/go says and is answered.
func TestProtocol(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	g := r.client()
	a := actionOf("a")

	t.Run("miss", func(t *testing.T) { g.mustMiss(a) })
	for name, body := range map[string][]byte{
		"small": []byte("x"), "empty": {}, "two": []byte("ab"), "three": []byte("abc"),
		"larger than any buffer": bodyOf("large", 3<<20+1), "not text": {0, 0xff, '"', '\n'},
	} {
		t.Run(name, func(t *testing.T) {
			path := g.mustPut(actionOf(name), body)
			if got := g.mustHit(actionOf(name), body); got != path {
				t.Errorf("get says %s, put said %s", got, path)
			}
		})
	}
	t.Run("replaced", func(t *testing.T) {
		for i := range 3 {
			body := fmt.Appendf(nil, "version %d", i)
			g.mustPut(a, body)
			g.mustHit(a, body)
		}
	})
	t.Run("two actions, one output", func(t *testing.T) {
		if g.mustPut(actionOf("one"), []byte("same")) != g.mustPut(actionOf("two"), []byte("same")) {
			t.Error("stored twice")
		}
	})

	req, body := putOf(actionOf("refused"), []byte("twelve bytes"))
	for name, c := range map[string]struct {
		change func(*request)
		body   string
	}{
		"another body":     {body: `"` + base64.StdEncoding.EncodeToString([]byte("twelve bytez")) + `"`},
		"a shorter body":   {body: `"dHdlbHZl"`},
		"a longer body":    {body: `"dHdlbHZlIGJ5dGVzdHdlbHZl"`},
		"no base64":        {body: `"?????"`},
		"truncated base64": {body: `"dHdlbHZlIGJ5dGV"`},
		"a short action":   {change: func(r *request) { r.ActionID = r.ActionID[:31] }, body: body},
		"no action":        {change: func(r *request) { r.ActionID = nil }, body: body},
		"a long output":    {change: func(r *request) { r.OutputID = append(r.OutputID[:32:32], 0) }, body: body},
		"unknown command":  {change: func(r *request) { r.Command, r.BodySize = "put2", 0 }},
		"get of nothing":   {change: func(r *request) { r.Command, r.BodySize, r.ActionID = "get", 0, nil }},
	} {
		t.Run(name, func(t *testing.T) {
			req := req
			if c.change != nil {
				c.change(&req)
			}
			res, err := g.do(req, c.body+"\n")
			if err != nil || res.Err == "" || res.DiskPath != "" {
				t.Errorf("%+v, %v; want an error", res, err)
			}
			g.mustMiss(actionOf("refused"))
			g.mustPut(a, []byte("and it goes on"))
		})
	}
	if left, _ := os.ReadDir(filepath.Join(r.cfg.dir, "tmp")); len(left) > 0 {
		t.Errorf("temporary files are left over: %v", left)
	}

	t.Run("at once", func(t *testing.T) {
		var wg sync.WaitGroup
		for i := range 300 {
			body := bodyOf(fmt.Sprint(i), i*10)
			action := actionOf(fmt.Sprint("at once", i))
			wg.Go(func() {
				res, err := g.do(request{Command: "get", ActionID: action[:]}, "")
				if err != nil || !res.Miss {
					t.Errorf("%+v, %v", res, err)
				}
				if res, err = g.do(putOf(action, body)); err != nil || res.DiskPath == "" {
					t.Errorf("%+v, %v", res, err)
				}
				res, err = g.do(request{Command: "get", ActionID: action[:]}, "")
				if err != nil || res.Miss {
					t.Errorf("%+v, %v", res, err)
				}
			})
		}
		wg.Wait()
	})

	t.Run("close", func(t *testing.T) {
		if code, stderr := g.close(); code != 0 || stderr != "" {
			t.Errorf("status %d, stderr %q", code, stderr)
		}
		if pins := leftIn(filepath.Join(r.cfg.dir, "pins")); len(pins) > 0 {
			t.Errorf("pins are left over: %v", pins)
		}
		g := r.client()
		g.mustHit(a, []byte("and it goes on"))
	})
}

// TestProtocolEnds: how a client ends when cmd/go does not say close.
func TestProtocolEnds(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	req, body := putOf(actionOf("cut"), bodyOf("cut", 1000))
	head, _ := json.Marshal(req)
	for name, c := range map[string]struct {
		in   string
		code int
		said string
	}{
		"nothing":           {"", 0, ""},
		"blank lines":       {"\n \n\n", 0, ""},
		"no JSON":           {"get it\n", 1, "malformed request"},
		"half a request":    {`{"ID":1,`, 1, "unexpected EOF"},
		"an endless line":   {strings.Repeat("x", 2*maxLine), 1, "reading a request"},
		"no body":           {string(head) + "\n", 1, "unexpected EOF"},
		"half a body":       {string(head) + "\n" + body[:500], 1, "unexpected EOF"},
		"something instead": {string(head) + "\n{}", 1, "a body begins with"},
	} {
		t.Run(name, func(t *testing.T) {
			cmd := exec.Command(r.self, Hidden)
			cmd.Env = append(os.Environ(), r.env...)
			cmd.Stdin = strings.NewReader(c.in)
			var stderr bytes.Buffer
			cmd.Stderr = &stderr
			_ = cmd.Run()
			if code := cmd.ProcessState.ExitCode(); code != c.code || !strings.Contains(stderr.String(), c.said) || c.said == "" && stderr.Len() > 0 {
				t.Errorf("status %d, stderr %q", code, stderr.String())
			}
			for _, d := range []string{"tmp", "pins"} {
				if left, _ := os.ReadDir(filepath.Join(r.cfg.dir, d)); len(left) > 0 {
					t.Errorf("left over in %s: %v", d, left)
				}
			}
		})
	}
}

// TestVerbs: what people call starts nothing, and works with a daemon and without.
func TestVerbs(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	if s := r.stats(); s.Phase != "not running" || s.Entries != 0 || s.TopMisses == nil {
		t.Errorf("stats of nothing: %+v", s)
	}
	if st, err := service(r.cfg).Status(t.Context()); err == nil {
		t.Errorf("stats launched a daemon: %+v", st)
	}
	if _, err := os.Stat(r.cfg.dir); err == nil {
		t.Error("stats made a store")
	}
	for _, verb := range []string{"prune", "verify", "stop"} {
		if out, code := r.run(verb); code != 1 {
			t.Errorf("%s of nothing: status %d, %s", verb, code, out)
		}
	}
	for _, args := range [][]string{{"nonsense"}, {"stats", "more"}, {"prune", "--what"}} {
		if out, code := r.run(args...); code != 2 {
			t.Errorf("%v: status %d, %s", args, code, out)
		}
	}

	g := r.client()
	for i := range 20 {
		g.mustPut(actionOf(fmt.Sprint(i)), bodyOf(fmt.Sprint(i), 100<<10))
		g.mustHit(actionOf(fmt.Sprint(i)), bodyOf(fmt.Sprint(i), 100<<10))
		g.mustMiss(actionOf("again and again"))
	}
	until(t, "20 puts known", func() bool { return r.stats().Puts == 20 })
	s := r.stats()
	if s.Phase != "ready" || s.Entries != 20 || s.Outputs != 20 || s.Hits != 20 || s.Misses != 20 || s.Bytes != 20*100<<10 || s.Connections != 1 || s.PID == 0 {
		t.Errorf("%+v", s)
	}
	if len(s.TopMisses) != 1 || s.TopMisses[0].Count != 20 || s.TopMisses[0].Action != actionOf("again and again").String() {
		t.Errorf("top misses: %+v", s.TopMisses)
	}
	if out, code := r.run("stats"); code != 0 || !strings.Contains(out, "hits") || !strings.Contains(out, "again") && !strings.Contains(out, "repeatedly") {
		t.Errorf("status %d\n%s", code, out)
	}

	prune := func(want int) {
		t.Helper()
		if out, code := r.run("prune", "--max", "1M"); code != 0 {
			t.Errorf("status %d, %s", code, out)
		}
		if s := r.stats(); s.Entries != want {
			t.Errorf("%d entries after a prune, want %d", s.Entries, want)
		}
	}
	prune(20) // the client holds them all
	g.close()
	prune(9) // 9 × (100 KiB + 4 KiB) is what is within 95 % of 1 MiB
	r.stop()
	if s := r.stats(); s.Phase != "gone" || s.Entries != 9 || s.Outputs != 9 {
		t.Errorf("%+v", s)
	}
	if out, code := r.run("prune", "--max", "200K"); code != 0 || r.stats().Entries != 1 {
		t.Errorf("status %d, %s", code, out)
	}
	if out, code := r.run("verify"); code != 0 || !strings.HasPrefix(out, "1 entries, 1 bodies") {
		t.Errorf("status %d, %s", code, out)
	}
	if st, err := service(r.cfg).Status(t.Context()); err != nil || st.Alive() {
		t.Errorf("a verb launched a daemon: %+v, %v", st, err)
	}
}
