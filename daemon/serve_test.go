package daemon

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/record"
)

// TestNoteShut: that nobody is let in any more gets on record as soon as that can be
// written, and who cannot write it ends all the same.
func TestNoteShut(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, record.FileName)
	if err := os.Mkdir(path, 0o700); err != nil { // an outsider's
		t.Fatal(err)
	}
	st := &stand{inst: &Instance{dir: dir}}
	note := func() (stop chan struct{}, noted chan struct{}) {
		t.Helper()
		stop, noted = make(chan struct{}), make(chan struct{})
		go func() { st.noteShut(stop); close(noted) }()
		select {
		case <-noted:
			t.Fatal("it is said to be on record")
		case <-time.After(3 * noteAgain): // it does not end meanwhile
		}
		return stop, noted
	}
	await := func(noted chan struct{}) {
		t.Helper()
		select {
		case <-noted:
		case <-time.After(time.Minute):
			t.Fatal("it does not end")
		}
	}

	stop, noted := note()
	close(stop)
	await(noted)

	_, noted = note()
	whole := filepath.Join(dir, "whole") // nothing is to be noted in one that is half written
	if err := record.Create(whole, nil); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole, path); err != nil {
		t.Fatal(err)
	}
	await(noted)
	if r, err := record.Read(path); err != nil || !r.Shut {
		t.Errorf("the record has %+v, %v", r, err)
	}
}
