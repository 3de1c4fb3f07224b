package proc

import "time"

// At returns a channel that is closed when [BootTime] has reached t, and a
// function that gives it up, after which the channel stays open. Time during
// which the machine is suspended counts: on Linux the kernel wakes exactly
// (timerfd_create(2) with CLOCK_BOOTTIME); elsewhere it is noticed at the
// latest a minute after the machine has resumed.
//
// Nothing runs meanwhile on Linux, and no thread is held. The caller calls the
// function in any case; it waits for nothing and may be called twice.
func At(t time.Duration) (reached <-chan struct{}, giveUp func()) { return at(t) }

// atByTimer is At where the kernel has no such clock to wait for: the monotonic
// clock of a timer may stand still in a suspend.
func atByTimer(t time.Duration) (<-chan struct{}, func()) {
	const look = time.Minute
	reached, stop := make(chan struct{}), make(chan struct{}, 1)
	go func() {
		for {
			left := t - BootTime()
			if left <= 0 {
				close(reached)
				return
			}
			timer := time.NewTimer(min(left, look))
			select {
			case <-timer.C:
			case <-stop:
				timer.Stop()
				return
			}
		}
	}()
	return reached, func() {
		select {
		case stop <- struct{}{}:
		default:
		}
	}
}
