package jsonlite

import (
	"bytes"
	"encoding/json"
	"errors"
	"math"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestParse(t *testing.T) {
	for _, tt := range []struct{ in, out string }{
		{`null`, `null`},
		{" \t\r\n true \n", `true`},
		{`false`, `false`},
		{`0`, `0`},
		{`-0`, `-0`},
		{`12345678901234567890`, `12345678901234567890`},
		{`1.50`, `1.50`},
		{`1E+09`, `1E+09`},
		{`-0.5e-7`, `-0.5e-7`},
		{`""`, `""`},
		{`"\"\\\/\b\f\n\r\t"`, `"\"\\/\b\f\n\r\t"`},
		{`"\u0000\u001F\u007f"`, "\"\\u0000\\u001f\u007f\""},
		{`"\u00e9\u20AC\ud83d\uDE00"`, `"é€😀"`},
		{`"\u2028<>&"`, "\"\u2028<>&\""},
		{"\"\uFFFD\"", "\"\uFFFD\""},
		{`"\uFFFD"`, "\"\uFFFD\""},
		{`[]`, `[]`},
		{`[ 1 , [ ] , { } ]`, `[1,[],{}]`},
		{`{ }`, `{}`},
		{`{ "b" : 1 , "a" : [ null ] , "" : "" }`, `{"b":1,"a":[null],"":""}`},
		{strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth), strings.Repeat("[", MaxDepth) + strings.Repeat("]", MaxDepth)},
	} {
		v, err := Parse([]byte(tt.in))
		if err != nil {
			t.Errorf("Parse(%q): %v", tt.in, err)
			continue
		}
		if got := string(v.Append(nil)); got != tt.out {
			t.Errorf("Parse(%q) is written as %q, want %q", tt.in, got, tt.out)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	manyNames := func(last string) string {
		s := "{"
		for i := range 3 * scanMax {
			s += `"` + strconv.Itoa(i) + `":0,`
		}
		return s + `"` + last + `":0}`
	}
	if _, err := Parse([]byte(manyNames("new"))); err != nil {
		t.Errorf("an object of many names: %v", err)
	}
	for _, tt := range []struct{ in, err string }{
		{``, "byte 0: unexpected end"},
		{` `, "byte 1: unexpected end"},
		{"\uFEFF1", "byte 0: expected a value"},
		{`nul`, "byte 3: unexpected end"},
		{`nulL`, "byte 3: expected null"},
		{`true false`, "byte 5: data after the value"},
		{"1\x00", "byte 1: data after the value"},
		{"\x00", "byte 0: expected a value"},
		{`01`, "byte 1: data after the value"},
		{`-`, "byte 1: unexpected end"},
		{`-a`, "byte 1: expected a digit"},
		{`+1`, "byte 0: expected a value"},
		{`.5`, "byte 0: expected a value"},
		{`1.`, "byte 2: unexpected end"},
		{`[1.]`, "byte 3: expected a digit"},
		{`[1e]`, "byte 3: expected a digit"},
		{`[1e+]`, "byte 4: expected a digit"},
		{`NaN`, "byte 0: expected a value"},
		{`[`, "byte 1: unexpected end"},
		{`[1`, "byte 2: unexpected end"},
		{`[1 2]`, "byte 3: expected ',' or ']'"},
		{`[1,]`, "byte 3: expected a value"},
		{`[}`, "byte 1: expected a value"},
		{`{`, "byte 1: unexpected end"},
		{`{1:2}`, "byte 1: expected a name"},
		{`{"a"}`, "byte 4: expected ':'"},
		{`{"a":}`, "byte 5: expected a value"},
		{`{"a":1 "b":2}`, "byte 7: expected ',' or '}'"},
		{`{"a":1,}`, "byte 7: expected a name"},
		{`{"a":1,"a":1}`, "byte 7: name appears twice"},
		{`{"a":1,"\u0061":1}`, "byte 7: name appears twice"},
		{manyNames("0"), "byte " + strconv.Itoa(len(manyNames("0"))-len(`"0":0}`)) + ": name appears twice"},
		{manyNames(strconv.Itoa(2 * scanMax)), "byte " + strconv.Itoa(len(manyNames("00"))-len(`"00":0}`)) + ": name appears twice"},
		{`"`, "byte 1: unexpected end"},
		{`"\`, "byte 2: unexpected end"},
		{`"\x"`, "byte 2: unknown escape"},
		{`"\u12`, "byte 5: unexpected end"},
		{`"\u12g4"`, "byte 5: expected a hexadecimal digit"},
		{`"\ud83d"`, "byte 1: half a surrogate pair"},
		{`"\ud83d\n"`, "byte 1: half a surrogate pair"},
		{`"\ude00\ud83d"`, "byte 1: half a surrogate pair"},
		{`"\ud83d\ud83d"`, "byte 1: half a surrogate pair"},
		{`"\ud83d\u12`, "byte 11: unexpected end"},
		{"\"a\nb\"", "byte 2: control character in a string"},
		{"\"a\xffb\"", "byte 2: invalid UTF-8"},
		{"\"\xed\xa0\x80\"", "byte 1: invalid UTF-8"}, // a surrogate in UTF-8
		{"\"\xc3", "byte 1: invalid UTF-8"},
		{strings.Repeat("[", MaxDepth+1), "byte 32: nested too deep"},
		{strings.Repeat(`{"":`, MaxDepth+1), "byte 128: nested too deep"},
	} {
		v, err := Parse([]byte(tt.in))
		if err == nil || err.Error() != tt.err {
			t.Errorf("Parse(%q): error %v, want %s", tt.in, err, tt.err)
		}
		var syntax *SyntaxError
		if !errors.As(err, &syntax) {
			t.Errorf("Parse(%q): error of type %T", tt.in, err)
		}
		if v.Kind() != KindNull {
			t.Errorf("Parse(%q) returned a value and an error", tt.in)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, tt := range []struct{ in, out string }{
		{"", `""`},
		{"plain", `"plain"`},
		{`a"b\c`, `"a\"b\\c"`},
		{"\x00\x01\b\t\n\v\f\r\x1f\x7f", "\"\\u0000\\u0001\\b\\t\\n\\u000b\\f\\r\\u001f\x7f\""},
		{"é€😀\u2028\u2029<>&", "\"é€😀\u2028\u2029<>&\""},
		{"a\xffb\xc3", "\"a\uFFFDb\uFFFD\""},
		{"\xff\xfe", "\"\uFFFD\uFFFD\""},
		{"\uFFFD", "\"\uFFFD\""},
		{"\xed\xa0\x80", "\"\uFFFD\uFFFD\uFFFD\""},
	} {
		if got := string(AppendString([]byte("x"), tt.in)); got != "x"+tt.out {
			t.Errorf("AppendString(%q) appends %q, want %q", tt.in, got[1:], tt.out)
		}
	}
}

func TestAppendName(t *testing.T) {
	dst := []byte(`{`)
	dst = append(AppendName(dst, "a"), `{`...)
	dst = append(AppendName(dst, "b"), `"{"`...)
	dst = append(AppendName(dst, "c"), `{}}`...)
	dst = append(AppendName(dst, "d\n"), `null}`...)
	if want := `{"a":{"b":"{","c":{}},"d\n":null}`; string(dst) != want {
		t.Errorf("got %s, want %s", dst, want)
	}
}

func TestAccessors(t *testing.T) {
	v, err := Parse([]byte(`{"s":"x","b":true,"i":-9223372036854775808,"big":9223372036854775808,"f":1.5,"e":1e3,"inf":1e999,"a":[1,2],"n":null}`))
	if err != nil {
		t.Fatal(err)
	}
	if s, ok := v.Get("s").Text(); s != "x" || !ok {
		t.Errorf("Text = %q, %v", s, ok)
	}
	if b, ok := v.Get("b").Bool(); !b || !ok {
		t.Errorf("Bool = %v, %v", b, ok)
	}
	if i, ok := v.Get("i").Int(); i != -1<<63 || !ok {
		t.Errorf("Int = %d, %v", i, ok)
	}
	if f, ok := v.Get("f").Float(); f != 1.5 || !ok {
		t.Errorf("Float = %v, %v", f, ok)
	}
	for _, name := range []string{"big", "f", "e", "s", "n", "a", "b", "absent"} {
		if _, ok := v.Get(name).Int(); ok {
			t.Errorf("%s is taken for an integer", name)
		}
	}
	for _, name := range []string{"inf", "s", "n", "absent"} {
		if _, ok := v.Get(name).Float(); ok {
			t.Errorf("%s is taken for a float", name)
		}
	}
	for _, name := range []string{"i", "b", "n", "a", "absent"} {
		if s, ok := v.Get(name).Text(); ok || s != "" {
			t.Errorf("%s is taken for the string %q", name, s)
		}
	}
	if _, ok := v.Get("s").Bool(); ok {
		t.Error("a string is taken for a boolean")
	}
	if k := v.Get("a").Get("").Kind(); k != KindNull {
		t.Errorf("an array has a member of kind %d", k)
	}
	var sum int64
	for name, e := range v.Get("a").All() {
		i, _ := e.Int()
		sum += i
		if name != "" {
			t.Errorf("an element is called %q", name)
		}
	}
	if sum != 3 {
		t.Errorf("the elements' sum is %d", sum)
	}
	for name := range v.All() {
		if name != "s" {
			t.Errorf("the first member is %q", name)
		}
		break
	}
	made := Object(Member{"a", Array(Int(-1), String("x"), Value{}, Object())})
	if got, want := string(made.Append(nil)), `{"a":[-1,"x",null,{}]}`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

// The costliest texts are those with the most values, members or pieces.
func TestParseMemory(t *testing.T) {
	const size = 64 << 10
	var names strings.Builder
	names.WriteString(`{"":0`)
	for i := 0; names.Len() < size; i++ {
		names.WriteString(`,"` + strconv.FormatInt(int64(i), 36) + `":0`)
	}
	names.WriteByte('}')
	for name, text := range map[string]string{
		"elements": "[0" + strings.Repeat(",0", size/2) + "]",
		"arrays":   "[[]" + strings.Repeat(",[[]]", size/5) + "]",
		"strings":  `[""` + strings.Repeat(`,""`, size/3) + "]",
		"names":    names.String(),
		"escapes":  `"` + strings.Repeat(`\u0041`, size/6) + `"`,
		"open":     strings.Repeat("[0,", size/3),
	} {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		v, err := Parse([]byte(text))
		runtime.ReadMemStats(&after)
		if err != nil && name != "open" {
			t.Errorf("%s: %v", name, err)
		}
		runtime.KeepAlive(v)
		if used := after.TotalAlloc - before.TotalAlloc; used > 256*uint64(len(text)) {
			t.Errorf("%s: %d bytes took %d", name, len(text), used)
		}
	}
}

// TestFloat compares with strconv.ParseFloat, which a client is spared: see Float.
func TestFloat(t *testing.T) {
	for _, text := range []string{
		"0", "-0", "1", "0.5", "0.001", "0.3333333333333333", "1e-3", "12.5E+2", "-2.5e-1", "1e22", "1e23",
		"123456789012345678901234567890", "0.000123456789012345678901234567890", "9.99e299", "1e301", "1e400",
		"2.5e-300", "1e-400", "0e99999999999999999999", "1e99999999999999999999", "1e-99999999999999999999",
	} {
		v, err := Parse([]byte(text))
		if err != nil {
			t.Fatal(err)
		}
		equal(t, v, json.Number(text))
	}
	zeros := strings.Repeat("0", 2000)
	for text, want := range map[string]float64{
		"0.001": 0.001, "0." + zeros + "25e2000": 0.25, "-25" + zeros + "e-2002": -0.25,
	} {
		v, err := Parse([]byte(text))
		if f, ok := v.Float(); f != want || !ok {
			t.Errorf("%s is read as %v, %v: %v", text, f, ok, err)
		}
	}
}

// FuzzParse compares Parse with encoding/json. They agree but for what package
// jsonlite refuses by design; each such refusal must have its cause in the text.
func FuzzParse(f *testing.F) {
	for _, s := range []string{
		`null`, `true`, `-12.50e+3`, `"\u0041\ud83d\ude00\n"`, `[1,[2,{"a":[]}]]`, ` { "a" : 1 , "b" : null } `,
		`{"a":1,"a":2}`, `"\ud800"`, "\"\xff\"", `01`, `[1,]`, strings.Repeat("[", 40) + strings.Repeat("]", 40),
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		v, err := Parse(data)
		theirs := json.NewDecoder(bytes.NewReader(data))
		theirs.UseNumber()
		var want any
		theirErr := theirs.Decode(&want)
		if theirErr == nil && len(bytes.Trim(data[theirs.InputOffset():], " \t\r\n")) > 0 {
			theirErr = errors.New("data after the value")
		}
		if err != nil {
			if theirErr == nil {
				checkStricter(t, data, err)
			}
			return
		}
		if theirErr != nil {
			t.Fatalf("Parse accepts what encoding/json refuses: %v", theirErr)
		}
		equal(t, v, want)

		text := v.Append(nil)
		again, err := Parse(text)
		if err != nil {
			t.Fatalf("Parse refuses Append's %q: %v", text, err)
		}
		if second := again.Append(nil); !bytes.Equal(text, second) {
			t.Fatalf("written as %q, then as %q", text, second)
		}
		if bytes.ContainsFunc(text, func(r rune) bool { return r < 0x20 }) || !json.Valid(text) {
			t.Fatalf("Append wrote %q", text)
		}
	})
}

// checkStricter fails unless data has a property for which Parse refuses more
// than encoding/json does.
func checkStricter(t *testing.T, data []byte, err error) {
	var syntax *SyntaxError
	if !errors.As(err, &syntax) || syntax.Offset < 0 || syntax.Offset > len(data) {
		t.Fatalf("error %#v", err)
	}
	rest := data[syntax.Offset:]
	switch syntax.Reason {
	case "name appears twice":
		name, _, _ := bytes.Cut(rest[1:], []byte(`"`))
		if before := data[:syntax.Offset]; bytes.ContainsRune(data, '\\') || bytes.Contains(before, name) {
			return
		}
	case "invalid UTF-8":
		if r, size := utf8.DecodeRune(rest); r == utf8.RuneError && size == 1 {
			return
		}
	case "half a surrogate pair":
		if bytes.HasPrefix(rest, []byte(`\ud`)) || bytes.HasPrefix(rest, []byte(`\uD`)) {
			return
		}
	case "nested too deep":
		if bytes.Count(data[:syntax.Offset], []byte("["))+bytes.Count(data[:syntax.Offset], []byte("{")) >= MaxDepth {
			return
		}
	}
	t.Fatalf("Parse refuses what encoding/json accepts: %v", err)
}

// equal compares v with what encoding/json decoded into an any. Names are
// unique here, so a map loses only the order.
func equal(t *testing.T, v Value, want any) {
	t.Helper()
	switch want := want.(type) {
	case nil:
		if v.Kind() != KindNull {
			t.Fatalf("kind %d, want null", v.Kind())
		}
	case bool:
		if b, ok := v.Bool(); !ok || b != want {
			t.Fatalf("boolean %v %v, want %v", b, ok, want)
		}
	case string:
		if s, ok := v.Text(); !ok || s != want {
			t.Fatalf("string %q %v, want %q", s, ok, want)
		}
	case json.Number:
		if v.Kind() != KindNumber || string(v.Append(nil)) != want.String() {
			t.Fatalf("number %s, want %s", v.Append(nil), want)
		}
		i, ok := v.Int()
		if wantInt, err := want.Int64(); ok != (err == nil) || ok && i != wantInt {
			t.Fatalf("integer %d %v, want %d, %v", i, ok, wantInt, err)
		}
		f, ok := v.Float()
		wantFloat, _ := want.Float64() // ±Inf if it fits none
		off := math.Abs(f - wantFloat)
		if size := math.Abs(wantFloat); ok && off > 1e-14*size && off > 1e-307 ||
			!ok && size < 0.999*maxFloat || ok && size > 1.001*maxFloat {
			t.Fatalf("float %v %v, want %v", f, ok, wantFloat)
		}
	case []any:
		i := 0
		for _, e := range v.All() {
			if i < len(want) {
				equal(t, e, want[i])
			}
			i++
		}
		if v.Kind() != KindArray || i != len(want) {
			t.Fatalf("kind %d with %d elements, want an array of %d", v.Kind(), i, len(want))
		}
	case map[string]any:
		n := 0
		for name, e := range v.All() {
			w, ok := want[name]
			if !ok {
				t.Fatalf("unexpected member %q", name)
			}
			equal(t, e, w)
			n++
		}
		if v.Kind() != KindObject || n != len(want) {
			t.Fatalf("kind %d with %d members, want an object of %d", v.Kind(), n, len(want))
		}
	}
}

// FuzzAppendString: what is written is what encoding/json reads, for any bytes.
func FuzzAppendString(f *testing.F) {
	for _, s := range []string{"", "plain", "\x00\n\"\\\x7f", "é\u2028😀", "\xff\xed\xa0\x80"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		want := string([]rune(s)) // one U+FFFD for each invalid byte
		text := AppendString(nil, s)
		var theirs string
		if err := json.Unmarshal(text, &theirs); err != nil || theirs != want {
			t.Fatalf("encoding/json reads %q as %q, %v", text, theirs, err)
		}
		v, err := Parse(text)
		if ours, ok := v.Text(); err != nil || !ok || ours != want {
			t.Fatalf("Parse reads %q as %q, %v", text, ours, err)
		}
		for _, c := range text {
			if c < 0x20 {
				t.Fatalf("control character in %q", text)
			}
		}
	})
}
