//go:build !windows

package definition

import "strings"

// defaultDir can neither be deleted nor unmounted.
func defaultDir() string { return "/" }

func isAbs(dir string) bool { return strings.HasPrefix(dir, "/") }
