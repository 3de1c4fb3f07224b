package control

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// An idl is an interface's description as far as the tests need it.
type idl struct {
	name  string
	items map[string]map[string]string // such as "method Identify() ->": its fields' types
}

var fieldName = regexp.MustCompile(`^[A-Za-z](_?[A-Za-z0-9])*$`)

// parseIDL reads https://varlink.org/Interface-Definition without its inline
// structs and enums, which our descriptions do not use.
func parseIDL(t *testing.T, text string) idl {
	t.Helper()
	text = regexp.MustCompile(`#[^\n]*`).ReplaceAllString(text, "")
	m := regexp.MustCompile(`^\s*interface\s+([A-Za-z](?:-*[A-Za-z0-9])*(?:\.[A-Za-z0-9](?:-*[A-Za-z0-9])*)+)\s*\n`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no interface in %q", text)
	}
	d := idl{name: m[1], items: make(map[string]map[string]string)}
	rest := text[len(m[0]):]
	item := regexp.MustCompile(`^\s*(?:(type|error)\s+([A-Z][A-Za-z0-9]*)\s*\(([^()]*)\)|method\s+([A-Z][A-Za-z0-9]*)\s*\(([^()]*)\)\s*->\s*\(([^()]*)\))\s*`)
	for rest != "" {
		m := item.FindStringSubmatch(rest)
		if m == nil {
			t.Fatalf("no item in %q", rest)
		}
		rest = rest[len(m[0]):]
		if m[1] != "" {
			d.items[m[1]+" "+m[2]] = parseFields(t, m[3])
		} else {
			d.items["method "+m[4]] = parseFields(t, m[5])
			d.items["reply "+m[4]] = parseFields(t, m[6])
		}
	}
	types := regexp.MustCompile(`^\??(\[\])?(bool|int|float|string|object|[A-Z][A-Za-z0-9]*)$`)
	for name, fields := range d.items {
		for field, typ := range fields {
			m := types.FindStringSubmatch(typ)
			if m == nil {
				t.Errorf("%s: %s has type %q", name, field, typ)
			} else if _, ok := d.items["type "+m[2]]; m[2][0] < 'a' && !ok {
				t.Errorf("%s: %s has the unknown type %q", name, field, typ)
			}
		}
	}
	return d
}

func parseFields(t *testing.T, text string) map[string]string {
	t.Helper()
	fields := make(map[string]string)
	if strings.TrimSpace(text) == "" {
		return fields
	}
	for _, field := range strings.Split(text, ",") {
		name, typ, ok := strings.Cut(strings.TrimSpace(field), ":")
		if !ok || !fieldName.MatchString(name) || fields[name] != "" {
			t.Fatalf("field %q", field)
		}
		fields[name] = strings.TrimSpace(typ)
	}
	return fields
}

// The descriptions name exactly the methods that can be called and the errors
// that can come.
func TestDescriptions(t *testing.T) {
	var described, errs []string
	for _, text := range []string{daemonDescription, serviceDescription} {
		d := parseIDL(t, text)
		if description(d.name) != text {
			t.Errorf("the description of %s is not found by its name", d.name)
		}
		if len(text) > MaxFrame/2 {
			t.Errorf("the description of %s has %d bytes", d.name, len(text))
		}
		for item := range d.items {
			if name, ok := strings.CutPrefix(item, "method "); ok {
				described = append(described, d.name+"."+name)
			}
			if name, ok := strings.CutPrefix(item, "error "); ok {
				errs = append(errs, d.name+"."+name)
			}
		}
	}
	var callable []string
	for _, m := range methods {
		callable = append(callable, m.name)
	}
	slices.Sort(described)
	slices.Sort(callable)
	if !slices.Equal(described, callable) {
		t.Errorf("described %q, callable %q", described, callable)
	}
	want := []string{errInterfaceNotFound, errMethodNotFound, errMethodNotImplemented, errInvalidParameter, errUnsupportedFormat, errLeaseRefused, errHandoverRefused, errNoHandover, errHashFailed}
	slices.Sort(want)
	slices.Sort(errs)
	if !slices.Equal(errs, want) {
		t.Errorf("described %q, used %q", errs, want)
	}
}

// A reply with every field set has the fields of the description, no more.
func TestIdentityIsAsDescribed(t *testing.T) {
	d := parseIDL(t, daemonDescription)
	id := full()
	reply := decode(t, id.appendTo(nil))
	for item, object := range map[string]map[string]any{
		"reply Identify":  reply,
		"type Executable": reply["executable"].(map[string]any),
		"type Progress":   reply["progress"].(map[string]any),
	} {
		got := slices.Sorted(maps.Keys(object))
		if want := slices.Sorted(maps.Keys(d.items[item])); !slices.Equal(got, want) {
			t.Errorf("%s: sent %q, described %q", item, got, want)
		}
	}
	for field, typ := range d.items["reply Identify"] {
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
