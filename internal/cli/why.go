package cli

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/launch"
)

type whyReply struct {
	Schema int `json:"schema"`
	serviceJSON
	Events      []json.RawMessage `json:"events"`      // of the journal, newest first
	Differences []differenceJSON  `json:"differences"` // of the daemon and the definition file
	Error       *errorJSON        `json:"error"`
}

func (a *app) whyCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "why NAME",
		Short: "Explain a service: what happened, what failed, what differs",
		Long: `Explain NAME: its phase, its last failure with the end of the log, what was
decided and why (newest first), the environment variables in which its daemon
differs from this shell, the fields in which it differs from its definition file,
and when it may launch again if it failed too often.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1),
	}
	count := cmd.Flags().IntP("events", "n", 10, "how many events of the journal")
	measure := addMeasureFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkNames(args); err != nil {
			return err
		}
		views, err := a.views(cmd.Context(), args[0])
		if err != nil {
			return err
		}
		v := views[0]
		for _, other := range views {
			if other.broker != nil && a.broker(other.broker.Def).DirName() == other.broker.DirName() {
				v = other // this client's own variant
			}
		}
		v.payoff = a.payoff(cmd.Context(), v, *measure)
		events := a.events(v, max(0, *count))
		if a.json {
			r := whyReply{Schema: schema, serviceJSON: v.json(), Events: []json.RawMessage{},
				Differences: differencesOf(a.differs(v))}
			for _, e := range events {
				r.Events = append(r.Events, e.raw)
			}
			a.print(r)
			return nil
		}
		a.explain(v, events)
		return nil
	}
	return cmd
}

// explain is why for people.
func (a *app) explain(v view, events []event) {
	s := a.out
	head := s.paint(bold, harmless(v.label())) + " is " + s.paint(phaseColour(v.phase), harmless(a.phrase(v)))
	line(s.w, head)
	if v.failure != nil {
		line(s.w, "")
		line(s.w, "last failure: "+s.paint(bad, harmless(failureText(v.failure))))
		for _, l := range v.failure.LogTail {
			line(s.w, "    "+harmless(l))
		}
		if v.failure.Log != "" {
			line(s.w, "  log: "+harmless(v.failure.Log))
		}
	}
	if !v.retry.IsZero() {
		line(s.w, "")
		line(s.w, "too many launches failed: the next is tried after "+v.retry.Local().Format(time.TimeOnly)+
			", or after: fastbind reset "+a.nameArgs(v.name))
	}
	if diffs := a.differs(v); len(diffs) > 0 {
		line(s.w, "")
		line(s.w, "it was launched with another definition than "+harmless(v.file.path)+" has now:")
		for _, d := range diffs {
			line(s.w, "  "+harmless(d.String()))
		}
		line(s.w, "  to change that: fastbind restart "+a.nameArgs(v.name))
	}
	if v.alive && len(v.status.Environment) > 0 {
		line(s.w, "")
		line(s.w, "its environment is not this shell's:")
		for _, d := range v.status.Environment {
			line(s.w, "  "+harmless(d.String()))
		}
	}
	if p := v.payoff.sentence(); p != "" {
		line(s.w, "")
		line(s.w, "what it costs: "+p)
	}
	if len(events) > 0 {
		line(s.w, "")
		line(s.w, "what happened, newest first:")
		for _, e := range events {
			line(s.w, "  "+e.when.Local().Format(time.DateTime)+"  "+harmless(e.sentence()))
		}
	}
}

// phrase says how a service is, with its process.
func (a *app) phrase(v view) string {
	switch {
	case !v.known:
		return "defined by " + v.file.path + " and was never launched"
	case !v.alive && v.heldBy != 0:
		return "not running: the broker, pid " + number(v.heldBy) + ", holds its endpoint, and launches it for whoever connects"
	case v.generation == 0:
		return "not running"
	case !v.alive:
		s := v.phase + ": generation " + number(v.generation) + " does not run any more"
		if ended := v.status.Shown.Record.Ended; ended != "" {
			s += "; it ended by itself: " + ended
		}
		return s
	}
	s := v.phase
	if p := progressText(v.progress); p != "" {
		s += " (" + p + ")"
	}
	s += ": generation " + number(v.generation)
	if v.pid != 0 {
		s += ", pid " + number(v.pid)
	}
	s += ", up " + ago(v.uptime)
	if v.version != "" {
		s += ", version " + v.version
	}
	if e := v.status.Shown; e.Record.Backend && v.status.Identity == nil {
		s += "; it does not answer at its control endpoint"
	}
	return s
}

// failureText is a failure without the service's name.
func failureText(f *launch.Fault) string {
	s := strings.TrimPrefix(f.Error(), strconv.Quote(f.Service))
	if _, rest, ok := strings.Cut(s, ": "); ok {
		s = rest
	}
	if f.Generation != 0 {
		s = "generation " + number(f.Generation) + " " + s
	}
	return s
}

// An event is one line of a journal.
type event struct {
	raw  json.RawMessage
	when time.Time

	Kind       string
	Service    string
	Generation uint64
	PID        int
	Reason     string
	Stage      string
	Status     *int
	Signal     string
	BoundAfter *int64 // in µs
	After      *int64 // of a fallback: what the dial had taken, in µs

	differs []string // "FIELD: have …, want …"
}

// eventMembers are the members of every event that is printed as JSON, null
// where the journal's line has none. Others follow as they are.
var eventMembers = []string{"schema", "time", "event", "service", "instance", "generation", "pid", "reason",
	"stage", "status", "signal", "errno", "bound_after_us", "after_us"}

// parseEvent takes a journal's line, which is no event if its writer died. Names
// count as they are written: one of a later release may differ in case alone.
func parseEvent(line []byte) (e event, ok bool) {
	if !json.Valid(line) {
		return e, false
	}
	e.raw = slices.Clone(line)
	v, err := jsonlite.Parse(line)
	if err != nil {
		return e, true // shown as it is
	}
	if v.Kind() != jsonlite.KindObject {
		return e, false
	}
	text := func(name string) string {
		s, _ := v.Get(name).Text()
		return s
	}
	number := func(name string) *int64 {
		if n, ok := v.Get(name).Int(); ok {
			return &n
		}
		return nil
	}
	e.when, _ = time.Parse(time.RFC3339Nano, text("time"))
	e.Kind, e.Reason, e.Stage, e.Signal = text("event"), text("reason"), text("stage"), text("signal")
	e.Service = text("service")
	e.BoundAfter, e.After = number("bound_after_us"), number("after_us")
	if n := number("generation"); n != nil {
		e.Generation = uint64(max(*n, 0))
	}
	if n := number("pid"); n != nil {
		e.PID = int(*n)
	}
	if n := number("status"); n != nil {
		status := int(*n)
		e.Status = &status
	}

	out := []byte{'{'}
	for _, name := range eventMembers {
		out = v.Get(name).Append(jsonlite.AppendName(out, name))
	}
	for name, value := range v.All() {
		if slices.Contains(eventMembers, name) {
			continue
		}
		out = value.Append(jsonlite.AppendName(out, name))
		if field, ok := strings.CutPrefix(name, "differs "); ok {
			text, _ := value.Text()
			e.differs = append(e.differs, field+": "+text)
		}
	}
	e.raw = append(out, '}')
	return e, true
}

// events returns the newest events of a service's journal, newest first.
// Lines that are no events, of a writer that died, are passed over.
func (a *app) events(v view, n int) []event {
	if v.broker == nil {
		return nil
	}
	_, path := v.broker.Files(v.status.Place)
	if path == "" {
		return nil
	}
	j := &journalReader{path: path}
	list := j.last(n)
	j.close()
	slices.Reverse(list)
	return list
}

// sentence says an event in words. Kinds of later releases are shown as they
// are.
func (e event) sentence() string {
	who := ""
	if e.Generation != 0 {
		who = "generation " + number(e.Generation)
	}
	switch e.Kind {
	case "launched":
		s := who + " launched"
		if e.PID != 0 {
			s += ", pid " + number(e.PID)
		}
		if e.Reason != "" {
			s += " " + e.Reason
		}
		if e.BoundAfter != nil {
			s += ", bound after " + time.Duration(*e.BoundAfter*int64(time.Microsecond)).String()
		}
		return s
	case "failed":
		s := "a launch failed"
		if who != "" {
			s = who + " failed"
		}
		if e.Stage != "" {
			s += " in stage " + e.Stage
		}
		s += ": " + e.Reason
		switch {
		case e.Signal != "":
			s += " (signal: " + e.Signal + ")"
		case e.Status != nil:
			s += " (exit status " + strconv.Itoa(*e.Status) + ")"
		}
		return s
	case "refused":
		s := "refused to launch: "
		if e.Stage == launch.StagePolicy || e.Stage == launch.StageWait {
			s = "refused: "
		}
		return strings.Join(append([]string{s + e.Reason}, e.differs...), "; ")
	case "fallback":
		return "fell back: " + e.Reason
	case "restored":
		return "endpoint restored: " + e.Reason
	case "hung":
		if e.PID != 0 {
			who += ", pid " + number(e.PID) + ","
		}
		return strings.TrimSpace(who + " was hung: " + e.Reason)
	case "dismissed":
		return strings.TrimSpace(who + " is asked to end: " + e.Reason)
	case "stopped":
		s := who
		if e.PID != 0 {
			s += ", pid " + number(e.PID) + ","
		}
		return strings.TrimSpace(s + " stopped: " + e.Reason)
	}
	s := e.Kind
	if who != "" {
		s += ", " + who
	}
	if e.Reason != "" {
		s += ": " + e.Reason
	}
	return s
}
