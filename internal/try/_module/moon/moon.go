// Package moon tells the moon's phase well enough for a wall calendar.
package moon

import (
	"math"
	"time"
)

// Synodic is the mean time from new moon to new moon.
const Synodic = 29.530588853 * 24 * float64(time.Hour)

// epoch is a new moon.
var epoch = time.Date(2000, time.January, 6, 18, 14, 0, 0, time.UTC)

// A Day is how the moon looks on one day.
type Day struct {
	Date  time.Time `json:"date" xml:"date,attr"`
	Age   float64   `json:"age_days" xml:"age"`
	Lit   float64   `json:"lit" xml:"lit"` // of the disk, 0 to 1
	Phase string    `json:"phase" xml:"phase"`
}

var phases = [...]string{"new moon", "waxing crescent", "first quarter", "waxing gibbous",
	"full moon", "waning gibbous", "last quarter", "waning crescent"}

// On returns how the moon looks at t.
func On(t time.Time) Day {
	turns := float64(t.Sub(epoch)) / Synodic
	part := turns - math.Floor(turns)
	return Day{
		Date:  t,
		Age:   part * Synodic / 24 / float64(time.Hour),
		Lit:   (1 - math.Cos(2*math.Pi*part)) / 2,
		Phase: phases[int(part*8+0.5)%8],
	}
}

// Month returns every day of a month.
func Month(year int, month time.Month) []Day {
	var days []Day
	for t := time.Date(year, month, 1, 0, 0, 0, 0, time.UTC); t.Month() == month; t = t.AddDate(0, 0, 1) {
		days = append(days, On(t))
	}
	return days
}
