package analysis

import (
	"go/constant"
	"go/token"
	"go/types"
	"slices"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ssa"
)

// Serve reports a Serve that a stop does not end.
var Serve = &analysis.Analyzer{
	Name: "serve",
	Doc: `check for a Serve that ignores its context

During a stop, Accept hands out what is queued and then fails with
net.ErrClosed, and then Serve's context ends. Serve returns at either. One that
looks at neither is killed after stop_within; so is one that hands the listener
to a server which keeps idle connections, unless it shuts that server down when
its context ends.`,
	URL:      docURL + "serve",
	Requires: []*analysis.Analyzer{effects},
	Run:      runServe,
}

func runServe(pass *analysis.Pass) (any, error) {
	p := pass.ResultOf[effects].(*program)
	if p == nil || pass.Pkg.Path() == daemonPath {
		return nil, nil
	}
	for _, f := range p.funcs {
		if p.isTest(f.Pos()) {
			continue
		}
		if isServe(f) {
			p.checkServe(pass, f, 1)
		}
		instructions(f, func(in ssa.Instruction) {
			call, ok := in.(ssa.CallInstruction)
			if !ok {
				return
			}
			obj := staticObject(call.Common())
			if obj == nil || fullName(obj) != daemonPath+".Serve" {
				return
			}
			for _, c := range p.callees(call.Common().Args[0], "").list {
				if c.fn != nil && !p.isTest(c.fn.Pos()) {
					p.checkServe(pass, c.fn, len(c.fn.Params)-2)
				}
			}
		})
	}
	return nil, nil
}

// isServe reports whether f is the Serve method of a type that has Bind.
func isServe(f *ssa.Function) bool {
	recv := f.Signature.Recv()
	if f.Name() != "Serve" || recv == nil || len(f.Params) != 4 || f.Parent() != nil {
		return false
	}
	obj, _, _ := types.LookupFieldOrMethod(recv.Type(), true, f.Pkg.Pkg, "Bind")
	bind, ok := obj.(*types.Func)
	return ok && isBindMethod(bind)
}

// checkServe checks a Serve whose context is parameter ctx and whose listener
// is the next one.
func (p *program) checkServe(pass *analysis.Pass, f *ssa.Function, ctx int) {
	if ctx < 0 || ctx+1 >= len(f.Params) || !slices.Contains(p.sums[f].Unused, ctx) {
		return
	}
	end := p.endOf(f, f.Params[ctx+1], 0)
	switch {
	case end.never.IsValid():
		p.report(pass, end.never, "Serve never looks at its context, and goes on when Accept fails: a stop ends it only by killing it; return when Accept fails, or when ctx ends")
	case end.accepts:
	case end.given != "":
		p.report(pass, end.givenAt, "Serve never looks at its context, and gives the listener to %s, which keeps idle connections: "+
			"a stop waits for them until stop_within is over; end them when ctx ends, as with context.AfterFunc(ctx, …Shutdown)", end.given)
	default:
		p.report(pass, f.Pos(), "Serve looks neither at its context nor at Accept's error: a stop ends it only by killing it; return when Accept fails, or when ctx ends")
	}
}

// An end is how a function that serves a listener comes to an end.
type end struct {
	accepts bool      // it accepts, and returns when that fails
	never   token.Pos // it accepts there, and goes on
	given   string    // another function has the listener
	givenAt token.Pos
}

// endOf finds how f ends that serves ln.
func (p *program) endOf(f *ssa.Function, ln ssa.Value, depth int) end {
	var e end
	if depth > maxDepth {
		return e
	}
	uses := aliases(ln)
	for _, in := range uses {
		call, ok := in.(ssa.CallInstruction)
		if !ok {
			continue
		}
		common := call.Common()
		obj := staticObject(common)
		if obj != nil && isAccept(obj) && receiver(common) != nil {
			if endsWhenItFails(call) {
				e.accepts = true
			} else {
				e.never = position(in)
			}
			continue
		}
		if obj != nil && (obj.Name() == "Close" || obj.Name() == "Addr") {
			continue
		}
		for _, c := range p.calleesOf(common).list {
			for i, arg := range c.args {
				if !refersTo(arg, ln) {
					continue
				}
				if c.fn == nil || i >= len(c.fn.Params) {
					if slices.Contains(c.sum.Unused, i) {
						continue
					}
					e.given, e.givenAt = c.name, position(in)
					if slices.Contains(c.sum.Ends, i) {
						e.accepts = true
					}
					continue
				}
				inner := p.endOf(c.fn, c.fn.Params[i], depth+1)
				e.accepts = e.accepts || inner.accepts
				if inner.never.IsValid() {
					e.never = inner.never
				}
				if inner.given != "" {
					e.given, e.givenAt = inner.given, position(in)
				}
			}
		}
		if e == (end{}) && obj != nil {
			e.given, e.givenAt = short(obj), position(in)
		}
	}
	return e
}

// aliases are the instructions that use v, as itself, as an interface or as a
// captured variable.
func aliases(v ssa.Value) []ssa.Instruction {
	var list []ssa.Instruction
	seen := map[ssa.Value]bool{}
	var visit func(v ssa.Value)
	visit = func(v ssa.Value) {
		if seen[v] || v.Referrers() == nil {
			return
		}
		seen[v] = true
		for _, r := range *v.Referrers() {
			list = append(list, r)
			switch r := r.(type) {
			case *ssa.MakeInterface:
				visit(r)
			case *ssa.ChangeInterface:
				visit(r)
			case *ssa.TypeAssert:
				visit(r)
			case *ssa.Extract:
				visit(r)
			case *ssa.Phi:
				visit(r)
			case *ssa.UnOp:
				visit(r)
			case *ssa.Store:
				if a, ok := r.Addr.(*ssa.Alloc); ok && r.Val == v {
					visit(a)
				}
			case *ssa.MakeClosure:
				for i, b := range r.Bindings {
					if b == v {
						visit(r.Fn.(*ssa.Function).FreeVars[i])
					}
				}
			}
		}
	}
	visit(v)
	return list
}

// refersTo reports whether arg is v or made of it.
func refersTo(arg, v ssa.Value) bool {
	for range maxDepth {
		if arg == v {
			return true
		}
		switch x := arg.(type) {
		case *ssa.MakeInterface:
			arg = x.X
		case *ssa.ChangeInterface:
			arg = x.X
		case *ssa.TypeAssert:
			arg = x.X
		case *ssa.Extract:
			arg = x.Tuple
		case *ssa.UnOp:
			arg = x.X
		case *ssa.FreeVar:
			if arg = binding(x); arg == nil {
				return false
			}
		case *ssa.Alloc:
			if arg = onlyStore(x); arg == nil {
				return false
			}
		default:
			return false
		}
	}
	return false
}

func isAccept(obj *types.Func) bool {
	switch obj.Name() {
	case "Accept", "AcceptUnix", "AcceptTCP":
		return obj.Pkg() != nil && obj.Pkg().Path() == "net"
	}
	return false
}

func receiver(c *ssa.CallCommon) ssa.Value {
	if c.IsInvoke() {
		return c.Value
	}
	if len(c.Args) > 0 {
		return c.Args[0]
	}
	return nil
}

// endsWhenItFails reports whether the function that calls Accept can return
// after that has failed without calling it again.
func endsWhenItFails(accept ssa.CallInstruction) bool {
	v := accept.Value()
	if v == nil {
		return false
	}
	var failure *ssa.Extract
	for _, r := range *v.Referrers() {
		if ex, ok := r.(*ssa.Extract); ok && ex.Index == 1 {
			failure = ex
		}
	}
	if failure == nil || len(*failure.Referrers()) == 0 {
		return false
	}
	branches := 0
	for _, r := range *failure.Referrers() {
		if call, ok := r.(*ssa.Call); ok && decidesToReturn(call, accept.Block()) {
			return true
		}
		cond, ok := r.(*ssa.BinOp)
		if !ok || !isNil(cond.Y) || cond.Op != token.NEQ && cond.Op != token.EQL {
			continue
		}
		for _, r := range *cond.Referrers() {
			branch, ok := r.(*ssa.If)
			if !ok {
				continue
			}
			branches++
			failed := branch.Block().Succs[0]
			if cond.Op == token.EQL {
				failed = branch.Block().Succs[1]
			}
			if returnsWithout(failed, accept.Block()) {
				return true
			}
		}
	}
	return branches == 0 // it is looked at in another way
}

// decidesToReturn reports whether what is said of the error, as by errors.Is,
// leads to a return.
func decidesToReturn(said ssa.Value, accept *ssa.BasicBlock) bool {
	for _, r := range *said.Referrers() {
		switch r := r.(type) {
		case *ssa.UnOp:
			if decidesToReturn(r, accept) {
				return true
			}
		case *ssa.If:
			for _, b := range r.Block().Succs {
				if returnsWithout(b, accept) {
					return true
				}
			}
		}
	}
	return false
}

func isNil(v ssa.Value) bool {
	c, ok := v.(*ssa.Const)
	return ok && (c.Value == nil || c.Value.Kind() == constant.Unknown)
}

// returnsWithout reports whether the function can end from block b without
// passing avoid.
func returnsWithout(b, avoid *ssa.BasicBlock) bool {
	seen := map[*ssa.BasicBlock]bool{avoid: true}
	var visit func(b *ssa.BasicBlock) bool
	visit = func(b *ssa.BasicBlock) bool {
		if seen[b] {
			return false
		}
		seen[b] = true
		if len(b.Succs) == 0 {
			return true
		}
		return slices.ContainsFunc(b.Succs, visit)
	}
	return visit(b)
}

// findUnused finds the parameters that nothing looks at, and the listeners that
// a function accepts on until that fails.
func (p *program) findUnused() {
	for changed := true; changed; {
		changed = false
		for _, f := range p.funcs {
			s := p.sums[f]
			for i, par := range f.Params {
				if t := par.Type().String(); t != "context.Context" && t != "net.Listener" {
					continue // nobody asks
				}
				if !slices.Contains(s.Unused, i) && p.unused(par) {
					s.Unused, changed = append(s.Unused, i), true
				}
			}
		}
	}
	for _, f := range p.funcs {
		for i, par := range f.Params {
			if t := par.Type().String(); t == "net.Listener" || t == "*net.UnixListener" {
				if e := p.endOf(f, par, 0); e.accepts && !e.never.IsValid() {
					p.sums[f].Ends = append(p.sums[f].Ends, i)
				}
			}
		}
	}
}

// unused reports whether all that is done with a parameter is to give it to
// functions that do not look at it.
func (p *program) unused(par *ssa.Parameter) bool {
	for _, r := range *par.Referrers() {
		switch r := r.(type) {
		case *ssa.DebugRef:
		case ssa.CallInstruction:
			list := p.calleesOf(r.Common()).list
			if len(list) == 0 {
				return false
			}
			for _, c := range list {
				for i, arg := range c.args {
					if arg == par && !slices.Contains(c.sum.Unused, i) {
						return false
					}
				}
			}
		default:
			return false
		}
	}
	return true
}
