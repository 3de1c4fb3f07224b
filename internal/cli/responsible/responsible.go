// Package responsible tells which process macOS holds responsible for another one: the
// application whose privacy permissions (TCC) count, such as the terminal that it was
// started from. Other systems have no such thing.
package responsible

// For returns the process that is responsible for pid, and the path of its program. It
// is errors.ErrUnsupported where there is no such thing. It does not block.
func For(pid int) (responsible int, program string, err error) { return of(pid) }
