package version

import (
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// ascending is versions of strictly ascending precedence; those of one entry are
// equal.
var ascending = [][]string{
	{"0.0.0-0"},
	{"v0.0.0-20191109021931-daa7c04131f5"}, // Go's pseudo-versions order by their time
	{"v0.0.0-20200101000000-abcdef123456"},
	{"v0.0.0-20200101000001-000000000000", "v0.0.0-20200101000001-000000000000+dirty"},
	{"0.0.0", "v0.0.0"},
	{"0.0.1"},
	{"0.9.10"},
	{"0.10.0"},
	// semver.org 11.4
	{"1.0.0-0"},
	{"1.0.0-2"},
	{"1.0.0-10"},
	{"1.0.0-18446744073709551616"},
	{"1.0.0-18446744073709551617"},
	{"1.0.0--"},
	{"1.0.0--1"},
	{"1.0.0-0a"}, // no number
	{"1.0.0-A"},
	{"1.0.0-Z.9"},
	{"1.0.0-alpha", "1.0.0-alpha+x"},
	{"1.0.0-alpha.1", "v1.0.0-alpha.1"},
	{"1.0.0-alpha.1.0"},
	{"1.0.0-alpha.beta"},
	{"1.0.0-alpha-"},
	{"1.0.0-beta"},
	{"1.0.0-beta.2"},
	{"1.0.0-beta.11"},
	{"1.0.0-rc.1"},
	{"1.0.0", "v1.0.0", "1.0.0+20130313144700", "1.0.0+001", "1.0.0+-.-", "1.0.0+dirty"},
	// of the next patch, as Go writes a commit after v1.0.0
	{"v1.0.1-0.20200101000000-abcdef123456"},
	{"v1.0.1-0.20200101000001-abcdef123456"},
	{"1.0.1-rc.1"},
	{"v1.0.1-rc.1.0.20200101000000-abcdef123456"},
	{"1.0.1"},
	{"1.2.0"},
	{"1.10.0"},
	{"2.0.0"},
	{"2.1.0"},
	{"2.1.1"},
	{"18446744073709551615.0.0"},
	{"18446744073709551616.0.0"},
	{strings.Repeat("9", MaxLength-4) + ".0.0"},
}

func TestOrder(t *testing.T) {
	for i, as := range ascending {
		for j, bs := range ascending {
			want := 0
			if i < j {
				want = -1
			} else if i > j {
				want = 1
			}
			for _, a := range as {
				for _, b := range bs {
					if got := parsed(t, a).Compare(parsed(t, b)); got != want {
						t.Errorf("%s compared with %s is %d, want %d", a, b, got, want)
					}
				}
			}
		}
		if parsed(t, as[0]).Compare(Version{}) != 1 {
			t.Errorf("%s is not above none", as[0])
		}
	}
}

func parsed(t interface{ Fatal(...any) }, s string) Version {
	v, err := Parse(s)
	if err != nil {
		t.Fatal(err)
	}
	return v
}

func TestParse(t *testing.T) {
	for _, tt := range []struct {
		in string
		v  Version
	}{
		{"1.4.2", Version{"1.4.2", [3]string{"1", "4", "2"}, ""}},
		{"v0.0.10", Version{"0.0.10", [3]string{"0", "0", "10"}, ""}},
		{"1.0.0-0.a-b.--+00.x-", Version{"1.0.0-0.a-b.--+00.x-", [3]string{"1", "0", "0"}, "0.a-b.--"}},
		{"1.0.0+a-b", Version{"1.0.0+a-b", [3]string{"1", "0", "0"}, ""}},
	} {
		if v, err := Parse(tt.in); v != tt.v || err != nil {
			t.Errorf("Parse(%q) = %#v, %v, want %#v", tt.in, v, err, tt.v)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	for _, tt := range []struct{ in, err string }{
		{"", `malformed version: it is empty`},
		{"v", `malformed version "v": character 2: expected a number`},
		{"V1.2.3", `malformed version "V1.2.3": character 1: expected a number`},
		{"vv1.2.3", `malformed version "vv1.2.3": character 2: expected a number`},
		{"(devel)", `malformed version "(devel)": character 1: expected a number`},
		{"unknown", `malformed version "unknown": character 1: expected a number`},
		{"1", `malformed version "1": character 2: expected . and a number`},
		{"1.", `malformed version "1.": character 3: expected a number`},
		{"1.2", `malformed version "1.2": character 4: expected . and a number`},
		{"1.2.", `malformed version "1.2.": character 5: expected a number`},
		{".1.2", `malformed version ".1.2": character 1: expected a number`},
		{"1..2", `malformed version "1..2": character 3: expected a number`},
		{"1.2-rc.1", `malformed version "1.2-rc.1": character 4: expected . and a number`},
		{"1.2+x", `malformed version "1.2+x": character 4: expected . and a number`},
		{"1.2.3.4", `malformed version "1.2.3.4": character 6: unexpected character`},
		{"1.2.x", `malformed version "1.2.x": character 5: expected a number`},
		{"1.2.3a", `malformed version "1.2.3a": character 6: unexpected character`},
		{"1.-2.3", `malformed version "1.-2.3": character 3: expected a number`},
		{"+1.2.3", `malformed version "+1.2.3": character 1: expected a number`},
		{"01.2.3", `malformed version "01.2.3": character 1: a number begins with 0`},
		{"v1.00.3", `malformed version "v1.00.3": character 4: a number begins with 0`},
		{"1.2.03", `malformed version "1.2.03": character 5: a number begins with 0`},
		{"1.2.3-", `malformed version "1.2.3-": character 7: expected a letter, a digit or -`},
		{"1.2.3-+x", `malformed version "1.2.3-+x": character 7: expected a letter, a digit or -`},
		{"1.2.3-a.", `malformed version "1.2.3-a.": character 9: expected a letter, a digit or -`},
		{"1.2.3-a..b", `malformed version "1.2.3-a..b": character 9: expected a letter, a digit or -`},
		{"1.2.3-a.01", `malformed version "1.2.3-a.01": character 9: a number begins with 0`},
		{"1.2.3-a_b", `malformed version "1.2.3-a_b": character 8: unexpected character`},
		{"1.2.3+", `malformed version "1.2.3+": character 7: expected a letter, a digit or -`},
		{"1.2.3+a+b", `malformed version "1.2.3+a+b": character 8: unexpected character`},
		{"1.2.3-ä", `malformed version "1.2.3-ä": character 7: expected a letter, a digit or -`},
		{" 1.2.3", `malformed version " 1.2.3": character 1: expected a number`},
		{"1.2.3 ", `malformed version "1.2.3 ": character 6: unexpected character`},
		{"1.2.3\n", `malformed version "1.2.3\n": character 6: unexpected character`},
		{"1.2.٣", `malformed version "1.2.٣": character 5: expected a number`},
		{"1.2.\xff", `malformed version "1.2.\xff": character 5: expected a number`},
		{strings.Repeat("9", MaxLength-3) + ".0.0", `malformed version: longer than 128 bytes`},
	} {
		v, err := Parse(tt.in)
		if err == nil || err.Error() != tt.err || v != (Version{}) {
			t.Errorf("Parse(%q) = %#v, %v, want error %s", tt.in, v, err, tt.err)
		}
	}
}

func TestWant(t *testing.T) {
	for _, tt := range []struct {
		want    string
		allows  []string
		refuses []string
	}{
		{"1.4.2", []string{"1.4.2", "v1.4.2", "1.4.2+x"}, []string{"1.4.3", "1.4.2-rc.1", "1.4.20", "1.4", "", "(devel)"}},
		{"v1.4.2+a", []string{"1.4.2", "1.4.2+b"}, []string{"1.4.1"}},
		{"1.4.2-rc.1", []string{"1.4.2-rc.1", "1.4.2-rc.1+x"}, []string{"1.4.2", "1.4.2-rc.2", "1.4.2-rc.1.0"}},
		{"1.4", []string{"1.4.0", "v1.4.99", "1.4.2+x", "1.4"}, []string{"1.40.0", "1.5.0", "2.4.0", "1.4.2-rc.1", "1.4.0-0", "1", "1.4.2.1"}},
		{"v1", []string{"1.0.0", "1.99.0", "v1"}, []string{"0.9.0", "10.0.0", "2.0.0", "1.2.3-0.20200101000000-abcdef123456"}},
		{">=1.2.0", []string{"1.2.0", "1.2.1-rc.1", "1.10.0", "99999999999999999999.0.0"}, []string{"1.2.0-rc.1", "1.1.9", "1.3", "build-77", "", "v0.0.0-20200101000000-abcdef123456"}},
		{">= v1.2", []string{"1.2.0", "1.2.0+x"}, []string{"1.2.0-rc.1"}},
		{">=1.2.0-rc.1", []string{"1.2.0-rc.1", "1.2.0-rc.1.0", "1.2.0"}, []string{"1.2.0-beta", "1.1.9"}},
		{"<2", []string{"1.99.0", "0.0.0-0", "1.0.0-rc.1"}, []string{"2.0.0", "2.0.0-rc.1", "2.0.0-0", "3.0.0", "(devel)"}},
		{"<2.0.0", []string{"1.99.0"}, []string{"2.0.0-rc.1", "2.0.0-0"}},
		{"<2.0.0-rc.1", []string{"2.0.0-beta", "1.9.9"}, []string{"2.0.0-rc.1", "2.0.0"}},
		{" >=1.2 ,<2 ", []string{"1.2.0", "1.99.9"}, []string{"1.1.9", "2.0.0", "2.0.0-rc.1"}},
		{"1.4,>=1.4.3", []string{"1.4.3", "1.4.10"}, []string{"1.4.2", "1.5.0", "1.4.4-rc.1"}},
		{">=2,<1", nil, []string{"0.1.0", "1.0.0", "1.5.0", "2.0.0"}},
		{"(devel)", []string{"(devel)"}, []string{"", "1.0.0", "(devel) "}},
		{" build-77 ", []string{"build-77"}, []string{"build-78", "Build-77", "77.0.0", " build-77 "}},
		{"v", []string{"v"}, []string{"1.0.0", ""}},
		{"GNU Make 4.3", []string{"GNU Make 4.3"}, []string{"4.3.0"}},
		{"zwölf", []string{"zwölf"}, []string{"12.0.0"}},
	} {
		w, err := ParseWant(tt.want)
		if err != nil {
			t.Error(err)
			continue
		}
		if w.String() != strings.Trim(tt.want, " ") {
			t.Errorf("%q is written %q", tt.want, w)
		}
		for _, v := range tt.allows {
			if !w.Allows(v) {
				t.Errorf("%q refuses %q", tt.want, v)
			}
		}
		for _, v := range tt.refuses {
			if w.Allows(v) {
				t.Errorf("%q allows %q", tt.want, v)
			}
		}
	}
	if longest := strings.Repeat("b", MaxLength); !wants(t, longest)[0].Allows(longest) {
		t.Error("the longest text refuses itself")
	}
	for _, v := range []string{"", "1.2.3", "(devel)"} {
		if !(Want{}).Allows(v) {
			t.Errorf("no want refuses %q", v)
		}
	}
}

func TestParseWantRefuses(t *testing.T) {
	for _, tt := range []struct{ in, err string }{
		{"", `malformed want: it is empty`},
		{"  ", `malformed want: it is empty`},
		{",", `malformed want ",": part 1, character 1: it is empty`},
		{">=1,", `malformed want ">=1,": part 2, character 5: it is empty`},
		{">=1,,<2", `malformed want ">=1,,<2": part 2, character 5: it is empty`},
		{">=", `malformed want ">=": part 1, character 3: it is empty`},
		{"< ", `malformed want "< ": part 1, character 3: it is empty`},
		{">=x", `malformed want ">=x": part 1, character 3: expected a number`},
		{">=1.2, <x", `malformed want ">=1.2, <x": part 2, character 9: expected a number`},
		{">=1.2, build-77", `malformed want ">=1.2, build-77": part 2, character 8: expected a number`},
		{"build-77, >=1.2", `malformed want "build-77, >=1.2": part 1, character 1: expected a number`},
		{"1.2.x", `malformed want "1.2.x": part 1, character 5: expected a number`},
		{"1.x", `malformed want "1.x": part 1, character 3: expected a number`},
		{"1.", `malformed want "1.": part 1, character 3: expected a number`},
		{"v1.2.3.4", `malformed want "v1.2.3.4": part 1, character 7: unexpected character`},
		{"01.2", `malformed want "01.2": part 1, character 1: a number begins with 0`},
		{"1.2-rc.1", `malformed want "1.2-rc.1": part 1, character 4: expected . and a number`},
		{"1.2.3-", `malformed want "1.2.3-": part 1, character 7: expected a letter, a digit or -`},
		{"1.2 .3", `malformed want "1.2 .3": part 1, character 4: expected . and a number`},
		{">1.2", `malformed want ">1.2": part 1, character 1: of operators there are >= and <`},
		{"<=1.2", `malformed want "<=1.2": part 1, character 1: of operators there are >= and <`},
		{">=1, !=1.2.3", `malformed want ">=1, !=1.2.3": part 2, character 6: of operators there are >= and <`},
		{"=1.2.3", `malformed want "=1.2.3": part 1, character 1: of operators there are >= and <`},
		{"~1.2", `malformed want "~1.2": part 1, character 1: of operators there are >= and <`},
		{"^1.2", `malformed want "^1.2": part 1, character 1: of operators there are >= and <`},
		{"*", `malformed want "*": part 1, character 1: of operators there are >= and <`},
		{"<<2", `malformed want "<<2": part 1, character 2: expected a number`},
		{"1,b\x00", `malformed want "1,b\x00": part 2, character 4: it is not printable`},
		{"\t1.2", `malformed want "\t1.2": part 1, character 1: it is not printable`},
		{"<" + strings.Repeat("9", 129), `malformed want "<` + strings.Repeat("9", 129) + `": part 1, character 130: longer than 128 bytes`},
		{strings.Repeat("b", 129), `malformed want "` + strings.Repeat("b", 129) + `": part 1, character 129: longer than 128 bytes`},
		{strings.Repeat("<1,", 170) + "<10", `malformed want: longer than 512 bytes`},
	} {
		w, err := ParseWant(tt.in)
		if err == nil || err.Error() != tt.err || w.String() != "" {
			t.Errorf("ParseWant(%q) = %v, %v, want error %s", tt.in, w, err, tt.err)
		}
	}
	if _, err := ParseWant(strings.Repeat("<1,", 170) + "<1"); err != nil {
		t.Errorf("512 bytes: %v", err)
	}
}

var (
	anyIdentifier = rapid.StringMatching(`0|[1-9][0-9]{0,24}|[0-9]{0,2}[A-Za-z-][0-9A-Za-z-]{0,3}|[ab]`)
	anyNumber     = rapid.StringMatching(`0|[1-3]|[1-9][0-9]{0,24}`)
)

// anyVersion generates valid versions, near each other so that every rule of
// precedence is reached.
var anyVersion = rapid.Custom(func(t *rapid.T) string {
	s := rapid.SampledFrom([]string{"", "v"}).Draw(t, "v")
	for i := range 3 {
		if i > 0 {
			s += "."
		}
		if rapid.Bool().Draw(t, "any") {
			s += anyNumber.Draw(t, "number")
		} else {
			s += "1"
		}
	}
	if pre := rapid.SliceOfN(anyIdentifier, 0, 2).Draw(t, "pre"); len(pre) > 0 {
		s += "-" + strings.Join(pre, ".")
	}
	if rapid.Bool().Draw(t, "build") {
		s += "+" + rapid.StringMatching(`[0-9A-Za-z-]{1,3}`).Draw(t, "metadata")
	}
	return s
})

func TestCompareIsATotalOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := parsed(t, anyVersion.Draw(t, "a")), parsed(t, anyVersion.Draw(t, "b")), parsed(t, anyVersion.Draw(t, "c"))
		if a.Compare(a) != 0 {
			t.Fatalf("%v is not equal to itself", a)
		}
		if a.Compare(b) != -b.Compare(a) {
			t.Fatalf("%v and %v: %d and %d", a, b, a.Compare(b), b.Compare(a))
		}
		// Transitive, and equal ones are interchangeable.
		l := []Version{a, b, c}
		slices.SortFunc(l, Version.Compare)
		if l[0].Compare(l[1]) > 0 || l[1].Compare(l[2]) > 0 || l[0].Compare(l[2]) != min(l[0].Compare(l[1]), l[1].Compare(l[2])) {
			t.Fatalf("not in order: %v", l)
		}
		// The metadata is the only thing that does not count.
		cut := func(v Version) string { s, _, _ := strings.Cut(v.String(), "+"); return s }
		if (a.Compare(b) == 0) != (cut(a) == cut(b)) {
			t.Fatalf("%v compared with %v is %d", a, b, a.Compare(b))
		}
	})
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := anyVersion.Draw(t, "s")
		v := parsed(t, s)
		if v.String() != strings.TrimPrefix(s, "v") || parsed(t, v.String()) != v {
			t.Fatalf("%q became %q", s, v)
		}
	})
}

// What a want allows follows from the order, for any version.
func TestWantFollowsOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s, u := anyVersion.Draw(t, "s"), anyVersion.Draw(t, "u")
		v, w := parsed(t, s), parsed(t, u)
		allows := func(want string) bool {
			w, err := ParseWant(want)
			if err != nil {
				t.Fatal(err)
			}
			return w.Allows(s)
		}
		if got, want := allows(u), v.Compare(w) == 0; got != want {
			t.Fatalf("%s allows %s: %v", u, s, got)
		}
		if got, want := allows(">="+u), v.Compare(w) >= 0; got != want {
			t.Fatalf(">=%s allows %s: %v", u, s, got)
		}
		ofRelease := w.pre == "" && v.core == w.core
		if got, want := allows("<"+u), v.Compare(w) < 0 && !ofRelease; got != want {
			t.Fatalf("<%s allows %s: %v", u, s, got)
		}
		prefixes := v.core[0] + "," + v.core[0] + "." + v.core[1]
		if got, want := allows(prefixes), v.pre == ""; got != want {
			t.Fatalf("%s allows %s: %v", prefixes, s, got)
		}
	})
}

func TestAllocations(t *testing.T) {
	want, err := ParseWant(">=1.2, <2, 1.4")
	if err != nil {
		t.Fatal(err)
	}
	have := Identity{Version: "v1.4.2-rc.1+x", BuildID: "b", Executable: Executable{1, 2, 3, 4, "/a"}}
	ours := Identity{Version: "v1.4.2-rc.1+y", BuildID: "b", Executable: Executable{1, 2, 3, 4, "/b"}}
	limits := Limits{Floor: wants(t, ">=1.2")[0], Allow: wants(t, "1.3", ">=1.4.0-0")}
	list := fight("AB", MaxReplacements)
	for name, f := range map[string]func() bool{
		"Parse":          func() bool { _, err := Parse("v1.2.3-rc.1+x"); return err == nil },
		"Compare":        func() bool { return Version{pre: "a.1.b"}.Compare(Version{pre: "a.1.c"}) < 0 },
		"Allows":         func() bool { return want.Allows("1.4.2") && !want.Allows("(devel)") && !want.Allows("1.2.x") },
		"Decide replace": func() bool { a, _ := Decide(Replace, have, ours, limits); return a == Use },
		"Decide refuse":  func() bool { a, _ := Decide(Refuse, have, ours, limits); return a == Use },
		"Flapping":       func() bool { _, is := Flapping(list, list[len(list)-1].At); return is },
	} {
		ok := true
		if n := testing.AllocsPerRun(100, func() { ok = ok && f() }); n != 0 || !ok {
			t.Errorf("%s: %v allocations, result as expected: %v", name, n, ok)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range slices.Concat(ascending...) {
		f.Add(s)
	}
	for _, s := range []string{"", "(devel)", "1.2", "1.2.3.4", "01.2.3", "1.2.3-", "1.2.3-01", "v1.2.3+a+b", "1.2.\xff"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		v, err := Parse(s)
		if err != nil {
			if v != (Version{}) || len(err.Error()) > 5*MaxLength {
				t.Fatalf("%#v, %v", v, err)
			}
			return
		}
		if len(s) > MaxLength || v.String() != strings.TrimPrefix(s, "v") {
			t.Fatalf("%q became %q", s, v)
		}
		again, err := Parse(v.String())
		if err != nil || again != v || again.Compare(v) != 0 || v.Compare(Version{}) != 1 {
			t.Fatalf("%q: %#v, then %#v, %v", s, v, again, err)
		}
	})
}

func FuzzParseWant(f *testing.F) {
	for _, s := range []string{"1.4.2", "v1.4", "1", ">=1.2.0", ">= 1.2 , <2", "(devel)", "build-77", "", ",", ">=", "<=1", "1.2-rc",
		"1.2.3-rc.1+x,<2.0.0-0", "\x00", "v", "\xff"} {
		f.Add(s, "1.4.2")
		f.Add(s, s)
	}
	f.Fuzz(func(t *testing.T, s, version string) {
		w, err := ParseWant(s)
		if err != nil {
			if w.String() != "" || len(w.terms) > 0 || len(err.Error()) > 5*maxWant {
				t.Fatalf("%#v, %v", w, err)
			}
			return
		}
		again, err := ParseWant(w.String())
		if err != nil || again.String() != w.String() || !slices.Equal(again.terms, w.terms) {
			t.Fatalf("%q: %#v, then %#v, %v", s, w, again, err)
		}
		if !w.Allows(w.String()) {
			t.Fatalf("%q refuses its own text", s)
		}
		if _, err := Parse(version); err != nil && version != w.String() && w.Allows(version) {
			t.Fatalf("%q allows %q", s, version)
		}
	})
}
