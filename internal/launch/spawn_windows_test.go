package launch

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// TestBatchIsRefused: a batch file is refused with the reason, however it is named, and
// leaves nothing behind.
func TestBatchIsRefused(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"serve.cmd", "serve.BAT"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("@exit /b 0\r\n"), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	for _, command := range []string{filepath.Join(dir, "serve.cmd"), filepath.Join(dir, "serve.BAT"), filepath.Join(dir, "serve.cmd. "), "serve.bat"} {
		def := definition.Definition{Service: "web", Command: []string{command}, Dir: dir}.Complete()
		b := NewBroker(runtimedir.Env{RuntimeDir: filepath.Join(dir, "run")}, def, func() []string { return []string{"PATH=" + dir} })
		o, err := b.Ensure(t.Context(), BrokerBinds, StepConnect, proc.BootTime())
		if f, ok := errors.AsType[*Fault](err); !ok || f.Class != Refusal || !errors.Is(err, errBatch) || o.Result != Gave {
			t.Errorf("%q: %+v, %v", command, o, err)
		}
		if entries, err := Generations(filepath.Join(dir, "run", "default", "web")); len(entries) != 0 || err != nil {
			t.Errorf("%q left %+v, %v", command, entries, err)
		}
	}
	if isBatch(filepath.Join(dir, "my.bat.exe")) || isBatch(filepath.Join(dir, "bat")) {
		t.Error("a program is taken for a batch file")
	}
}
