package version

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func wants(t interface{ Fatal(...any) }, texts ...string) []Want {
	var all []Want
	for _, s := range texts {
		w := Want{}
		if s != "" {
			var err error
			if w, err = ParseWant(s); err != nil {
				t.Fatal(err)
			}
		}
		all = append(all, w)
	}
	return all
}

// TestPolicy is the version matrix: what each policy does with each pair.
func TestPolicy(t *testing.T) {
	one, two := Executable{8, 100, 5000, 1700, "/usr/bin/d"}, Executable{8, 200, 6000, 1800, "/opt/d"}
	moved := one
	moved.Path = "/mnt/usr/bin/d"
	version := func(v string) Identity { return Identity{Version: v} }
	build := func(v, b string) Identity { return Identity{Version: v, BuildID: b} }
	exe := func(v, b string, e Executable) Identity { return Identity{v, b, e} }
	for _, tt := range []struct {
		name                    string
		have, want              Identity
		limit, floor            string
		allow                   []string
		ignore, replace, refuse Action
	}{
		{name: "nothing known", ignore: Use, replace: Use, refuse: Use},
		{name: "same", have: exe("1.2.3", "b", one), want: exe("1.2.3", "b", one), ignore: Use, replace: Use, refuse: Use},
		{name: "running one unknown", want: exe("1.2.3", "b", one), ignore: Use, replace: Use, refuse: Use},
		{name: "own one unknown", have: exe("1.2.3", "b", one), ignore: Use, replace: Use, refuse: Use},
		{name: "nothing in common", have: version("1.2.3"), want: exe("", "b", one), ignore: Use, replace: Use, refuse: Use},

		{name: "older", have: version("1.2.3"), want: version("1.2.4"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "newer", have: version("1.2.4"), want: version("1.2.3"), ignore: Use, replace: Use, refuse: RefuseIt},
		{name: "release candidate", have: version("1.2.4-rc.9"), want: version("1.2.4-rc.10"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "release after its candidate", have: version("1.2.4"), want: version("1.2.4-rc.1"), ignore: Use, replace: Use, refuse: RefuseIt},
		{name: "pseudo-versions", have: version("v0.0.0-20200101000000-abcdef123456"), want: version("v0.0.0-20200101000001-000000000000"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "the v does not count", have: version("v1.2.3"), want: version("1.2.3"), ignore: Use, replace: Use, refuse: Use},
		{name: "no order", have: version("build-78"), want: version("build-77"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "no order on one side", have: version("2.0.0"), want: version("(devel)"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "malformed", have: version("1.3"), want: version("1.2"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},

		{name: "versions outrank builds", have: exe("1.2.3", "b", one), want: exe("1.2.3", "c", two), ignore: Use, replace: Use, refuse: Use},
		{name: "newer, another build", have: build("1.2.4", "b"), want: build("1.2.3", "c"), ignore: Use, replace: Use, refuse: RefuseIt},
		{name: "builds", have: build("", "b"), want: build("", "c"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "builds, one version", have: build("1.2.3", "b"), want: build("", "c"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "builds outrank files", have: exe("", "b", one), want: exe("", "b", two), ignore: Use, replace: Use, refuse: Use},
		{name: "files", have: exe("", "", one), want: exe("", "", two), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "files, one build", have: exe("", "b", one), want: exe("", "", two), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "another path", have: exe("", "", one), want: exe("", "", moved), ignore: Use, replace: Use, refuse: Use},
		{name: "only paths known", have: exe("", "", Executable{Path: "/a"}), want: exe("", "", Executable{Path: "/b"}), ignore: Use, replace: Use, refuse: Use},

		{name: "devel", have: build("(devel)", "b"), want: build("(devel)", "c"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "devel, same build", have: build("(devel)", "b"), want: build("(devel)", "b"), ignore: Use, replace: Use, refuse: Use},
		{name: "dirty", have: exe("1.2.3+dirty", "", one), want: exe("1.2.3+dirty", "", two), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "metadata", have: build("1.2.3", "b"), want: build("1.2.3+x", "c"), ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "metadata alone", have: version("1.2.3+a"), want: version("1.2.3+b"), ignore: Use, replace: Use, refuse: Use},

		{name: "want allows older", have: version("1.2.3"), want: version("1.2.4"), limit: "1.2", ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "want allows newer", have: version("1.2.4"), want: version("1.2.3"), limit: "1.2", ignore: Use, replace: Use, refuse: RefuseIt},
		{name: "want allows same", have: version("1.2.3"), want: version("1.2.3"), limit: "1.2.3", ignore: Use, replace: Use, refuse: Use},
		{name: "want excludes older", have: version("1.2.3"), want: version("1.2.4"), limit: "1.2.4", ignore: RefuseIt, replace: WaitForReplace, refuse: RefuseIt},
		{name: "want excludes newer", have: version("1.2.4"), want: version("1.2.3"), limit: "<1.2.4", ignore: RefuseIt, replace: WaitForReplace, refuse: RefuseIt},
		{name: "want excludes same", have: version("1.2.3"), want: version("1.2.3"), limit: "2", ignore: RefuseIt, replace: WaitForReplace, refuse: RefuseIt},
		{name: "want excludes unknown", want: version("1.2.3"), limit: "1.2", ignore: RefuseIt, replace: WaitForReplace, refuse: RefuseIt},
		{name: "want excludes devel", have: version("(devel)"), limit: ">=0.0.0-0", ignore: RefuseIt, replace: WaitForReplace, refuse: RefuseIt},
		{name: "want of a text", have: version("(devel)"), limit: "(devel)", ignore: Use, replace: Use, refuse: Use},

		{name: "floor holds, older", have: version("1.2.3"), want: version("1.2.4"), floor: ">=1.2", ignore: Use, replace: UseAndReplace, refuse: RefuseIt},
		{name: "floor holds, newer", have: version("1.2.4"), want: version("1.2.3"), floor: ">=1.2", ignore: Use, replace: Use, refuse: RefuseIt},
		{name: "below the floor", have: version("1.2.0-rc.1"), want: version("1.2.0"), floor: ">=1.2", ignore: Use, replace: WaitForReplace, refuse: RefuseIt},
		{name: "unknown below the floor", want: version("1.2.3"), floor: ">=1.2", ignore: Use, replace: WaitForReplace, refuse: RefuseIt},
		{name: "want holds, floor does not", have: version("1.1.0"), want: version("1.2.3"), limit: "1", floor: ">=1.2", ignore: Use, replace: WaitForReplace, refuse: RefuseIt},

		{name: "allowed", have: version("1.4.2"), want: version("1.4.2"), allow: []string{"1.3", "1.4.2"}, ignore: Use, replace: Use, refuse: Use},
		{name: "allowed text", have: version("build-77"), want: version("build-77"), allow: []string{"1.3", "build-77"}, ignore: Use, replace: Use, refuse: Use},
		{name: "not allowed", have: version("1.5.0"), want: version("1.4.2"), allow: []string{"1.3", "1.4.2"}, ignore: Use, replace: WaitForReplace, refuse: RefuseIt},
		{name: "allowed below the floor", have: version("1.3.0"), want: version("1.3.0"), floor: ">=1.3.1", allow: []string{"1.3", "1.4.2"}, ignore: Use, replace: WaitForReplace, refuse: RefuseIt},
	} {
		w := wants(t, tt.limit, tt.floor)
		limits := Limits{Want: w[0], Floor: w[1], Allow: wants(t, tt.allow...)}
		for policy, want := range map[Policy]Action{
			Ignore: tt.ignore, "": tt.ignore, Replace: tt.replace, Refuse: tt.refuse, Coexist: Use,
		} {
			got, differences := Decide(policy, tt.have, tt.want, limits)
			if got != want {
				t.Errorf("%s: %q says %q, want %q", tt.name, policy, got, want)
			}
			if (got == Use) != (len(differences) == 0) {
				t.Errorf("%s: %q says %q because of %v", tt.name, policy, got, differences)
			}
		}
	}
}

func TestDifferences(t *testing.T) {
	have := Identity{"1.2.0", "b1", Executable{8, 100, 5000, 1700, "/usr/bin/d"}}
	ours := Identity{"1.3.0", "b2", Executable{8, 200, 6000, 1800, "/opt/d"}}
	w := wants(t, "1.3", ">=1.2.5, <2")
	limits := Limits{Want: w[0], Floor: w[1], Allow: wants(t, "1.2.7", "build-77")}
	identities := []Difference{
		{"version", "1.2.0", "1.3.0"},
		{"build_id", "b1", "b2"},
		{"path", "/usr/bin/d", "/opt/d"},
		{"inode", "100", "200"},
		{"size", "5000", "6000"},
		{"mtime_ns", "1700", "1800"},
	}
	excluded := []Difference{{"want", "1.2.0", "1.3"}, {"floor", "1.2.0", ">=1.2.5, <2"}, {"allow", "1.2.0", "1.2.7 or build-77"}}
	inPlace := have
	inPlace.Executable.MtimeNS++
	inPlace.Version, inPlace.BuildID = "", ""
	for _, tt := range []struct {
		name   string
		policy Policy
		want   Identity
		limits Limits
		action Action
		all    []Difference
	}{
		{"refuse", Refuse, ours, Limits{}, RefuseIt, identities},
		{"replace", Replace, ours, Limits{}, UseAndReplace, identities},
		{"excluded", Refuse, ours, limits, RefuseIt, append(excluded[:3:3], identities...)},
		{"wait", Replace, ours, limits, WaitForReplace, append(excluded[:3:3], identities...)},
		{"ignore tells of the want only", Ignore, ours, limits, RefuseIt, append(excluded[:1:1], identities...)},
		{"the same path", Refuse, inPlace, Limits{}, RefuseIt, []Difference{{"path", "/usr/bin/d", "/usr/bin/d"}, {"mtime_ns", "1700", "1701"}}},
		{"own one unknown", Refuse, Identity{}, Limits{Want: w[0]}, RefuseIt, []Difference{excluded[0], {"path", "/usr/bin/d", ""}}},
	} {
		action, all := Decide(tt.policy, have, tt.want, tt.limits)
		if action != tt.action {
			t.Errorf("%s: %q, want %q", tt.name, action, tt.action)
		}
		if d := cmp.Diff(tt.all, all); d != "" {
			t.Errorf("%s: (-want +got)\n%s", tt.name, d)
		}
	}
}

// Two clients that dial in turn under Replace, each with its own build, come to
// rest on the higher version, whatever else differs.
func TestReplaceComesToRest(t *testing.T) {
	identity := rapid.Custom(func(t *rapid.T) Identity {
		return Identity{
			Version: anyVersion.Draw(t, "version"),
			BuildID: rapid.SampledFrom([]string{"", "b", "c"}).Draw(t, "build"),
		}
	})
	rapid.Check(t, func(t *rapid.T) {
		clients := []Identity{identity.Draw(t, "a"), identity.Draw(t, "b")}
		c := parsed(t, clients[0].Version).Compare(parsed(t, clients[1].Version))
		if c == 0 {
			t.Skip("neither is the newer: that is for the flap detector")
		}
		running, replaced := clients[0], 0
		for i := range 6 {
			switch action, _ := Decide(Replace, running, clients[i%2], Limits{}); action {
			case UseAndReplace:
				running = clients[i%2]
				replaced++
			case Use:
			default:
				t.Fatal(action)
			}
		}
		newest := clients[0]
		if c < 0 {
			newest = clients[1]
		}
		if running != newest || replaced > 1 {
			t.Fatalf("%v runs after %d replacements", running, replaced)
		}
	})
}
