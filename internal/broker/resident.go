package broker

// Resident returns how many bytes of memory a process has resident, -1 if that is not
// known (RSS in proc_pid_statm(5); on Windows its working set). The pid may be another's by now: it is a
// figure for people.
func Resident(pid int) int64 { return resident(pid) }
