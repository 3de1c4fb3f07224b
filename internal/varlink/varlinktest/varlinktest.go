// Package varlinktest takes descriptions of Varlink interfaces apart, so that tests
// can compare them with what is said on the wire. It is for tests alone.
package varlinktest

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A Description is an interface's.
type Description struct {
	Name  string
	Items map[string]map[string]string // such as "method Identify": its fields' types
}

var fieldName = regexp.MustCompile(`^[A-Za-z](_?[A-Za-z0-9])*$`)

// Parse reads https://varlink.org/Interface-Definition without its inline
// structs and enums, which our descriptions do not use.
func Parse(t *testing.T, text string) Description {
	t.Helper()
	text = regexp.MustCompile(`#[^\n]*`).ReplaceAllString(text, "")
	m := regexp.MustCompile(`^\s*interface\s+([A-Za-z](?:-*[A-Za-z0-9])*(?:\.[A-Za-z0-9](?:-*[A-Za-z0-9])*)+)\s*\n`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no interface in %q", text)
	}
	d := Description{Name: m[1], Items: make(map[string]map[string]string)}
	rest := text[len(m[0]):]
	item := regexp.MustCompile(`^\s*(?:(type|error)\s+([A-Z][A-Za-z0-9]*)\s*\(([^()]*)\)|method\s+([A-Z][A-Za-z0-9]*)\s*\(([^()]*)\)\s*->\s*\(([^()]*)\))\s*`)
	for rest != "" {
		m := item.FindStringSubmatch(rest)
		if m == nil {
			t.Fatalf("no item in %q", rest)
		}
		rest = rest[len(m[0]):]
		if m[1] != "" {
			d.Items[m[1]+" "+m[2]] = parseFields(t, m[3])
		} else {
			d.Items["method "+m[4]] = parseFields(t, m[5])
			d.Items["reply "+m[4]] = parseFields(t, m[6])
		}
	}
	types := regexp.MustCompile(`^\??(\[\])?(bool|int|float|string|object|[A-Z][A-Za-z0-9]*)$`)
	for name, fields := range d.Items {
		for field, typ := range fields {
			m := types.FindStringSubmatch(typ)
			if m == nil {
				t.Errorf("%s: %s has type %q", name, field, typ)
			} else if _, ok := d.Items["type "+m[2]]; m[2][0] < 'a' && !ok {
				t.Errorf("%s: %s has the unknown type %q", name, field, typ)
			}
		}
	}
	return d
}

// parseFields returns the types of the fields by their names.
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

// Named returns the names, with the interface's, of all items of a kind: method, error
// or type, sorted.
func (d Description) Named(kind string) []string {
	var names []string
	for item := range d.Items {
		if name, ok := strings.CutPrefix(item, kind+" "); ok {
			names = append(names, d.Name+"."+name)
		}
	}
	slices.Sort(names)
	return names
}
