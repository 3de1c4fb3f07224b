package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A journal is read over rotations, partial lines, lines of dead writers and lines without
// end; every event once, and none twice.
func TestJournalReader(t *testing.T) {
	path := filepath.Join(t.TempDir(), "web.journal")
	add := func(text string) {
		t.Helper()
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err == nil {
			_, err = f.WriteString(text)
		}
		if err != nil || f.Close() != nil {
			t.Fatal(err)
		}
	}
	text := func(n int) string {
		return fmt.Sprintf(`{"schema":1,"time":"2026-05-04T03:02:01Z","event":"e%d","service":"web","reason":%q}`, n, strings.Repeat("x", 500)) + "\n"
	}
	var kinds []string
	see := func(e event) { kinds = append(kinds, e.Kind) }
	j := &journalReader{path: path}
	defer j.close()
	if j.read(see); len(kinds) != 0 {
		t.Errorf("there is none: %q", kinds)
	}
	const many = 5000 // 3 MB: more than a journal's usual size
	for n := range many {
		if n%1000 == 0 {
			add("half a li")
			add("ne\n")
		}
		add(text(n))
	}
	if got := (&journalReader{path: path}).last(3); len(got) != 3 || got[2].Kind != "e4999" || got[0].Kind != "e4997" {
		t.Errorf("the last: %v", got)
	}
	half := text(many)
	add(half[:100])
	j.read(see)
	if len(kinds) != many {
		t.Errorf("%d events", len(kinds))
	}
	add(half[100:])
	add(text(many + 1))
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	add(text(many + 2))
	j.read(see)
	if len(kinds) != many+3 || kinds[many] != "e5000" || kinds[many+2] != "e5002" {
		t.Errorf("over the rotation: %q", kinds[many:])
	}
	if got := (&journalReader{path: path}).last(2); len(got) != 2 || got[0].Kind != "e5001" || got[1].Kind != "e5002" {
		t.Errorf("the last over the rotation: %v", got)
	}
	for range 3 {
		add(strings.Repeat("y", maxEventLine))
		j.read(see)
		if len(j.rest) > maxEventLine {
			t.Errorf("%d bytes are kept", len(j.rest))
		}
	}
	add("\n" + text(7))
	j.read(see)
	if kinds[len(kinds)-1] != "e7" {
		t.Errorf("after a line without end: %q", kinds[len(kinds)-1])
	}
}
