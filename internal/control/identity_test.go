package control

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"math/rand/v2"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

func mustParse(t *testing.T, text string) jsonlite.Value {
	t.Helper()
	v, err := jsonlite.Parse([]byte(text))
	if err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	return v
}

func full() Identity {
	id := sample()
	id.Format, id.Nonce = Format, "n0nce"
	return id
}

func TestIdentityRoundTrip(t *testing.T) {
	plain := full()
	plain.Nonce, plain.Failure, plain.Progress = "", "", nil
	unknownFraction := full()
	unknownFraction.Progress = &Progress{"", -1}
	for _, want := range []Identity{full(), plain, unknownFraction} {
		got, err := parseIdentity(mustParse(t, string(want.appendTo(nil))))
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got %+v, want %+v", got, want)
		}
	}
}

func TestFraction(t *testing.T) {
	for _, tt := range []struct{ in, want float64 }{
		{0, 0}, {0.5, 0.5}, {1, 1}, {1.01, 1}, {math.Inf(1), 1}, {-0.1, -1}, {math.Inf(-1), -1}, {math.NaN(), -1},
	} {
		id := full()
		id.Progress = &Progress{"x", tt.in}
		got, err := parseIdentity(mustParse(t, string(id.appendTo(nil))))
		if err != nil || got.Progress.Fraction != tt.want {
			t.Errorf("%v is read as %+v, %v", tt.in, got.Progress, err)
		}
	}
}

// decode returns v as encoding/json has it, to change it.
func decode(t *testing.T, text []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var m map[string]any
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func encode(t *testing.T, v any) []byte {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Each field is left out, null, and of each wrong type in turn.
func TestIdentityFields(t *testing.T) {
	id := full()
	text := id.appendTo(nil)
	optional := map[string]bool{"nonce": true, "progress": true, "progress.fraction": true, "failure": true,
		"leases": true, "ends_in_ms": true, "unused_ms": true}
	values := []any{nil, true, "text", json.Number("1.5"), json.Number("-9223372036854775809"), []any{}, map[string]any{}}
	fits := func(was, is any) bool {
		switch was.(type) {
		case string:
			return is == "text"
		case json.Number:
			return was == json.Number("0.25") && (is == values[3] || is == values[4])
		}
		return false
	}
	visit := func(path string, object func(map[string]any) map[string]any, name string) {
		try := func(v any, absent bool) {
			m := decode(t, text)
			o := object(m)
			was := o[name]
			o[name] = v
			if absent {
				delete(o, name)
			}
			_, err := parseIdentity(mustParse(t, string(encode(t, m))))
			ok := fits(was, v)
			if v == nil {
				ok = optional[path]
			}
			if ok != (err == nil) {
				t.Errorf("%s = %v (absent %v): error %v", path, v, absent, err)
			}
			if err != nil && !strings.Contains(err.Error(), `"`+path) {
				t.Errorf("%s = %v: error %v names another field", path, v, err)
			}
		}
		try(nil, true)
		for _, v := range values {
			try(v, false)
		}
	}
	top := func(m map[string]any) map[string]any { return m }
	for name, v := range decode(t, text) {
		visit(name, top, name)
		inner, _ := v.(map[string]any)
		for field := range inner {
			visit(name+"."+field, func(m map[string]any) map[string]any { return m[name].(map[string]any) }, field)
		}
	}
	for _, tt := range []struct{ name, value string }{
		{"pid", "0"}, {"pid", "-1"}, {"pid", "2147483648"}, {"generation", "-1"}, {"connections", "-1"},
		{"uptime_ms", "-1"}, {"uptime_ms", "9223372036855"}, {"format", "0"}, {"format", "1e0"},
	} {
		m := decode(t, text)
		m[tt.name] = json.Number(tt.value)
		if _, err := parseIdentity(mustParse(t, string(encode(t, m)))); err == nil {
			t.Errorf("%s = %s is accepted", tt.name, tt.value)
		}
	}
}

func TestIdentityFormat(t *testing.T) {
	// Nothing but the format is looked at.
	_, err := parseIdentity(mustParse(t, `{"pid":"none","format":7}`))
	var format *FormatError
	if !errors.As(err, &format) || *format != (FormatError{Peer: 7, Ours: 1}) {
		t.Fatalf("error %v", err)
	}
	if got, want := err.Error(), "the daemon speaks control format 7, this program format 1"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// grease adds members that no release knows to an object, at random.
func grease(rnd *rand.Rand, object map[string]any) {
	for range 1 + rnd.IntN(3) {
		var v any
		switch rnd.IntN(6) {
		case 0:
			v = nil
		case 1:
			v = rnd.IntN(2) == 0
		case 2:
			v = json.Number(strconv.FormatUint(rnd.Uint64(), 10) + "e5")
		case 3:
			v = "grease\x00\"\u2028"
		case 4:
			v = []any{"a", []any{}, map[string]any{"pid": "x"}}
		default:
			v = map[string]any{"format": 9, "nonce": []any{}}
		}
		object["x-"+strconv.Itoa(rnd.IntN(1000))] = v
	}
}

func newRand(t *testing.T) *rand.Rand {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	return rand.New(rand.NewPCG(seed, 0))
}

func TestIdentityKeepsUnknown(t *testing.T) {
	rnd := newRand(t)
	id := full()
	for range 200 {
		m := decode(t, id.appendTo(nil))
		grease(rnd, m)
		grease(rnd, m["executable"].(map[string]any))
		grease(rnd, m["progress"].(map[string]any))
		text := encode(t, m)
		got, err := parseIdentity(mustParse(t, string(text)))
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if again := got.appendTo(nil); !reflect.DeepEqual(decode(t, again), decode(t, text)) {
			t.Fatalf("%s became %s", text, again)
		}
		got.Unknown = nil
		if want := full(); !reflect.DeepEqual(got, want) {
			t.Fatalf("got %+v, want %+v", got, want)
		}
	}
}

func FuzzIdentity(f *testing.F) {
	id := full()
	f.Add(id.appendTo(nil))
	id.Unknown = []jsonlite.Member{{Name: "x", Value: jsonlite.Int(1)}, {Name: "progress", Value: jsonlite.Object(jsonlite.Member{Name: "eta", Value: jsonlite.Array(jsonlite.Int(9))})}}
	f.Add(id.appendTo(nil))
	f.Add([]byte(`{"format":2}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := jsonlite.Parse(data)
		if err != nil {
			return
		}
		id, err := parseIdentity(v)
		if err != nil {
			return
		}
		text := id.appendTo(nil)
		again, err := parseIdentity(mustParse(t, string(text)))
		if err != nil {
			t.Fatalf("%v in %s", err, text)
		}
		if !reflect.DeepEqual(id, again) {
			t.Fatalf("%+v became %+v", id, again)
		}
		if second := again.appendTo(nil); !bytes.Equal(text, second) {
			t.Fatalf("%s became %s", text, second)
		}
	})
}
