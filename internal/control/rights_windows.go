package control

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/jsonlite"
	"github.com/fastbind/fastbind/internal/pipe"
	"github.com/fastbind/fastbind/internal/varlink"
)

func sendWith(conn *endpoint.Conn, frame []byte, _ *endpoint.Listener) error {
	_, err := conn.Write(frame)
	return err
}

// Handover asks the daemon to be succeeded by the caller. There is no file: who succeeds
// makes instances of the pipe's name itself when it takes over. The daemon takes this
// connection for the successor's life: until it is closed it neither ends by itself nor
// refuses anybody.
func (c *Client) Handover(ctx context.Context) (*os.File, error) {
	return nil, c.ask(ctx, varlink.Call{Method: "io.fastbind.Daemon.Handover"}, false, nil)
}

// unheard is how many replies are written that the broker has not confirmed: of so many
// changes of the queue it may not know when the daemon dies.
const unheard = 4

// heardWithin bounds the wait for a broker to confirm. One that hangs is told nothing more.
const heardWithin = time.Second

var errUnheard = errors.New("the broker does not confirm what it is told")

// hold tells the peer what is in the queue until it hangs up, or the daemon has left the
// queue.
func hold(p *varlink.Peer, c varlink.Call, with func() (*Succession, error)) error {
	switch {
	case !c.More:
		return p.Fail(c, varlink.InvalidParameter, "parameter", "more")
	case p.Data != nil:
		return p.Fail(c, errHandoverRefused, "reason", "this connection has the listener already")
	}
	s, err := with()
	if err != nil {
		return p.Fail(c, errHandoverRefused, "reason", err.Error())
	}
	p.Data = s // ended when the peer is gone
	p.Keep()
	room, left, lost := make(chan struct{}, unheard), make(chan struct{}), make(chan struct{})
	begun := false // of a successor the queue is empty at first
	tell := func(made, taken []uintptr) error {
		late := time.NewTimer(heardWithin)
		defer late.Stop()
		err := error(nil)
		select {
		case room <- struct{}{}:
			err = p.Reply(c, true, change(made, taken))
		case <-p.HungUp():
			err = varlink.ErrHungUp
		case <-late.C:
			err = errUnheard
		}
		switch {
		case err != nil:
			s.Lost()
			close(lost)
		case len(made)+len(taken) == 0 && begun:
			close(left)
		}
		begun = true
		return err
	}
	if err := s.Listener.Tell(tell); err != nil {
		return err
	}
	for {
		select {
		case <-p.Another():
			select {
			case <-room:
			default:
			}
		case <-left:
			return p.Reply(c, false, jsonlite.Object(jsonlite.Member{Name: "left", Value: jsonlite.Bool(true)}).Append)
		// If anybody is taken after one of these, tell fails.
		case <-p.HungUp():
			return varlink.ErrHungUp
		case <-p.Closing():
			return varlink.ErrHungUp
		case <-lost:
			return errUnheard // which ends the connection: the broker is to ask again
		}
	}
}

// change is a reply to Hold.
func change(made, taken []uintptr) func([]byte) []byte {
	return jsonlite.Object(
		jsonlite.Member{Name: "pid", Value: jsonlite.Int(int64(os.Getpid()))},
		jsonlite.Member{Name: "made", Value: handles(made)},
		jsonlite.Member{Name: "taken", Value: handles(taken)}).Append
}

func handles(list []uintptr) jsonlite.Value {
	var values []jsonlite.Value
	for _, h := range list {
		values = append(values, jsonlite.Int(int64(h)))
	}
	return jsonlite.Array(values...)
}

// A Change is what a daemon tells the broker that holds its queue.
type Change struct {
	PID         int
	Made, Taken []uintptr // handles there
	Left        bool      // it takes no more
}

// Hold asks the daemon to be told of its queue, as the standing broker that holds it,
// and calls each with what is in it at first, and then with every change. Until this
// connection is closed, the daemon leaves its queue to the caller when it ends. holder is
// the directory of the broker's generation, whose life lock shows that the broker lives.
//
// It blocks until the daemon has left its queue, which is nil, the connection ends, or
// each returns an error.
func (c *Client) Hold(ctx context.Context, holder string, each func(Change) error) error {
	const method = "io.fastbind.Daemon.Hold"
	heard := varlink.Call{Method: method, Oneway: true}.AppendFrame(nil)
	return c.ask(ctx, varlink.Call{Method: method, More: true,
		Parameters: jsonlite.Object(jsonlite.Member{Name: "holder", Value: jsonlite.String(holder)})}, false,
		func(v jsonlite.Value) (stop bool, err error) {
			f := varlink.FieldsOf(v)
			change := Change{PID: int(f.IntegerOr("pid", 0)), Left: f.Flag("left")}
			change.Made, change.Taken = handlesOf(v.Get("made")), handlesOf(v.Get("taken"))
			if f.Err != nil {
				return false, f.Err
			}
			if err = each(change); err == nil && !change.Left {
				// There is room for it. Of a daemon that is dead by now what it has
				// told is still to be read.
				_, _ = c.wire.Conn().Write(heard)
			}
			return false, err
		})
}

// handlesOf returns those that a list has; who gets a handle looks what it is of.
func handlesOf(list jsonlite.Value) (values []uintptr) {
	if list.Kind() != jsonlite.KindArray {
		return nil
	}
	for _, v := range list.All() {
		if h, ok := v.Int(); ok && len(values) < pipe.MaxQueue {
			values = append(values, uintptr(h))
		}
	}
	return values
}
