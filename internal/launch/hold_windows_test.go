package launch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// TestNothingIsHeld: who would hold a listener is refused before anything is made.
func TestNothingIsHeld(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "run")
	b := NewBroker(runtimedir.Env{RuntimeDir: dir}, definition.Definition{Service: "web", Command: []string{"x"}}.Complete(), func() []string { return nil })
	for name, call := range map[string]func() (Outlook, error){
		"hold":     func() (Outlook, error) { return b.Hold(t.Context(), t.TempDir()) },
		"activate": func() (Outlook, error) { return b.Activate(t.Context(), &Holding{}) },
	} {
		o, err := call()
		if f, ok := errors.AsType[*Fault](err); !ok || f.Class != Refusal || !errors.Is(err, errors.ErrUnsupported) || o.Held != nil || o.Result != Gave {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the runtime directory: %v", err)
	}
}
