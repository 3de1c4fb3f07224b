//go:build !windows

package daemon_test

// tempBase is short: endpoints have paths.
const tempBase = "/tmp"
