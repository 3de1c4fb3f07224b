package gocache

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestParseEntry(t *testing.T) {
	good := entry{output: actionOf("out"), size: 12, time: 34}
	text := string(good.format())
	if e, err := parseEntry([]byte(text)); err != nil || e != good {
		t.Fatalf("%+v, %v", e, err)
	}
	hex := good.output.String()
	bad := []string{"", "\n", "v2 " + hex + " 12 34\n", "v1 " + strings.ToUpper(hex) + " 12 34\n", "v1 " + hex + " -1 34\n", "v1 " + hex + " 012 34\n",
		"v1 " + hex + " +12 34\n", "v1 " + hex + "  12 34\n", "v1 " + hex + " 12\n", "v1 " + hex + " 12 34 56\n", "v1 " + hex[:62] + " 12 34\n",
		"v1 " + hex + " 99999999999999999999 34\n", text + "\n", text + text, text + strings.Repeat(" ", 200)}
	for n := range text {
		bad = append(bad, text[:n], text[:n]+"\x00"+text[n+1:], text[:n]+strings.Repeat("\x00", len(text)-n))
	}
	for _, b := range bad {
		if e, err := parseEntry([]byte(b)); err == nil {
			t.Errorf("%q is %+v", b, e)
		}
	}
}

func FuzzParseEntry(f *testing.F) {
	f.Add([]byte("v1 "))
	f.Add(entry{output: actionOf("x"), size: 1 << 40, time: -5}.format())
	f.Fuzz(func(t *testing.T, b []byte) {
		if e, err := parseEntry(b); err == nil && !bytes.Equal(e.format(), b) {
			t.Errorf("%q is read as %q", b, e.format())
		}
	})
}

func FuzzReadFrame(f *testing.F) {
	f.Add(appendFrame(appendFrame(nil, frame{opGet, 1, make([]byte, 32)}), frame{opHello, 0, []byte{1}}))
	f.Add([]byte{0, 0, 0, 4, 1, 2, 3, 4})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, b []byte) {
		r := bufio.NewReader(bytes.NewReader(b))
		var again []byte
		for {
			fr, err := readFrame(r, maxRequest, nil)
			if err != nil {
				break
			}
			if len(fr.payload) > maxRequest {
				t.Fatalf("a payload of %d bytes", len(fr.payload))
			}
			again = appendFrame(again, fr)
			if e, err := entryOf(fr.payload); err == nil && !bytes.Equal(appendEntry(nil, e), fr.payload) {
				t.Error("an entry is read as another one")
			}
		}
		if !bytes.HasPrefix(b, again) {
			t.Errorf("%x is read as %x", b, again)
		}
	})
}

func FuzzReadBody(f *testing.F) {
	f.Add([]byte("\n\"aGVsbG8=\"\n{}"), 16)
	f.Add([]byte("\"\""), 17)
	f.Fuzz(func(t *testing.T, b []byte, size int) {
		size = 16 + max(0, size)%64
		r := bufio.NewReaderSize(bytes.NewReader(b), size)
		var got bytes.Buffer
		err := readBody(r, &got, make([]byte, size))
		text := bytes.TrimLeft(b, "\n \r\t")
		if len(text) == 0 || text[0] != '"' || bytes.IndexByte(text[1:], '"') < 0 {
			if err == nil {
				t.Fatal("no body, and no error")
			}
			return
		}
		text, rest, _ := bytes.Cut(text[1:], []byte{'"'})
		if left, _ := io.ReadAll(r); !bytes.Equal(left, rest) {
			t.Errorf("%q is left, want %q", left, rest)
		}
		// Line ends inside are cmd/go's never, and padding counts at a chunk's end.
		want, wantErr := base64.StdEncoding.DecodeString(string(text))
		if wantErr == nil && !bytes.ContainsAny(text, "\r\n") && (err != nil || !bytes.Equal(got.Bytes(), want)) {
			t.Errorf("%q is %q, %v; want %q", text, got.Bytes(), err, want)
		}
	})
}

// TestIndexModel: random operations against the obvious map.
func TestIndexModel(t *testing.T) {
	type modelled struct {
		entry
		use int64
	}
	rng := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	x, model := newIndex(), map[id]modelled{}
	sizeOf := func(o id) int64 { return int64(o[0]) * 100 }
	for step := range 20000 {
		a, o := actionOf(fmt.Sprint(rng.IntN(300))), actionOf(fmt.Sprint("out", rng.IntN(100)))
		now := time.Unix(0, int64(step+1))
		switch rng.IntN(6) {
		case 0, 1:
			keep := rng.IntN(2) == 0
			e := entry{o, sizeOf(o), int64(step)}
			x.put(a, e, now, keep)
			if _, ok := model[a]; !ok || !keep {
				model[a] = modelled{e, int64(step + 1)}
			}
		case 2:
			x.used(a, now)
			if m, ok := model[a]; ok {
				m.use = int64(step + 1)
				model[a] = m
			}
		case 3:
			x.drop(a, o)
			if model[a].output == o {
				delete(model, a)
			}
		case 4:
			e, use, _, ok := x.get(a)
			if m, has := model[a]; has != ok || ok && (m.entry != e || m.use != use.UnixNano()) {
				t.Fatalf("step %d: get %+v %v, want %+v", step, e, use, m)
			}
		case 5:
			if rng.IntN(20) > 0 {
				continue
			}
			spare := rng.IntN(2) == 0
			last := int64(0)
			for _, c := range x.oldest()[:min(len(model), 5)] {
				if c.use < last {
					t.Fatal("not by age")
				}
				last = c.use
				action, output, _, ok := x.evict(c, func(o id) bool { return spare && o[0]%2 == 0 })
				if ok {
					if model[action].output != output || model[action].use != c.use {
						t.Fatal("evicted another one")
					}
					delete(model, action)
				}
			}
		}
	}
	outputs := map[id]bool{}
	want := indexSize{entries: len(model)}
	for _, m := range model {
		want.disk += block
		if !outputs[m.output] {
			outputs[m.output] = true
			want.outputs++
			want.bytes += m.size
			want.disk += onDisk(m.size)
		}
	}
	if got := x.size(); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	for o := range 100 {
		o := actionOf(fmt.Sprint("out", o))
		if x.hasBody(o) != outputs[o] {
			t.Errorf("hasBody %v", !outputs[o])
		}
	}
}

func TestMissTable(t *testing.T) {
	var m missTable
	for i := range 20 * maxMissRows {
		m.add(actionOf(fmt.Sprint(i)), "no entry", time.Now())
		if i%10 == 0 {
			m.add(actionOf("often"), "no body", time.Now())
		}
	}
	if len(m.rows) != maxMissRows {
		t.Errorf("%d rows", len(m.rows))
	}
	if top := m.top(10); len(top) != 1 || top[0].Action != actionOf("often").String() || top[0].Count < 20*maxMissRows/10 {
		t.Errorf("%+v", top)
	}
}

// TestPins: what a living client holds is spared, by a remover that learns of it
// at any time, and no longer.
func TestPins(t *testing.T) {
	t.Parallel()
	s := store{t.TempDir()}
	if err := s.make(); err != nil {
		t.Fatal(err)
	}
	r := newRemover(s)
	defer r.close()
	held := func(o id) (h bool) {
		t.Helper()
		if err := r.do(func(p *pins) { h = p.holds(o) }); err != nil {
			t.Fatal(err)
		}
		return h
	}
	a, b := newPinner(s), newPinner(s)
	x, y := actionOf("x"), actionOf("y")
	for _, step := range []struct {
		do   func()
		x, y bool
	}{
		{func() {}, false, false},
		{func() { _ = a.pin(x) }, true, false},
		{func() { _ = b.pin(x); _ = b.pin(y) }, true, true},
		{func() { b.close() }, true, false},
		{func() { _ = a.f.Close() }, false, false}, // as if killed
	} {
		step.do()
		if held(x) != step.x || held(y) != step.y {
			t.Errorf("held %v %v, want %v %v", held(x), held(y), step.x, step.y)
		}
	}
	if names, _ := readNames(filepath.Join(s.dir, "pins")); len(names) > 0 {
		t.Errorf("left over: %v", names)
	}

	// A partial pin is none, and its rest makes it one.
	c := newPinner(s)
	defer c.close()
	_, _ = c.f.Write(x[:20])
	if held(x) {
		t.Error("half a pin counts")
	}
	_, _ = c.f.Write(x[20:])
	if !held(x) {
		t.Error("a whole one does not")
	}
}

// TestGate: a pin waits for a removal that is under way, and not for ever.
func TestGate(t *testing.T) {
	t.Parallel()
	s := store{t.TempDir()}
	if err := s.make(); err != nil {
		t.Fatal(err)
	}
	r := newRemover(s)
	defer r.close()
	p := newPinner(s)
	defer p.close()
	in, out := make(chan bool), make(chan bool)
	go r.do(func(*pins) { in <- true; <-out })
	<-in
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for i := range errs {
		wg.Go(func() { errs[i] = p.pin(actionOf(fmt.Sprint(i))) })
	}
	time.Sleep(50 * time.Millisecond) // that they wait is shown by waiting briefly
	out <- true
	wg.Wait()
	if err := errors.Join(errs...); err != nil {
		t.Error(err)
	}
	go r.do(func(*pins) { in <- true; <-out })
	<-in
	if err := p.pin(actionOf("late")); !errors.Is(err, errLockHeld) {
		t.Errorf("a holder that stays: %v", err)
	}
	out <- true
}

// TestSweep: rests of the killed go, what is in use and what is young stays.
func TestSweep(t *testing.T) {
	t.Parallel()
	s := store{t.TempDir()}
	if err := s.make(); err != nil {
		t.Fatal(err)
	}
	alive := newPinner(s)
	defer alive.close()
	old := time.Now().Add(-2 * sweepAge)
	ancient := time.Now().Add(-2 * pinsWithin)
	write := func(path string, when time.Time) string {
		t.Helper()
		_ = os.MkdirAll(filepath.Dir(path), 0o700)
		if err := os.WriteFile(path, []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		_ = os.Chtimes(path, when, when)
		return path
	}
	known, pinned, young, dead := actionOf("known"), actionOf("pinned"), actionOf("young"), actionOf("dead")
	_ = alive.pin(pinned)
	stay := []string{
		write(s.body(known), old), write(s.body(pinned), old), write(s.body(young), time.Now()),
		write(filepath.Join(s.dir, "tmp", alive.token+".1"), ancient), write(filepath.Join(s.dir, "tmp", orphanToken+"1-2.3"), old),
	}
	leave := []string{
		write(s.body(dead), old), write(s.body(dead)+".x", old),
		write(filepath.Join(s.dir, "tmp", "1-deadbeef.1"), time.Now()), write(filepath.Join(s.dir, "tmp", orphanToken+"1-2.4"), ancient),
	}
	r := newRemover(s)
	defer r.close()
	if n, _ := r.sweep(func(o id) bool { return o == known }, func() bool { return false }); n != len(leave) {
		t.Errorf("swept %d files, want %d", n, len(leave))
	}
	for _, path := range stay {
		if _, err := os.Stat(path); err != nil {
			t.Error(err)
		}
	}
	for _, path := range leave {
		if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
}

// TestEvictionOrder: the longest unused go first, a use in the store's own
// memory counts, and a body goes with its last entry.
func TestEvictionOrder(t *testing.T) {
	t.Parallel()
	cfg := config{dir: t.TempDir(), max: 1 << 40}
	s := serverOf(t.Context(), cfg)
	defer s.end()
	if err := s.store.make(); err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	name := func(i int) id { return actionOf(fmt.Sprint(i)) }
	order := rand.Perm(10)
	for i, n := range order { // order[0] is the longest unused
		body := bodyOf(fmt.Sprint(n), 2*block)
		if n >= 8 { // these two share a body
			body = bodyOf("shared", 2*block)
		}
		k := newSink(s.store, filepath.Join(cfg.dir, "tmp", fmt.Sprint(n)), newSpill())
		_, _ = k.Write(body)
		e := entry{output: id(k.h.Sum(nil)), size: int64(len(body)), time: now.UnixNano()}
		if err := k.done(e.output, e.size); err != nil {
			t.Fatal(err)
		}
		if err := renameInto(k.path, s.store.body(e.output)); err != nil {
			t.Fatal(err)
		}
		if err := s.store.commit(name(n), e, k.path); err != nil {
			t.Fatal(err)
		}
		use := now.Add(time.Duration(i-100) * useGrain)
		_ = os.Chtimes(s.store.action(name(n)), use, use)
	}
	s.load(func(string, float64) {})
	if size := s.index.size(); size.entries != 10 || size.outputs != 9 || size.disk != 10*block+9*2*block {
		t.Fatalf("%+v", size)
	}
	if _, ok := s.get(name(order[0])); !ok { // the longest unused is used
		t.Fatal("no hit")
	}
	order = append(order[1:], order[0])
	if fi, _ := os.Stat(s.store.action(name(order[9]))); now.Sub(fi.ModTime()) > useGrain {
		t.Error("the use is not in the store")
	}
	for len(order) > 0 {
		s.shrink(s.index.size().disk - 1) // 5 % less is one entry, or two
		gone := 10 - s.index.size().entries - (10 - len(order))
		if gone < 1 {
			t.Fatalf("shrank by %d entries", gone)
		}
		order = order[gone:]
		for n := range 10 {
			e, _, err := s.store.lookup(name(n))
			if (err == nil) != slices.Contains(order, n) {
				t.Fatalf("entry %d: %v; left should be %v", n, err, order)
			}
			if err == nil {
				if _, err := s.store.stat(e.output, e.size); err != nil {
					t.Error(err)
				}
			}
		}
	}
	if files := tree(filepath.Join(cfg.dir, "objects")); files != "" {
		t.Errorf("bodies are left over:\n%s", files)
	}
}
