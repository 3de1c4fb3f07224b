package analysis

import (
	"go/token"
	"sort"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ssa"
)

// BeforeRun reports work that delays the daemon's adopting its listener.
var BeforeRun = &analysis.Analyzer{
	Name: "beforerun",
	Doc: `check for work before daemon.Run, daemon.Serve or daemon.Bootstrap

Until Run has adopted the listener, clients wait in the dark, nobody can ask
the daemon for its progress, and the launcher counts: after adopt_within it
kills the daemon. A process that is started then inherits the listener. It is
the same for what packages do when they are initialised.`,
	URL:      docURL + "beforerun",
	Requires: []*analysis.Analyzer{effects},
	Run:      runBeforeRun,
}

// place is what to do instead.
func place(k Kind) string {
	if k == Spawn {
		return "a process that is started now can inherit the daemon's listener; start it in Load or Serve"
	}
	return "nobody is answered and the launcher's budget runs until the listener is adopted; do this in Load"
}

func runBeforeRun(pass *analysis.Pass) (any, error) {
	p := pass.ResultOf[effects].(*program)
	if p == nil {
		return nil, nil
	}
	runs := ""
	var runsAt token.Pos
	for _, f := range p.funcs {
		if f == p.init || p.isTest(f.Pos()) || p.sums[f].Runs == "" {
			continue
		}
		if at := p.workBefore(pass, f); runs == "" || f.Name() == "main" {
			runs, runsAt = p.sums[f].Runs, at
		}
	}
	if runs == "" || p.pkg.Pkg.Name() != "main" {
		return nil, nil
	}
	for _, f := range p.funcs {
		if f != p.init && !isInit(f) || p.isTest(f.Pos()) {
			continue
		}
		instructions(f, func(in ssa.Instruction) {
			call, ok := in.(ssa.CallInstruction)
			if !ok || f == p.init && (p.isImportInit(call) || isInit(call.Common().StaticCallee())) {
				return
			}
			pos := position(in)
			if g := initialised(in); !pos.IsValid() && g != nil {
				pos = g.Pos()
			}
			for _, e := range before(p.doneBy(call).effects) {
				p.report(pass, pos, "initialising package main %s before %s: %s; %s", verb[e.Kind], runs, e.chain(), place(e.Kind))
			}
		})
	}
	facts := p.pass.AllPackageFacts() // of the analyzer that made them
	sort.Slice(facts, func(i, j int) bool { return facts[i].Package.Path() < facts[j].Package.Path() })
	for _, fact := range facts {
		work, ok := fact.Fact.(*Initialisation)
		if !ok || fact.Package == pass.Pkg {
			continue
		}
		for _, e := range work.Effects {
			p.report(pass, runsAt, "initialising package %s %s before %s: %s; %s", fact.Package.Path(), verb[e.Kind], runs, e.whole(), place(e.Kind))
		}
	}
	return nil, nil
}

// whole is chain with the place of the first step, for one of another package.
func (e Effect) whole() string {
	if len(e.Steps) == 0 || e.Steps[0].At == "" {
		return e.chain()
	}
	rest := Effect{Steps: e.Steps[1:]}
	s := e.Steps[0].What + " (" + e.Steps[0].At + ")"
	for _, step := range rest.Steps {
		s += " → " + step.What
		if step.At != "" {
			s += " (" + step.At + ")"
		}
	}
	return s
}

// isInit reports whether f is one of a package's init functions.
func isInit(f *ssa.Function) bool { return f != nil && strings.HasPrefix(f.Name(), "init#") }

// initialised is the variable whose initialiser makes the call, or nil.
func initialised(in ssa.Instruction) *ssa.Global {
	v, ok := in.(ssa.Value)
	for range maxDepth {
		if !ok || v.Referrers() == nil {
			return nil
		}
		var next ssa.Value
		for _, r := range *v.Referrers() {
			if st, ok := r.(*ssa.Store); ok {
				if g, ok := st.Addr.(*ssa.Global); ok {
					return g
				}
			}
			if rv, ok := r.(ssa.Value); ok {
				next = rv
			}
		}
		v, ok = next, next != nil
	}
	return nil
}

// workBefore reports what f does on a way to becoming the daemon, and returns
// where it becomes it.
func (p *program) workBefore(pass *analysis.Pass, f *ssa.Function) token.Pos {
	type work struct {
		in ssa.CallInstruction
		d  done
	}
	var becomes []work
	var others []work
	instructions(f, func(in ssa.Instruction) {
		call, ok := in.(ssa.CallInstruction)
		if !ok {
			return
		}
		d := p.doneBy(call)
		if d.runs != "" {
			becomes = append(becomes, work{call, d})
		} else if _, deferred := in.(*ssa.Defer); !deferred {
			others = append(others, work{call, d})
		}
	})
	for _, w := range others {
		for _, b := range becomes {
			if !reaches(w.in, b.in) {
				continue
			}
			for _, e := range before(w.d.effects) {
				p.report(pass, position(w.in), "%s %s before %s: %s; %s", nameOf(f), verb[e.Kind], b.d.runs, e.chain(), place(e.Kind))
			}
			break
		}
	}
	if len(becomes) == 0 {
		return f.Pos()
	}
	return position(becomes[0].in)
}
