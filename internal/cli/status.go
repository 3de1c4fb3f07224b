package cli

import (
	"context"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
)

type statusReply struct {
	Schema   int           `json:"schema"`
	Services []serviceJSON `json:"services"`
	Error    *errorJSON    `json:"error"`
	Errors   []errorJSON   `json:"errors"`
}

func (a *app) statusCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "status [NAME…]",
		Short: "Show services: phase, process, endpoint",
		Long: `Show the named services, or all of the instance. A named service that is not
running is shown, and the exit status is 3.

Without a terminal each service is one line of tab-separated fields: name, phase,
instance, generation, pid, seconds of uptime, version, endpoint, variant (of
env_policy coexist); "-" is none.

It starts nothing, changes nothing and takes no lock; a daemon that does not
answer costs it 300 ms.`,
		Example: `  fastbind status
  fastbind status web --json | jq '.services[0].pid'`,
		ValidArgsFunction: a.completeNames(0),
	}
	everywhere := cmd.Flags().Bool("all-instances", false, "of every instance")
	measure := addMeasureFlag(cmd)
	hash := cmd.Flags().Bool("hash", false, "also tell the SHA-256 of the executable that each daemon runs, as it says")
	cmd.RunE = func(cmd *cobra.Command, names []string) error {
		if err := checkNames(names); err != nil {
			return err
		}
		if len(names) == 0 {
			views, err := a.everything(cmd.Context(), *everywhere)
			if err != nil {
				return err
			}
			a.hashes(cmd.Context(), views, *hash)
			a.payoffs(cmd.Context(), views, *measure)
			a.printStatus(cmd.Context(), views, nil, false)
			return nil
		}
		var views []view
		var errs []error
		for _, n := range names {
			found, err := a.views(cmd.Context(), n)
			if err != nil {
				errs = append(errs, err)
				continue
			}
			views = append(views, found...)
			if !anyAlive(found) {
				errs = append(errs, quiet(exitNotRunning))
			}
		}
		a.hashes(cmd.Context(), views, *hash)
		a.payoffs(cmd.Context(), views, *measure)
		a.printStatus(cmd.Context(), views, errs, true)
		return a.reportAll(cmd.Context(), errs)
	}
	return cmd
}

// hashWithin bounds the question: the daemon reads its whole executable once.
const hashWithin = 5 * time.Second

// hashes asks those that can be asked. Of the others there is none.
func (a *app) hashes(ctx context.Context, views []view, wanted bool) {
	for i, v := range views {
		if !wanted || v.status.Identity == nil {
			continue
		}
		hctx, cancel := context.WithTimeout(ctx, hashWithin)
		views[i].hash, _ = v.broker.Hash(hctx)
		cancel()
	}
}

func anyAlive(views []view) bool {
	for _, v := range views {
		if v.alive {
			return true
		}
	}
	return false
}

func (a *app) printStatus(ctx context.Context, views []view, errs []error, named bool) {
	switch {
	case a.json:
		a.print(statusReply{Schema: schema, Services: jsonOf(views), Error: worstOf(ctx, errs), Errors: errorsOf(errs)})
	case a.out.terminal && named:
		for i, v := range views {
			if i > 0 {
				line(a.out.w, "")
			}
			a.block(ctx, v)
		}
	default:
		a.statusTable(views)
	}
}

func (a *app) statusTable(views []view) {
	if !a.out.terminal {
		var t table
		for _, v := range views {
			seconds := ""
			if v.alive {
				seconds = strconv.FormatInt(int64(v.uptime/time.Second), 10)
			}
			t.rows = append(t.rows, []string{v.name, v.phase, v.instance, number(v.generation), number(v.pid), seconds, v.version, v.endpoint, v.variant})
		}
		t.print(a.out)
		return
	}
	if len(views) == 0 {
		line(a.out.w, a.out.paint(quietly, "no services; start one: fastbind start NAME -- COMMAND ARG…"))
		return
	}
	t := table{heads: []string{"SERVICE", "PHASE", "PID", "UPTIME", "VERSION", "ENDPOINT"}}
	several := manyInstances(views)
	if several {
		t.heads = append([]string{"INSTANCE"}, t.heads...)
	}
	for _, v := range views {
		uptime, phase := "", v.phase
		if v.alive {
			uptime = ago(v.uptime)
		}
		if v.progress != nil && v.progress.Fraction != nil && v.loading() {
			phase = progressText(&progressJSON{Message: phase, Fraction: v.progress.Fraction})
		}
		row := []string{v.label(), phase, number(v.pid), uptime, v.version, v.endpoint}
		if several {
			row = append([]string{v.instance}, row...)
		}
		t.rows = append(t.rows, row)
	}
	t.paint = func(column int, value string) string {
		if t.heads[column] == "PHASE" {
			word, _, _ := strings.Cut(value, " ")
			return phaseColour(word)
		}
		return ""
	}
	t.print(a.out)
}

func manyInstances(views []view) bool {
	for _, v := range views {
		if v.instance != "default" {
			return true
		}
	}
	return false
}

// block shows one service at length.
func (a *app) block(ctx context.Context, v view) {
	mark, phase := "●", v.phase
	switch {
	case phase == "":
		mark, phase = "○", "never launched"
	case v.stopped():
		mark = "○"
	}
	colour := phaseColour(v.phase)
	head := a.out.paint(colour, mark) + " " + a.out.paint(bold, harmless(v.label())) + "  " + a.out.paint(colour, harmless(phase))
	if p := progressText(v.progress); p != "" {
		head += "  " + harmless(p)
	}
	line(a.out.w, head)
	a.field("Instance", notDefault(v.instance))
	a.field("Endpoint", v.endpoint)
	for _, name := range v.further {
		a.field("", name+" at "+v.status.Place.Further(name))
	}
	if v.alive && v.generation == 0 {
		a.field("Process", "unknown: somebody accepts at the endpoint, and no living generation is on record")
	} else if v.alive {
		process := "generation " + number(v.generation)
		if v.pid != 0 {
			process += ", pid " + number(v.pid)
		}
		a.field("Process", process+", up "+ago(v.uptime)+" since "+v.started.Local().Format(time.DateTime))
	} else if v.generation != 0 {
		a.field("Last run", "generation "+number(v.generation)+", started "+v.started.Local().Format(time.DateTime))
	}
	switch {
	case v.heldBy != 0:
		a.field("Held", "by the broker, pid "+number(v.heldBy))
	case v.disabled:
		a.field("Held", "by no broker: it is disabled")
	}
	if v.unholdable() {
		a.field("Not held", unholdable)
	}
	if v.name == standing.Service && v.alive && v.instance == a.instance {
		a.quotaField(ctx)
	}
	a.field("Version", v.version)
	if v.connections != nil {
		text := strconv.Itoa(*v.connections)
		if *v.leases > 0 {
			text += ", leases: " + strconv.Itoa(*v.leases)
		}
		a.field("Clients", text)
	}
	if v.endsIn != nil {
		a.field("Ends", "in "+v.endsIn.Round(time.Second).String()+", unless somebody needs it")
	}
	a.field("SHA-256", v.hash)
	a.field("Payoff", v.payoff.sentence())
	if v.file != nil {
		a.field("Definition", v.file.path)
	}
	if v.alive && v.status.Shown != nil {
		for _, l := range v.status.Shown.Record.Limits {
			a.field("Limit", l)
		}
	}
	if fields := v.notInForce(); len(fields) > 0 {
		why := "no standing broker holds it"
		if v.heldBy != 0 || v.followed {
			why = "the broker has not launched it; a restart applies them"
		}
		if v.unholdable() {
			why = unholdable
		}
		a.field("Not in force", strings.Join(fields, ", ")+": "+why)
	}
	a.field("Log", v.log)
	if v.failure != nil {
		a.field("Failure", a.out.paint(bad, harmless(failureText(v.failure))))
	}
	if !v.retry.IsZero() {
		a.field("Retry after", v.retry.Local().Format(time.TimeOnly))
	}
	for _, d := range v.status.Environment {
		a.field("Differs", d.String())
	}
}

func notDefault(instance string) string {
	if instance == "default" {
		return ""
	}
	return instance
}

// field prints one labelled line; text that colours it already is harmless.
func (a *app) field(label, text string) {
	if text == "" {
		return
	}
	if !strings.HasPrefix(text, "\x1b[") {
		text = harmless(text)
	}
	io.WriteString(a.out.w, strings.Repeat(" ", max(0, 12-len(label)))+a.out.paint(quietly, label+":")+" "+text+"\n")
}
