package analysis

import (
	"go/ast"
	"go/token"
	"go/types"
	"os"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/passes/buildssa"
	"golang.org/x/tools/go/analysis/passes/ctrlflow"
	"golang.org/x/tools/go/ssa"
)

// effects summarises the functions of each package of the module for the checks
// and for the packages that import it. It reports nothing.
var effects = &analysis.Analyzer{
	Name:       "fastbindeffects",
	Doc:        "summarise what functions do, for the checks of fastbindvet",
	Requires:   []*analysis.Analyzer{ctrlflow.Analyzer},
	Run:        runEffects,
	ResultType: reflect.TypeFor[*program](),
	FactTypes:  []analysis.Fact{(*Summary)(nil), (*Variable)(nil), (*Holder)(nil), (*Initialisation)(nil)},
}

// A program is a package of the module with its summaries. It is nil for other
// modules' packages: they are not the user's to change, and looking into all of
// them would take minutes.
type program struct {
	pass    *analysis.Pass
	pkg     *ssa.Package
	init    *ssa.Function
	funcs   []*ssa.Function // with a body, function literals included
	sums    map[*ssa.Function]*summary
	globals map[*ssa.Global][]ssa.Value // what is stored in a variable
	fields  map[*types.Var][]ssa.Value  // and in a struct's field
	changes map[*types.Var]string       // variables that change, and why
	ignored map[string]map[int][]string // file, line, checks
	locals  map[string]string           // what keys.go has named
}

// A summary is a Summary under construction: its holes are still parameters,
// possibly of a function that encloses this one.
type summary struct {
	Summary
	holes []hole
}

type hole struct {
	param  *ssa.Parameter
	tparam *types.TypeParam
	method string
}

func runEffects(pass *analysis.Pass) (any, error) {
	if !ours(pass) {
		return (*program)(nil), nil
	}
	// Not by Requires, which would build every dependency's.
	built, err := buildssa.Analyzer.Run(pass)
	if err != nil {
		return nil, err
	}
	b := built.(*buildssa.SSA)
	p := &program{
		pass: pass, pkg: b.Pkg, init: b.Pkg.Func("init"), sums: map[*ssa.Function]*summary{},
		globals: map[*ssa.Global][]ssa.Value{}, fields: map[*types.Var][]ssa.Value{}, changes: map[*types.Var]string{},
		ignored: ignoredLines(pass), locals: map[string]string{},
	}
	add := func(f *ssa.Function) {
		if f.Blocks != nil {
			p.funcs = append(p.funcs, f)
			p.sums[f] = &summary{}
		}
	}
	for _, f := range b.SrcFuncs {
		add(f)
	}
	var literals func(f *ssa.Function)
	literals = func(f *ssa.Function) {
		add(f)
		for _, anon := range f.AnonFuncs {
			literals(anon)
		}
	}
	literals(p.init) // initialisers of variables
	p.collectStores()
	p.findChanges()
	p.summarise()
	p.export()
	return p, nil
}

// ours reports whether the package is of the module that is checked, not of a
// dependency.
func ours(pass *analysis.Pass) bool {
	if m := pass.Module; m != nil && m.Path != "" {
		return m.Version == "" && m.Path != "std" && m.Path != "cmd"
	}
	// Without a module it is of the standard library, whose directory has a
	// VERSION file at its root, or a package of no module at all.
	if len(pass.Files) == 0 {
		return false
	}
	dir := filepath.Dir(pass.Fset.File(pass.Files[0].FileStart).Name())
	root, found := strings.CutSuffix(dir, string(filepath.Separator)+filepath.Join("src", filepath.FromSlash(pass.Pkg.Path())))
	if !found {
		return true
	}
	_, err := os.Stat(filepath.Join(root, "VERSION"))
	return err != nil
}

// isTest reports whether a function is a test's: tests do what they like.
func (p *program) isTest(pos token.Pos) bool {
	return pos.IsValid() && strings.HasSuffix(p.pass.Fset.File(pos).Name(), "_test.go")
}

// at writes a position for a message: two files of a package have no name in
// common.
func (p *program) at(pos token.Pos) string {
	if !pos.IsValid() {
		return ""
	}
	q := p.pass.Fset.Position(pos)
	return filepath.Base(q.Filename) + ":" + strconv.Itoa(q.Line)
}

// position is where an instruction is, or about: some have none of their own.
func position(in ssa.Instruction) token.Pos {
	if pos := in.Pos(); pos.IsValid() {
		return pos
	}
	if c, ok := in.(ssa.CallInstruction); ok {
		if pos := c.Common().Pos(); pos.IsValid() {
			return pos
		}
	}
	for _, op := range in.Operands(nil) {
		if *op != nil && (*op).Pos().IsValid() && (*op).Parent() == in.Parent() {
			return (*op).Pos()
		}
	}
	return in.Parent().Pos()
}

func instructions(f *ssa.Function, do func(ssa.Instruction)) {
	for _, b := range f.Blocks {
		for _, in := range b.Instrs {
			do(in)
		}
	}
}

// collectStores notes what variables and fields hold, as far as this package
// says so outside its tests.
func (p *program) collectStores() {
	for _, f := range p.funcs {
		if p.isTest(f.Pos()) {
			continue
		}
		instructions(f, func(in ssa.Instruction) {
			st, ok := in.(*ssa.Store)
			if !ok {
				return
			}
			switch addr := st.Addr.(type) {
			case *ssa.Global:
				p.globals[addr] = append(p.globals[addr], st.Val)
			case *ssa.FieldAddr:
				if v := fieldOf(addr.X.Type(), addr.Field); v != nil && callable(v.Type()) {
					p.fields[v] = append(p.fields[v], st.Val)
				}
			}
		})
	}
}

// callable reports whether a value of type t can be called or has methods that
// are found when the program runs.
func callable(t types.Type) bool {
	switch t.Underlying().(type) {
	case *types.Signature, *types.Interface:
		return true
	}
	return false
}

// fieldOf is the field that a FieldAddr or Field means.
func fieldOf(t types.Type, i int) *types.Var {
	if ptr, ok := t.Underlying().(*types.Pointer); ok {
		t = ptr.Elem()
	}
	if st, ok := t.Underlying().(*types.Struct); ok {
		return st.Field(i).Origin()
	}
	return nil
}

// summarise finds the summaries of all functions: until nothing is new, for
// they call each other.
func (p *program) summarise() {
	for _, f := range p.funcs {
		p.findUses(f)
	}
	for changed := true; changed; {
		changed = false
		for _, f := range p.funcs {
			if p.summariseOne(f) {
				changed = true
			}
		}
	}
	p.findReady()
	p.findUnused()
}

// summariseOne adds to f's summary what f does by what is known so far.
func (p *program) summariseOne(f *ssa.Function) (changed bool) {
	s := p.sums[f]
	instructions(f, func(in ssa.Instruction) {
		switch in := in.(type) {
		case ssa.CallInstruction:
			if f == p.init && p.isImportInit(in) {
				return // another package's, which has its own fact
			}
			d := p.doneBy(in)
			for _, e := range d.effects {
				changed = addEffect(&s.Effects, e) || changed
			}
			for _, h := range d.holes {
				changed = s.addHole(h) || changed
			}
			for _, r := range d.removes {
				changed = addPath(&s.Removes, r) || changed
			}
			for _, l := range d.dials {
				changed = addPath(&s.Dials, l) || changed
			}
			for _, l := range d.listens {
				changed = addPath(&s.Listens, l) || changed
			}
			if d.runs != "" && s.Runs == "" {
				s.Runs, changed = d.runs, true
			}
			if d.locks && !s.Locks {
				s.Locks, changed = true, true
			}
		case *ssa.Return:
			for _, r := range in.Results {
				if callable(r.Type()) {
					for _, e := range p.returned(r) {
						changed = addEffect(&s.Returns, e) || changed
					}
				}
			}
		}
	})
	return changed
}

func (s *summary) addHole(h hole) bool {
	for _, old := range s.holes {
		if old == h {
			return false
		}
	}
	s.holes = append(s.holes, h)
	return true
}

// isImportInit reports whether a package's initialisation calls another
// package's there.
func (p *program) isImportInit(in ssa.CallInstruction) bool {
	callee := in.Common().StaticCallee()
	return callee != nil && callee.Name() == "init" && callee.Pkg != p.pkg
}

// returned are the effects of calling a function that f returns as v.
func (p *program) returned(v ssa.Value) []Effect {
	if _, ok := v.Type().Underlying().(*types.Signature); !ok {
		return nil
	}
	var list []Effect
	for _, c := range p.callees(v, "").list {
		list = append(list, c.sum.Effects...)
	}
	return list
}

// done is what one call does.
type done struct {
	effects                 []Effect
	holes                   []hole
	removes, dials, listens []Path
	runs                    string
	locks                   bool
}

// doneBy is what a call, a go or a defer statement does.
func (p *program) doneBy(in ssa.CallInstruction) done {
	var d done
	pos := position(in)
	audience := p.audienceAt(pos)
	call := in.Common()
	add := func(e Effect) {
		e.For &= audience
		addEffect(&d.effects, e)
	}
	_, goes := in.(*ssa.Go)
	set := p.calleesOf(call)
	for _, c := range set.list {
		step := Step{What: c.name, At: p.at(pos)}
		if goes {
			step.What = "go " + step.What
		}
		if c.sum.Runs != "" && d.runs == "" {
			d.runs = c.sum.Runs
		}
		if goes {
			// What it does is done beside, but is done.
			add(Effect{Kind: Goroutine, For: forBind | forBefore, Steps: []Step{step}})
			d.listens = append(d.listens, p.substitute(c, c.sum.Listens, step)...)
			continue
		}
		for _, e := range c.sum.Effects {
			if c.known {
				e.Steps = []Step{step}
				add(e)
				continue
			}
			add(e.after(step))
		}
		d.locks = d.locks || c.sum.Locks
		d.removes = append(d.removes, p.substitute(c, c.sum.Removes, step)...)
		d.dials = append(d.dials, p.substitute(c, c.sum.Dials, step)...)
		d.listens = append(d.listens, p.substitute(c, c.sum.Listens, step)...)
		p.fill(c, step, &d, add, 0)
	}
	if goes {
		return d
	}
	d.holes = append(d.holes, set.holes...)
	f := staticObject(call)
	if f == nil {
		return d
	}
	step := Step{What: short(f), At: p.at(pos)}
	for _, use := range []struct {
		of    map[string]site
		paths *[]Path
	}{{removers, &d.removes}, {dialers, &d.dials}, {listeners, &d.listens}} {
		at, ok := use.of[fullName(f)]
		if !ok || at.path >= len(call.Args) || otherNetwork(call.Args, at) {
			continue
		}
		for _, key := range p.keys(call.Args[at.path]) {
			*use.paths = append(*use.paths, Path{key, []Step{step}})
		}
	}
	return d
}

// otherNetwork reports whether the network has no paths.
func otherNetwork(args []ssa.Value, l site) bool {
	if l.network < 0 {
		return false
	}
	c, ok := args[l.network].(*ssa.Const)
	return ok && c.Value != nil && !strings.Contains(c.Value.String(), "unix")
}

// staticObject is the function or method that a call names, or nil.
func staticObject(call *ssa.CallCommon) *types.Func {
	if call.IsInvoke() {
		return call.Method
	}
	if f := call.StaticCallee(); f != nil {
		return objectOf(f)
	}
	return nil
}

// objectOf is the declared function that f is, an instance of or a wrapper of;
// nil for a function literal.
func objectOf(f *ssa.Function) *types.Func {
	if o := f.Origin(); o != nil {
		f = o
	}
	obj, _ := f.Object().(*types.Func)
	if obj == nil {
		return nil
	}
	return obj.Origin()
}

// short is a function's name for messages.
func short(f *types.Func) string {
	name := f.Name()
	if recv := f.Signature().Recv(); recv != nil {
		t := recv.Type()
		if ptr, ok := t.(*types.Pointer); ok {
			t = ptr.Elem()
		}
		if n, ok := t.(*types.Named); ok {
			name = n.Obj().Name() + "." + name
		}
	}
	if f.Pkg() != nil {
		name = f.Pkg().Name() + "." + name
	}
	return name
}

// fill adds what the callee c calls of what it is given.
func (p *program) fill(c callee, step Step, d *done, add func(Effect), depth int) {
	if depth > maxDepth {
		return
	}
	d.holes = append(d.holes, p.outerHoles(c)...)
	for _, h := range p.holesOf(c) {
		set := p.filled(c, h)
		d.holes = append(d.holes, set.holes...)
		for _, given := range set.list {
			inner := Step{What: given.name}
			if d.runs == "" {
				d.runs = given.sum.Runs
			}
			for _, e := range given.sum.Effects {
				if !given.known {
					e = e.after(inner)
				} else {
					e.Steps = []Step{inner}
				}
				add(e.after(step))
			}
			d.removes = append(d.removes, p.substitute(given, given.sum.Removes, step)...)
			d.dials = append(d.dials, p.substitute(given, given.sum.Dials, step)...)
			d.listens = append(d.listens, p.substitute(given, given.sum.Listens, step)...)
			p.fill(given, step, d, add, depth+1)
		}
	}
}

// maxDepth bounds how far values are followed.
const maxDepth = 12

// export makes facts of what was found.
func (p *program) export() {
	for _, f := range p.funcs {
		if p.isTest(f.Pos()) {
			continue
		}
		s := p.sums[f]
		obj, ok := f.Object().(*types.Func)
		if !ok || f == p.init {
			continue
		}
		fact := s.Summary
		fact.Holes = s.exported(f)
		fact.Removes = portable(fact.Removes)
		fact.Dials = portable(fact.Dials)
		fact.Listens = portable(fact.Listens)
		if reflect.ValueOf(fact).IsZero() {
			continue
		}
		p.pass.ExportObjectFact(obj, &fact)
	}
	for v, why := range p.changes {
		if v.Pkg() != p.pass.Pkg {
			continue // its package does not know
		}
		p.pass.ExportObjectFact(v, &Variable{why})
	}
	for g := range p.globals {
		v, ok := g.Object().(*types.Var)
		if !ok || g.Pkg != p.pkg || !v.Exported() {
			continue
		}
		if _, ok := v.Type().Underlying().(*types.Signature); !ok {
			continue
		}
		var h Holder
		for _, val := range p.globals[g] {
			for _, c := range p.callees(val, "").list {
				for _, e := range c.sum.Effects {
					if c.known {
						e.Steps = []Step{{What: c.name}}
					}
					addEffect(&h.Effects, e)
				}
			}
		}
		if h.Effects != nil {
			p.pass.ExportObjectFact(v, &h)
		}
	}
	if work := before(p.sums[p.init].Effects); work != nil && p.pkg.Pkg.Name() != "main" {
		p.pass.ExportPackageFact(&Initialisation{work})
	}
}

// before are the effects that matter before Run.
func before(list []Effect) []Effect {
	var work []Effect
	for _, e := range list {
		if e.For&forBefore != 0 && e.Kind != State && e.Kind != Lock {
			work = append(work, e)
		}
	}
	return work
}

// exported are the holes of f itself by number.
func (s *summary) exported(f *ssa.Function) []Hole {
	var list []Hole
	for _, h := range s.holes {
		switch {
		case h.param != nil && h.param.Parent() == f:
			for i, par := range f.Params {
				if par == h.param {
					list = append(list, Hole{i, -1, h.method})
				}
			}
		case h.tparam != nil:
			for i := range f.TypeParams().Len() {
				if f.TypeParams().At(i) == h.tparam {
					list = append(list, Hole{-1, i, h.method})
				}
			}
		}
	}
	return list
}

// findUses notes f's uses of package variables that change.
func (p *program) findUses(f *ssa.Function) {
	for _, u := range p.uses(f) {
		addEffect(&p.sums[f].Effects, u.effect)
	}
}

// A use is an effect that is no call.
type use struct {
	pos    token.Pos
	effect Effect
}

// uses are f's uses of package variables that change.
func (p *program) uses(f *ssa.Function) []use {
	syntax := f.Syntax()
	if syntax == nil || f == p.init {
		return nil
	}
	var list []use
	ast.Inspect(syntax, func(n ast.Node) bool {
		if lit, ok := n.(*ast.FuncLit); ok && lit != syntax {
			return false // a function of its own
		}
		id, ok := n.(*ast.Ident)
		if !ok {
			return true
		}
		v, ok := p.pass.TypesInfo.Uses[id].(*types.Var)
		if !ok {
			return true
		}
		if why := p.changesWhy(v); why != "" {
			name := v.Name()
			if v.Pkg() != p.pass.Pkg {
				name = v.Pkg().Name() + "." + name
			}
			list = append(list, use{id.Pos(), Effect{State, forBind & p.audienceAt(id.Pos()),
				[]Step{{What: name + ", " + why, At: p.at(id.Pos())}}}})
		}
		return true
	})
	return list
}
