//go:build linux

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/template"
)

// pageText is the page without its figures.
//
//go:embed page.md.tmpl
var pageText string

// page writes the results as a page. What it says in words is in the template; each
// figure is of the report. charts is the directory that they were drawn into, ""
// if they were not.
func (r *report) page(name, charts string) error {
	var figures []figure
	if charts != "" {
		all, err := r.charts()
		if err != nil {
			return err
		}
		dir, err := filepath.Abs(filepath.Dir(name))
		if err != nil {
			return err
		}
		at, err := filepath.Abs(charts)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, at)
		if err != nil {
			return err
		}
		for _, c := range all {
			figures = append(figures, figure{c.file, fmt.Sprintf("![%s](%s)", c.title, filepath.ToSlash(filepath.Join(rel, c.file)))})
		}
	}
	t, err := template.New("page").Funcs(template.FuncMap{
		"figures": func(prefix string) string {
			var b strings.Builder
			for _, f := range figures {
				if strings.HasPrefix(f.file, prefix) {
					fmt.Fprintf(&b, "%s\n\n", f.link)
				}
			}
			return strings.TrimSuffix(b.String(), "\n")
		},
		"show": show, "stages": stagesTable, "rowsHead": func() string { return strings.TrimSuffix(rowsHead, "\n") }, "peersHead": func() string { return strings.TrimSuffix(peersHead, "\n") },
		"means": func(row result) string {
			if i := rowIndex(row); i >= 0 {
				return rows[i].means
			}
			return ""
		},
		"spent": func(row result) string {
			if i := rowIndex(row); i >= 0 && !row.Pass {
				return rows[i].spent
			}
			return ""
		},
		"line": result.line, "lines": func(p peerResult) string { return strings.TrimSuffix(p.lines(), "\n") },
		"calls": callsResult.line, "callsHead": func() string { return strings.TrimSuffix(callsHead, "\n") },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	if err := t.Execute(&b, r); err != nil {
		return err
	}
	return os.WriteFile(name, b.Bytes(), 0o644)
}

type figure struct{ file, link string }
