package fastbind

import (
	"strconv"
	"strings"

	"github.com/fastbind/fastbind/internal/pipe"
)

// maxEndpoint is the longest name of a pipe (CreateNamedPipe).
const maxEndpoint = 256

// misnamed says why a name is no endpoint's, "" if it may be.
func misnamed(name string) string {
	rest, ok := strings.CutPrefix(name, pipe.Prefix)
	switch {
	case !ok || rest == "":
		return "a pipe's name begins with " + pipe.Prefix
	case strings.Contains(rest, `\`):
		return "a pipe's name has no further backslash"
	case len(name) > maxEndpoint:
		return "the name is longer than " + strconv.Itoa(maxEndpoint) + " bytes"
	}
	return ""
}
