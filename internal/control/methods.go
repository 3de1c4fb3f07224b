package control

import (
	_ "embed" // for the interfaces' descriptions
	"errors"
	"strings"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

//go:embed io.fastbind.Daemon.varlink
var daemonDescription string

//go:embed org.varlink.service.varlink
var serviceDescription string

// interfaceOf returns the interface that a method's name belongs to, and whether
// the server has it. A name without a dot belongs to none, so that the method is
// what was not found.
func interfaceOf(method string) (name string, ok bool) {
	i := strings.LastIndexByte(method, '.')
	if i < 0 {
		return "", true
	}
	name = method[:i]
	return name, description(name) != ""
}

// description returns the text of an interface, or "" if there is none.
func description(name string) string {
	switch name {
	case "io.fastbind.Daemon":
		return daemonDescription
	case "org.varlink.service":
		return serviceDescription
	}
	return ""
}

func getInfo(p *peer, c call) error {
	id, _ := p.server.state.Current()
	return p.reply(c, false, jsonlite.Object(
		jsonlite.Member{Name: "vendor", Value: jsonlite.String("fastbind")},
		jsonlite.Member{Name: "product", Value: jsonlite.String(id.Service)},
		jsonlite.Member{Name: "version", Value: jsonlite.String(id.Version)},
		jsonlite.Member{Name: "url", Value: jsonlite.String("https://github.com/fastbind/fastbind")},
		jsonlite.Member{Name: "interfaces", Value: jsonlite.Array(
			jsonlite.String("org.varlink.service"), jsonlite.String("io.fastbind.Daemon"))},
	).Append)
}

func getInterfaceDescription(p *peer, c call) error {
	f := fields{object: c.parameters}
	name := f.text("interface")
	if f.err != nil {
		return p.fail(c, errInvalidParameter, "parameter", "interface")
	}
	text := description(name)
	if text == "" {
		return p.fail(c, errInterfaceNotFound, "interface", name)
	}
	return p.reply(c, false, jsonlite.Object(
		jsonlite.Member{Name: "description", Value: jsonlite.String(text)}).Append)
}

// Texts that a daemon's author makes up are cut to these bytes, which keep every
// reply below MaxFrame even if each byte has to be escaped and the executable's
// path is as long as a system allows.
const (
	maxMessage = 1 << 10
	maxFailure = 4 << 10
)

var errHungUp = errors.New("the peer has hung up")

// identify answers Identify. While it streams, the newest state is fetched when
// the reply before it has been written: between them a slow reader loses states,
// and the daemon keeps none for it.
func identify(p *peer, c call) error {
	f := fields{object: c.parameters}
	nonce := f.textOrNull("nonce")
	if f.err != nil || len(nonce) > MaxNonce {
		return p.fail(c, errInvalidParameter, "parameter", "nonce")
	}
	format := f.integerOr("format", Format)
	if f.err != nil || format < 1 {
		return p.fail(c, errInvalidParameter, "parameter", "format")
	}
	if format > Format {
		return p.failWith(c, errUnsupportedFormat, jsonlite.Object(
			jsonlite.Member{Name: "wanted", Value: jsonlite.Int(format)},
			jsonlite.Member{Name: "supported", Value: jsonlite.Int(Format)}))
	}
	if c.oneway {
		return nil
	}
	var sent *Identity
	for {
		// Looked at before the state, so that the last reply is no older than Close.
		closing := p.server.isClosing()
		id, changed := p.server.present(nonce)
		last := !c.more || closing || id.Phase.Settled()
		if last || sent == nil || !sameStep(sent, &id) {
			if err := p.reply(c, !last, id.appendTo); err != nil || last {
				return err
			}
			sent = &id
		}
		select {
		case <-changed:
		case <-p.server.closing:
		case <-p.hungUp:
			// The peer may only have shut down its writing side, but from here
			// that looks like a death, and a dead watcher must not keep its slot
			// until the next change. Closing hangs up too.
			if !p.server.isClosing() {
				return errHungUp
			}
		}
	}
}

// present returns the state with the server's own fields filled in.
func (s *Server) present(nonce string) (Identity, <-chan struct{}) {
	id, changed := s.state.Current()
	id.Format = Format
	id.Nonce = nonce
	id.Failure = cut(id.Failure, maxFailure)
	if p := id.Progress; p != nil {
		id.Progress = &Progress{cut(p.Message, maxMessage), fraction(p.Fraction)}
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
