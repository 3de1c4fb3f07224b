// Package waitable waits for Windows kernel objects (processes, events) to
// become signalled, with no thread of the program's for each: the system's thread
// pool waits for 63 of them with one (RegisterWaitForSingleObject). It exists on
// Windows only.
//
// It does not know what it waits for, and does not keep it open.
//
// Usual calls:
//
//	w, err := waitable.On(h, func() { close(dead) })
//	defer w.Stop()
package waitable
