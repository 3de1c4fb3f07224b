package proc

// Exiting reports whether the process with this pid has begun to end: a killed
// process closes its descriptors, so that its peers see their connections end,
// before it counts as dead. It is true for a pid that nobody has, and where the
// system does not tell. Safe for concurrent use; it blocks for reading a file.
//
// A pid is all that is looked at: whoever asks has seen a connection end and
// wants to know whether waiting for a verdict is worth while.
func Exiting(pid int) bool { return exiting(pid) }
