package probe

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fastbind/fastbind/internal/broker/backlog"
)

// An httpGet asks for a path and takes an answer of 2xx or 3xx for readiness;
// redirections are not followed. It reads no more than the status line, so package
// net/http, which would make the command larger by 5 MB, is not used.
type httpGet struct {
	target Target
	path   string
	within time.Duration // from being accepted to the answer
}

// maxHead bounds what is read of answers, those of 1xx included.
const maxHead = 64 << 10

func (*httpGet) changed() <-chan struct{} { return nil }

func (*httpGet) close() {}

func (g *httpGet) look(ctx context.Context) (bool, string, error) {
	what := "GET " + g.path + ": "
	status, err := g.ask(ctx)
	switch {
	case errors.Is(err, errUnaccepted):
		return false, what + "the connection waits to be accepted", nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return false, what + "no answer", nil
	case err != nil:
		return false, what + errno(err), nil
	}
	code, _, _ := strings.Cut(status, " ")
	ready := len(code) == 3 && (code[0] == '2' || code[0] == '3')
	return ready, what + clean(status, maxSeen), nil
}

// errUnaccepted is the deadline, of a connection that nobody has accepted.
var errUnaccepted = errors.New("the connection was not accepted")

// ask returns what follows the version in the status line. It ends with ctx, or
// when a daemon that has accepted the connection does not answer in time.
func (g *httpGet) ask(ctx context.Context) (string, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, g.target.Network, g.target.Address)
	if err != nil {
		return "", err
	}
	defer conn.Close()
	// The deadline is moved under way, but never by one who comes after the end.
	deadline := func() error {
		if err := conn.SetDeadline(time.Now().Add(g.within)); err != nil || ctx.Err() == nil {
			return err
		}
		return conn.SetDeadline(time.Unix(0, 1))
	}
	defer context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(0, 1)) })()
	if err := deadline(); err != nil {
		return "", err
	}
	host := "localhost"
	if g.target.Network != "unix" {
		host = g.target.Address
	}
	_, err = io.WriteString(conn, "GET "+g.path+" HTTP/1.1\r\nHost: "+host+"\r\nUser-Agent: fastbind\r\nAccept: */*\r\nConnection: close\r\n\r\n")
	if err != nil && !errors.Is(err, syscall.EPIPE) { // it may have answered all the same
		return "", err
	}
	return readStatus(bufio.NewReader(io.LimitReader(patient{conn, deadline, ctx}, maxHead)))
}

// patient reads from a connection, and goes on where the deadline finds that
// nobody has accepted it: whoever has to wait for a daemon that loads does so in its
// queue, once, and does not fill it.
type patient struct {
	net.Conn
	deadline func() error
	ctx      context.Context
}

func (p patient) Read(b []byte) (int, error) {
	for {
		n, err := p.Conn.Read(b)
		if n > 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			return n, err
		}
		c, ok := p.Conn.(*net.UnixConn)
		if !ok {
			return n, err
		}
		if accepted, aerr := backlog.Accepted(c); accepted || aerr != nil {
			return n, err
		}
		if p.ctx.Err() != nil {
			return n, errUnaccepted
		}
		if err := p.deadline(); err != nil {
			return n, err
		}
	}
}

// readStatus returns status code and reason of the first answer that is not 1xx
// (RFC 9112, 4; RFC 9110, 15.2).
func readStatus(r *bufio.Reader) (string, error) {
	for {
		line, err := readLine(r)
		if err != nil {
			return "", err
		}
		version, status, _ := strings.Cut(line, " ")
		code, _, _ := strings.Cut(status, " ")
		if n, err := strconv.ParseUint(code, 10, 16); !strings.HasPrefix(version, "HTTP/1.") || err != nil || n < 100 || n > 999 || len(code) != 3 {
			return "", errors.New("no HTTP answer: " + quoted(line))
		}
		if code[0] != '1' || code == "101" {
			return strings.TrimSuffix(status, " "), nil
		}
		for line != "" {
			if line, err = readLine(r); err != nil {
				return "", err
			}
		}
	}
}

func readLine(r *bufio.Reader) (string, error) {
	line, err := r.ReadSlice('\n')
	switch {
	case err == nil:
		return strings.TrimSuffix(string(line[:len(line)-1]), "\r"), nil
	case errors.Is(err, bufio.ErrBufferFull):
		return "", errors.New("no HTTP answer: a line is too long")
	case err == io.EOF && len(line) > 0:
		return "", errors.New("no HTTP answer: " + quoted(string(line)))
	case err == io.EOF:
		return "", errors.New("closed without an answer")
	}
	return "", err
}
