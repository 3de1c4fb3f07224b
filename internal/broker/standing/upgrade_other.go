//go:build !linux

package standing

import (
	"errors"
	"os"
	"os/exec"
	"syscall"
)

// canExecute: a broker is not replaced in its process.
const canExecute = false

type copies struct{ err error }

func (c *copies) add(syscall.Conn) int {
	c.err = errors.ErrUnsupported
	return -1
}

func (c *copies) describe(of syscall.Conn, k kind) *descriptor {
	return &descriptor{FD: c.add(of), Kind: k}
}

func (c *copies) close() {}

func (c *copies) sealed([]byte) (int, error) { return -1, errors.ErrUnsupported }

func (c *copies) execute(string, []string, []string) error { return errors.ErrUnsupported }

func readSealed(int) ([]byte, error) { return nil, errors.ErrUnsupported }

func (d *descriptor) file(string) (*os.File, error) { return nil, errors.ErrUnsupported }

func closeUnknown() {}

func alone(*exec.Cmd) {}
