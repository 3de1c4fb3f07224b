package varlink

import (
	"strconv"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// The errors that every service can reply with.
const (
	InterfaceNotFound    = "org.varlink.service.InterfaceNotFound"
	MethodNotFound       = "org.varlink.service.MethodNotFound"
	MethodNotImplemented = "org.varlink.service.MethodNotImplemented"
	InvalidParameter     = "org.varlink.service.InvalidParameter"
	ExpectedMore         = "org.varlink.service.ExpectedMore"
)

// MaxEcho bounds, in bytes, what an error repeats of a request.
const MaxEcho = 256

// A RemoteError is a Varlink error that the peer replied with. The connection
// stays usable.
type RemoteError struct {
	Name       string         // such as org.varlink.service.MethodNotFound
	Parameters jsonlite.Value // an object, or null
}

func (e *RemoteError) Error() string {
	s := "the peer replied with error " + strconv.Quote(Cut(e.Name, MaxEcho))
	if e.Parameters.Kind() == jsonlite.KindObject {
		s += " " + Cut(string(e.Parameters.Append(nil)), MaxEcho)
	}
	return s
}
