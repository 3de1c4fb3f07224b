//go:build !windows

package fastbind

import (
	"net"
	"os"
	"path/filepath"
	"testing"
)

// TestFurther: a further endpoint lies beside the service's own.
func TestFurther(t *testing.T) {
	ep, err := NewEndpoint("/run/user/1000/fastbind/default/web/sock")
	if err != nil {
		t.Fatal(err)
	}
	if got := ep.Further("admin").Path(); got != "/run/user/1000/fastbind/default/web/sock-admin" {
		t.Errorf("it is at %q", got)
	}
}

// TestReachWhereItWas: a service that lives at the third place in which it could be is
// dialled there at once from the second time on.
func TestReachWhereItWas(t *testing.T) {
	home, err := os.MkdirTemp("/tmp", "fb") // short enough for a socket's address
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(home) })
	t.Setenv("FASTBIND_RUNTIME_DIR", "")
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv("HOME", home)
	// The longest name for which that holds has 11 bytes. Nobody is to be launched.
	svc := Service{Name: "reachwas", Command: []string{"/nonexistent"}}
	dir := filepath.Join(home, ".local", "state", "fastbind", "run", "default", svc.Name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("unix", filepath.Join(dir, "sock"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	b, err := svc.broker()
	if err != nil {
		t.Fatal(err)
	}
	if c := b.Reach(t.Context()); c != nil {
		t.Fatalf("somebody is at the most probable place: %v", c.RemoteAddr())
	}
	c, err := Dial(t.Context(), svc)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
	if b = svc.remembered(); b == nil {
		t.Fatal("the service is not remembered")
	}
	again := b.Reach(t.Context())
	if again == nil {
		t.Fatal("it is not dialled where it was")
	}
	_ = again.Close()
}
