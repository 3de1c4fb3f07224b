package version

import (
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// fight is n replacements, a second apart, of builds that take turns.
func fight(builds string, n int) []Replacement {
	var list []Replacement
	for i := range n {
		list = append(list, Replacement{
			At:   time.Hour + time.Duration(i)*time.Second,
			From: builds[i%len(builds):][:1], To: builds[(i+1)%len(builds):][:1],
		})
	}
	return list
}

func TestFlapping(t *testing.T) {
	at := func(seconds float64, from, to string) Replacement {
		return Replacement{time.Hour + time.Duration(seconds*float64(time.Second)), from, to}
	}
	for _, tt := range []struct {
		name  string
		list  []Replacement
		now   float64 // seconds after the first hour
		flap  string
		until float64
	}{
		{"none", nil, 0, "", 0},
		{"three", fight("AB", 3), 3, "", 0},
		{"four", fight("AB", 4), 3, "BA", 60},
		{"four, later", fight("AB", 4), 59.9, "BA", 60},
		{"four, a minute ago", fight("AB", 4), 60, "", 0},
		{"ten: until the fourth last has left", fight("AB", 10), 30, "BA", 66},
		{"an upgrade sequence", fight("ABCDEFGHIJ", 9), 9, "", 0},
		{"a downgrade in it", []Replacement{at(0, "A", "B"), at(1, "B", "A"), at(2, "A", "B"), at(3, "B", "C"), at(4, "C", "D")}, 5, "", 0},
		{"with strangers between", []Replacement{at(0, "A", "B"), at(1, "B", "A"), at(2, "C", "D"), at(3, "A", "B"), at(4, "D", "E"), at(5, "B", "A")}, 6, "BA", 60},
		{"over more than a minute", []Replacement{at(0, "A", "B"), at(20, "B", "A"), at(40, "A", "B"), at(60, "B", "A")}, 60, "", 0},
		{"in just less", []Replacement{at(0, "A", "B"), at(20, "B", "A"), at(40, "A", "B"), at(59, "B", "A")}, 59, "BA", 60},
		{"not each other", []Replacement{at(0, "A", "B"), at(1, "A", "B"), at(2, "A", "B"), at(3, "A", "B")}, 4, "", 0},
		{"by itself", fight("AA", 9), 9, "", 0},
		{"not known", []Replacement{at(0, "", "B"), at(1, "B", ""), at(2, "", "B"), at(3, "B", "")}, 4, "", 0},
		{"three builds in turn, of which no two replace each other", fight("ABC", 12), 12, "", 0},
		{"in the future", fight("AB", 4), 2.5, "", 0},
		{"four, and one in the future", fight("AB", 5), 3.5, "BA", 60},
		{"the last of two", append(fight("AB", 4), at(4, "C", "D"), at(5, "D", "C"), at(6, "C", "D"), at(7, "D", "C")), 8, "DC", 64},
		{"of another boot", append([]Replacement{at(500, "A", "B"), at(501, "B", "A"), at(502, "A", "B")}, fight("AB", 2)...), 3, "", 0},
		{"beyond the bound", append(fight("AB", 4), slices.Repeat([]Replacement{at(4, "C", "D")}, MaxReplacements-3)...), 5, "", 0},
		{"within the bound", append(fight("AB", 4), slices.Repeat([]Replacement{at(4, "C", "D")}, MaxReplacements-4)...), 5, "BA", 60},
	} {
		flap, is := Flapping(tt.list, time.Hour+time.Duration(tt.now*float64(time.Second)))
		want := Flap{}
		if tt.flap != "" {
			want = Flap{tt.flap[:1], tt.flap[1:], time.Hour + time.Duration(tt.until*float64(time.Second))}
		}
		if flap != want || is != (tt.flap != "") {
			t.Errorf("%s: %+v, %v, want %+v", tt.name, flap, is, want)
		}
	}
}

// Flapping agrees with a plain count, and ends when it says.
func TestFlappingCounts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var list []Replacement
		now := time.Hour
		for range rapid.IntRange(0, MaxReplacements).Draw(t, "n") {
			now += time.Duration(rapid.IntRange(0, 25).Draw(t, "seconds")) * time.Second
			build := rapid.SampledFrom([]string{"A", "A", "B", "B", "C", ""})
			list = append(list, Replacement{now, build.Draw(t, "from"), build.Draw(t, "to")})
		}
		flap, is := Flapping(list, now)
		if !is {
			for _, pair := range []string{"AB", "AC", "BC"} {
				var there, back int
				for _, r := range list {
					switch {
					case now-r.At >= time.Minute:
					case r.From+r.To == pair:
						there++
					case r.To+r.From == pair:
						back++
					}
				}
				if there > 0 && back > 0 && there+back > 3 {
					t.Fatalf("%s replaced each other %d and %d times", pair, there, back)
				}
			}
			return
		}
		if flap.From == flap.To || flap.From == "" || flap.To == "" || flap.Until <= now || flap.Until > now+time.Minute {
			t.Fatalf("%+v at %v", flap, now)
		}
		if f, is := Flapping(list, flap.Until-1); !is || f != flap {
			t.Fatalf("until %v, but before %+v, %v", flap.Until, f, is)
		}
		if f, is := Flapping(list, flap.Until); is {
			t.Fatalf("until %v, but then %+v", flap.Until, f)
		}
	})
}
