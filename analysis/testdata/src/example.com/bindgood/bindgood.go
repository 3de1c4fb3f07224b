// Package bindgood has backends that only bind.
package bindgood

import (
	"errors"
	"fmt"
	"net"
	"os"
	"regexp"
	"strings"
	"syscall"

	"example.com/shared"
	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

var (
	errOdd    = errors.New("odd path")
	names     = map[string]bool{"a": true}
	pattern   = regexp.MustCompile("^/")
	backlog   = 128
	separator = []string{"/"}
)

type plain struct{}

func (plain) Bind(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }

type checked struct{}

func (checked) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	if !pattern.MatchString(ep.Path()) || names[ep.Path()] || strings.Contains(ep.Path(), separator[0]) && backlog == 0 {
		return nil, fmt.Errorf("%w: %q", errOdd, ep.Path())
	}
	if errors.Is(shared.ErrNone, os.ErrExist) {
		return nil, shared.ErrNone
	}
	ln, err := net.Listen("unix", ep.Path())
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, err
	}
	return ln, err
}

// Either listener, never both.
type either struct{}

func (either) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	if strings.HasPrefix(ep.Path(), "/run") {
		return shared.Listen(ep)
	}
	return net.ListenUnix("unix", &net.UnixAddr{Name: ep.Path(), Net: "unix"})
}

type pure struct{}

func (pure) Open() error { return nil }

type given struct{}

func (given) Bind(ep fastbind.Endpoint) (net.Listener, error) {
	if err := shared.Locked(func() error { return nil }); err != nil {
		return nil, err
	}
	if err := shared.Open(pure{}); err != nil {
		return nil, err
	}
	if err := shared.OpenOne(pure{}); err != nil {
		return nil, err
	}
	return daemon.Listen(ep)
}

// Not a backend's.
type other struct{}

func (other) Bind(path string) (net.Listener, error) {
	_ = os.Remove("somewhere else")
	return net.Listen("unix", path)
}
