package control

import (
	"errors"
	"strconv"

	"github.com/fastbind/fastbind/internal/varlink"
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
type RemoteError = varlink.RemoteError

// Refusal returns the reason of a refusal that has one, else "".
func Refusal(e *RemoteError) string {
	if e.Name != errLeaseRefused && e.Name != errHandoverRefused && e.Name != errNoHandover && e.Name != errHashFailed {
		return ""
	}
	return varlink.FieldsOf(e.Parameters).TextOrNull("reason")
}

// The errors of io.fastbind.Daemon beside those that every service has.
const errUnsupportedFormat = "io.fastbind.Daemon.UnsupportedFormat"
