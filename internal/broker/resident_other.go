//go:build !linux && !windows

package broker

func resident(int) int64 { return -1 }
