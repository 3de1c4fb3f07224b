package daemon

import (
	"crypto/sha256"
	"encoding/hex"
	"io"
	"os"
	"sync"
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
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return "", err
	}
	return hex.EncodeToString(h.Sum(nil)), nil
})
