//go:build linux

package main

import (
	"fmt"
	"os/exec"
	"runtime"

	"golang.org/x/sys/unix"
)

// A network is a network namespace of its own with loopback up: whatever is
// started in it has the ports it insists on to itself, reaches nobody and is
// reached by nobody. One thread of this process is in it and starts the others'
// processes; sockets with a path are of the file system and work across.
type network struct{ starts chan func() }

// newNetwork needs CAP_SYS_ADMIN: unshare(2).
func newNetwork() (*network, error) {
	n := &network{starts: make(chan func())}
	entered := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with this goroutine
		err := enter()
		entered <- err
		if err != nil {
			return
		}
		for start := range n.starts {
			start()
		}
	}()
	if err := <-entered; err != nil {
		return nil, fmt.Errorf("making a network namespace: %w; be root", err)
	}
	return n, nil
}

func enter() error {
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		return err
	}
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	lo, err := unix.NewIfreq("lo")
	if err != nil {
		return err
	}
	lo.SetUint16(unix.IFF_UP)
	return unix.IoctlIfreq(s, unix.SIOCSIFFLAGS, lo)
}

// start is cmd.Start within the network.
func (n *network) start(cmd *exec.Cmd) error {
	done := make(chan error)
	n.starts <- func() { done <- cmd.Start() }
	return <-done
}

// close lets the thread end.
func (n *network) close() { close(n.starts) }
