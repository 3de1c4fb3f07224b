// Package wire is how the standing broker is asked: the Varlink interface
// io.fastbind.Broker, its server and its client.
//
// Guaranteed, beside what package varlink bounds: only the same uid gets an answer,
// which is checked on the opened connection; a request that waits has a bound and is
// counted apart, so that those who wait keep nobody from asking; whoever reads events
// too slowly loses the oldest and is told how many. The server decides nothing, it asks
// the broker.
//
// The server is
//
//	err := wire.Serve(ctx, ln, broker, version)
//
// and the client, who has dialled and checked conn,
//
//	c := wire.NewClient(conn)
//	defer c.Close()
//	services, err := c.List(ctx)
package wire

import (
	"bytes"
	_ "embed" // for the interface's description
	"encoding/json"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/varlink"
)

//go:embed io.fastbind.Broker.varlink
var description string

// Interface is the name of what the broker speaks.
const Interface = "io.fastbind.Broker"

// Format is the major format that this release speaks. It is raised only by a change
// that a reader of the former could not ignore.
const Format = 1

// The errors of the interface, without its name.
const (
	errNoSuchService     = "NoSuchService"
	errRefused           = "Refused"
	errEnding            = "Ending"
	errUnsupportedFormat = "UnsupportedFormat"
)

// Service is a service as the broker sees it: the type of the same name in the
// interface's description, where its fields are explained. Nil and zero times are
// null.
type Service struct {
	Name        string    `json:"name"`
	State       string    `json:"state"`
	Holding     bool      `json:"holding"`
	Waiting     *int      `json:"waiting,omitempty"`
	RetryAt     time.Time `json:"retry_at,omitzero"`
	Reason      string    `json:"reason,omitempty"`
	Generation  uint64    `json:"generation,omitempty"`
	Phase       string    `json:"phase,omitempty"`
	PID         int       `json:"pid,omitempty"`
	Since       time.Time `json:"since,omitzero"`
	ReadyAt     time.Time `json:"ready_at,omitzero"`
	Status      string    `json:"status,omitempty"`
	Memory      *int64    `json:"memory,omitempty"`
	Connections *int      `json:"connections,omitempty"`
	Limits      []Limit   `json:"limits"`
	Restarts    uint64    `json:"restarts"`
	LastFailure string    `json:"last_failure,omitempty"`
	FailedAt    time.Time `json:"failed_at,omitzero"`
}

// Limit is what became of a limit.
type Limit struct {
	Kind   string `json:"kind"`
	Wanted int64  `json:"wanted"`
	Actual int64  `json:"actual"`
	By     string `json:"by"`
	Force  string `json:"force"`
	Reason string `json:"reason,omitempty"`
}

// Program is a build of the broker.
type Program struct {
	Version string `json:"version"`
	Build   string `json:"build"`
}

// Field is a field of a definition, or of an event.
type Field struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Event is something that the broker has noted.
type Event struct {
	Time       time.Time `json:"time"`
	Kind       string    `json:"event"`
	Service    string    `json:"service"`
	Generation uint64    `json:"generation,omitempty"`
	PID        int       `json:"pid,omitempty"`
	Reason     string    `json:"reason,omitempty"`
	Fields     []Field   `json:"fields"`
}

// Metrics is what the broker has counted.
type Metrics struct {
	Since    time.Time `json:"since"`
	BoundsUS []int64   `json:"bounds_us"` // µs, of the buckets but the last
	Services []Counts  `json:"services"`
	Quota    *Quota    `json:"quota,omitempty"` // nil: none is set
}

// Quota is what the daemons may have together, 0 being no limit, and by how much they have
// more, since they are in use.
type Quota struct {
	Daemons       int    `json:"daemons,omitempty"`
	Memory        uint64 `json:"memory,omitempty"` // bytes
	ExcessDaemons int    `json:"excess_daemons"`
	ExcessMemory  uint64 `json:"excess_memory"` // bytes
}

// Counts is what was counted of one service.
type Counts struct {
	Service  string     `json:"service"`
	Launches uint64     `json:"launches"`
	Restarts uint64     `json:"restarts"`
	Failures []Failures `json:"failures"`
	Launch   Histogram  `json:"launch"`
	Ready    Histogram  `json:"ready"`
}

// Failures is how often something failed in a stage.
type Failures struct {
	Stage string `json:"stage"`
	Count uint64 `json:"count"`
}

// Histogram counts durations.
type Histogram struct {
	Counts []uint64 `json:"counts"` // of each bucket by itself, not of those below
	SumUS  int64    `json:"sum_us"` // µs
}

// Texts that others make up are cut to these bytes, so that one service, or one
// event, fits into a frame even if each byte has to be escaped.
const (
	maxText   = 2 << 10
	maxReason = 256 // of a limit, of which there are five
	maxValue  = 1 << 10
	maxFields = 32 << 10 // of all fields of an event, encoded
	maxAround = 1 << 10  // of what stands around a list
)

func utc(t time.Time) time.Time {
	if t.IsZero() {
		return t
	}
	return t.UTC()
}

// known returns a pointer to n, nil if it is negative: not known.
func known[N int | int64](n N) *N {
	if n < 0 {
		return nil
	}
	return &n
}

func serviceOf(v broker.View) Service {
	s := Service{
		Name: v.Name, State: v.State.String(), Holding: v.Holding, Waiting: known(v.Waiting), RetryAt: utc(v.RetryAt),
		Reason: varlink.Cut(v.Reason, maxText), Generation: v.Number, Phase: string(v.Phase), PID: v.PID, Since: utc(v.Since),
		ReadyAt: utc(v.ReadyAt), Status: varlink.Cut(v.Status, maxText), Memory: known(v.Memory), Connections: known(v.Connections),
		Limits: []Limit{}, Restarts: v.Restarts, LastFailure: varlink.Cut(v.LastFailure, maxText), FailedAt: utc(v.FailedAt),
	}
	for _, e := range v.Limits {
		s.Limits = append(s.Limits, limitOf(e))
	}
	return s
}

func limitOf(e limit.Entry) Limit {
	return Limit{string(e.Kind), e.Wanted, e.Actual, string(e.By), e.Force.String(), varlink.Cut(e.Reason, maxReason)}
}

// shorten returns as many fields as there is room for, in bytes of their encoding, and
// whether that is less than all of them.
func shorten(list []Field, room int) (fields []Field, cut bool) {
	fields = []Field{}
	for _, f := range list {
		short := Field{varlink.Cut(f.Key, maxValue), varlink.Cut(f.Value, maxValue)}
		if room -= len(encode(short)) + 1; room < 0 {
			return fields, true
		}
		cut = cut || short != f
		fields = append(fields, short)
	}
	return fields, cut
}

func eventOf(n broker.Noted) Event {
	e := Event{Time: utc(n.Time), Kind: varlink.Cut(n.Kind, maxReason), Service: n.Service, Generation: n.Generation, PID: n.PID,
		Reason: varlink.Cut(n.Reason, maxText)}
	for _, f := range n.Fields {
		e.Fields = append(e.Fields, Field{f.Key, f.Value})
	}
	e.Fields, _ = shorten(e.Fields, maxFields)
	return e
}

func countsOf(m broker.ServiceMetrics) Counts {
	c := Counts{Service: m.Service, Launches: m.Launches, Restarts: m.Restarts, Failures: []Failures{}, Launch: histogramOf(m.Launch), Ready: histogramOf(m.Ready)}
	for _, stage := range slices.Sorted(maps.Keys(m.Failures)) {
		c.Failures = append(c.Failures, Failures{stage, m.Failures[stage]})
	}
	return c
}

func quotaOf(m broker.Metrics) *Quota {
	if m.Quota == (supervise.Quota{}) {
		return nil
	}
	return &Quota{m.Quota.Daemons, m.Quota.Memory, m.Excess.Daemons, m.Excess.Memory}
}

func histogramOf(h broker.Histogram) Histogram {
	return Histogram{Counts: h.Counts[:], SumUS: h.Sum.Microseconds()}
}

// encode encodes what can be, as text that holds no control character.
func encode(v any) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		panic(err) // a type that JSON cannot have is a mistake in this package
	}
	return bytes.Clone(bytes.TrimSuffix(b.Bytes(), []byte("\n"))) // without the buffer's spare room
}

// A FormatError reports that the two sides speak different major formats.
type FormatError struct {
	Peer int64 // the other side's format
	Ours int64 // this side's
}

func (e *FormatError) Error() string {
	return "the broker speaks format " + strconv.FormatInt(e.Peer, 10) + ", this program format " + strconv.FormatInt(e.Ours, 10)
}

// A RefusedError says why the broker does not do what it was asked.
type RefusedError struct {
	Reason  string
	RetryAt time.Time // when it may work, zero if that is not known
}

func (e *RefusedError) Error() string { return e.Reason }
