package handover

import (
	"errors"
	"strconv"
	"strings"
)

// Pipes are the handles of the instances of the endpoint's pipe and of the control
// endpoint's; "" is none.
type Pipes struct{ Instances, ControlInstances Handles }

func (p Pipes) encode(e *encoded) {
	e.add("instances", string(p.Instances))
	e.add("control_instances", string(p.ControlInstances))
}

func (p *Pipes) set(k, v string) (err error) {
	switch k {
	case "instances":
		p.Instances, err = parseHandles(v)
	case "control_instances":
		p.ControlInstances, err = parseHandles(v)
	}
	return err
}

func (p Pipes) closeOnExec() {
	for _, handles := range []Handles{p.Instances, p.ControlInstances} {
		for _, v := range handles.List() {
			closeOnExec(int(v))
		}
	}
}

// maxHandles bounds the instances of a pipe.
const maxHandles = 64

// Handles are some handles as text, "" for none.
type Handles string

// HandlesOf makes Handles of their values.
func HandlesOf[H ~uintptr](values []H) Handles {
	var b strings.Builder
	for i, v := range values {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteString(strconv.FormatUint(uint64(v), 10))
	}
	return Handles(b.String())
}

// List returns their values.
func (h Handles) List() (values []uintptr) {
	for part := range strings.SplitSeq(string(h), ",") {
		if v, err := strconv.ParseUint(part, 10, 64); err == nil {
			values = append(values, uintptr(v))
		}
	}
	return values
}

func parseHandles(s string) (Handles, error) {
	if strings.Count(s, ",") >= maxHandles {
		return "", errors.New("more than " + strconv.Itoa(maxHandles) + " handles")
	}
	for part := range strings.SplitSeq(s, ",") {
		if _, err := parseFD(part); err != nil {
			return "", err
		}
	}
	return Handles(s), nil
}
