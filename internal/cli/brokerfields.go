package cli

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/notify"
	"github.com/fastbind/fastbind/internal/broker/probe"
	"github.com/fastbind/fastbind/internal/definition"
)

// brokerFields are the fields of a file that a standing broker keeps: nobody who has
// launched a daemon and left can. They are no part of the definition that a record
// has, so that one daemon is the same by whomever it was launched.
type brokerFields struct {
	hold    bool
	service broker.Service // but its Definition
	given   []string       // those of a file, in its order, without hold
}

// The kinds of the broker's fields.
var (
	brokerStrings   = []string{"ready", "notify_access", "restart"}
	brokerDurations = []string{"backoff_min", "backoff_max", "backoff_reset", "ready_within", "watchdog"}
	brokerNumbers   = []string{"backoff_factor"}
	brokerLimits    = []string{string(limit.Memory), string(limit.Tasks), string(limit.CPUWeight), string(limit.OpenFiles)}
	brokerFlags     = []string{"hold", string(limit.Own)}
	brokerKeys      = slices.Concat(brokerStrings, brokerDurations, brokerNumbers, brokerLimits, brokerFlags)
)

// set takes a field of a file that is one of brokerKeys. Of a value of the right type
// that cannot be used the error is a *definition.Invalid.
func (f *brokerFields) set(key string, value any) error {
	s, isString := value.(string)
	n, isInteger := value.(int64)
	switch {
	case slices.Contains(brokerFlags, key):
		b, ok := value.(bool)
		if !ok {
			return errors.New("it must be true or false, not " + kind(value))
		}
		if key == "hold" {
			f.hold = b
			return nil
		}
		f.service.Limits.Own = b
	case slices.Contains(brokerStrings, key):
		if !isString {
			return errors.New("it must be a string, not " + kind(value))
		}
		if s == "" {
			return errors.New("it is empty")
		}
		if err := f.setString(key, s); err != nil {
			return err
		}
	case slices.Contains(brokerDurations, key):
		if !isString {
			return errors.New(`it must be a string such as "500ms", not ` + kind(value))
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New(strconv.Quote(s) + ` is no duration; write "500ms" or "10s"`)
		}
		if d == 0 { // it would mean the default
			return errors.New("it must not be 0; leave it out")
		}
		if err := f.service.Policy.Set(key, s); err != nil {
			return err
		}
	case slices.Contains(brokerNumbers, key):
		x, ok := value.(float64)
		if isInteger {
			x, ok = float64(n), true
		}
		if !ok {
			return errors.New("it must be a number, not " + kind(value))
		}
		if x == 0 {
			return errors.New("use 1 to 10")
		}
		f.service.Policy.BackoffFactor = x
	default:
		if isInteger {
			s = strconv.FormatInt(n, 10)
		} else if !isString {
			return errors.New(`it must be a number or a string such as "512M", not ` + kind(value))
		}
		n, err := limit.Parse(limit.Kind(key), s)
		if err != nil {
			return err
		}
		f.setLimit(limit.Kind(key), n)
	}
	f.given = append(f.given, key)
	return nil
}

func (f *brokerFields) setString(key, s string) error {
	var err error
	switch key {
	case "ready":
		f.service.Sign, err = probe.Parse(s)
	case "notify_access":
		f.service.Access = notify.Access(s)
		err = f.service.Access.Check()
	default:
		err = f.service.Policy.Set(key, s)
	}
	return err
}

func (f *brokerFields) setLimit(k limit.Kind, n int64) {
	w := &f.service.Limits
	switch k {
	case limit.Memory:
		w.Memory = n
	case limit.Tasks:
		w.Tasks = n
	case limit.CPUWeight:
		w.CPUWeight = n
	default:
		w.OpenFiles = n
	}
}

// complete makes a service of a completed and checked definition. The error is a
// *definition.Invalid.
func (f *brokerFields) complete(d definition.Definition) error {
	f.service.Definition = d
	p := &f.service.Policy
	p.HangAfter, p.OnHang, p.StopWithin = d.HangAfter, d.OnHang, d.StopWithin
	*p = p.Complete()
	if err := p.Check(); err != nil {
		return err
	}
	if f.hold && d.Bind == definition.BindDaemon {
		return &definition.Invalid{Field: "hold", Reason: `a daemon that binds its endpoint itself leaves nothing to hold; use bind = "broker"`}
	}
	// A backend says by itself what these are about.
	for _, key := range []string{"ready", "notify_access", "watchdog"} {
		if !d.Foreign && slices.Contains(f.given, key) {
			return &definition.Invalid{Field: key, Reason: "a program made with the fastbind SDK says that by itself; leave it out, or foreign = false"}
		}
	}
	return f.service.Limits.Check()
}

// bindsFromStart reports whether a field is one that a process has from its start on,
// or not at all.
func bindsFromStart(key string) bool {
	return key == string(limit.Own) || slices.Contains(brokerLimits, key)
}

// bindsWhileHeld reports whether a field is one that a broker keeps of a daemon whose
// listener it has: it ends no other.
func bindsWhileHeld(key string) bool { return key == "ready_within" || key == "watchdog" }

// unholdable is why a service is not held whose daemon binds the endpoint itself.
const unholdable = `with bind = "daemon" there is nothing that a broker could hold`

// unheld is why a service is not held, nor any of the fields in force, whose daemon binds
// the endpoint itself.
func (f *brokerFields) unheld(path string) error {
	text := "not held: " + unholdable
	if len(f.given) > 0 {
		text = strings.Join(f.given, ", ") + ": not in force, and " + text
	}
	return &fileError{path: path, text: text}
}
