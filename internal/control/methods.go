package control

import (
	_ "embed" // for the interface's description

	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/varlink"
)

//go:embed io.fastbind.Daemon.varlink
var daemonDescription string

// Texts that a daemon's author makes up are cut to these bytes, which keep every
// reply below MaxFrame even if each byte has to be escaped and the executable's
// path is as long as a system allows.
const (
	maxMessage = 1 << 10
	maxFailure = 4 << 10
)

// identify answers Identify. While it streams, the newest state is fetched when
// the reply before it has been written: between them a slow reader loses states,
// and the daemon keeps none for it.
func (s *Server) identify(p *varlink.Peer, c varlink.Call) error {
	f := varlink.FieldsOf(c.Parameters)
	nonce := f.TextOrNull("nonce")
	if f.Err != nil || len(nonce) > MaxNonce {
		return p.Fail(c, varlink.InvalidParameter, "parameter", "nonce")
	}
	format := f.IntegerOr("format", Format)
	if f.Err != nil || format < 1 {
		return p.Fail(c, varlink.InvalidParameter, "parameter", "format")
	}
	if format > Format {
		return p.FailWith(c, errUnsupportedFormat, jsonlite.Object(
			jsonlite.Member{Name: "wanted", Value: jsonlite.Int(format)},
			jsonlite.Member{Name: "supported", Value: jsonlite.Int(Format)}))
	}
	if c.Oneway {
		return nil
	}
	var sent *Identity
	for {
		// Looked at before the state, so that the last reply is no older than Close.
		closing := p.IsClosing()
		id, changed := s.present(nonce)
		last := !c.More || closing || id.Phase.Settled()
		if last || sent == nil || !sameStep(sent, &id) {
			if err := p.Reply(c, !last, id.appendTo); err != nil || last {
				return err
			}
			sent = &id
		}
		select {
		case <-changed:
		case <-p.Closing():
		case <-p.HungUp():
			// Closing hangs up too.
			if !p.IsClosing() {
				return varlink.ErrHungUp
			}
		}
	}
}

// present returns the state with the server's own fields filled in.
func (s *Server) present(nonce string) (Identity, <-chan struct{}) {
	id, changed := s.state.Current()
	id.Format = Format
	id.Nonce = nonce
	id.Failure = varlink.Cut(id.Failure, maxFailure)
	if p := id.Progress; p != nil {
		id.Progress = &Progress{varlink.Cut(p.Message, maxMessage), fraction(p.Fraction)}
	}
	return id, changed
}

// sameStep reports whether b tells a watcher nothing new after a.
func sameStep(a, b *Identity) bool {
	if a.Phase != b.Phase || a.Failure != b.Failure || (a.Progress == nil) != (b.Progress == nil) {
		return false
	}
	return a.Progress == nil || *a.Progress == *b.Progress
}
