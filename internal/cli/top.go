package cli

import (
	"context"
	"io"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker"
	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/wire"
)

type topReply struct {
	Schema   int         `json:"schema"`
	Broker   *brokerJSON `json:"broker"` // null: none lives
	Services []topJSON   `json:"services"`
	Error    *errorJSON  `json:"error"`
}

type brokerJSON struct {
	PID *int `json:"pid"`
}

type topJSON struct {
	Service     string  `json:"service"`
	Instance    string  `json:"instance"`
	Variant     *string `json:"variant"`
	Phase       *string `json:"phase"`
	PID         *int    `json:"pid"`
	Memory      *int64  `json:"memory_bytes"`
	Connections *int    `json:"connections"`
	Waiting     *int    `json:"waiting"`
	Restarts    *uint64 `json:"restarts"`
	LastFailure *string `json:"last_failure"`
	Held        bool    `json:"held"`
	Status      *string `json:"status"` // what the daemon says of itself
}

func (a *app) topCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "top",
		Short: "Watch services: phase, process, memory, clients",
		Long: `Show the services of the instance, and again whenever something happens and every
few seconds, until q or Ctrl-C. Memory, waiting connections and restarts are known
to the broker; without one they are "-".

Without a terminal, or with --json, it prints once: a line of tab-separated fields
for each service: name, phase, pid, bytes of memory, connections, waiting
connections, restarts, last failure.`,
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
	}
	every := cmd.Flags().Duration("every", 2*time.Second, "time between two looks when nothing happens, at least 100ms")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if *every < 100*time.Millisecond {
			return &usageError{"--every must be at least 100ms", ""}
		}
		t := &topView{a: a}
		if err := t.look(cmd.Context()); err != nil {
			return err
		}
		switch {
		case a.json:
			a.print(topReply{Schema: schema, Broker: t.brokerJSON(), Services: t.json(), Error: errorOf(t.silent)})
			return nil
		case !a.out.terminal:
			t.warn()
			t.table().print(a.out)
			return nil
		}
		return t.live(cmd.Context(), *every)
	}
	return cmd
}

// A topView is what top shows. It is not safe for concurrent use.
type topView struct {
	a      *app
	rows   []topRow
	broker bool  // one lives, and answers
	silent error // why one that lives does not
	pid    int   // of it, 0 if unknown
}

// warn tells of a broker that does not answer: what is seen without it is shown.
func (t *topView) warn() {
	if t.silent != nil {
		t.a.warn("the broker does not answer: "+t.silent.Error(), "see: fastbind why "+t.a.nameArgs(standing.Service))
	}
}

type topRow struct {
	view
	seen *wire.Service // by the broker
}

// look looks at everything anew.
func (t *topView) look(ctx context.Context) error {
	views, err := t.a.everything(ctx, false)
	if err != nil {
		return err
	}
	seen, err := t.a.seen(ctx)
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	t.rows, t.pid, t.broker, t.silent = nil, 0, err == nil && seen != nil, err
	for _, v := range views {
		if v.name == standing.Service {
			t.pid = v.pid
		}
		r := topRow{view: v}
		if s, ok := seen[v.name]; ok && v.variantOf(s) {
			r.seen = &s
		}
		t.rows = append(t.rows, r)
	}
	return nil
}

// variantOf reports whether s may be of this variant: the one of its generation.
func (v view) variantOf(s wire.Service) bool {
	return v.variant == "" || s.Generation != 0 && s.Generation == v.generation && s.PID == v.pid
}

// asked bounds a question to the broker, whose loop answers at once, and asks daemons
// for no longer than a second.
const asked = 3 * time.Second

// seen is what the living broker sees, by name; nil without one.
func (a *app) seen(ctx context.Context) (map[string]wire.Service, error) {
	var services map[string]wire.Service
	err := a.askLiving(ctx, func(ctx context.Context, c *wire.Client) error {
		list, err := c.List(ctx)
		services = map[string]wire.Service{}
		for _, s := range list {
			services[s.Name] = s
		}
		return err
	})
	return services, err
}

// askLiving asks the living broker of the instance, and again if newcomers have taken
// the question's place, or a successor the broker's. Without one nothing is asked.
func (a *app) askLiving(ctx context.Context, ask func(context.Context, *wire.Client) error) error {
	ctx, cancel := context.WithTimeout(ctx, asked)
	defer cancel()
	for {
		c, err := a.living(ctx, a.instance)
		if c == nil || err != nil {
			return err
		}
		err = ask(ctx, c)
		_ = c.Close()
		if !crowded(err) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(lookAgain):
		}
	}
}

// phaseText is the generation's phase, or what the broker does about a service that has none.
func (r topRow) phaseText() string {
	switch {
	case r.alive && r.generation == 0:
		// Somebody whom nobody knows accepts, such as what a daemon has left behind that
		// was killed. The broker cannot bind for that, and calls it refusing.
		return r.view.phase
	case r.seen != nil && (!r.alive || r.seen.State == "refusing" || r.seen.State == "backoff"):
		return r.seen.State
	case r.progress != nil && r.loading():
		return r.view.phase + " " + progressText(r.progress)
	}
	return r.view.phase
}

func (r topRow) lastFailure() string {
	switch {
	case r.seen != nil && r.seen.LastFailure != "":
		return r.seen.LastFailure
	case r.failure != nil:
		return failureText(r.failure)
	}
	return ""
}

func (t *topView) json() []topJSON {
	out := []topJSON{}
	for _, r := range t.rows {
		j := topJSON{Service: r.name, Instance: r.instance, Variant: some(r.variant), Phase: some(r.phaseText()), PID: some(r.pid), Connections: r.connections,
			LastFailure: some(r.lastFailure())}
		if s := r.seen; s != nil {
			j.Memory, j.Waiting, j.Restarts, j.Held, j.Status = s.Memory, s.Waiting, &s.Restarts, s.Holding, some(s.Status)
		}
		out = append(out, j)
	}
	return out
}

func (t *topView) brokerJSON() *brokerJSON {
	if !t.broker {
		return nil
	}
	return &brokerJSON{some(t.pid)}
}

// table is for people on a terminal, and for scripts elsewhere: those get bytes.
func (t *topView) table() table {
	tab := table{heads: []string{"SERVICE", "PHASE", "PID", "MEMORY", "CONNS", "WAITING", "RESTARTS", "LAST FAILURE"}}
	for _, r := range t.rows {
		row := []string{r.label(), r.phaseText(), number(r.pid), "", count(r.connections), "", "", r.lastFailure()}
		if s := r.seen; s != nil {
			if s.Memory != nil {
				row[3] = strconv.FormatInt(*s.Memory, 10)
				if t.a.out.terminal {
					row[3] = mebibytes(*s.Memory)
				}
			}
			row[5], row[6] = count(s.Waiting), strconv.FormatUint(s.Restarts, 10)
		}
		tab.rows = append(tab.rows, row)
	}
	tab.paint = func(column int, value string) string {
		if column == 1 {
			word, _, _ := strings.Cut(value, " ")
			return phaseColour(word)
		}
		return ""
	}
	return tab
}

func count(n *int) string {
	if n == nil {
		return ""
	}
	return strconv.Itoa(*n)
}

func mebibytes(n int64) string {
	return strconv.FormatFloat(float64(n)/(1<<20), 'f', 1, 64) + "M"
}

// live shows the table until q, Ctrl-C or the end of ctx, on the terminal's other
// screen (xterm's control sequences 1049 and 25), which leaves the former as it was.
func (t *topView) live(ctx context.Context, every time.Duration) error {
	out := t.a.out.w
	keys, restore := t.a.keys()
	defer restore()
	io.WriteString(out, "\x1b[?1049h\x1b[?25l")
	defer io.WriteString(out, "\x1b[?25h\x1b[?1049l")
	interrupted := ctx
	ctx, stop := t.a.notify(ctx, syscall.SIGTERM) // it must not leave the terminal as it is
	defer stop()
	resized, unwatch := t.a.ticks(resize)
	defer unwatch()
	ctx, cancel := context.WithCancel(ctx)
	happened := make(chan struct{}, 1)
	over := make(chan struct{})
	go func() {
		defer close(over)
		t.a.happenings(ctx, every, happened)
	}()
	defer func() {
		cancel()
		<-over
	}()
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		t.draw()
		if err := t.a.out.failed(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			if interrupted.Err() != nil {
				return context.Cause(interrupted)
			}
			return nil // it was asked to end
		case <-resized:
			continue
		case k, ok := <-keys:
			switch {
			case !ok:
				keys = nil // no more keys come
			case k == 'q' || k == 'Q':
				return nil
			}
		case <-happened:
		case <-tick.C:
		}
		if err := t.look(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
}

// happenings tells when the broker notes something, while one lives.
func (a *app) happenings(ctx context.Context, pause time.Duration, happened chan<- struct{}) {
	for ctx.Err() == nil {
		if c, err := a.living(ctx, a.instance); err == nil && c != nil {
			_ = c.Events(ctx, nil, func(*wire.Event, uint64) bool {
				select {
				case happened <- struct{}{}:
				default: // it is known already
				}
				return false
			})
			_ = c.Close()
		}
		select {
		case <-ctx.Done():
		case <-time.After(pause):
		}
	}
}

// draw writes as much as the terminal has room for. Its size is looked at each time.
func (t *topView) draw() {
	width, height := t.a.out.size()
	var b strings.Builder
	head := "fastbind top, instance " + t.a.instance + ": " + strconv.Itoa(len(t.rows)) + " services"
	switch {
	case t.silent != nil:
		head += ", the broker does not answer"
	case t.pid != 0:
		head += ", broker pid " + strconv.Itoa(t.pid)
	case !t.broker:
		head += ", no broker"
	}
	head += "   " + t.a.now().Local().Format(time.TimeOnly) + "   q: quit"
	b.WriteString("\x1b[H" + clip(harmless(head), width) + "\x1b[K\r\n\x1b[K\r\n")
	var rows strings.Builder
	tab := t.table()
	cut := 0
	if room := max(0, height-4); len(tab.rows) > room {
		cut = len(tab.rows) - room
		tab.rows = tab.rows[:room]
	}
	tab.print(screen{w: &checked{w: &rows}, terminal: true, colours: t.a.out.colours, width: width})
	for l := range strings.Lines(rows.String()) {
		b.WriteString(strings.TrimSuffix(l, "\n") + "\x1b[K\r\n")
	}
	if cut > 0 {
		b.WriteString(clip("and "+strconv.Itoa(cut)+" more", width))
	}
	b.WriteString("\x1b[J")
	io.WriteString(t.a.out.w, b.String())
}

// clip returns the beginning of s that has room; 0 is any.
func clip(s string, width int) string {
	if width <= 0 || utf8.RuneCountInString(s) <= width {
		return s
	}
	return string([]rune(s)[:width-1]) + "…"
}

// size is the terminal's, or the usual one if it does not tell.
func (s screen) size() (width, height int) {
	if f, ok := s.w.w.(*os.File); ok {
		if w, h := terminalSize(f); w > 0 && h > 0 {
			return w, h
		}
	}
	return 80, 24
}

// keys are what is typed, without waiting for the end of the line, until restore is
// called. It is closed when no more comes.
func (a *app) keys() (<-chan byte, func()) {
	f, ok := a.streams.In.(*os.File)
	if !ok || !isTerminal(f) {
		return nil, func() {}
	}
	restore := byKeys(f)
	keys, over := make(chan byte), make(chan struct{})
	go func() {
		// A read cannot be ended: the process does that, unless a key comes before.
		defer close(keys)
		var b [1]byte
		for {
			if n, err := f.Read(b[:]); n == 0 || err != nil {
				return
			}
			select {
			case keys <- b[0]:
			case <-over:
				return
			}
		}
	}()
	return keys, func() {
		close(over)
		restore()
	}
}

// crowded reports whether err says that the broker had no place for one more, or has
// just ended.
func crowded(err error) bool {
	return errorsIsAny(err, io.ErrUnexpectedEOF, broker.ErrEnded)
}
