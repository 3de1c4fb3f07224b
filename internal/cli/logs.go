package cli

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/dirwatch"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/launch"
)

type logLine struct {
	Schema   int    `json:"schema"`
	Service  string `json:"service"`
	Instance string `json:"instance"`
	Line     string `json:"line"`
}

func (a *app) logsCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "logs [-f] [-n N] NAME",
		Short: "Print what a service wrote to stdout and stderr",
		Long: `Print what the generations of NAME wrote to stdout and stderr: everything that is
kept, or the last N lines. With -f go on with what is written later, over
restarts, until interrupted.

On a terminal control characters are shown as escapes. --json prints one object
for each line.`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: a.completeNames(1),
	}
	follow := cmd.Flags().BoolP("follow", "f", false, "go on with what is written later")
	lines := cmd.Flags().IntP("lines", "n", -1, "only the last `N` lines (default all; with -f 10)")
	cmd.Flags().Lookup("lines").DefValue = "" // help tells it better
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := checkNames(args); err != nil {
			return err
		}
		if cmd.Flags().Changed("lines") && *lines < 0 {
			return &usageError{"-n must not be negative", ""}
		}
		if *follow && *lines < 0 {
			*lines = 10
		}
		b, path, err := a.logOf(args[0])
		if err != nil {
			return err
		}
		p := &logPrinter{a: a, b: b}
		a.streamed.Store(true)
		if *follow {
			return p.follow(cmd.Context(), path, *lines)
		}
		_, err = p.tail(path, *lines)
		return err
	}
	return cmd
}

// logOf returns the path of a service's log, which may not exist (yet).
func (a *app) logOf(name string) (*launch.Broker, string, error) {
	b := a.named(name)
	if found := a.found(name); len(found) > 0 {
		b = found[0]
		for _, f := range found {
			if a.broker(f.Def).DirName() == f.DirName() {
				b = f // this client's own variant
			}
		}
	}
	place, err := a.dirs.Find(a.instance, b.DirName())
	if err != nil {
		_, err = b.Inspect(context.Background()) // the same, as a fault
		return nil, "", err
	}
	entries, err := launch.Generations(place.Dir)
	if err != nil {
		return nil, "", err
	}
	for _, e := range entries {
		if e.Record.Log != "" {
			return b, e.Record.Log, nil
		}
	}
	if path, _ := b.Files(place); path != "" {
		return b, path, nil
	}
	return nil, "", &hinted{errors.New(`"` + name + `" has no log: it was not launched by fastbind`), ""}
}

// logPrinter prints whole lines.
type logPrinter struct {
	a    *app
	b    *launch.Broker
	rest string // the beginning of a line whose end is not written yet
}

// maxLine bounds what is kept of a line without end.
const maxLine = 64 << 10

func (p *logPrinter) write(b []byte) error {
	if !p.a.json && !p.a.out.terminal {
		_, err := p.a.out.w.Write(b)
		return err
	}
	s := p.rest + string(b)
	for {
		text, rest, ok := strings.Cut(s, "\n")
		if !ok && len(s) < maxLine {
			p.rest = s
			return nil
		}
		if err := p.line(text); err != nil {
			return err
		}
		s = rest
	}
}

func (p *logPrinter) line(text string) error {
	if p.a.json {
		p.a.print(logLine{schema, p.b.Def.Service, p.b.Def.Instance, text})
		return nil
	}
	_, err := io.WriteString(p.a.out.w, harmless(strings.TrimSuffix(text, "\r"))+"\n")
	return err
}

// flush prints a last line without end.
func (p *logPrinter) flush() error {
	if p.rest == "" {
		return nil
	}
	text := p.rest
	p.rest = ""
	return p.line(text)
}

// tail prints the last n lines, all if n is negative, and returns how far it
// has read. The file before the last rotation comes first.
func (p *logPrinter) tail(path string, n int) (*os.File, error) {
	f, err := openForReading(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	if n < 0 {
		if old, err := openForReading(path + ".1"); err == nil {
			err = p.copy(old)
			_ = old.Close()
			if err != nil {
				return f, err
			}
		}
		if f == nil {
			return nil, p.flush()
		}
		if err := p.copy(f); err != nil {
			return f, err
		}
		return f, p.flush()
	}
	if f == nil {
		return nil, nil
	}
	b, err := lastLines(f, n)
	if err != nil {
		return f, err
	}
	if missing := n - bytes.Count(b, []byte("\n")); missing > 0 {
		older, err := journal.Tail(path+".1", 0, missing, 2*journal.MaxSize)
		if err == nil && len(older) > 0 {
			b = append([]byte(strings.Join(older, "\n")+"\n"), b...)
		}
	}
	return f, p.write(b)
}

// lastLines returns the last n lines of f, a last one without its end included,
// and leaves f behind them.
func lastLines(f *os.File, n int) ([]byte, error) {
	size, err := f.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	from := max(0, size-2*journal.MaxSize)
	b := make([]byte, size-from)
	if _, err := f.ReadAt(b, from); err != nil && err != io.EOF {
		return nil, err
	}
	i := len(b)
	if i > 0 && b[i-1] == '\n' {
		i--
	}
	for ; n > 0 && i >= 0; n-- {
		i = bytes.LastIndexByte(b[:i], '\n')
		if n == 1 {
			return b[i+1:], nil
		}
	}
	if i < 0 {
		return b, nil
	}
	return nil, nil
}

func (p *logPrinter) copy(f *os.File) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := f.Read(buf)
		if n > 0 {
			if err := p.write(buf[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// follow prints what is written until ctx ends. The wait is for the log's
// directory to change; a log that was moved aside is read to its end first.
func (p *logPrinter) follow(ctx context.Context, path string, n int) error {
	w, err := dirwatch.OpenFiles(filepath.Dir(path))
	if err != nil {
		return err
	}
	defer w.Close()
	f, err := p.tail(path, n)
	defer func() {
		if f != nil {
			_ = f.Close()
		}
	}()
	for err == nil {
		if f != nil {
			if err := p.copy(f); err != nil {
				return err
			}
		}
		next, replaced := reopened(path, f)
		if replaced {
			if f != nil {
				if err := p.copy(f); err != nil { // what came before it was moved
					return err
				}
				_ = f.Close()
			}
			f = next
			continue
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-w.C():
		}
	}
	return err
}

// reopened opens the file at path if it is another one than f.
func reopened(path string, f *os.File) (*os.File, bool) {
	now, err := os.Stat(path)
	if err != nil {
		return nil, false
	}
	if f != nil {
		if fi, err := f.Stat(); err == nil && os.SameFile(fi, now) {
			return nil, false
		}
	}
	next, err := openForReading(path)
	return next, err == nil
}
