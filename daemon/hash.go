package daemon

import (
	"encoding/hex"
	"io"
	"os"
	"sync"

	"github.com/fastbind/fastbind/internal/sha256"
)

// Hash returns the SHA-256 of the file that runs, for the control endpoint. It
// is read once: a process runs the same file as long as it lives.
func (i *Instance) Hash() (string, error) { return hashOfSelf() }

var hashOfSelf = sync.OnceValues(func() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", err
	}
	f, err := os.Open(runningFile(path))
	if err != nil {
		return "", err
	}
	defer f.Close()
	var h sha256.Hash
	if _, err := io.Copy(&h, f); err != nil {
		return "", err
	}
	sum := h.Sum()
	return hex.EncodeToString(sum[:]), nil
})
