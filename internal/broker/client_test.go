package broker

import (
	"os"
	"slices"
	"testing"

	"github.com/fastbind/fastbind/internal/environ"
	"github.com/fastbind/fastbind/internal/proc"
)

// TestClient: the contract that a broker makes is the one that a client of the same
// environment would, without a look into the password database.
func TestClient(t *testing.T) {
	account := func() (a environ.Account) {
		a.Home, a.Name, a.Shell, _ = proc.Account(os.Geteuid())
		return a
	}
	if a := account(); a == (environ.Account{}) {
		t.Skip("this user has no account")
	}
	for _, env := range [][]string{nil, {"HOME=", "SHELL=/bin/false"}, {"HOME=/h", "USER=u", "LOGNAME=l", "SHELL=/s"}} {
		c := client{environ: func() []string { return slices.Clone(env) }}
		for range 2 {
			got := environ.Contract(c.variables(), []string{"USER"}, func() (a environ.Account) { t.Errorf("%q: the database is read", env); return a })
			if want := environ.Contract(env, []string{"USER"}, account); !slices.Equal(got, want) {
				t.Errorf("%q: %q, want %q", env, got, want)
			}
		}
	}
}
