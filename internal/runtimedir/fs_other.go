//go:build !linux && !darwin && !freebsd && !windows

package runtimedir

const maxAddr = 103

func networkFS(string) (string, bool) { return "", false }
