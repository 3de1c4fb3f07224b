package proc

import "strconv"

// pfExiting is set before a process's descriptors are closed (PF_EXITING in
// linux/sched.h; do_exit sets it first).
const pfExiting = 0x4

// exiting reads field 9 of /proc/PID/stat, the kernel's flags of the main
// thread. All threads of a killed process end, and the descriptors are closed
// with the last of them, so the main thread's flag is set by then.
func exiting(pid int) bool {
	b, err := readSmall("/proc/"+strconv.Itoa(pid)+"/stat", 2048)
	if err != nil {
		return true
	}
	flags, err := strconv.ParseUint(statField(b, 9), 10, 64)
	return err != nil || flags&pfExiting != 0
}
