package control

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/internal/varlink/varlinktest"
)

// The description names exactly the methods that can be called and the errors
// that can come.
func TestDescription(t *testing.T) {
	d := varlinktest.Parse(t, daemonDescription)
	if d.Name != "io.fastbind.Daemon" || len(daemonDescription) > MaxFrame/2 {
		t.Errorf("the description of %s has %d bytes", d.Name, len(daemonDescription))
	}
	var callable []string
	for _, m := range NewServer(newState(Ready), nil).methods() {
		callable = append(callable, d.Name+"."+m.Name)
	}
	slices.Sort(callable)
	if described := d.Named("method"); !slices.Equal(described, callable) {
		t.Errorf("described %q, callable %q", described, callable)
	}
	want := []string{errUnsupportedFormat, errLeaseRefused, errHandoverRefused, errNoHandover, errHashFailed}
	slices.Sort(want)
	if errs := d.Named("error"); !slices.Equal(errs, want) {
		t.Errorf("described %q, used %q", errs, want)
	}
}

// A reply with every field set has the fields of the description, no more.
func TestIdentityIsAsDescribed(t *testing.T) {
	d := varlinktest.Parse(t, daemonDescription)
	id := full()
	reply := decode(t, id.appendTo(nil))
	for item, object := range map[string]map[string]any{
		"reply Identify":  reply,
		"type Executable": reply["executable"].(map[string]any),
		"type Progress":   reply["progress"].(map[string]any),
	} {
		got := slices.Sorted(maps.Keys(object))
		if want := slices.Sorted(maps.Keys(d.Items[item])); !slices.Equal(got, want) {
			t.Errorf("%s: sent %q, described %q", item, got, want)
		}
	}
	for field, typ := range d.Items["reply Identify"] {
		want := map[string]string{"int": "json.Number", "string": "string", "Executable": "map", "Progress": "map"}[strings.TrimPrefix(typ, "?")]
		var got string
		switch reply[field].(type) {
		case string:
			got = "string"
		case map[string]any:
			got = "map"
		default:
			got = "json.Number"
		}
		if got != want {
			t.Errorf("%s is a %s, described as %s", field, got, typ)
		}
	}
}
