package proc

import (
	"strconv"
	"testing"
	"time"

	"golang.org/x/sys/windows"
)

// TestBootID: it is the time that the boot clock counts from.
func TestBootID(t *testing.T) {
	n, err := strconv.ParseInt(BootID(), 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	at := windows.Filetime{LowDateTime: uint32(n), HighDateTime: uint32(n >> 32)}
	boot := time.Unix(0, at.Nanoseconds())
	// The clock may have been set since, by a machine's correction at most.
	if counted := time.Now().Add(-BootTime()); boot.Sub(counted).Abs() > 24*time.Hour {
		t.Errorf("booted at %v, the boot clock counts from %v", boot, counted)
	}
}
