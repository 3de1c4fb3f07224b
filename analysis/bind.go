package analysis

import (
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ssa"
)

// Bind reports what Bind does beside binding.
var Bind = &analysis.Analyzer{
	Name: "bind",
	Doc: `check for state and I/O in a backend's Bind

Clients are connected when Bind has returned. It takes microseconds and
touches no disk, no network beyond its one listener, and no state: what it
needs is loaded in Load, when clients can queue already.`,
	URL:      docURL + "bind",
	Requires: []*analysis.Analyzer{effects},
	Run:      runBind,
}

const bindRule = "Bind takes microseconds and uses nothing but its endpoint; do this in Load, where clients can queue already"

func runBind(pass *analysis.Pass) (any, error) {
	p := pass.ResultOf[effects].(*program)
	if p == nil {
		return nil, nil
	}
	for _, f := range p.funcs {
		if p.isTest(f.Pos()) || !isBind(f) {
			continue
		}
		for _, u := range p.uses(f) {
			if u.effect.For&forBind != 0 {
				p.report(pass, u.pos, "Bind %s: %s; %s", verb[State], u.effect.chain(), bindRule)
			}
		}
		var listens []ssa.Instruction
		instructions(f, func(in ssa.Instruction) {
			call, ok := in.(ssa.CallInstruction)
			if !ok {
				return
			}
			for _, e := range p.doneBy(call).effects {
				switch {
				case e.For&forBind == 0:
				case e.Kind == Listening:
					listens = append(listens, in)
				default:
					p.report(pass, position(in), "Bind %s: %s; %s", verb[e.Kind], e.chain(), bindRule)
				}
			}
		})
		for _, second := range listens {
			for _, first := range listens {
				if first != second && reaches(first, second) {
					p.report(pass, position(second), "Bind listens a second time, first at %s: a daemon has one endpoint; bind others in Load", p.at(position(first)))
					break
				}
			}
		}
	}
	return nil, nil
}

// isBind reports whether f is Bind(fastbind.Endpoint) (net.Listener, error).
func isBind(f *ssa.Function) bool {
	obj, ok := f.Object().(*types.Func)
	return ok && isBindMethod(obj)
}

func isBindMethod(obj *types.Func) bool {
	sig := obj.Signature()
	return obj.Name() == "Bind" && sig.Recv() != nil && !types.IsInterface(sig.Recv().Type()) &&
		sig.Params().Len() == 1 && sig.Params().At(0).Type().String() == sdkPath+".Endpoint" &&
		sig.Results().Len() == 2 && sig.Results().At(0).Type().String() == "net.Listener"
}

// reaches reports whether to can be executed after from has been.
func reaches(from, to ssa.Instruction) bool {
	if from.Block() == to.Block() {
		for _, in := range from.Block().Instrs {
			if in == from {
				return true // from comes first
			}
			if in == to {
				break
			}
		}
	}
	for _, next := range from.Block().Succs {
		if leadsTo(next, to.Block(), nil) {
			return true
		}
	}
	return false
}

// leadsTo reports whether block to can be executed from b on, without passing
// avoid.
func leadsTo(b, to, avoid *ssa.BasicBlock) bool {
	seen := map[*ssa.BasicBlock]bool{avoid: true}
	var visit func(b *ssa.BasicBlock) bool
	visit = func(b *ssa.BasicBlock) bool {
		if b == to {
			return true
		}
		if seen[b] {
			return false
		}
		seen[b] = true
		return slices.ContainsFunc(b.Succs, visit)
	}
	return visit(b)
}
