// Package fastbindtest tortures a daemon and says what is wrong with it. The
// daemon need not know of fastbind: what is asked of it is what its users expect
// of any, one case for each requirement, named R1 and so on, and for each clause
// of the contract of package daemon that can be seen from outside.
//
//	func TestConformance(t *testing.T) {
//		fastbindtest.Run(t, fastbindtest.Target{
//			Command: []string{exe, "--daemon"}, // takes a listener by systemd's convention
//			Request: "hello\n", Expect: "^world",
//		})
//	}
//
// The command "fastbind check" is the same for programs in any language.
//
// What is guaranteed: everything happens in a temporary directory, with an
// environment that leads there, and is gone when [Check] returns, also after the
// end of its context and after a kill -9 of the process that called it: a process
// of its own watches over all that the target starts, adopts what daemonises
// (PR_SET_CHILD_SUBREAPER in prctl(2), a job object on Windows) and ends it. That process
// is the calling executable, run again, which this package's init takes over before main.
//
// What is not: a program that insists on a place of its own, such as a fixed TCP
// port, is not kept from it. Run that in a network namespace (unshare -n).
//
// A case that cannot be judged is [NotApplicable] with the reason; it is never
// counted as holding. On Linux it reads /proc; on Windows it knows TCP ports and named
// pipes, and what nothing there can break is not applicable. Elsewhere Check is
// [errors.ErrUnsupported].
package fastbindtest
