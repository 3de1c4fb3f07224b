package supervise

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"
)

// TestSchedule compares it with a plain map.
func TestSchedule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var s Schedule
		model := map[string]time.Duration{}
		now := time.Duration(1)
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			if rapid.IntRange(0, 3).Draw(t, "due") > 0 {
				name := fmt.Sprintf("s%d", rapid.IntRange(0, 7).Draw(t, "service"))
				at := time.Duration(rapid.IntRange(0, 20).Draw(t, "at"))
				s.Set(name, at)
				if model[name] = at; at == 0 {
					delete(model, name)
				}
			} else {
				now += time.Duration(rapid.IntRange(0, 5).Draw(t, "later"))
				var want []string
				for name, at := range model {
					if at <= now {
						want = append(want, name)
					}
				}
				slices.SortFunc(want, func(a, b string) int {
					if model[a] != model[b] {
						return int(model[a] - model[b])
					}
					if a < b {
						return -1
					}
					return 1
				})
				if got := s.Due(now); !slices.Equal(got, want) {
					t.Fatalf("due at %d: %v, want %v", now, got, want)
				}
				for _, name := range want {
					delete(model, name)
				}
			}
			next := time.Duration(0)
			for _, at := range model {
				if next == 0 || at < next {
					next = at
				}
			}
			if s.Next() != next || s.Len() != len(model) {
				t.Fatalf("next %d of %d, want %d of %d", s.Next(), s.Len(), next, len(model))
			}
		}
	})
}

// BenchmarkSchedule: a service's deadline moves, among so many.
func BenchmarkSchedule(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			var s Schedule
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprintf("service%d", i)
				s.Set(names[i], time.Duration(i+1))
			}
			for i := 0; b.Loop(); i++ {
				s.Set(names[i%n], time.Duration((i*7919)%100_000+1))
			}
		})
	}
}
