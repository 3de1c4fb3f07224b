// Package e2e holds the end-to-end tests: real processes, locks, sockets and
// signals. It has no code of its own.
package e2e
