package daemon_test

import (
	"log"
	"os"
	"testing"

	"github.com/fastbind/fastbind/internal/reexec"
)

// TestMain gives the tests a runtime directory of their own, with a name short
// enough for socket addresses.
func TestMain(m *testing.M) { os.Exit(inDirectory(func() int { return reexec.Main(m) })) }

func inDirectory(f func() int) int {
	dir, err := os.MkdirTemp(tempBase, "fb")
	if err != nil {
		log.Print(err)
		return 1
	}
	defer os.RemoveAll(dir)
	os.Setenv("FASTBIND_RUNTIME_DIR", dir)
	os.Unsetenv("FASTBIND_STATE_DIR")
	return f()
}
