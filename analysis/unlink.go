package analysis

import (
	"go/token"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/ssa"
)

// Unlink reports that a listener's path is removed by hand.
var Unlink = &analysis.Analyzer{
	Name: "unlink",
	Doc: `check for a listener's path that is removed by hand

"Remove, then listen" makes two daemons of two that start at the same time: the
second removes the first one's socket, which nobody can reach any more. To dial
first does not help, and a client that removes what did not answer does the
same. Only a lock that is held from before the dial until after
the listen does. In a program that uses fastbind no name of the endpoint is
removed at all: it belongs to who holds the launch lock.`,
	URL:      docURL + "unlink",
	Requires: []*analysis.Analyzer{effects},
	Run:      runUnlink,
}

// A found is a call and what it does.
type found struct {
	in  ssa.CallInstruction
	set done
}

func runUnlink(pass *analysis.Pass) (any, error) {
	p := pass.ResultOf[effects].(*program)
	if p == nil || strings.HasPrefix(pass.Pkg.Path(), sdkPath+"/internal/") || pass.Pkg.Path() == daemonPath {
		return nil, nil // the SDK holds the lock
	}
	uses := usesSDK(pass)
	listened := map[string]token.Pos{}
	reported := map[token.Pos]bool{}
	report := func(pos token.Pos, format string, args ...any) {
		if !reported[pos] {
			reported[pos] = true
			p.report(pass, pos, format, args...)
		}
	}
	var removals []found
	for _, f := range p.funcs {
		if p.isTest(f.Pos()) {
			continue
		}
		var removes, dials, listens, locks []found
		instructions(f, func(in ssa.Instruction) {
			call, ok := in.(ssa.CallInstruction)
			if !ok {
				return
			}
			d := p.doneBy(call)
			if len(d.removes) > 0 {
				removes = append(removes, found{call, d})
			}
			if len(d.dials) > 0 {
				dials = append(dials, found{call, d})
			}
			if len(d.listens) > 0 {
				listens = append(listens, found{call, d})
				for _, l := range d.listens {
					listened[l.Key] = position(in)
				}
			}
			if d.locks {
				locks = append(locks, found{call, d})
			}
		})
		removals = append(removals, removes...)
		for _, r := range removes {
			if _, deferred := r.in.(*ssa.Defer); deferred {
				continue
			}
			if slices.ContainsFunc(locks, func(l found) bool { return l.in != r.in && reaches(l.in, r.in) }) {
				continue
			}
			for _, l := range listens {
				if l.in == r.in || !reaches(r.in, l.in) {
					continue
				}
				if rp, lp, ok := same(r.set, l.set.listens); ok {
					report(position(r.in), "the path is removed (%s) and then listened on (%s, %s) without a lock: of two daemons that start at once both listen, and one cannot be reached; "+
						"hold a lock over dial, remove and listen, or let fastbind launch the daemon",
						Effect{Steps: rp.Steps}.chain(), Effect{Steps: lp.Steps}.chain(), p.at(position(l.in)))
				}
			}
			for _, l := range dials {
				if l.in == r.in || !failsInto(l.in, r.in) {
					continue
				}
				if rp, lp, ok := same(r.set, l.set.dials); ok {
					report(position(r.in), "the path is removed (%s) because nobody answered there (%s, %s), without a lock: a daemon that listens by now cannot be reached any more; "+
						"hold a lock over dial, remove and listen, or let fastbind launch the daemon",
						Effect{Steps: rp.Steps}.chain(), Effect{Steps: lp.Steps}.chain(), p.at(position(l.in)))
				}
			}
		}
	}
	if !uses {
		return nil, nil
	}
	// What a function of this package removes is told there, not again where
	// that is called.
	told := map[string]bool{}
	for _, direct := range []bool{true, false} {
		for _, r := range removals {
			for _, path := range r.set.removes {
				last := path.Steps[len(path.Steps)-1]
				origin := last.At + " " + path.Key
				if (len(path.Steps) == 1) != direct || told[origin] {
					continue
				}
				at, own := listened[path.Key]
				switch chain := (Effect{Steps: path.Steps}).chain(); {
				case isEndpoint(path.Key):
					report(position(r.in), "the endpoint's path is removed by hand (%s): it belongs to who holds the launch lock, and the next client would launch a second daemon; leave it", chain)
				case own && !strings.Contains(path.Key, onlyHere) && !strings.Contains(path.Key, private):
					report(position(r.in), "a path that is listened on (%s) is removed by hand (%s): a name belongs to who holds the launch lock; leave it, the next launch removes it", p.at(at), chain)
				default:
					continue
				}
				told[origin] = true
			}
		}
	}
	return nil, nil
}

// failsInto reports whether a removal can be executed after a dial has failed.
func failsInto(dial, removal ssa.CallInstruction) bool {
	v := dial.Value()
	if v == nil || !reaches(dial, removal) {
		return false
	}
	for _, r := range *v.Referrers() {
		failure, ok := r.(*ssa.Extract)
		if !ok || failure.Index != 1 {
			continue
		}
		for _, r := range *failure.Referrers() {
			cond, ok := r.(*ssa.BinOp)
			if !ok || !isNil(cond.Y) {
				continue
			}
			for _, r := range *cond.Referrers() {
				if branch, ok := r.(*ssa.If); ok {
					failed := branch.Block().Succs[0]
					if cond.Op == token.EQL {
						failed = branch.Block().Succs[1]
					}
					return leadsTo(failed, removal.Block(), dial.Block())
				}
			}
		}
	}
	return true // it is another function's result, such as whether it is alive
}

// same is a path that a call removes and that is used by others. One that the
// call itself goes on to use is told of where it does that.
func same(removal done, others []Path) (r, u Path, ok bool) {
	for _, r := range removal.removes {
		isIt := func(u Path) bool { return u.Key == r.Key }
		if strings.Contains(r.Key, private) || r.Key == `""` || r.Key == "nil" ||
			slices.ContainsFunc(removal.listens, isIt) || slices.ContainsFunc(removal.dials, isIt) {
			continue
		}
		if i := slices.IndexFunc(others, isIt); i >= 0 {
			return r, others[i], true
		}
	}
	return r, u, false
}

// isEndpoint reports whether a key is of the endpoint's path or of the address
// of a listener.
func isEndpoint(key string) bool {
	for _, call := range []string{"(" + sdkPath + ".Endpoint).Path(", "(" + sdkPath + ".Endpoint).String(", "(net.Listener).Addr(", "(*net.UnixListener).Addr("} {
		if strings.HasPrefix(key, call) || strings.HasPrefix(key, "(net.Addr).String("+call) {
			return true
		}
	}
	return false
}

// usesSDK reports whether the package imports the SDK.
func usesSDK(pass *analysis.Pass) bool {
	for _, imported := range pass.Pkg.Imports() {
		if imported.Path() == sdkPath || imported.Path() == daemonPath {
			return true
		}
	}
	return false
}
