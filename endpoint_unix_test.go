//go:build !windows

package fastbind

import "testing"

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
