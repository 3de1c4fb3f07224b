// Package sockets removes and listens for others.
package sockets

import (
	"net"
	"os"
)

func Clean(path string) error { return os.Remove(path) }

func Open(path string) (net.Listener, error) { return net.Listen("unix", path) }

// Fresh does both.
func Fresh(path string) (net.Listener, error) {
	_ = os.Remove(path) // want `the path is removed \(os.Remove\) and then listened on \(net.Listen, sockets.go:\d+\) without a lock`
	return net.Listen("unix", path)
}

// With calls f.
func With(f func()) { f() }
