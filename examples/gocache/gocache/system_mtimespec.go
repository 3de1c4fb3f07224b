//go:build darwin || freebsd || netbsd

package gocache

import (
	"syscall"
	"time"
)

func mtime(st *syscall.Stat_t) time.Time { return time.Unix(st.Mtimespec.Unix()) }
