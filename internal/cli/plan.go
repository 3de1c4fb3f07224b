package cli

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/launch"
	"github.com/fastbind/fastbind/internal/proc"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A plan is the definition that a verb uses, and where it is from.
type plan struct {
	def    definition.Definition
	given  bool // on the command line, whole or in part
	file   *fileDefinition
	stored *definition.Definition // what the service was last launched with, if that was looked at
	broker *launch.Broker
}

// plan finds the definition of a service: a command on the spot, else the
// user's file, else what the record stores; then the fields that were given as
// flags. flags may be nil.
func (a *app) plan(name string, command []string, flags *definitionFlags) (*plan, error) {
	if name == standing.Service && (command != nil || flags != nil && flags.given()) {
		return nil, &usageError{"the name " + strconv.Quote(name) + " is the standing broker's", "see: fastbind broker --help; give your service another name"}
	}
	p := &plan{}
	var err error
	if p.file, err = a.file(name); err != nil {
		return nil, err
	}
	var missing error
	if p.file == nil || command != nil || flags == nil || flags.given() {
		// Else the file says all, and what a script waits for is the connection.
		if missing, err = a.remember(p, name); err != nil {
			return nil, err
		}
	}
	switch {
	case command != nil:
		p.def, p.given = definition.Definition{Service: name, Instance: a.instance, Foreign: true}, true
		if p.def.Command, err = a.resolve(command); err != nil {
			return nil, err
		}
		// The kind of program is part of what is known of a command already.
		for _, d := range p.others() {
			if slices.Equal(a.comparable(d).Command, p.def.Command) {
				p.def.Foreign = d.Foreign
				break
			}
		}
	case name == standing.Service:
		if p.def, err = a.brokerDefinition(); err != nil {
			return nil, err
		}
	case p.file != nil:
		p.def = p.file.def
	case p.stored != nil:
		p.def = *p.stored
	default:
		return nil, missing
	}
	if flags != nil && flags.given() {
		p.given = true
		if err := flags.apply(&p.def, a.cwd); err != nil {
			return nil, err
		}
	}
	p.def = p.def.Complete()
	if err := p.def.Check(); err != nil {
		return nil, &usageError{err.Error(), ""}
	}
	if err := p.def.CheckTemplates(); err != nil {
		return nil, &usageError{err.Error(), ""}
	}
	p.broker = a.broker(p.def)
	return p, nil
}

// remember looks what the service was last launched with. missing says that it never
// was, as far as anybody knows.
func (a *app) remember(p *plan, name string) (missing, err error) {
	stored, err := a.stored(name)
	if isClass(err, launch.NoService) {
		return err, nil
	}
	if err != nil {
		return nil, err
	}
	p.stored = &stored
	return nil, nil
}

// others are the definitions that one on the spot must agree with.
func (p *plan) others() []definition.Definition {
	var list []definition.Definition
	if p.stored != nil {
		list = append(list, *p.stored)
	}
	if p.file != nil {
		list = append(list, p.file.def)
	}
	return list
}

// stored returns the definition that the service was last launched with. Of
// several variants, one for each environment, this client's own comes first.
func (a *app) stored(name string) (definition.Definition, error) {
	d, err := a.named(name).Stored()
	if !isClass(err, launch.NoService) {
		return d, err
	}
	var other *definition.Definition
	for _, b := range a.found(name) {
		if len(b.Def.Command) == 0 {
			continue
		}
		if a.broker(b.Def).DirName() == b.DirName() {
			return b.Def, nil
		}
		other = &b.Def
	}
	if other != nil {
		return *other, nil
	}
	return d, err
}

func isClass(err error, c launch.Class) bool {
	var f *launch.Fault
	return errors.As(err, &f) && f.Class == c
}

// resolve makes the program of a command on the spot an absolute path: against
// the caller's directory, or by the caller's PATH. What is not found stays a
// name, and fails as a launch.
func (a *app) resolve(command []string) ([]string, error) {
	command = slices.Clone(command)
	name := command[0]
	switch {
	case name == "":
		return nil, &usageError{"COMMAND is empty", ""}
	case filepath.IsAbs(name):
	case strings.Contains(name, "/"):
		wd, err := a.cwd()
		if err != nil {
			return nil, err
		}
		command[0] = filepath.Join(wd, name)
	default:
		command[0] = a.lookPath(name)
	}
	return command, nil
}

// lookPath finds a program in the caller's PATH as a daemon's launch would: in
// absolute directories only.
func (a *app) lookPath(name string) string {
	contract := environ.Contract(a.env, nil, func() environ.Account { return environ.Account{} }) // has the default PATH
	for _, e := range contract {
		path, ok := strings.CutPrefix(e, "PATH=")
		if !ok {
			continue
		}
		for _, dir := range filepath.SplitList(path) {
			if !filepath.IsAbs(dir) {
				continue
			}
			p := filepath.Join(dir, name)
			if fi, err := os.Stat(p); err == nil && fi.Mode().IsRegular() && fi.Mode().Perm()&0o111 != 0 {
				return p
			}
		}
	}
	return name
}

// comparable returns d with the program's path resolved, as one given on the
// spot has it.
func (a *app) comparable(d definition.Definition) definition.Definition {
	if len(d.Command) > 0 && !strings.Contains(d.Command[0], "/") {
		d.Command = slices.Clone(d.Command)
		d.Command[0] = a.lookPath(d.Command[0])
	}
	return d
}

func (a *app) diff(have, want definition.Definition) []definition.Difference {
	return definition.Diff(a.comparable(have), a.comparable(want))
}

// conflict refuses a definition given on the spot that is not the one the
// service already has, and journals that.
func (a *app) conflict(p *plan) error {
	if !p.given {
		return nil
	}
	cure := "leave the difference out, or replace it with --replace"
	if p.stored != nil {
		if diffs := a.diff(*p.stored, p.def); len(diffs) > 0 {
			f := refusal(p.def, "it was started with another definition", cure, diffs)
			a.broker(*p.stored).NoteRefusal(f)
			return f
		}
	}
	if p.file != nil {
		if diffs := a.diff(p.file.def, p.def); len(diffs) > 0 {
			f := refusal(p.def, p.file.path+" defines it otherwise", cure, diffs)
			a.broker(p.file.def).NoteRefusal(f)
			return f
		}
	}
	return nil
}

// settle makes sure that the service may be launched, or used, as planned:
// without replace a different definition on the spot is refused, with it the
// running generation of a different one is stopped.
func (a *app) settle(ctx context.Context, p *plan, replace bool) error {
	if !replace {
		return a.conflict(p)
	}
	if p.given && p.file != nil && a.isHeld(p.broker) {
		if diffs := a.diff(p.file.def, p.def); len(diffs) > 0 {
			return refusal(p.def, "the broker holds it as "+p.file.path+" defines it", "change the file, or run: fastbind disable "+a.nameArgs(p.def.Service), diffs)
		}
	}
	if _, err := a.remember(p, p.def.Service); err != nil {
		return err
	}
	if p.stored == nil || len(a.diff(*p.stored, p.def)) == 0 {
		return nil
	}
	_, err := a.broker(*p.stored).Stop(ctx)
	if isClass(err, launch.NotRunning) || isClass(err, launch.NoService) {
		err = nil
	}
	return err
}

// checkAttached looks again at a service that somebody else launched while
// this call was on its way: it may be another one than planned.
func (a *app) checkAttached(p *plan) error {
	if stored, err := p.broker.Stored(); err == nil {
		p.stored = &stored
	}
	if p.given {
		return a.conflict(p)
	}
	if p.file == nil || p.stored == nil || a.json {
		return nil
	}
	if diffs := a.diff(*p.stored, p.def); len(diffs) > 0 {
		fields := make([]string, len(diffs))
		for i, d := range diffs {
			fields[i] = d.Field
		}
		a.warn(`"`+p.def.Service+`" runs with another `+strings.Join(fields, ", ")+" than "+p.file.path+" has",
			"run: fastbind restart "+a.nameArgs(p.def.Service))
	}
	return nil
}

func (a *app) nameArgs(name string) string {
	return arguments(&launch.Fault{Service: name, Instance: a.instance})
}

// A launched service, or one that ran already.
type launched struct {
	place      runtimedir.Place
	generation *launch.Generation // nil: it ran already
}

// ensure makes sure that the service's endpoint is bound, and if asked that its
// daemon is ready.
func (a *app) ensure(ctx context.Context, p *plan, ready bool) (launched, error) {
	b := p.broker
	if err := b.CheckSelf(); err != nil {
		return launched{}, err
	}
	start := a.now()
	o, err := b.Ensure(ctx, b.Mode(), launch.StepConnect, proc.BootTime()-time.Since(start))
	if o.Conn != nil {
		_ = o.Conn.Close()
	}
	l := launched{o.Place, o.Launched}
	if err != nil {
		return l, err
	}
	if l.place.Dir == "" { // it answered at a guessed path
		if l.place, err = b.Env.Find(b.Def.Instance, b.DirName()); err != nil {
			return l, b.DirectoryFault(err)
		}
	}
	if l.generation != nil && l.generation.Tied != "" {
		a.warn("the daemon is "+l.generation.Tied, "start it from outside of the job, or let the job's processes break away")
	}
	if l.generation == nil {
		if err := a.checkAttached(p); err != nil {
			return l, err
		}
		if err := b.Suit(ctx, l.place.Dir); err != nil {
			return l, err
		}
	}
	if ready {
		err = a.awaitReady(ctx, b)
	}
	return l, err
}

// awaitReady waits with a bar on a terminal.
func (a *app) awaitReady(ctx context.Context, b *launch.Broker) error {
	p := &bar{s: a.err}
	defer p.clear()
	return b.AwaitReady(ctx, p.show)
}
