// Package try is the demonstration behind fastbind try: gocache, whose index
// takes its time to load, under real go builds, a crowd of clients that dial at
// the same moment, and a kill -9 in the middle; and the proof that nobody
// noticed, in builds that are identical to those without it.
//
// Everything happens in a temporary directory, which is gone when Run returns,
// as are the processes that it started. It needs a go command and nothing else.
//
//	report, err := try.Run(ctx, try.Config{Self: exe, Env: os.Environ(), Clients: 100, LoadFor: 2 * time.Second})
package try

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"
)

// A Config says how to run the demonstration.
type Config struct {
	// Self is an executable that carries gocache: it is told by gocache.Hidden
	// as its first argument.
	Self string

	Env     []string // of the caller: where go is, and the temporary directory
	Clients int      // of the crowd, 1 to 1000
	LoadFor time.Duration

	// Said, if it is set, is called with each event as it happens, and Working
	// with what is being waited for and the part done, negative if unknown.
	// Calls come one after the other.
	Said    func(Event)
	Working func(what string, part float64)
}

// An Event is a line of the timeline.
type Event struct {
	At   time.Duration // since the start
	Text string
}

// A Span is a bar of the chart.
type Span struct {
	Row      string
	Kind     Kind
	From, To time.Duration
}

// A Kind is what a bar shows.
type Kind string

// The kinds.
const (
	Works Kind = "works"
	Loads Kind = "loads"
)

// A Check is something that must be true.
type Check struct {
	OK   bool
	What string
	Seen string // the figures behind it
}

// A Report is what was seen. Durations that were not measured are 0.
type Report struct {
	Go     string // version
	Events []Event
	Spans  []Span
	Checks []Check

	Builds  int // in each round
	Clients int

	// Of the crowd, each client by its own clock from its dial: the median and
	// the slowest.
	ConnectedHalf, ConnectedLast time.Duration
	AnsweredHalf, AnsweredLast   time.Duration

	Ready                time.Duration // from the release; 0 if it was killed before
	AfterKill            time.Duration // dial until connected, after kill -9
	PlainCold, PlainWarm time.Duration // a round with the built-in cache
	Cold, Warm           time.Duration // a round with gocache; the daemon is killed in the cold one
	Hits, Misses         int64         // of the warm round
}

// OK reports whether every check held.
func (r Report) OK() bool {
	for _, c := range r.Checks {
		if !c.OK {
			return false
		}
	}
	return len(r.Checks) > 0
}

// A demo is one run.
type demo struct {
	cfg   Config
	world *world
	began time.Time

	died       time.Duration // when the daemon was killed
	cold, warm buildRound

	mu     sync.Mutex // guards report and calls of Said and Working
	report Report
}

// Run runs the demonstration. It blocks for about a minute on two cores, until
// it is done, something fails that it needs, or ctx ends. What it shows may fail
// too: then the error is nil and a check is not OK.
func Run(ctx context.Context, cfg Config) (Report, error) {
	d := &demo{cfg: cfg, began: time.Now()}
	w, err := newWorld(ctx, cfg)
	if err != nil {
		return d.report, err
	}
	d.world = w
	defer w.close()
	d.report.Go, d.report.Builds, d.report.Clients = w.version, len(builds), cfg.Clients
	for _, act := range []func(context.Context) error{d.coldRound, d.warmRound, d.plainRound} {
		if err := act(ctx); err != nil {
			return d.report, err
		}
	}
	return d.report, nil
}

func (d *demo) since() time.Duration { return time.Since(d.began) }

func (d *demo) say(format string, args ...any) {
	e := Event{d.since(), fmt.Sprintf(format, args...)}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Events = append(d.report.Events, e)
	if d.cfg.Said != nil {
		d.cfg.Said(e)
	}
}

func (d *demo) working(what string, part float64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.cfg.Working != nil {
		d.cfg.Working(what, part)
	}
}

// span notes a bar that begins at from and ends now.
func (d *demo) span(row string, kind Kind, from time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Spans = append(d.report.Spans, Span{row, kind, from, d.since()})
}

func (d *demo) check(ok bool, what, seen string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.report.Checks = append(d.report.Checks, Check{ok, what, fmt.Sprintf(seen, args...)})
}

// coldRound: nobody runs, and everybody comes at once.
func (d *demo) coldRound(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	crowd, err := d.world.gather(ctx, d.cfg.Clients)
	if err != nil {
		cancel()
		return err
	}
	var wg sync.WaitGroup
	defer func() {
		cancel() // who is left is killed
		crowd.ends.Wait()
		wg.Wait()
	}()
	d.say("no daemon runs, and its index will take %v to load; %d client processes and %d go builds (%s) come at once",
		d.cfg.LoadFor, d.cfg.Clients, len(builds), names())
	released := d.since()
	pongs := crowd.release()
	var cold buildRound
	var buildErr error
	built := make(chan struct{})
	wg.Go(func() {
		defer close(built)
		cold, buildErr = d.build(ctx, "with gocache", d.world.cacheEnv())
		d.span("builds, cold", Works, released)
	})
	if err := d.met(ctx, released, pongs); err != nil {
		return err
	}
	if err := d.killed(ctx, released, built); err != nil {
		return err
	}
	select {
	case <-built:
	case <-ctx.Done():
		return ctx.Err()
	}
	if buildErr != nil {
		return buildErr
	}
	d.report.Cold, d.cold = cold.took, cold
	d.say("all builds done, %v after they began; %s", round(cold.took), cold.wentOn())
	d.check(cold.failure() == nil, "the kill failed no build", "%d of %d succeeded%s", cold.succeeded(), len(builds), because(cold.failure()))
	return nil
}

// met says how the crowd fared.
func (d *demo) met(ctx context.Context, released time.Duration, pongs <-chan pong) error {
	var got []pong
	for len(got) < d.cfg.Clients {
		select {
		case p := <-pongs:
			got = append(got, p)
			d.working("clients answered", float64(len(got))/float64(d.cfg.Clients))
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	d.span(fmt.Sprintf("%d clients", d.cfg.Clients), Works, released)
	t := tally(got)
	r := &d.report
	r.ConnectedHalf, r.ConnectedLast, r.AnsweredHalf, r.AnsweredLast = t.connectedHalf, t.connectedLast, t.answeredHalf, t.answeredLast
	if t.served > 0 {
		d.say("connected: half of the clients after %v, the last after %v", round(t.connectedHalf), round(t.connectedLast))
		d.say("answered: half after %v, the last after %v, %d of them while the daemon still loads; by pid %s",
			round(t.answeredHalf), round(t.answeredLast), t.loading, t.pids())
	}
	launches, err := d.world.launches(ctx)
	if err != nil {
		return err
	}
	d.check(t.served == d.cfg.Clients, "no client failed", "%d of %d were answered%s", t.served, d.cfg.Clients, because(t.failure))
	d.check(len(t.byPID) == 1 && launches == 1, "one daemon, however many came", "%d launched; answers from %d", launches, len(t.byPID))
	return nil
}

// killed waits until the daemon is ready, or the first build is done, kills it,
// and looks what the next client meets.
func (d *demo) killed(ctx context.Context, released time.Duration, built <-chan struct{}) error {
	before, err := d.world.daemon(ctx)
	if err != nil {
		return err
	}
	defer before.Close()
	ready, err := d.awaitReady(ctx, built)
	if err != nil {
		return err
	}
	d.span("daemon 1", Loads, released)
	atReady := d.since()
	if ready {
		d.report.Ready = atReady - released
		d.say("the daemon is ready, %v after it was asked for", round(d.report.Ready))
		// A moment in which it serves what it has loaded.
		select {
		case <-time.After(d.cfg.LoadFor / 4):
		case <-built:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	running := true
	select {
	case <-built:
		running = false
	default:
	}
	if err := before.kill(ctx); err != nil {
		return err
	}
	if ready {
		d.span("daemon 1", Works, atReady)
	}
	d.died = d.since()
	during := "in the middle of the builds"
	if !running {
		during = "after the builds: this machine was faster than the daemon's load"
	}
	d.say("kill -9 of the daemon, pid %d, %s", before.pid, during)
	next, err := d.world.ping(ctx)
	if err != nil {
		return err
	}
	launches, err := d.world.launches(ctx)
	if err != nil {
		return err
	}
	if next.err == nil {
		d.report.AfterKill = next.connected()
		d.say("the next client: connected after %v, answered after %v by pid %d, which has begun to load", round(next.connected()), round(next.answered()), next.PID)
	}
	d.check(next.err == nil && next.PID != before.pid && launches == 2, "after kill -9 the next client is served", "by pid %d, the second launch of %d%s", next.PID, launches, because(next.err))
	return nil
}

// awaitReady shows the daemon's progress until it is ready; false if the builds
// were done, or the daemon gone, before.
func (d *demo) awaitReady(ctx context.Context, built <-chan struct{}) (bool, error) {
	wctx, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		select {
		case <-built:
			cancel()
		case <-wctx.Done():
		}
	}()
	err := d.world.broker.AwaitReady(wctx, func(what string, part float64) { d.working("the daemon: "+what, part) })
	if err != nil && ctx.Err() != nil {
		return false, ctx.Err()
	}
	return err == nil, nil
}

// warmRound builds the same again, from what the killed daemon and its successor
// have kept.
func (d *demo) warmRound(ctx context.Context) error {
	before, err := d.world.stats(ctx)
	if err != nil {
		return err
	}
	d.say("the same builds again")
	from := d.since()
	warm, err := d.build(ctx, "again", d.world.cacheEnv())
	if err != nil {
		return err
	}
	d.span("builds, again", Works, from)
	after, err := d.world.stats(ctx)
	if err != nil {
		return err
	}
	r := &d.report
	r.Warm, r.Hits, r.Misses, d.warm = warm.took, after.Hits-before.Hits, after.Misses-before.Misses, warm
	d.say("done: %v, %d hits, %d misses", round(warm.took), r.Hits, r.Misses)
	launches, err := d.world.launches(ctx)
	if err != nil {
		return err
	}
	// cmd/go does not cache what it links, so a few questions have no answer.
	d.check(warm.failure() == nil && r.Hits > 0 && r.Misses*10 <= r.Hits, "nothing that was cached is lost", "%d hits, %d misses%s", r.Hits, r.Misses, because(warm.failure()))
	d.check(launches == 2, "two daemons in all, one before and one after the kill", "%d launched", launches)
	stopped, err := d.world.stop(ctx)
	if err != nil {
		return err
	}
	d.span("daemon 2", Works, d.died)
	d.say("stopped the daemon, pid %s", stopped)
	return nil
}

// plainRound builds everything with the go command's own cache, to compare with.
func (d *demo) plainRound(ctx context.Context) error {
	d.say("the same with %s and its own cache, to compare", d.world.version)
	from := d.since()
	cold, err := d.build(ctx, "with go's own cache", d.world.plainEnv())
	if err != nil {
		return err
	}
	if err := cold.failure(); err != nil {
		return fmt.Errorf("a plain build, without anything of ours, fails: %w", err)
	}
	warm, err := d.build(ctx, "with go's own cache, again", d.world.plainEnv())
	if err != nil {
		return err
	}
	d.span("plain builds", Works, from)
	d.report.PlainCold, d.report.PlainWarm = cold.took, warm.took
	d.say("done: %v with nothing cached, %v again", round(cold.took), round(warm.took))
	same := d.cold.sameAs(cold) + d.warm.sameAs(cold)
	d.check(same == 2*len(builds), "bit-identical to plain builds", "%d of %d outputs have the same SHA-256", same, 2*len(builds))
	return nil
}

func because(err error) string {
	if err == nil {
		return ""
	}
	text := strings.TrimSpace(err.Error())
	if lines := strings.Split(text, "\n"); len(lines) > 3 {
		text = strings.Join(lines[:3], "; ") + "; …"
	}
	return ": " + text
}

// round keeps three digits or so: more would be noise.
func round(d time.Duration) time.Duration {
	switch {
	case d >= time.Second:
		return d.Round(10 * time.Millisecond)
	case d >= 10*time.Millisecond:
		return d.Round(100 * time.Microsecond)
	}
	return d.Round(10 * time.Microsecond)
}
