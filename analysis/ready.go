package analysis

import (
	"go/types"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ssa"
)

// Ready reports that a daemon never becomes ready.
var Ready = &analysis.Analyzer{
	Name: "ready",
	Doc: `check for ReadyLater without Ready

After Instance.ReadyLater a daemon is in phase loading until it calls
Instance.Ready: clients that wait for ready wait for ever, an idle exit never
comes, and its death counts as that of a failed launch.`,
	URL:      docURL + "ready",
	Requires: []*analysis.Analyzer{effects},
	Run:      runReady,
}

const (
	instanceReady = "(*" + daemonPath + ".Instance).Ready"
	instanceLater = "(*" + daemonPath + ".Instance).ReadyLater"
)

func runReady(pass *analysis.Pass) (any, error) {
	p := pass.ResultOf[effects].(*program)
	if p == nil || pass.Pkg.Path() == daemonPath {
		return nil, nil
	}
	for _, f := range p.funcs {
		if p.isTest(f.Pos()) || p.reports(f) {
			continue
		}
		instructions(f, func(in ssa.Instruction) {
			call, ok := in.(ssa.CallInstruction)
			if !ok {
				return
			}
			if obj := staticObject(call.Common()); obj != nil && fullName(obj) == instanceLater {
				p.report(pass, position(in), "ReadyLater is called, and nothing that %s or the backend's Serve leads to calls Ready: "+
					"the daemon stays in phase loading for ever; call Instance.Ready when the loading is done", nameOf(f))
			}
		})
	}
	return nil, nil
}

// reports reports whether Ready can be reached from f, from a function around it
// or from the other methods of its type.
func (p *program) reports(f *ssa.Function) bool {
	for f.Parent() != nil {
		if p.sums[f].Ready {
			return true
		}
		f = f.Parent()
	}
	if p.sums[f].Ready {
		return true
	}
	recv := f.Signature.Recv()
	for _, other := range p.funcs {
		if recv != nil && other.Signature.Recv() != nil && types.Identical(recv.Type(), other.Signature.Recv().Type()) && p.sums[other].Ready {
			return true
		}
	}
	return false
}

// findReady finds which functions mention Instance.Ready or refer to one that
// does. An instance that is handed to code which is not looked into is taken
// for reported.
func (p *program) findReady() {
	methods := map[string][]*ssa.Function{}
	for _, f := range p.funcs {
		if f.Signature.Recv() != nil {
			methods[f.Name()] = append(methods[f.Name()], f)
		}
	}
	for changed := true; changed; {
		changed = false
		for _, f := range p.funcs {
			if !p.sums[f].Ready && !p.isTest(f.Pos()) && p.mentionsReady(f, methods) {
				p.sums[f].Ready, changed = true, true
			}
		}
	}
}

func (p *program) mentionsReady(f *ssa.Function, methods map[string][]*ssa.Function) (ready bool) {
	refer := func(g *ssa.Function) {
		if g.Origin() != nil {
			g = g.Origin()
		}
		if s := p.sums[g]; s != nil {
			ready = ready || s.Ready
			return
		}
		obj := objectOf(g)
		if obj == nil {
			return
		}
		if fullName(obj) == instanceReady {
			ready = true
		}
		if declared := p.pkg.Prog.FuncValue(obj); declared != nil && p.sums[declared] != nil {
			ready = ready || p.sums[declared].Ready // g is a wrapper
			return
		}
		var fact Summary
		if obj.Pkg() != nil && p.pass.ImportObjectFact(obj, &fact) && fact.Ready {
			ready = true
		}
	}
	instructions(f, func(in ssa.Instruction) {
		for _, op := range in.Operands(nil) {
			if g, ok := (*op).(*ssa.Function); ok {
				refer(g)
			}
		}
		call, ok := in.(ssa.CallInstruction)
		if !ok {
			return
		}
		common := call.Common()
		if common.IsInvoke() {
			for _, m := range methods[common.Method.Name()] {
				ready = ready || p.sums[m].Ready
			}
		}
		for _, arg := range common.Args {
			if !isInstance(arg) {
				continue
			}
			callee := common.StaticCallee()
			switch {
			case callee == nil: // an interface's or a variable's
				ready = ready || !common.IsInvoke() || len(methods[common.Method.Name()]) == 0
			case callee.Pkg != nil && callee.Pkg.Pkg.Path() == daemonPath, callee.Parent() != nil:
			case callee.Pkg != nil && !p.sameModule(callee.Pkg.Pkg.Path()):
				ready = true
			}
		}
	})
	return ready
}

// isInstance reports whether v is a *daemon.Instance, as itself or as an
// interface.
func isInstance(v ssa.Value) bool {
	if mi, ok := v.(*ssa.MakeInterface); ok {
		v = mi.X
	}
	return v.Type().String() == "*"+daemonPath+".Instance"
}

// sameModule reports whether a package is of the module that is checked, so that
// there are facts of it.
func (p *program) sameModule(path string) bool {
	m := p.pass.Module
	if m == nil || m.Path == "" {
		first, _, _ := strings.Cut(p.pass.Pkg.Path(), "/")
		return strings.HasPrefix(path, first)
	}
	return path == m.Path || strings.HasPrefix(path, m.Path+"/")
}
