package cli

import (
	"strings"
	"testing"
)

// R21: what would take a daemon along is a finding where it does.
func TestLifetime(t *testing.T) {
	yes, no := true, false
	const (
		session = "/user.slice/user-1000.slice/session-3.scope"
		manager = "/user.slice/user-1000.slice/user@1000.service/app.slice/"
		scope   = manager + "fastbind-default-web-1.scope"
	)
	for _, c := range []struct {
		name string
		l    lifetime
		want string // level
		has  string
		cure bool
	}{
		{"session, logind kills", lifetime{session, session, logind{kills: &yes}}, levelFinding, "KillUserProcesses=yes", true},
		{"session, logind does not", lifetime{session, session, logind{kills: &no}}, levelOK, "session-3.scope", false},
		{"session, nobody tells", lifetime{session, session, logind{}}, levelNote, "if logind", true},
		{"the caller's service", lifetime{"/system.slice/ci.service", "/system.slice/ci.service", logind{kills: &no}}, levelFinding, "ci.service", true},
		{"below the caller's service", lifetime{"/system.slice/ci.service/job", "/system.slice/ci.service", logind{}}, levelFinding, "ci.service", true},
		{"own scope, who lingers", lifetime{scope, session, logind{&yes, &yes}}, levelOK, "stays", false},
		{"own scope, who does not", lifetime{scope, session, logind{&yes, &no}}, levelNote, "last logout", true},
		{"own scope, nobody tells", lifetime{scope, session, logind{}}, levelNote, "last logout", true},
		{"elsewhere", lifetime{"/system.slice/run-1.scope", session, logind{}}, levelOK, "not in session-3.scope", false},
		{"a container's", lifetime{"/ci/job", "/ci/job", logind{}}, levelNote, "/ci/job", true},
		{"the root", lifetime{"/", "/", logind{}}, "", "", false},
	} {
		level, message, hint := c.l.judge()
		if level != c.want || !strings.Contains(message, c.has) || (hint != "") != c.cure {
			t.Errorf("%s: %s %q %q", c.name, level, message, hint)
		}
	}
}
