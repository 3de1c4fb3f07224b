package proc

import (
	"testing"
	"time"
)

func TestAt(t *testing.T) {
	for name, at := range map[string]func(time.Duration) (<-chan struct{}, func()){"system": At, "timer": atByTimer} {
		t.Run(name, func(t *testing.T) {
			began := BootTime()
			for _, after := range []time.Duration{-time.Hour, 0, 30 * time.Millisecond} {
				reached, giveUp := at(began + after)
				select {
				case <-reached:
				case <-t.Context().Done():
					t.Fatal("never")
				}
				if now := BootTime(); now < began+after {
					t.Errorf("%v too early", began+after-now)
				}
				giveUp()
			}
			// Who gives up hears nothing, and may say so twice.
			reached, giveUp := at(BootTime() + 50*time.Millisecond)
			giveUp()
			giveUp()
			select {
			case <-reached:
				t.Error("reached although it was given up")
			case <-time.After(100 * time.Millisecond):
			}
			never, giveUp := at(BootTime() + 24*time.Hour)
			defer giveUp()
			select {
			case <-never:
				t.Error("tomorrow has come")
			default:
			}
		})
	}
}
