package proc

import "golang.org/x/sys/windows"

// stillActive is the exit code of a process that has none yet (STILL_ACTIVE, winbase.h),
// and of one that has chosen it.
const stillActive = 259

// exiting: the exit code is set before the handles are closed, and those before the process
// is signalled.
func exiting(pid int) bool {
	p, err := openProcess(pid, mayLook)
	if err != nil {
		return true
	}
	defer windows.CloseHandle(p)
	var code uint32
	if err := windows.GetExitCodeProcess(p, &code); err != nil || code != stillActive {
		return true
	}
	e, err := windows.WaitForSingleObject(p, 0)
	return err != nil || e != uint32(windows.WAIT_TIMEOUT)
}
