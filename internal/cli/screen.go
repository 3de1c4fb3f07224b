package cli

import (
	"io"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// A screen is where text for people or scripts goes. Tables with headings,
// colours and progress are for terminals; scripts get tab-separated rows.
type screen struct {
	w        *checked
	terminal bool
	colours  bool
	width    int // of a table's lines, the rest is cut; 0: any
}

func newScreen(w io.Writer, plain bool) screen {
	f, ok := w.(*os.File)
	terminal := ok && isTerminal(f)
	return screen{w: &checked{w: w}, terminal: terminal, colours: terminal && !plain}
}

// failed returns the first error of writing, so that a result which did not
// reach a full disk is no success.
func (s screen) failed() error { return s.w.err }

// A checked writer remembers its first error.
type checked struct {
	w   io.Writer
	err error
}

func (c *checked) Write(b []byte) (int, error) {
	n, err := c.w.Write(b)
	if err != nil && c.err == nil {
		c.err = err
	}
	return n, err
}

// The colours, by what they say (ECMA-48 SGR).
const (
	good    = "32" // green
	busy    = "33" // yellow
	bad     = "31" // red
	quietly = "2"
	bold    = "1"
)

func (s screen) paint(colour, text string) string {
	if !s.colours || colour == "" || text == "" {
		return text
	}
	return "\x1b[" + colour + "m" + text + "\x1b[0m"
}

// phaseColour is how a phase looks.
func phaseColour(phase string) string {
	switch phase {
	case "ready", "bound":
		return good
	case "launching", "loading", "draining":
		return busy
	case "failed":
		return bad
	}
	return quietly
}

// harmless returns s without anything that could act on a terminal: control
// characters, invisible format characters such as bidirectional overrides, and
// bytes that are not UTF-8 are written as escapes. A tab stays.
func harmless(s string) string {
	if !strings.ContainsFunc(s, acts) && utf8.ValidString(s) {
		return s
	}
	var b strings.Builder
	for i, r := range s {
		switch {
		case r == utf8.RuneError && !strings.HasPrefix(s[i:], "\uFFFD"):
			b.WriteString(hexByte(s[i]))
		case !acts(r):
			b.WriteRune(r)
		case r < utf8.RuneSelf:
			b.WriteString(hexByte(byte(r)))
		default:
			q := strconv.QuoteRuneToASCII(r)
			b.WriteString(q[1 : len(q)-1])
		}
	}
	return b.String()
}

func acts(r rune) bool {
	return r != '\t' && (unicode.IsControl(r) || unicode.Is(unicode.Cf, r) || r == '\u2028' || r == '\u2029')
}

func hexByte(c byte) string {
	const digits = "0123456789abcdef"
	return `\x` + string(digits[c>>4]) + string(digits[c&15])
}

// cell makes a value one cell of a row: harmless, without tabs, "-" if empty.
func cell(s string) string {
	if s == "" {
		return "-"
	}
	return strings.ReplaceAll(harmless(s), "\t", `\t`)
}

// A table is rows under headings.
type table struct {
	heads []string
	rows  [][]string
	paint func(column int, value string) string // colour of a cell, may be nil
}

// print writes the table: aligned under its headings on a terminal, else
// tab-separated without headings.
func (t table) print(s screen) {
	var b strings.Builder
	if !s.terminal {
		for _, r := range t.rows {
			for i, v := range r {
				if i > 0 {
					b.WriteByte('\t')
				}
				b.WriteString(cell(v))
			}
			b.WriteByte('\n')
		}
		io.WriteString(s.w, b.String())
		return
	}
	if len(t.rows) == 0 {
		return
	}
	widths := make([]int, len(t.heads))
	for _, r := range append([][]string{t.heads}, t.rows...) {
		for i, v := range r {
			widths[i] = max(widths[i], utf8.RuneCountInString(cell(v)))
		}
	}
	row := func(r []string, colour func(int, string) string) {
		room := s.width
		for i, v := range r {
			text := cell(v)
			if s.width > 0 {
				if room <= 0 {
					break
				}
				text = clip(text, room)
				room -= widths[i] + 2
			}
			pad := widths[i] - utf8.RuneCountInString(text)
			if colour != nil {
				text = s.paint(colour(i, v), text)
			}
			b.WriteString(text)
			if i < len(r)-1 {
				b.WriteString(strings.Repeat(" ", pad+2))
			}
		}
		b.WriteByte('\n')
	}
	row(t.heads, func(int, string) string { return bold })
	for _, r := range t.rows {
		row(r, t.paint)
	}
	io.WriteString(s.w, b.String())
}

// A bar shows progress on one line of a terminal, nothing elsewhere.
type bar struct {
	s     screen
	drawn bool
}

const barWidth = 24

func (p *bar) show(message string, fraction float64) {
	if !p.s.terminal {
		return
	}
	text := "\r\x1b[K"
	if fraction >= 0 {
		n := int(fraction*barWidth + 0.5)
		text += p.s.paint(good, strings.Repeat("█", n)) + p.s.paint(quietly, strings.Repeat("░", barWidth-n)) +
			" " + strconv.Itoa(int(fraction*100+0.5)) + "% "
	} else {
		text += "… "
	}
	const room = 44 // the rest of 80 columns
	message = harmless(message)
	if utf8.RuneCountInString(message) > room {
		message = string([]rune(message)[:room-1]) + "…"
	}
	io.WriteString(p.s.w, text+message)
	p.drawn = true
}

// clear takes the bar away.
func (p *bar) clear() {
	if p.drawn {
		io.WriteString(p.s.w, "\r\x1b[K")
		p.drawn = false
	}
}
