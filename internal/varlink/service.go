package varlink

import (
	_ "embed" // for the interface's description
	"strings"

	"github.com/fastbind/fastbind/internal/jsonlite"
)

//go:embed org.varlink.service.varlink
var description string

// interfaces are the service's, the one that every service has first.
func (s *Server) interfaces() []Interface {
	return append([]Interface{{Name: "org.varlink.service", Description: description, Methods: []Method{
		{"GetInfo", getInfo},
		{"GetInterfaceDescription", getInterfaceDescription},
	}}}, s.service.Interfaces...)
}

func (s *Server) named(name string) (Interface, bool) {
	for _, i := range s.interfaces() {
		if i.Name == name {
			return i, true
		}
	}
	return Interface{}, false
}

// answer finds the method of a call. A name without a dot belongs to no interface, so
// that the method is what was not found.
func (p *Peer) answer(c Call) error {
	dot := strings.LastIndexByte(c.Method, '.')
	if dot < 0 {
		return p.Fail(c, MethodNotFound, "method", c.Method)
	}
	in, ok := p.server.named(c.Method[:dot])
	if !ok {
		return p.Fail(c, InterfaceNotFound, "interface", c.Method[:dot])
	}
	for _, m := range in.Methods {
		switch {
		case m.Name != c.Method[dot+1:]:
		case c.Upgrade:
			// To answer would be to agree to leave Varlink.
			return p.Fail(c, MethodNotImplemented, "method", c.Method)
		default:
			return m.Answer(p, c)
		}
	}
	return p.Fail(c, MethodNotFound, "method", c.Method)
}

func getInfo(p *Peer, c Call) error {
	info := p.server.service.Info()
	var names []jsonlite.Value
	for _, i := range p.server.interfaces() {
		names = append(names, jsonlite.String(i.Name))
	}
	return p.Reply(c, false, jsonlite.Object(
		jsonlite.Member{Name: "vendor", Value: jsonlite.String("fastbind")},
		jsonlite.Member{Name: "product", Value: jsonlite.String(info.Product)},
		jsonlite.Member{Name: "version", Value: jsonlite.String(info.Version)},
		jsonlite.Member{Name: "url", Value: jsonlite.String("https://github.com/fastbind/fastbind")},
		jsonlite.Member{Name: "interfaces", Value: jsonlite.Array(names...)},
	).Append)
}

func getInterfaceDescription(p *Peer, c Call) error {
	f := FieldsOf(c.Parameters)
	name := f.Text("interface")
	if f.Err != nil {
		return p.Fail(c, InvalidParameter, "parameter", "interface")
	}
	in, ok := p.server.named(name)
	if !ok {
		return p.Fail(c, InterfaceNotFound, "interface", name)
	}
	return p.Reply(c, false, jsonlite.Object(
		jsonlite.Member{Name: "description", Value: jsonlite.String(in.Description)}).Append)
}
