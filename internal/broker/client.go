package broker

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/fastbind/fastbind/internal/proc"
)

// client is the environment that the contracts of daemons select from: the broker's, and
// what the password database says of its user where that says nothing. An activation has
// no time to read the database, which is read again when it has changed.
type client struct {
	environ func() []string

	mu   sync.Mutex
	in   fs.FileInfo // of the database, nil before it was read
	says []string
}

const passwd = "/etc/passwd"

// variables is safe for concurrent use.
func (c *client) variables() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	fi, err := os.Stat(passwd)
	if err != nil {
		return c.environ()
	}
	if c.in == nil || !os.SameFile(c.in, fi) || c.in.Size() != fi.Size() || !c.in.ModTime().Equal(fi.ModTime()) {
		c.in, c.says = fi, nil
		if home, name, shell, err := proc.Account(os.Geteuid()); err == nil {
			c.says = []string{"HOME=" + home, "USER=" + name, "LOGNAME=" + name, "SHELL=" + shell}
		}
	}
	env := c.environ()
	for _, v := range c.says {
		name, _, _ := strings.Cut(v, "=")
		has := func(e string) bool { n, value, _ := strings.Cut(e, "="); return n == name && value != "" }
		if !slices.ContainsFunc(env, has) {
			env = append(env, v)
		}
	}
	return env
}
