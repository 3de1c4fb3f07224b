package backlog

import (
	"testing"
	"time"

	"pgregory.net/rapid"
)

func TestStall(t *testing.T) {
	type look struct {
		at      time.Duration
		waiting []Inode
		stalled time.Duration
	}
	for name, looks := range map[string][]look{
		"nobody waits":             {{1, nil, 0}, {9, nil, 0}},
		"one waits":                {{1, []Inode{7}, 0}, {3, []Inode{7}, 2}, {9, []Inode{7}, 8}},
		"others join":              {{1, []Inode{7}, 0}, {3, []Inode{7, 8}, 2}, {9, []Inode{7, 8, 9}, 8}},
		"the client leaves":        {{1, []Inode{7}, 0}, {3, []Inode{0}, 2}, {5, []Inode{0}, 4}},
		"one behind it leaves":     {{1, []Inode{7, 8}, 0}, {3, []Inode{7, 0}, 2}},
		"accepted":                 {{1, []Inode{7, 8}, 0}, {3, []Inode{8}, 0}, {5, []Inode{8}, 2}},
		"accepted, others join":    {{1, []Inode{7, 8}, 0}, {3, []Inode{8, 9}, 0}},
		"all new":                  {{1, []Inode{7, 8}, 0}, {3, []Inode{9, 10}, 0}},
		"one who left accepted":    {{1, []Inode{0, 8}, 0}, {3, []Inode{8}, 0}},
		"the last accepted":        {{1, []Inode{7}, 0}, {3, nil, 0}, {5, []Inode{8}, 0}, {9, []Inode{8}, 4}},
		"a look that could not be": {{1, []Inode{7}, 0}, {3, nil, 0}, {5, []Inode{7}, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			var s Stall
			for i, l := range looks {
				s = s.Look(l.at, l.waiting)
				if got := s.For(l.at); got != l.stalled {
					t.Errorf("look %d: stalled for %d, want %d", i, got, l.stalled)
				}
			}
		})
	}
}

// TestStallTells: against a queue that knows the truth, a stall is never longer
// than the wait of who stands in front, unless that one has left; and looks that
// see no accept find it.
func TestStallTells(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		type client struct {
			inode Inode
			since time.Duration
		}
		var queue []client
		var s Stall
		var next Inode
		quiet := time.Duration(0) // since the look after the last accept, with somebody waiting all along
		for now := time.Duration(1); now < 60; now++ {
			switch rapid.SampledFrom([]string{"connect", "accept", "leave", "look"}).Draw(t, "event") {
			case "connect":
				next++
				queue = append(queue, client{next, now})
			case "accept":
				if len(queue) > 0 {
					queue = queue[1:]
					quiet = 0
				}
			case "leave":
				if len(queue) > 0 {
					queue[rapid.IntRange(0, len(queue)-1).Draw(t, "who")].inode = 0
				}
			case "look":
				var waiting []Inode
				for _, c := range queue {
					waiting = append(waiting, c.inode)
				}
				s = s.Look(now, waiting)
				got := s.For(now)
				if len(queue) == 0 {
					quiet = 0
					if got != 0 {
						t.Fatalf("an empty queue is stalled for %d", got)
					}
					continue
				}
				if quiet == 0 {
					quiet = now
				}
				if queue[0].inode != 0 && got > now-queue[0].since {
					t.Fatalf("stalled for %d, but the first has come %d ago", got, now-queue[0].since)
				}
				if got < now-quiet {
					t.Fatalf("stalled for %d, but nothing was accepted for %d", got, now-quiet)
				}
			}
		}
	})
}
