//go:build !unix

package wire

import "syscall"

func asUser(int) *syscall.SysProcAttr { return nil }
