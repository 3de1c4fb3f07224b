//go:build !windows

package fastbind_test

// tempBase is short: endpoints have paths.
const tempBase = "/tmp"
