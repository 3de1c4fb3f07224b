package control

import (
	"errors"
	"strconv"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

// ErrNonce reports a reply that does not carry the request's nonce: whoever
// wrote it has not read the request.
var ErrNonce = errors.New("the reply does not carry the request's nonce")

// A FormatError reports that the two sides speak different major formats of the
// control wire, whichever of them noticed.
type FormatError struct {
	Peer int64 // the other side's format
	Ours int64 // this side's
}

func (e *FormatError) Error() string {
	return "the daemon speaks control format " + strconv.FormatInt(e.Peer, 10) +
		", this program format " + strconv.FormatInt(e.Ours, 10)
}

// A RemoteError is a Varlink error that the peer replied with. The connection
// stays usable.
type RemoteError struct {
	Name       string         // such as org.varlink.service.MethodNotFound
	Parameters jsonlite.Value // an object, or null
}

func (e *RemoteError) Error() string {
	s := "the daemon replied with error " + strconv.Quote(cut(e.Name, maxEcho))
	if e.Parameters.Kind() == jsonlite.KindObject {
		s += " " + cut(string(e.Parameters.Append(nil)), maxEcho)
	}
	return s
}

// Refusal returns the reason of a refusal that has one, else "".
func (e *RemoteError) Refusal() string {
	if e.Name != errLeaseRefused && e.Name != errHandoverRefused && e.Name != errNoHandover && e.Name != errHashFailed {
		return ""
	}
	f := fields{object: e.Parameters}
	return f.textOrNull("reason")
}

// The Varlink errors of the two interfaces.
const (
	errInterfaceNotFound    = "org.varlink.service.InterfaceNotFound"
	errMethodNotFound       = "org.varlink.service.MethodNotFound"
	errMethodNotImplemented = "org.varlink.service.MethodNotImplemented"
	errInvalidParameter     = "org.varlink.service.InvalidParameter"
	errUnsupportedFormat    = "io.fastbind.Daemon.UnsupportedFormat"
)
