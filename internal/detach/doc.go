// Package detach starts processes of Windows that live on when their starter's terminal,
// job or pipes end. It exists on Windows only; elsewhere a session of its own does it.
//
// What is started has
//
//   - no console but a hidden one of its own, so that neither Ctrl-C nor Ctrl-Break nor
//     the closing of the starter's reaches it, and what it starts itself opens no
//     window;
//   - no handle of the starter's but those that it is given (R5);
//   - no place in the starter's job, if the job lets it go. Otherwise [Start] says so, as
//     the daemon may end with it (R20): there is no way out without the job's leave. Of a
//     starter that is in any job it is not known whether a job outside of that has kept
//     the daemon.
//
// Usual call:
//
//	h, job, err := detach.Start(detach.Daemon{Path: exe, Dir: dir, Stderr: log})
package detach
