// Package shared is another package of the module.
package shared

import (
	"net"
	"os"
	"sync"

	"github.com/fastbind/fastbind"
	"github.com/fastbind/fastbind/daemon"
)

// Settings changes while the program runs.
var Settings = map[string]string{}

func Set(k, v string) { Settings[k] = v }

// ErrNone is a sentinel and has no state.
var ErrNone = os.ErrNotExist

func Read(path string) ([]byte, error) { return read(path) }

func read(path string) ([]byte, error) { return os.ReadFile(path) }

// Locked calls what it is given.
func Locked(f func() error) error { return f() }

// A Store is opened by who is given one.
type Store interface{ Open() error }

func OpenAll(stores ...Store) error {
	for _, s := range stores {
		if err := s.Open(); err != nil {
			return err
		}
	}
	return nil
}

func OpenOne(s Store) error { return s.Open() }

// Open is generic: what it does depends on its type argument.
func Open[T Store](s T) error { return s.Open() }

// Opener returns what opens a file.
func Opener(path string) func() error {
	return func() error {
		_, err := os.Open(path)
		return err
	}
}

// Dir is computed when it is first asked for.
var Dir = sync.OnceValue(func() string {
	d, _ := os.MkdirTemp("", "x")
	return d
})

// Listen is only another name.
func Listen(ep fastbind.Endpoint) (net.Listener, error) { return daemon.Listen(ep) }
