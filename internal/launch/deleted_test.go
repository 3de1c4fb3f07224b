//go:build linux

package launch

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// TestBindBesideAnother: a launcher whose directory an outsider deletes just before
// it binds meets the listener of who has launched in the new one, and uses that.
func TestBindBesideAnother(t *testing.T) {
	root := filepath.Join(t.TempDir(), "run")
	env := runtimedir.Env{RuntimeDir: root, EUID: os.Geteuid()}
	def := definition.Definition{Service: "t", Command: []string{"/bin/false"}}.Complete()
	dir := filepath.Join(root, "default", "t")
	var ln net.Listener
	OnStep = func(s Step) {
		if s != StepBind || ln != nil {
			return
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
		if err := os.Mkdir(dir, 0o700); err != nil {
			t.Error(err)
		}
		var err error
		if ln, err = net.Listen("unix", filepath.Join(dir, runtimedir.SockName)); err != nil {
			t.Error(err)
		}
	}
	defer func() { OnStep = nil }()
	b := NewBroker(env, def, func() []string { return nil })
	start := time.Now()
	o, err := b.Ensure(t.Context(), BrokerBinds, StepConnect, proc.BootTime()-time.Since(start))
	if ln == nil {
		t.Fatal("it did not come to bind")
	}
	defer ln.Close()
	if err != nil || o.Result != Attached || o.Conn == nil {
		t.Fatalf("result %d, connection %v: %v", o.Result, o.Conn, err)
	}
	_ = o.Conn.Close()
}

// TestCurrentOfLockedDirectory: current moves in the directory that is locked, not in
// the one that an outsider's deletion has brought to its path.
func TestCurrentOfLockedDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "t")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	locked, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer locked.Close()
	if err := leadCurrent(locked, dir, "1.a.b.c"); err != nil || current(dir) != "1.a.b.c" {
		t.Fatalf("current is %q: %v", current(dir), err)
	}
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := leadCurrent(locked, dir, "2.a.b.c"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("in a deleted directory: %v", err)
	}
	if got := current(dir); got != "" {
		t.Errorf("current of the new directory is %q", got)
	}
}
