package environ

import (
	"slices"
	"strings"
	"testing"
)

// TestContract: the daemon has what programs of Windows need, whatever case the names
// have, what the definition names, and nothing else of who happened to dial first (R18).
func TestContract(t *testing.T) {
	system := "PATH=" + defaultPath()
	if !strings.Contains(strings.ToLower(system), `\system32;`) {
		t.Errorf("the default is %q", system)
	}
	for name, c := range map[string]struct{ client, env, want []string }{
		"nothing at all": {want: []string{system}},
		"any case": {
			client: []string{`Path=C:\bin`, `SystemRoot=C:\Windows`, "windir=W", `ProgramFiles(x86)=P`, "LC_ALL=C"},
			want:   []string{"LC_ALL=C", `PATH=C:\bin`, "PROGRAMFILES(X86)=P", `SYSTEMROOT=C:\Windows`, "WINDIR=W"},
		},
		"a canary secret": {
			client: []string{"GITHUB_TOKEN=canary", "FASTBIND_HANDOVER=canary", "PROMPT=canary", "=C:=C:\\canary", "XDG_RUNTIME_DIR=canary"},
			want:   []string{system},
		},
		"named in another case": {client: []string{"GoFlags=-v"}, env: []string{"GOFLAGS", "Extra=x"}, want: []string{"EXTRA=x", "GOFLAGS=-v", system}},
	} {
		if got := Contract(c.client, c.env, func() Account { return Account{} }); !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
