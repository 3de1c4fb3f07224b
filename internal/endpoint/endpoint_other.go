//go:build !unix && !windows

package endpoint

import (
	"errors"
	"io/fs"
	"net"
	"os"

	"github.com/fastbind/fastbind/internal/record"
)

func inodeOf(fs.FileInfo) (record.Inode, bool) { return record.Inode{}, false }

func Bind(path string) (*Socket, error) { return nil, sysError("bind", path, errors.ErrUnsupported) }

func (s *Socket) Listen() error { return errors.ErrUnsupported }

func (s *Socket) close() error { return nil }

func Adopt(int) (*net.UnixListener, error) { return nil, errors.ErrUnsupported }

func AdoptCopy(*os.File) (*net.UnixListener, error) { return nil, errors.ErrUnsupported }

// AdoptFile makes a listener of another process's.
func AdoptFile(f *os.File) (*net.UnixListener, error) {
	return nil, errors.Join(f.Close(), errors.ErrUnsupported)
}

// Relisten makes this process the one named as the listener's.
func Relisten(*net.UnixListener) error { return errors.ErrUnsupported }

func (s *Socket) Listener() (*net.UnixListener, error) { return nil, errors.ErrUnsupported }

func Shut(*net.UnixListener) error { return errors.ErrUnsupported }
