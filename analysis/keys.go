package analysis

import (
	"go/token"
	"go/types"
	"strconv"
	"strings"

	"golang.org/x/tools/go/ssa"
)

// A key says where a path comes from: two values with the same key are the same
// path. A key is made of constants, package variables, parameters, fields of
// these, and calls and concatenations of these. A value that is none of that is
// itself only, and its key is marked:
const (
	onlyHere = "@" // means nothing to callers
	private  = "!" // the path of nobody else: of a temporary directory, with a pid
)

// uniques make paths that no other process has.
var uniques = map[string]bool{
	"os.MkdirTemp": true, "os.CreateTemp": true, "io/ioutil.TempDir": true, "io/ioutil.TempFile": true, "os.Getpid": true,
	"(*testing.common).TempDir": true, "(*testing.T).TempDir": true, "math/rand.Int": true, "math/rand/v2.Int": true,
	"crypto/rand.Text": true, "github.com/google/uuid.NewString": true, "github.com/google/uuid.New": true, "time.Now": true,
}

// parameter is the part of a key that stands for a function's parameter.
func parameter(function string, i int) string {
	return "‹" + function + "#" + strconv.Itoa(i) + "›"
}

// identity is a function's name in keys, the same in each package.
func identity(f *ssa.Function) string {
	if obj := objectOf(f); obj != nil {
		return fullName(obj)
	}
	return f.String()
}

func (p *program) key(v ssa.Value) string { return p.keyOf(v, 0) }

// keys are a path's key and, where it depends on a condition what the path is,
// those of its alternatives.
func (p *program) keys(v ssa.Value) []string {
	list := []string{p.key(v)}
	if phi, ok := v.(*ssa.Phi); ok {
		for _, e := range phi.Edges {
			if _, ok := e.(*ssa.Const); !ok && e != v {
				list = append(list, p.key(e))
			}
		}
	}
	return list
}

func (p *program) keyOf(v ssa.Value, depth int) string {
	itself := func() string {
		where := ""
		if f := v.Parent(); f != nil {
			where = f.String()
		}
		return onlyHere + where + "." + v.Name()
	}
	if depth > maxDepth {
		return itself()
	}
	key := func(v ssa.Value) string { return p.keyOf(v, depth+1) }
	switch v := v.(type) {
	case *ssa.Const:
		if v.Value == nil {
			return "nil"
		}
		return v.Value.ExactString()
	case *ssa.Parameter:
		f := v.Parent()
		for i, par := range f.Params {
			if par == v {
				return parameter(identity(f), i)
			}
		}
	case *ssa.FreeVar:
		if b := binding(v); b != nil {
			return key(b)
		}
	case *ssa.Global:
		return v.String()
	case *ssa.MakeInterface:
		return key(v.X)
	case *ssa.ChangeType:
		return key(v.X)
	case *ssa.ChangeInterface:
		return key(v.X)
	case *ssa.Convert:
		return key(v.X)
	case *ssa.TypeAssert:
		return key(v.X)
	case *ssa.Extract:
		if v.Index == 0 {
			return key(v.Tuple)
		}
		return key(v.Tuple) + "#" + strconv.Itoa(v.Index)
	case *ssa.BinOp:
		if v.Op == token.ADD {
			return "(" + key(v.X) + "+" + key(v.Y) + ")"
		}
	case *ssa.FieldAddr:
		return p.fieldKey(v.X, v.Field, key)
	case *ssa.Field:
		return p.fieldKey(v.X, v.Field, key)
	case *ssa.IndexAddr:
		return key(v.X) + "[" + key(v.Index) + "]"
	case *ssa.Slice:
		if a, ok := v.X.(*ssa.Alloc); ok {
			return "{" + strings.Join(stored(a, key), ",") + "}"
		}
		s := key(v.X) + "["
		for _, bound := range []ssa.Value{v.Low, v.High} {
			if bound != nil {
				s += key(bound)
			}
			s += ":"
		}
		return s + "]"
	case *ssa.Alloc:
		// An address of a Unix socket is its Name.
		if name := addressName(v); name != nil {
			return key(name)
		}
		if one := onlyStore(v); one != nil {
			return key(one)
		}
	case *ssa.UnOp:
		if v.Op == token.MUL {
			return key(v.X)
		}
	case *ssa.Call:
		return p.callKey(v, key, itself)
	}
	return itself()
}

// fieldKey is the key of a field. That of a Unix socket's address which holds
// its path is the address's own.
func (p *program) fieldKey(x ssa.Value, i int, key func(ssa.Value) string) string {
	f := fieldOf(x.Type(), i)
	if f == nil {
		return onlyHere
	}
	if isAddress(x.Type()) && f.Name() == "Name" {
		return key(x)
	}
	return key(x) + "." + f.Name()
}

func isAddress(t types.Type) bool {
	if ptr, ok := types.Unalias(t).(*types.Pointer); ok {
		t = ptr.Elem()
	}
	switch t.String() {
	case "net.UnixAddr", "syscall.SockaddrUnix", "golang.org/x/sys/unix.SockaddrUnix":
		return true
	}
	return false
}

// addressName is what a Unix socket's address, made here, has for a name.
func addressName(a *ssa.Alloc) ssa.Value {
	if !isAddress(a.Type()) {
		return nil
	}
	for _, r := range *a.Referrers() {
		fa, ok := r.(*ssa.FieldAddr)
		if !ok || fieldOf(fa.X.Type(), fa.Field).Name() != "Name" {
			continue
		}
		for _, r := range *fa.Referrers() {
			if st, ok := r.(*ssa.Store); ok {
				return st.Val
			}
		}
	}
	return nil
}

// onlyStore is what a variable holds that is assigned once.
func onlyStore(a *ssa.Alloc) ssa.Value {
	var val ssa.Value
	for _, r := range *a.Referrers() {
		if st, ok := r.(*ssa.Store); ok && st.Addr == a {
			if val != nil {
				return nil
			}
			val = st.Val
		}
	}
	return val
}

// stored are the keys of the elements of an array, such as the arguments of a
// variadic call.
func stored(a *ssa.Alloc, key func(ssa.Value) string) []string {
	var list []string
	for _, r := range *a.Referrers() {
		ia, ok := r.(*ssa.IndexAddr)
		if !ok {
			continue
		}
		for _, r := range *ia.Referrers() {
			if st, ok := r.(*ssa.Store); ok {
				list = append(list, key(st.Val))
			}
		}
	}
	return list
}

// callKey is the key of a call's result: two calls of the same function with
// the same arguments are taken for the same.
func (p *program) callKey(call *ssa.Call, key func(ssa.Value) string, itself func() string) string {
	obj := staticObject(&call.Call)
	if obj == nil {
		return itself()
	}
	name := fullName(obj)
	if uniques[name] {
		return itself() + private
	}
	var args []string
	if call.Call.IsInvoke() {
		args = append(args, key(call.Call.Value))
	}
	for _, a := range call.Call.Args {
		args = append(args, key(a))
	}
	if name == "net.ResolveUnixAddr" {
		return args[1]
	}
	return name + "(" + strings.Join(args, ",") + ")"
}

// substitute are a callee's paths as the caller sees them.
func (p *program) substitute(c callee, paths []Path, step Step) []Path {
	var list []Path
	for _, path := range paths {
		key := path.Key
		for i, arg := range c.args {
			if token := parameter(c.identity, i); strings.Contains(key, token) {
				key = strings.ReplaceAll(key, token, p.key(arg))
			}
		}
		// What is only the callee's is another one in each call of it.
		if len(key) > maxKey || c.fn != nil && strings.Contains(key, onlyHere+c.fn.String()+".") {
			continue
		}
		list = append(list, Path{key, Effect{Steps: path.Steps}.after(step).Steps})
	}
	return list
}

// maxKey bounds a key, which recursion could make grow for ever.
const maxKey = 500

// portable are the paths that mean something to other packages.
func portable(paths []Path) []Path {
	var list []Path
	for _, path := range paths {
		if !strings.Contains(path.Key, onlyHere) {
			list = append(list, path)
		}
	}
	return list
}
