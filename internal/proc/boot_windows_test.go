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
	if windows.NewLazySystemDLL("ntdll.dll").NewProc("wine_get_version").Find() == nil {
		// It says that the machine was booted when its server began, and counts from
		// when the host was.
		if boot.After(time.Now()) || time.Since(boot) > BootTime() {
			t.Errorf("booted at %v, before the host, which counts %v", boot, BootTime())
		}
		return
	}
	// The clock may have been set since, by a machine's correction at most.
	if counted := time.Now().Add(-BootTime()); boot.Sub(counted).Abs() > 24*time.Hour {
		t.Errorf("booted at %v, the boot clock counts from %v", boot, counted)
	}
}
