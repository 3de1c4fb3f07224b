package proc

import (
	"os"
	"time"

	"golang.org/x/sys/unix"
)

func at(t time.Duration) (<-chan struct{}, func()) {
	fd, err := unix.TimerfdCreate(unix.CLOCK_BOOTTIME, unix.TFD_CLOEXEC|unix.TFD_NONBLOCK)
	if err != nil {
		return atByTimer(t) // no descriptor is left
	}
	f := os.NewFile(uintptr(fd), "alarm")
	spec := unix.ItimerSpec{Value: unix.NsecToTimespec(max(int64(t), 1))} // 0 would disarm it
	if err := unix.TimerfdSettime(fd, unix.TFD_TIMER_ABSTIME, &spec, nil); err != nil {
		_ = f.Close()
		return atByTimer(t)
	}
	reached := make(chan struct{})
	go func() {
		defer f.Close()
		if _, err := f.Read(make([]byte, 8)); err == nil { // in Go's poller
			close(reached)
		}
	}()
	return reached, func() { _ = f.Close() }
}
