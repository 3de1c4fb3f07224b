package varlink

import (
	"bytes"
	"slices"
	"testing"

	"github.com/fastbind/fastbind/internal/varlink/varlinktest"
)

func TestCut(t *testing.T) {
	for _, tt := range []struct {
		s    string
		n    int
		want string
	}{{"abc", 3, "abc"}, {"abc", 2, "ab"}, {"aé", 2, "a"}, {"é", 1, ""}, {"😀😀", 7, "😀"}, {"\x80\x80\x80", 2, ""}} {
		if got := Cut(tt.s, tt.n); got != tt.want {
			t.Errorf("Cut(%q, %d) = %q, want %q", tt.s, tt.n, got, tt.want)
		}
	}
}

// FuzzCall: a request that is understood means the same after writing it.
func FuzzCall(f *testing.F) {
	f.Add([]byte(`{"method":"a.b","parameters":{"x":[1]},"oneway":true,"more":false,"upgrade":null}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, err := ParseCall(data)
		if err != nil {
			return
		}
		text := c.AppendFrame(nil)
		again, err := ParseCall(text[:len(text)-1])
		if err != nil || !bytes.Equal(again.AppendFrame(nil), text) {
			t.Fatalf("%q became %q, %v", data, text, err)
		}
		if c.Method != again.Method || c.Oneway != again.Oneway || c.More != again.More || c.Upgrade != again.Upgrade {
			t.Fatalf("%+v became %+v", c, again)
		}
	})
}

// The description of what every service answers names what can be called, and the
// errors that can come.
func TestDescription(t *testing.T) {
	d := varlinktest.Parse(t, description)
	var callable []string
	for _, m := range NewServer(Service{}).interfaces()[0].Methods {
		callable = append(callable, d.Name+"."+m.Name)
	}
	slices.Sort(callable)
	if described := d.Named("method"); !slices.Equal(described, callable) {
		t.Errorf("described %q, callable %q", described, callable)
	}
	want := []string{InterfaceNotFound, MethodNotFound, MethodNotImplemented, InvalidParameter, ExpectedMore}
	slices.Sort(want)
	if errs := d.Named("error"); !slices.Equal(errs, want) {
		t.Errorf("described %q, used %q", errs, want)
	}
}
