package analysis

import (
	"go/types"
	"strings"

	"golang.org/x/tools/go/ssa"
)

// findChanges finds the package variables that have state: those that are
// assigned or changed outside the initialisation of the package, and those
// whose type is for nothing else, such as a channel or a mutex. A sentinel
// error, a table or a regular expression has none.
func (p *program) findChanges() {
	note := func(g *ssa.Global, why string) {
		if v, ok := g.Object().(*types.Var); ok && p.changes[v] == "" {
			p.changes[v] = why
		}
	}
	for _, m := range p.pkg.Members {
		if g, ok := m.(*ssa.Global); ok {
			if v, ok := g.Object().(*types.Var); ok {
				if why := stateful(v.Type(), 0); why != "" {
					note(g, why)
				}
			}
		}
	}
	for _, f := range p.funcs {
		if p.isTest(f.Pos()) {
			continue
		}
		initial := f == p.init || isInit(f)
		who := "assigned in " + nameOf(f)
		instructions(f, func(in ssa.Instruction) {
			switch in := in.(type) {
			case *ssa.Store:
				if g := base(in.Addr); g != nil && !initial {
					note(g, who)
				}
			case *ssa.MapUpdate:
				if g := base(in.Map); g != nil && !initial {
					note(g, "changed in "+nameOf(f))
				}
			case *ssa.Send:
				if g := base(in.Chan); g != nil {
					note(g, "a channel")
				}
			case ssa.CallInstruction:
				for _, arg := range in.Common().Args {
					// Its address goes somewhere: to a flag, or to a method
					// that may change it.
					if g := addressed(arg); g != nil && g.Pkg == p.pkg && (!initial || setsFlags(in.Common())) {
						note(g, "whose address is used in "+nameOf(f))
					}
				}
				if b, ok := in.Common().Value.(*ssa.Builtin); ok && !initial && (b.Name() == "delete" || b.Name() == "clear" || b.Name() == "copy") {
					if g := base(in.Common().Args[0]); g != nil {
						note(g, "changed in "+nameOf(f))
					}
				}
			}
		})
	}
}

// nameOf is a function's name within its package, without the marks of function
// literals.
func nameOf(f *ssa.Function) string {
	for f.Parent() != nil {
		f = f.Parent()
	}
	if strings.HasPrefix(f.Name(), "init#") {
		return "init"
	}
	if obj := objectOf(f); obj != nil {
		_, name, _ := strings.Cut(short(obj), ".")
		return name
	}
	return f.Name()
}

// base is the package variable that an address or a value is of, or nil.
func base(v ssa.Value) *ssa.Global {
	for {
		switch x := v.(type) {
		case *ssa.Global:
			return x
		case *ssa.FieldAddr:
			v = x.X
		case *ssa.IndexAddr:
			v = x.X
		case *ssa.UnOp:
			v = x.X
		case *ssa.Slice:
			v = x.X
		default:
			return nil
		}
	}
}

// setsFlags reports whether a call gives an address to a library of flags, which
// assigns later.
func setsFlags(call *ssa.CallCommon) bool {
	obj := staticObject(call)
	return obj != nil && obj.Pkg() != nil && strings.HasSuffix(obj.Pkg().Name(), "flag")
}

// addressed is the package variable that an address lies in, or nil.
func addressed(v ssa.Value) *ssa.Global {
	for {
		switch x := v.(type) {
		case *ssa.Global:
			return x
		case *ssa.FieldAddr:
			v = x.X
		case *ssa.IndexAddr:
			v = x.X
		default:
			return nil
		}
	}
}

// stateful says why a variable of type t has state whatever is done with it,
// "" if it need not have.
func stateful(t types.Type, depth int) string {
	if depth > 3 {
		return ""
	}
	if n, ok := types.Unalias(t).(*types.Named); ok && n.Obj().Pkg() != nil {
		switch path := n.Obj().Pkg().Path(); {
		case path == "sync", path == "sync/atomic":
			return "a " + n.Obj().Pkg().Name() + "." + n.Obj().Name()
		case path == "database/sql" && n.Obj().Name() == "DB":
			return "a sql.DB"
		}
	}
	switch u := t.Underlying().(type) {
	case *types.Chan:
		return "a channel"
	case *types.Pointer:
		if b, ok := u.Elem().Underlying().(*types.Basic); ok {
			return "a pointer to " + b.Name()
		}
		return stateful(u.Elem(), depth+1)
	case *types.Struct:
		for i := range u.NumFields() {
			if why := stateful(u.Field(i).Type(), depth+1); why != "" && !isStd(t) {
				return "with " + why
			}
		}
	}
	return ""
}

// isStd reports whether a type is of the standard library, whose values are
// judged by their methods.
func isStd(t types.Type) bool {
	n, ok := types.Unalias(t).(*types.Named)
	if !ok || n.Obj().Pkg() == nil {
		return false
	}
	first, _, _ := strings.Cut(n.Obj().Pkg().Path(), "/")
	return !strings.Contains(first, ".")
}

// changesWhy says why a package variable has state, "" if it has none or v is
// none.
func (p *program) changesWhy(v *types.Var) string {
	if v.Pkg() == nil || v.IsField() || v.Parent() != v.Pkg().Scope() {
		return ""
	}
	if why := p.changes[v]; why != "" || v.Pkg() == p.pass.Pkg {
		return why
	}
	var fact Variable
	if p.pass.ImportObjectFact(v, &fact) {
		return fact.Why
	}
	return ""
}
