package try

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/fastbind/fastbind/examples/gocache/gocache"
)

// A pong is what one client process met, as gocache ping --json says it.
type pong struct {
	PID         int     `json:"pid"`
	Phase       string  `json:"phase"`
	ConnectedMS float64 `json:"connected_ms"`
	AnsweredMS  float64 `json:"answered_ms"`

	err error
}

func (p pong) connected() time.Duration {
	return time.Duration(p.ConnectedMS * float64(time.Millisecond))
}
func (p pong) answered() time.Duration {
	return time.Duration(p.AnsweredMS * float64(time.Millisecond))
}

// A crowd is client processes that have started and wait at a gate, so that they
// dial at the same moment.
type crowd struct {
	gate *os.File // closing it opens the gate
	cmds []*exec.Cmd
	outs []*bytes.Buffer
	ends sync.WaitGroup
}

// gather starts the clients and lets them wait.
func (w *world) gather(ctx context.Context, n int) (*crowd, error) {
	r, gate, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := &crowd{gate: gate}
	for range n {
		cmd := w.command(ctx, w.cacheEnv(), w.cfg.Self, gocache.Hidden, "ping", "--gate", "--json")
		out := &bytes.Buffer{}
		cmd.Stdin, cmd.Stdout, cmd.Stderr = r, out, out
		if err := cmd.Start(); err != nil {
			c.release()
			c.ends.Wait()
			return nil, fmt.Errorf("starting %d clients: %w", n, err)
		}
		c.cmds, c.outs = append(c.cmds, cmd), append(c.outs, out)
	}
	return c, nil
}

// release opens the gate and returns what each client met, as they end. No
// client is held up by who reads that.
func (c *crowd) release() <-chan pong {
	pongs := make(chan pong, len(c.cmds))
	_ = c.gate.Close()
	for i, cmd := range c.cmds {
		c.ends.Go(func() {
			err := cmd.Wait()
			pongs <- pongOf(c.outs[i], err)
		})
	}
	return pongs
}

func pongOf(out io.Reader, err error) (p pong) {
	text, _ := io.ReadAll(out)
	if err == nil {
		err = json.Unmarshal(text, &p)
	}
	if err != nil {
		p.err = fmt.Errorf("%w: %s", err, strings.TrimSpace(string(text)))
	}
	return p
}

// ping is one client.
func (w *world) ping(ctx context.Context) (pong, error) {
	cmd := w.command(ctx, w.cacheEnv(), w.cfg.Self, gocache.Hidden, "ping", "--json")
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return pongOf(&out, err), ctx.Err()
}

// A count is what a crowd met.
type count struct {
	served, loading              int
	byPID                        map[int]int
	connectedHalf, connectedLast time.Duration
	answeredHalf, answeredLast   time.Duration
	failure                      error
}

func tally(pongs []pong) count {
	c := count{byPID: map[int]int{}}
	var connected, answered []time.Duration
	for _, p := range pongs {
		if p.err != nil {
			c.failure = p.err
			continue
		}
		c.served++
		c.byPID[p.PID]++
		if p.Phase == "loading" {
			c.loading++
		}
		connected, answered = append(connected, p.connected()), append(answered, p.answered())
	}
	if c.served > 0 {
		slices.Sort(connected)
		slices.Sort(answered)
		c.connectedHalf, c.connectedLast = connected[c.served/2], connected[c.served-1]
		c.answeredHalf, c.answeredLast = answered[c.served/2], answered[c.served-1]
	}
	return c
}

func (c count) pids() string {
	var text []string
	for _, pid := range slices.Sorted(maps.Keys(c.byPID)) {
		text = append(text, strconv.Itoa(pid))
	}
	return strings.Join(text, ", ")
}

var errNoDaemon = errors.New("the daemon is not to be found")
