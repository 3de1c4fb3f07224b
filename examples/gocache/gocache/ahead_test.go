package gocache

import (
	"fmt"
	"os"
	"testing"
	"time"
)

// TestToldAhead: a second build is answered by what the daemon told it ahead,
// but never with a body that is not there any more as it was verified, nor with
// what it has replaced itself.
func TestToldAhead(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	const n = 60
	name := func(i int) (id, []byte) {
		return actionOf(fmt.Sprint("ahead", i)), bodyOf(fmt.Sprint("ahead", i), 1000+i)
	}
	build := func(see func(g *goCommand, i int)) {
		t.Helper()
		g := r.client()
		for i := range n {
			see(g, i)
		}
		g.close()
	}
	hit := func(g *goCommand, i int) {
		t.Helper()
		g.mustHit(name(i))
	}
	build(func(g *goCommand, i int) { g.mustPut(name(i)) })
	build(hit)
	until(t, "hits told ahead", func() bool { build(hit); return r.stats().Ahead > n/2 })
	if s := r.stats(); s.Hits%n != 0 || s.Ahead >= s.Hits || s.Misses != 0 {
		t.Errorf("%+v", s)
	}

	path := func(i int) string {
		g := r.client()
		defer g.close()
		return g.mustHit(name(i))
	}
	changed, gone := path(10), path(11)
	if err := rewriteBody(changed); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(gone); err != nil {
		t.Fatal(err)
	}
	build(func(g *goCommand, i int) {
		action, _ := name(i)
		switch i {
		case 5: // what it was told ahead of 12 is older now
			other, _ := name(12)
			g.mustPut(other, []byte("another"))
		case 10, 11:
			g.mustMiss(action)
		case 12:
			g.mustHit(action, []byte("another"))
		default:
			hit(g, i)
		}
	})
	if s := r.stats(); s.Corrupt != 1 || s.Misses != 2 {
		t.Errorf("%+v", s)
	}
}

// rewriteBody changes a bit of a body.
func rewriteBody(path string) error {
	b, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	b[0] ^= 1
	later := time.Now().Add(time.Second) // whatever the file system's clock ticks by
	if err := os.WriteFile(path, b, 0o600); err != nil {
		return err
	}
	return os.Chtimes(path, later, later)
}

// TestTrail: what is told ahead is what was used next the last time, and no more
// of it than its credit allows, and a client keeps a bounded number.
func TestTrail(t *testing.T) {
	x := newIndex()
	const n = 1000
	action := func(i int) id { return actionOf(fmt.Sprint(i)) }
	for i := range n {
		e := entry{output: actionOf(fmt.Sprint("out", i)), size: int64(i), time: int64(i)}
		x.put(action(i), e, time.Now(), false)
		if i != 7 { // which is never told
			x.verify(e.output, identity(i+1))
		}
	}
	// run uses actions in an order and returns the part that was told ahead, and
	// how many guesses were sent.
	run := func(order func(int) int) (part float64, sent int) {
		w := trail{credit: firstCredit}
		told := map[id]bool{}
		ahead := 0
		for i := range n {
			a := action(order(i))
			hit := told[a]
			if hit {
				ahead++
			}
			w.use(x, a, !hit, func(payload []byte) {
				sent++
				next, g, err := guessOf(payload)
				if err != nil || g.file != identity(g.size+1) || next != action(int(g.time)) || g.time == 7 {
					t.Fatalf("told of %s: %+v, %v", next, g, err)
				}
				told[next] = true
			})
		}
		if most := firstCredit + ahead*perUse + (n-ahead)*perGet; sent > most {
			t.Errorf("%d sent, but the credit was %d", sent, most)
		}
		return float64(ahead) / n, sent
	}
	forth := func(i int) int { return i }
	if part, sent := run(forth); part != 0 || sent != 0 {
		t.Errorf("the first time: %v told, %d sent", part, sent)
	}
	if part, sent := run(forth); part < 0.9 || sent > n+maxCredit {
		t.Errorf("the same again: %v told, %d sent", part, sent)
	}
	run(func(i int) int { return i * 7919 % n }) // prime to n: another order altogether
	for i := range n {                           // places that entries have left lead nowhere
		if i%2 == 0 {
			x.drop(action(i), actionOf(fmt.Sprint("out", i)))
		}
	}
	run(forth)
	l := link{guesses: map[id]guess{}, own: map[id]bool{}}
	for i := range 3 * maxGuesses {
		if err := l.told(appendGuess(nil, action(i), guess{})); err != nil || len(l.guesses) > maxGuesses {
			t.Fatalf("%d guesses are kept, %v", len(l.guesses), err)
		}
	}
	if _, _, err := guessOf(make([]byte, 39)); err == nil {
		t.Error("a short guess is one")
	}
}
