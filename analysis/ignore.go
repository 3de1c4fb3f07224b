package analysis

import (
	"go/ast"
	"go/token"
	"slices"
	"strings"

	"golang.org/x/tools/go/analysis"
)

// Ignore reports comments that are meant to silence a check and do not.
var Ignore = &analysis.Analyzer{
	Name: "ignore",
	Doc: `check for fastbindvet:ignore comments that name no check or give no reason

A comment "//fastbindvet:ignore CHECK REASON" silences a check on its own line
and the next one, as part of a function's documentation in all of the function.
Without a reason, or with a check that does not exist, it
silences nothing.`,
	URL: docURL + "silencing-a-check",
	Run: runIgnore,
}

const ignoreMark = "//fastbindvet:ignore"

var checkNames = []string{"bind", "beforerun", "unlink", "ready", "serve"}

func runIgnore(pass *analysis.Pass) (any, error) {
	if !ours(pass) {
		return nil, nil
	}
	for _, f := range pass.Files {
		for _, c := range marked(f.Comments...) {
			check, reason := parseIgnore(c.Text)
			switch {
			case check == "":
				pass.Reportf(c.Pos(), "this silences nothing: write %s CHECK REASON", ignoreMark)
			case !slices.Contains(checkNames, check):
				pass.Reportf(c.Pos(), "this silences nothing: there is no check %q; the checks are %s", check, strings.Join(checkNames, ", "))
			case reason == "":
				pass.Reportf(c.Pos(), "this silences nothing: say after %q why the rule does not apply here", check)
			}
		}
	}
	return nil, nil
}

// marked are the comments that begin with the mark.
func marked(groups ...*ast.CommentGroup) []*ast.Comment {
	var list []*ast.Comment
	for _, g := range groups {
		for _, c := range g.List {
			rest, ok := strings.CutPrefix(c.Text, ignoreMark)
			if ok && (rest == "" || rest[0] == ' ' || rest[0] == '\t') {
				list = append(list, c)
			}
		}
	}
	return list
}

// parseIgnore splits a comment that has the mark. What begins with // is another
// comment.
func parseIgnore(text string) (check, reason string) {
	rest, _, _ := strings.Cut(strings.TrimPrefix(text, ignoreMark), "//")
	check, reason, _ = strings.Cut(strings.TrimSpace(rest), " ")
	return check, strings.TrimSpace(reason)
}

// ignoredLines are the checks that comments silence, by file and line.
func ignoredLines(pass *analysis.Pass) map[string]map[int][]string {
	lines := map[string]map[int][]string{}
	whole := map[*ast.CommentGroup]*ast.FuncDecl{}
	for _, f := range pass.Files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Doc != nil {
				whole[fn.Doc] = fn
			}
		}
		for _, group := range f.Comments {
			for _, c := range marked(group) {
				check, reason := parseIgnore(c.Text)
				if reason == "" {
					continue
				}
				at := pass.Fset.Position(c.Pos())
				last := at.Line + 1
				if fn := whole[group]; fn != nil {
					last = pass.Fset.Position(fn.End()).Line
				}
				if lines[at.Filename] == nil {
					lines[at.Filename] = map[int][]string{}
				}
				for line := at.Line; line <= last; line++ {
					lines[at.Filename][line] = append(lines[at.Filename][line], check)
				}
			}
		}
	}
	return lines
}

// silenced reports whether a comment silences a check at a position.
func (p *program) silenced(check string, pos token.Pos) bool {
	if !pos.IsValid() {
		return false
	}
	at := p.pass.Fset.Position(pos)
	return slices.Contains(p.ignored[at.Filename][at.Line], check)
}

// audienceAt are the checks that what is done at a position matters to. A
// comment there silences them for all who call it.
func (p *program) audienceAt(pos token.Pos) audience {
	a := forBind | forBefore
	if p.silenced("bind", pos) {
		a &^= forBind
	}
	if p.silenced("beforerun", pos) {
		a &^= forBefore
	}
	return a
}

// report reports a fault unless it is silenced.
func (p *program) report(pass *analysis.Pass, pos token.Pos, format string, args ...any) {
	if !p.silenced(pass.Analyzer.Name, pos) {
		pass.Reportf(pos, format, args...)
	}
}
