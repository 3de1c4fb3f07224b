package analysis

import (
	"go/token"
	"go/types"
	"strings"

	"golang.org/x/tools/go/ssa"
)

// A callee is a function that a call calls, with what it is given.
type callee struct {
	name     string
	identity string        // in keys
	fn       *ssa.Function // of this package, with a body; else nil
	sum      *Summary
	known    bool        // by name only: std.go says what it does
	args     []ssa.Value // the receiver first
	targs    []types.Type
}

// A set is what a call may call: functions, and what is not known before the
// caller is called.
type set struct {
	list  []callee
	holes []hole
}

// calleesOf finds what a call calls.
func (p *program) calleesOf(call *ssa.CallCommon) set {
	var s set
	if call.IsInvoke() {
		if c, ok := p.calleeOfObject(call.Method); ok {
			c.args = append([]ssa.Value{call.Value}, call.Args...)
			return set{list: []callee{c}}
		}
		s = p.callees(call.Value, call.Method.Name())
	} else if f := call.StaticCallee(); f != nil && !isBound(f) {
		if c, ok := p.calleeOf(f); ok {
			s.list = append(s.list, c)
		}
	} else {
		s = p.callees(call.Value, "")
	}
	for i := range s.list {
		s.list[i].args = append(s.list[i].args[:len(s.list[i].args):len(s.list[i].args)], call.Args...)
	}
	return s
}

// isBound reports whether f is what a method value x.m calls.
func isBound(f *ssa.Function) bool { return strings.HasPrefix(f.Synthetic, "bound method") }

// calleeOf is f as a callee; ok is false if nothing is known of it.
func (p *program) calleeOf(f *ssa.Function) (c callee, ok bool) {
	targs := f.TypeArgs()
	if o := f.Origin(); o != nil {
		f = o
	}
	obj := objectOf(f)
	if obj != nil {
		if c, ok := p.calleeOfObject(obj); ok {
			c.targs = targs
			return c, true
		}
		return callee{}, false
	}
	if s := p.sums[f]; s != nil {
		return callee{name: "a function in " + nameOf(f), identity: identity(f), fn: f, sum: &s.Summary}, true
	}
	return callee{}, false
}

// calleeOfObject is a declared function or method as a callee.
func (p *program) calleeOfObject(obj *types.Func) (c callee, ok bool) {
	obj = obj.Origin()
	name := fullName(obj)
	c.name, c.identity = short(obj), name
	if r, ok := runs[name]; ok {
		c.sum = &Summary{Runs: r}
		return c, true
	}
	if dispatchers[name] && p.dispatches() != "" {
		c.sum = &Summary{Runs: p.dispatches()}
		return c, true
	}
	kind, isKnown := known[name]
	if calls, ok := callsArg[name]; ok || isKnown {
		c.known, c.sum = true, &Summary{}
		if isKnown {
			c.sum.Effects = []Effect{{Kind: kind, For: forBind | forBefore}}
		}
		if kind == Lock {
			for _, mark := range fileLocks {
				c.sum.Locks = c.sum.Locks || strings.Contains(name, mark)
			}
		}
		for _, i := range calls {
			c.sum.Holes = append(c.sum.Holes, Hole{i, -1, ""})
		}
		return c, true
	}
	if obj.Pkg() == p.pass.Pkg {
		f := p.pkg.Prog.FuncValue(obj)
		if s := p.sums[f]; s != nil {
			c.fn, c.sum = f, &s.Summary
			return c, true
		}
		return c, false
	}
	var fact Summary
	if obj.Pkg() != nil && p.pass.ImportObjectFact(obj, &fact) {
		c.sum = &fact
		return c, true
	}
	return c, false
}

// dispatches is the function by which what a command line's library calls
// becomes the daemon, or "".
func (p *program) dispatches() string {
	for _, f := range p.funcs {
		if r := p.sums[f].Runs; r != "" && !p.isTest(f.Pos()) && f != p.init {
			return r
		}
	}
	return ""
}

// callees finds what the value v is when it is called, or when its method is.
func (p *program) callees(v ssa.Value, method string) set {
	var s set
	p.follow(v, method, &s, map[ssa.Value]bool{})
	return s
}

func (p *program) follow(v ssa.Value, method string, s *set, seen map[ssa.Value]bool) {
	if seen[v] || len(seen) > 200 {
		return
	}
	seen[v] = true
	again := func(v ssa.Value) { p.follow(v, method, s, seen) }
	_, isParam := types.Unalias(v.Type()).(*types.TypeParam)
	if method != "" && (isParam || !types.IsInterface(v.Type())) {
		p.followMethod(v.Type(), method, v, s)
		return
	}
	switch v := v.(type) {
	case *ssa.Function:
		if c, ok := p.calleeOf(v); ok {
			s.list = append(s.list, c)
		}
	case *ssa.MakeClosure:
		f := v.Fn.(*ssa.Function)
		obj := objectOf(f)
		switch {
		case !isBound(f):
			again(f)
		case obj != nil && types.IsInterface(obj.Signature().Recv().Type()):
			p.follow(v.Bindings[0], obj.Name(), s, seen)
		case obj != nil:
			if c, ok := p.calleeOfObject(obj); ok {
				c.args = v.Bindings[:1:1]
				s.list = append(s.list, c)
			}
		}
	case *ssa.Parameter:
		s.holes = append(s.holes, hole{param: v, method: method})
	case *ssa.FreeVar:
		if b := binding(v); b != nil {
			again(b)
		}
	case *ssa.Phi:
		for _, e := range v.Edges {
			again(e)
		}
	case *ssa.MakeInterface:
		again(v.X)
	case *ssa.ChangeType:
		again(v.X)
	case *ssa.ChangeInterface:
		again(v.X)
	case *ssa.TypeAssert:
		again(v.X)
	case *ssa.Extract:
		if ta, ok := v.Tuple.(*ssa.TypeAssert); ok {
			again(ta.X)
		} else if c, ok := v.Tuple.(*ssa.Call); ok {
			p.followResult(c, v.Index, method, s, seen)
		}
	case *ssa.Field:
		for _, val := range p.fields[fieldOf(v.X.Type(), v.Field)] {
			again(val)
		}
	case *ssa.UnOp:
		if v.Op == token.MUL {
			p.followLoad(v.X, s, again)
		}
	case *ssa.Call:
		if obj := staticObject(&v.Call); obj != nil && passThrough[fullName(obj)] && len(v.Call.Args) > 0 {
			again(v.Call.Args[0])
			return
		}
		p.followResult(v, 0, method, s, seen)
	}
}

// followLoad follows what is stored at an address.
func (p *program) followLoad(addr ssa.Value, s *set, again func(ssa.Value)) {
	switch a := addr.(type) {
	case *ssa.Global:
		for _, val := range p.globals[a] {
			again(val)
		}
		v, ok := a.Object().(*types.Var)
		var h Holder
		if ok && v.Pkg() != p.pass.Pkg && p.pass.ImportObjectFact(v, &h) {
			s.list = append(s.list, callee{name: v.Pkg().Name() + "." + v.Name(), sum: &Summary{Effects: h.Effects}})
		}
	case *ssa.Alloc:
		for _, r := range *a.Referrers() {
			if st, ok := r.(*ssa.Store); ok && st.Addr == a {
				again(st.Val)
			}
		}
	case *ssa.FieldAddr:
		for _, val := range p.fields[fieldOf(a.X.Type(), a.Field)] {
			again(val)
		}
	case *ssa.FreeVar:
		if b := binding(a); b != nil {
			p.followLoad(b, s, again)
		}
	}
}

// followResult follows result i of a call.
func (p *program) followResult(call *ssa.Call, i int, method string, s *set, seen map[ssa.Value]bool) {
	f := call.Call.StaticCallee()
	if f == nil {
		return
	}
	c, ok := p.calleeOf(f)
	if !ok {
		return
	}
	if method == "" {
		if len(c.sum.Returns) > 0 {
			s.list = append(s.list, callee{name: "what " + c.name + " returned", sum: &Summary{Effects: c.sum.Returns}})
		}
		return
	}
	if c.fn == nil {
		return
	}
	var inner set
	instructions(c.fn, func(in ssa.Instruction) {
		if ret, ok := in.(*ssa.Return); ok && i < len(ret.Results) {
			p.follow(ret.Results[i], method, &inner, seen)
		}
	})
	s.list = append(s.list, inner.list...) // its holes are not this call's
}

// followMethod finds the method of a value whose type is known.
func (p *program) followMethod(t types.Type, method string, recv ssa.Value, s *set) {
	if tp, ok := types.Unalias(t).(*types.TypeParam); ok {
		s.holes = append(s.holes, hole{tparam: tp, method: method})
		return
	}
	obj, _, _ := types.LookupFieldOrMethod(t, true, p.pass.Pkg, method)
	f, ok := obj.(*types.Func)
	if !ok {
		return
	}
	c, ok := p.calleeOfObject(f)
	if !ok {
		return
	}
	if recv != nil {
		c.args = []ssa.Value{recv}
	}
	if ptr, ok := types.Unalias(t).(*types.Pointer); ok {
		t = ptr.Elem()
	}
	if n, ok := types.Unalias(t).(*types.Named); ok {
		for i := range n.TypeArgs().Len() {
			c.targs = append(c.targs, n.TypeArgs().At(i))
		}
	}
	s.list = append(s.list, c)
}

// binding is the value that a function literal's captured variable is bound to
// in the function around it.
func binding(v *ssa.FreeVar) ssa.Value {
	f := v.Parent()
	if f.Parent() == nil {
		return nil
	}
	at := -1
	for i, fv := range f.FreeVars {
		if fv == v {
			at = i
		}
	}
	var found ssa.Value
	instructions(f.Parent(), func(in ssa.Instruction) {
		if mc, ok := in.(*ssa.MakeClosure); ok && mc.Fn == f && found == nil {
			found = mc.Bindings[at]
		}
	})
	return found
}

// holesOf are what the callee calls of what it is given, each with its number
// in args or targs; -1 in both if it was given to a function around it.
func (p *program) holesOf(c callee) []Hole {
	if c.fn == nil {
		return c.sum.Holes
	}
	return p.sums[c.fn].exported(c.fn)
}

// outerHoles are what the callee, a function literal, calls of what was given to
// a function around it.
func (p *program) outerHoles(c callee) []hole {
	if c.fn == nil || c.fn.Parent() == nil {
		return nil
	}
	var list []hole
	for _, h := range p.sums[c.fn].holes {
		if h.param != nil && h.param.Parent() != c.fn || h.tparam != nil {
			list = append(list, h)
		}
	}
	return list
}

// filled is what a hole of the callee is at this call.
func (p *program) filled(c callee, h Hole) set {
	switch {
	case h.Param >= 0 && h.Param < len(c.args):
		return p.callees(c.args[h.Param], h.Method)
	case h.TypeParam >= 0 && h.TypeParam < len(c.targs):
		var s set
		p.followMethod(c.targs[h.TypeParam], h.Method, nil, &s)
		return s
	}
	return set{}
}
