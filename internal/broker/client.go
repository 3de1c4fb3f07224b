package broker

import (
	"io/fs"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/proc"
)

// client is the environment that the contracts of daemons select from: the broker's, and
// what the password database says of its user where that says nothing. An activation has
// no time to read the database, which is read again when it has changed.
type client struct {
	environ func() []string
	passwd  string // path of the database
	account func() environ.Account

	mu   sync.Mutex
	in   fs.FileInfo // of the database, nil before it was read
	says []string
}

func newClient(environ func() []string) *client {
	return &client{environ: environ, passwd: proc.PasswdPath, account: account}
}

// account is the user's, without anything if the database does not have it.
func account() (a environ.Account) {
	a.Home, a.Name, a.Shell, _ = proc.Account(os.Geteuid())
	return a
}

// variables is safe for concurrent use.
func (c *client) variables() []string {
	env := slices.Clip(c.environ())
	c.mu.Lock()
	defer c.mu.Unlock()
	fi, err := os.Stat(c.passwd)
	if err != nil {
		return env
	}
	if c.in == nil || !os.SameFile(c.in, fi) || c.in.Size() != fi.Size() || !c.in.ModTime().Equal(fi.ModTime()) {
		a := c.account()
		c.in, c.says = fi, nil
		for _, v := range []struct{ name, value string }{{"HOME", a.Home}, {"USER", a.Name}, {"LOGNAME", a.Name}, {"SHELL", a.Shell}} {
			if v.value != "" {
				c.says = append(c.says, v.name+"="+v.value)
			}
		}
	}
	for _, v := range c.says {
		name, _, _ := strings.Cut(v, "=")
		has := func(e string) bool { n, value, _ := strings.Cut(e, "="); return n == name && value != "" }
		if !slices.ContainsFunc(env, has) {
			env = append(env, v)
		}
	}
	return env
}
