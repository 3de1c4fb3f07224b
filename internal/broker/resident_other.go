//go:build !linux

package broker

func resident(int) int64 { return -1 }
