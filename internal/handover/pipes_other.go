//go:build !windows

package handover

// Pipes is empty: an endpoint is a socket, of which Listen and Control are descriptors.
type Pipes struct{}

func (Pipes) encode(*encoded) {}

func (*Pipes) set(string, string) error { return nil }

func (Pipes) closeOnExec() {}
