//go:build linux

package launch

import (
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
