package gocache

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"text/tabwriter"
	"time"
)

// admin is the verbs for people. None of them but ping launches a daemon.
type admin struct {
	cfg      config
	out, err io.Writer
}

// ask sends one request to a daemon that runs, and notes in s
// what is to be seen of the service. The answer is nil if none runs.
func ask(ctx context.Context, cfg config, f frame, within time.Duration, s *stats) (*frame, error) {
	s.Service, s.Dir, s.Max, s.Phase = cfg.serviceName(), cfg.dir, cfg.max, "not running"
	st, err := service(cfg).Status(ctx)
	if err != nil {
		return nil, nil // never launched, or it cannot be: the store is there all the same
	}
	s.Phase, s.PID, s.Generation = string(st.Phase), st.PID, st.Generation
	if st.Progress != nil {
		s.Progress = &st.Progress.Fraction
	}
	for _, d := range st.Differences {
		s.Differences = append(s.Differences, fmt.Sprintf("%s: the daemon has %s, wanted is %s", d.Field, d.Have, d.Want))
	}
	if !st.Alive() {
		return nil, nil
	}
	conn, err := st.Endpoint.Dial(ctx)
	if err != nil {
		return nil, nil
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(within))
	b := appendFrame(nil, frame{op: opHello, payload: []byte{wireVersion}})
	if _, err := conn.Write(appendFrame(b, f)); err != nil {
		return nil, err
	}
	r := bufio.NewReader(conn)
	for {
		got, err := readFrame(r, maxReply, nil)
		if err != nil {
			return nil, fmt.Errorf("the daemon does not answer: %w", noEOF(err))
		}
		if got.op == opError {
			return nil, errors.New(string(got.payload))
		}
		if got.id == f.id {
			return &got, nil
		}
	}
}

// A pong says what it took to reach the daemon, counted from the dial.
type pong struct {
	PID       int     `json:"pid"`
	Phase     string  `json:"phase"`        // when it answered: loading or ready
	Connected float64 `json:"connected_ms"` // its endpoint had accepted
	Answered  float64 `json:"answered_ms"`
}

// ping reaches the daemon as a build does, launching it if need be. With gate it
// waits before for the end of in, so that a crowd can be released together.
func (a admin) ping(in io.Reader, gate, asJSON bool) error {
	if gate {
		_, _ = io.Copy(io.Discard, in)
	}
	var reason error
	began := time.Now()
	up := newUplink(a.cfg, func(err error) { reason = err }, func() {})
	defer up.close()
	l := up.get()
	connected := time.Since(began)
	if l == nil {
		return reason
	}
	var s stats
	got := make(chan error, 1)
	l.ask(opStats, nil, func(f frame, err error) {
		if err == nil {
			err = json.Unmarshal(f.payload, &s)
		}
		got <- err
	})
	l.flush()
	if err := <-got; err != nil {
		return err
	}
	answered := time.Since(began)
	p := pong{PID: s.PID, Phase: "ready", Connected: milliseconds(connected), Answered: milliseconds(answered)}
	if s.LoadSeconds == 0 {
		p.Phase = "loading"
	}
	if asJSON {
		return json.NewEncoder(a.out).Encode(p)
	}
	fmt.Fprintf(a.out, "pid %d, %s: connected after %.1f ms, answered after %.1f ms\n", p.PID, p.Phase, p.Connected, p.Answered)
	return nil
}

func milliseconds(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (a admin) stats(ctx context.Context, asJSON bool) error {
	var s stats
	answer, trouble := ask(ctx, a.cfg, frame{op: opStats, id: 1}, 5*time.Second, &s)
	if answer != nil {
		trouble = json.Unmarshal(answer.payload, &s) // has no phase
	} else if err := a.measure(&s); err != nil {
		return err
	}
	if s.TopMisses == nil {
		s.TopMisses = []missed{}
	}
	if asJSON {
		enc := json.NewEncoder(a.out)
		enc.SetIndent("", "  ")
		if err := enc.Encode(s); err != nil {
			return err
		}
		return trouble
	}
	a.print(s, answer != nil)
	return trouble
}

func (a admin) print(s stats, running bool) {
	w := tabwriter.NewWriter(a.out, 0, 0, 2, ' ', 0)
	row := func(name, format string, args ...any) { fmt.Fprintf(w, name+"\t"+format+"\n", args...) }
	phase := s.Phase
	if s.Progress != nil && s.LoadSeconds == 0 {
		phase += fmt.Sprintf(" (%.0f %%)", 100*max(0, *s.Progress))
	}
	row("daemon", "%s", phase)
	row("store", "%s", s.Dir)
	row("size", "%s of %s on disk, %s in bodies", formatSize(s.Disk), formatSize(s.Max), formatSize(s.Bytes))
	row("entries", "%d, outputs %d", s.Entries, s.Outputs)
	if running {
		row("pid", "%d, up %v, loaded in %v", s.PID, seconds(s.Uptime), seconds(s.LoadSeconds))
		row("memory", "%s resident, heap %s", formatSize(s.RSS), formatSize(s.Heap))
		row("clients", "%d", s.Connections)
		ratio := 0.0
		if s.Hits+s.Misses > 0 {
			ratio = 100 * float64(s.Hits) / float64(s.Hits+s.Misses)
		}
		row("hits", "%d (%.1f %%)", s.Hits, ratio)
		row("misses", "%d", s.Misses)
		row("puts", "%d", s.Puts)
		row("evictions", "%d (%s)", s.Evictions, formatSize(s.Evicted))
		row("damaged", "%d bodies, %d entries", s.Corrupt, s.Malformed)
	}
	_ = w.Flush()
	for _, d := range s.Differences {
		fmt.Fprintln(a.out, "note:", d)
	}
	for i, m := range s.TopMisses {
		if i == 0 {
			fmt.Fprintln(a.out, "\nactions that missed repeatedly (evicted too early, or never stored):")
		}
		fmt.Fprintf(a.out, "%6d  %s  %s, last %s\n", m.Count, m.Action, m.Why, m.Last.Format(time.DateTime))
	}
}

func seconds(s float64) time.Duration {
	return time.Duration(s * float64(time.Second)).Round(time.Millisecond)
}

// measure counts what the store holds, without a daemon.
func (a admin) measure(s *stats) error {
	count := func(kind string, f func(fs.FileInfo)) error {
		for shard := range 256 {
			dir, err := os.Open(filepath.Join(a.cfg.dir, kind, fmt.Sprintf("%02x", shard)))
			if errors.Is(err, fs.ErrNotExist) {
				continue
			}
			if err != nil {
				return err
			}
			files, err := dir.Readdir(-1)
			_ = dir.Close()
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			for _, fi := range files {
				f(fi)
			}
		}
		return nil
	}
	if err := count("actions", func(fs.FileInfo) { s.Entries++; s.Disk += block }); err != nil {
		return err
	}
	return count("objects", func(fi fs.FileInfo) {
		s.Outputs++
		s.Bytes += fi.Size()
		s.Disk += onDisk(fi.Size())
	})
}

func (a admin) prune(ctx context.Context, limit string) error {
	n := int64(0)
	if limit != "" {
		var err error
		if n, err = parseSize(limit); err != nil {
			return err
		}
	}
	var p pruned
	answer, err := ask(ctx, a.cfg, frame{opPrune, 1, fmt.Append(nil, n)}, 10*time.Minute, new(stats))
	if err != nil {
		return err
	}
	if answer != nil {
		if err := json.Unmarshal(answer.payload, &p); err != nil {
			return err
		}
	} else {
		if n == 0 {
			n = a.cfg.max
		}
		if _, err := os.Stat(a.cfg.dir); err != nil {
			return err
		}
		s := serverOf(ctx, a.cfg)
		defer s.end()
		p = s.prune(n)
	}
	fmt.Fprintf(a.out, "evicted %d entries (%s of bodies), swept %d files (%s); %d entries and %s are left\n",
		p.Evicted, formatSize(p.EvictedBytes), p.Swept, formatSize(p.SweptBytes), p.Entries, formatSize(p.Disk))
	return nil
}

// verify reads everything. It works beside a daemon: what it drops is a miss
// there.
func (a admin) verify() error {
	if _, err := os.Stat(a.cfg.dir); err != nil {
		return err
	}
	st := store{a.cfg.dir}
	r := newRemover(st)
	defer r.close()
	entries, malformed, missing, corrupt := 0, 0, 0, 0
	checked := map[id]error{}
	for shard := range 256 {
		dir := filepath.Join(a.cfg.dir, "actions", fmt.Sprintf("%02x", shard))
		names, err := readNames(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		for _, name := range names {
			path := filepath.Join(dir, name)
			action, ok := parseID(name)
			e, _, err := readEntry(path)
			if errors.Is(err, fs.ErrNotExist) {
				continue // evicted meanwhile
			}
			entries++
			if !ok || err != nil {
				malformed++
				fmt.Fprintf(a.out, "%s: not an entry\n", path)
				_ = os.Remove(path)
				continue
			}
			file, err := st.stat(e.output, e.size)
			if err == nil {
				var seen bool
				if err, seen = checked[e.output]; !seen {
					err = st.check(e.output)
					checked[e.output] = err
				}
			}
			switch {
			case err == nil:
			case errors.Is(err, fs.ErrNotExist):
				missing++ // a miss, and the next put mends it
			default:
				corrupt++
				fmt.Fprintf(a.out, "%s: %v\n", st.body(e.output), err)
				if err := r.dropCorrupt(action, e.output, file); err != nil {
					return err
				}
			}
		}
	}
	fmt.Fprintf(a.out, "%d entries, %d bodies read: %d malformed entries, %d without a body, %d corrupt\n",
		entries, len(checked), malformed, missing, corrupt)
	if malformed+corrupt > 0 {
		return fmt.Errorf("%d damaged entries were dropped", malformed+corrupt)
	}
	return nil
}
