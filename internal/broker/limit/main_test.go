//go:build linux

package limit

import (
	"os"
	"testing"

	"github.com/fastbind/fastbind/internal/reexec"
)

func TestMain(m *testing.M) { os.Exit(reexec.Main(m)) }
