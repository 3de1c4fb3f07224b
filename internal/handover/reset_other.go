//go:build !unix && !windows

package handover

func closeOnExec(int) {}

func resetProcess() {}

func inherits(int) bool { return false }
