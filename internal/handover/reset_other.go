//go:build !unix

package handover

func closeOnExec(int) {}

func resetProcess() {}
