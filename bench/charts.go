//go:build linux

package main

import (
	"bytes"
	"fmt"
	"image/color"
	"math"
	"os"
	"path/filepath"
	"strings"
	"time"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/font"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/text"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
)

// Colours that those tell apart who see no red or no green (Okabe and Ito).
var (
	blue   = color.RGBA{0x00, 0x72, 0xb2, 0xff}
	orange = color.RGBA{0xd5, 0x5e, 0x00, 0xff}
	sky    = color.RGBA{0x56, 0xb4, 0xe9, 0xff}
	green  = color.RGBA{0x00, 0x9e, 0x73, 0xff}
	yellow = color.RGBA{0xe6, 0x9f, 0x00, 0xff}
	grey   = color.RGBA{0xbb, 0xbb, 0xbb, 0xff}
	dark   = color.RGBA{0x33, 0x33, 0x33, 0xff}
	pale   = color.RGBA{0xe8, 0xe8, 0xe8, 0xff}
)

// sans has the widths of Arial and Helvetica. A figure names its fonts and does not
// carry them: one of these is on most machines, and the words fit.
var sans = font.Font{Typeface: "Liberation", Variant: "Sans"}

const (
	chartWidth = 25 * vg.Centimeter
	lineHeight = 0.62 * vg.Centimeter // of a row of a chart
	around     = 3.4 * vg.Centimeter  // title, axis and margins
	margin     = 0.2 * vg.Centimeter
)

// A chart is a figure of a report.
type chart struct {
	file, title string
	plot        *plot.Plot
	rows        int // of its y axis
}

// charts are those that the report has the figures for.
func (r *report) charts() ([]chart, error) {
	var out []chart
	for _, s := range r.Stages {
		c, err := s.chart()
		if err != nil {
			return nil, err
		}
		out = append(out, c)
	}
	for _, make := range []func(*report) (chart, error){ratiosChart, peersChart, crowdChart} {
		c, err := make(r)
		if err != nil {
			return nil, err
		}
		if c.rows > 0 {
			out = append(out, c)
		}
	}
	return out, nil
}

// draw writes the charts into a directory, which it makes.
func (r *report) draw(dir string) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	all, err := r.charts()
	if err != nil {
		return err
	}
	for _, c := range all {
		height := around + lineHeight*vg.Length(c.rows)
		canvas, err := draw.NewFormattedCanvas(chartWidth, height, "svg")
		if err != nil {
			return err
		}
		all := draw.New(canvas)
		all.FillPolygon(color.White, []vg.Point{{}, {X: chartWidth}, {X: chartWidth, Y: height}, {Y: height}}) // readable on a dark page too
		c.plot.Draw(draw.Crop(all, margin, -margin, margin, -margin))
		var b bytes.Buffer
		if _, err := canvas.WriteTo(&b); err != nil {
			return err
		}
		named := bytes.ReplaceAll(b.Bytes(), []byte("font-family:Liberation Sans;"), []byte("font-family:'Liberation Sans',Arial,Helvetica,sans-serif;"))
		if err := os.WriteFile(filepath.Join(dir, c.file), named, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func newChart(file, title, axis string) chart {
	p := plot.New()
	p.Title.Text, p.X.Label.Text = title, axis
	for _, st := range []struct {
		*text.Style
		size vg.Length
	}{{&p.Title.TextStyle, 12}, {&p.X.Label.TextStyle, 9}, {&p.X.Tick.Label, 9}, {&p.Y.Tick.Label, 9}, {&p.Legend.TextStyle, 9}} {
		st.Font = font.From(sans, st.size)
	}
	p.Title.Padding = 0.3 * vg.Centimeter
	p.Y.Tick.Length = 0
	p.Y.Padding = 0.2 * vg.Centimeter
	p.Legend.XOffs, p.Legend.Padding, p.Legend.ThumbnailWidth = -0.2*vg.Centimeter, vg.Points(1.5), 0.6*vg.Centimeter
	p.Y.LineStyle.Width = 0
	return chart{file: file, title: title, plot: p}
}

// name names the rows, from top to bottom. Row i is at y(i).
func (c *chart) name(names []string) {
	c.rows = len(names)
	ticks := make([]plot.Tick, len(names))
	for i, n := range names {
		ticks[i] = plot.Tick{Value: c.y(i), Label: n}
	}
	c.plot.Y.Tick.Marker = plot.ConstantTicks(ticks)
	c.plot.Y.Min, c.plot.Y.Max = -0.6, float64(len(names))-0.4
}

func (c *chart) y(i int) float64 { return float64(c.rows - 1 - i) }

// chart is what client and daemon do, from the exec of the client to its end.
func (s stages) chart() (chart, error) {
	title := "A cold launch of a daemon that has nothing to load"
	if s.Load > 0 {
		title = fmt.Sprintf("A cold launch of a daemon that takes %s to load", s.Load)
	}
	c := newChart(fmt.Sprintf("cold-%s.svg", s.Load), title, "milliseconds since the exec of the client process")
	c.name([]string{"client", "daemon"})
	for _, part := range []struct {
		what     string
		row      int
		from, to time.Duration
		colour   color.Color
	}{
		{"exec until main", 0, 0, s.Main, grey},
		{"main until bound", 0, s.Main, s.Bound, yellow},
		{"bound until connected", 0, s.Bound, s.Connected, orange},
		{"connected until the reply", 0, s.Connected, s.Reply, sky},
		{"reply until exit", 0, s.Reply, s.Exit, grey},
		{"bound until the daemon's main", 1, s.Bound, s.Daemon, grey},
		{"loads, adopts", 1, s.Daemon, s.Ready, yellow},
		{"ready", 1, s.Ready, s.Exit, green},
	} {
		y := c.y(part.row)
		a, b := ms(part.from), ms(max(part.from, part.to))
		box, err := plotter.NewPolygon(plotter.XYs{{X: a, Y: y - 0.3}, {X: b, Y: y - 0.3}, {X: b, Y: y + 0.3}, {X: a, Y: y + 0.3}})
		if err != nil {
			return c, err
		}
		box.Color, box.LineStyle.Width = part.colour, 0
		c.plot.Add(box)
		c.plot.Legend.Add(fmt.Sprintf("%s: %s", part.what, show(max(0, part.to-part.from))), box)
	}
	c.plot.X.Min, c.plot.X.Max = 0, ms(s.Exit)*1.6 // room for the legend
	c.rows = 6
	return c, nil
}

func ms(d time.Duration) float64 { return float64(d) / 1e6 }

// A mark is a point of a chart with its spread and a word beside it.
type mark struct {
	row           int
	at, low, high float64
	text          string
	offset        float64 // of a row, upwards
}

// dots draws marks of a kind.
func (c *chart) dots(name string, colour color.Color, marks []mark) error {
	if len(marks) == 0 {
		return nil
	}
	var at plotter.XYs
	labels := plotter.XYLabels{}
	for _, m := range marks {
		p := plotter.XY{X: m.at, Y: c.y(m.row) + m.offset}
		at = append(at, p)
		labels.XYs, labels.Labels = append(labels.XYs, p), append(labels.Labels, m.text)
		if m.low > 0 && m.high > m.low {
			line, err := plotter.NewLine(plotter.XYs{{X: m.low, Y: p.Y}, {X: m.high, Y: p.Y}})
			if err != nil {
				return err
			}
			line.Color, line.Width = colour, vg.Points(1.5)
			c.plot.Add(line)
		}
	}
	dots, err := plotter.NewScatter(at)
	if err != nil {
		return err
	}
	dots.GlyphStyle = draw.GlyphStyle{Color: colour, Radius: vg.Points(3.5), Shape: draw.CircleGlyph{}}
	words, err := plotter.NewLabels(labels)
	if err != nil {
		return err
	}
	for i := range words.TextStyle {
		words.TextStyle[i] = text.Style{Color: dark, Font: font.From(sans, 8), Handler: plot.DefaultTextHandler}
	}
	words.Offset = vg.Point{X: vg.Points(4), Y: vg.Points(2)} // above the spread
	c.plot.Add(dots, words)
	if name != "" {
		c.plot.Legend.Add(name, dots)
	}
	return nil
}

// logAxis makes the x axis logarithmic, from about the least to the most, with room
// for the legend at the right.
func (c *chart) logAxis(least, most float64) {
	p := c.plot
	p.X.Scale = plot.LogScale{}
	p.X.Min, p.X.Max = least/1.2, most*math.Pow(most/least*1.44, 0.35)
	var ticks plot.ConstantTicks
	for decade := math.Pow(10, math.Floor(math.Log10(p.X.Min))); decade < p.X.Max; decade *= 10 {
		for _, digit := range []float64{1, 2, 5} {
			if v := digit * decade; v >= p.X.Min && v <= p.X.Max {
				ticks = append(ticks, plot.Tick{Value: v, Label: fmt.Sprintf("%g", v)})
				c.rule(v, pale)
			}
		}
	}
	p.X.Tick.Marker = ticks
	p.Legend.Top = true
}

func (c *chart) rule(x float64, colour color.Color) {
	line, err := plotter.NewLine(plotter.XYs{{X: x, Y: c.plot.Y.Min}, {X: x, Y: c.plot.Y.Max}})
	if err != nil {
		panic(err) // two finite points
	}
	line.Color, line.Width = colour, vg.Points(0.75)
	c.plot.Add(line)
}

// ratiosChart is each row that has a ratio, and its target.
func ratiosChart(r *report) (chart, error) {
	c := newChart("rows.svg", "Ours to theirs, median and quartiles", "ratio; a row passes to the left of its target")
	var names []string
	var passed, missed []mark
	var targets []float64
	least, most := 0.5, 2.0
	for _, row := range r.Rows {
		if row.Unit != "" || row.Value <= 0 {
			continue
		}
		m := mark{row: len(names), at: row.Value, low: row.Low, high: row.High, text: ratio(row.Value)}
		if row.Pass {
			passed = append(passed, m)
		} else {
			missed = append(missed, m)
		}
		least, most = min(least, row.Value, positive(row.Low, row.Value)), max(most, row.Value, row.High, row.Target)
		names, targets = append(names, strings.ReplaceAll(row.Row, "`", "")+" / "+row.Against), append(targets, row.Target)
	}
	c.name(names)
	if c.rows == 0 {
		return c, nil
	}
	c.logAxis(least, most)
	c.rule(1, dark)
	for i, t := range targets {
		tick, err := plotter.NewLine(plotter.XYs{{X: t, Y: c.y(i) - 0.35}, {X: t, Y: c.y(i) + 0.35}})
		if err != nil {
			return c, err
		}
		tick.Color, tick.Width = green, vg.Points(2)
		c.plot.Add(tick)
		if i == 0 {
			c.plot.Legend.Add("target: at most", tick)
		}
	}
	if err := c.dots("pass", blue, passed); err != nil {
		return c, err
	}
	return c, c.dots("miss", orange, missed)
}

func positive(v, or float64) float64 {
	if v > 0 {
		return v
	}
	return or
}

// peersChart is single clients beside those of the peers.
func peersChart(r *report) (chart, error) {
	c := newChart("peers.svg", "Whole client process, ours to theirs, median and quartiles", "ratio; to the left of 1 ours is faster")
	kinds := []struct {
		situation string
		colour    color.Color
		offset    float64
		marks     []mark
	}{{situation: cold, colour: blue, offset: 0.25}, {situation: warm, colour: orange}, {situation: killed, colour: green, offset: -0.25}}
	var names []string
	least, most := 0.5, 2.0
	for _, p := range r.Peers {
		any := false
		for _, co := range p.Contests {
			for k := range kinds {
				if kinds[k].situation == co.Name && co.Ratio > 0 {
					kinds[k].marks = append(kinds[k].marks, mark{row: len(names), at: co.Ratio, low: co.Low, high: co.High, offset: kinds[k].offset})
					least, most, any = min(least, co.Ratio, positive(co.Low, co.Ratio)), max(most, co.Ratio, co.High), true
				}
			}
		}
		if any {
			names = append(names, p.Peer)
		}
	}
	c.name(names)
	if c.rows == 0 {
		return c, nil
	}
	c.logAxis(least, most)
	c.rule(1, dark)
	for _, k := range kinds {
		if err := c.dots(k.situation, k.colour, k.marks); err != nil {
			return c, err
		}
	}
	return c, nil
}

// crowdChart is many first uses at once, ours beside each peer's.
func crowdChart(r *report) (chart, error) {
	c := newChart("crowd.svg", "Many first uses at once, no daemon: until the last client has ended", "milliseconds")
	var names []string
	var ours, theirs []mark
	held := true
	least, most := math.Inf(1), 0.0
	for _, p := range r.Peers {
		for _, co := range p.Contests {
			if co.Name != crowded {
				continue
			}
			row := len(names)
			text := ""
			if f := co.Theirs.Failed; f > 0 {
				text = fmt.Sprintf("%d of %d failed", f, co.Theirs.Clients)
			}
			if n := co.Theirs.Started[1]; n > 1 {
				text = strings.TrimPrefix(fmt.Sprintf("%s, %d daemons started", text, n), ", ")
			}
			held = held && co.Ours.Failed == 0 && co.Ours.Started[1] == 1
			ours = append(ours, mark{row: row, at: ms(co.Ours.Last)})
			theirs = append(theirs, mark{row: row, at: ms(co.Theirs.Last), text: text})
			least, most = min(least, ms(co.Ours.Last), ms(co.Theirs.Last)), max(most, ms(co.Ours.Last), ms(co.Theirs.Last))
			names = append(names, fmt.Sprintf("%s, %d clients", p.Peer, p.crowd()))
		}
	}
	c.name(names)
	if c.rows == 0 {
		return c, nil
	}
	c.logAxis(least, most*2)
	name := "fastbind"
	if held {
		name += ": nobody failed, one daemon"
	}
	if err := c.dots(name, blue, ours); err != nil {
		return c, err
	}
	return c, c.dots("the peer", orange, theirs)
}
