// Package chart writes a month as a page of text.
package chart

import (
	"io"
	"strings"
	"text/template"

	"example.com/almanac/moon"
)

var page = template.Must(template.New("month").Funcs(template.FuncMap{
	"disk": func(lit float64) string { return strings.Repeat("*", int(lit*20+0.5)) },
}).Parse(`{{range .}}{{.Date.Format "02 Jan"}}  {{printf "%-20s" (disk .Lit)}}  {{.Phase}}
{{end}}`))

// Write writes the days.
func Write(w io.Writer, days []moon.Day) error { return page.Execute(w, days) }
