package fastbindtest

import (
	"bytes"
	"encoding/xml"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMode(t *testing.T) {
	for _, tt := range []struct {
		target Target
		want   Mode
	}{
		{Target{Command: []string{"d"}}, Inherit},
		{Target{Command: []string{"d", "--fd={fd}"}}, Inherit},
		{Target{Command: []string{"d"}, Env: []string{"FPM_SOCKETS={socket}={fd}"}}, Inherit},
		{Target{Command: []string{"d", "--listen", "unix:{socket}"}}, Socket},
		{Target{Command: []string{"d"}, Env: []string{"SOCK={socket}"}}, Socket},
		{Target{Command: []string{"d", "127.0.0.1:{port}"}}, Port},
		{Target{Client: []string{"c", "ping"}}, Client},
	} {
		if got := tt.target.Mode(); got != tt.want {
			t.Errorf("%+v has mode %q, want %q", tt.target, got, tt.want)
		}
	}
}

func TestValidate(t *testing.T) {
	d := []string{"d"}
	for _, tt := range []struct {
		target Target
		want   string // "" if it makes sense
	}{
		{Target{Command: d, Request: "x", Expect: "^y", IdleExit: time.Second}, ""},
		{Target{Client: d, Status: [][]string{d}, Stop: d, Env: []string{"IDLE={idle}"}, IdleExit: time.Second}, ""},
		{Target{}, "no command"},
		{Target{Command: d, Client: d}, "not both"},
		{Target{Command: d, Stop: d}, "belong to a client"},
		{Target{Client: d, Request: "x"}, "its own requests"},
		{Target{Command: d, Expect: "("}, "missing closing )"},
		{Target{Command: d, Only: []string{"nosuch"}}, `no case "nosuch"`},
		{Target{Command: d, Skip: []string{"kill9", "nosuch"}}, `no case "nosuch"`},
		{Target{Command: d, Limits: Limits{Crowd: 1}}, "2 to 1000"},
		{Target{Command: d, Limits: Limits{Case: -1}}, "negative"},
		{Target{Client: d, IdleExit: time.Second}, "{idle}"},
		{Target{Command: d, IdleExit: time.Hour}, "at most 10s"},
	} {
		err := tt.target.Validate()
		if tt.want == "" && err != nil || tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
			t.Errorf("%+v: %v, want %q", tt.target, err, tt.want)
		}
	}
}

// TestCases: names are unique and can be written on a command line, every case
// cites what it is for, and every requirement that is marked for the kit has one.
func TestCases(t *testing.T) {
	names, cited := map[string]bool{}, map[string]bool{}
	for _, c := range Cases() {
		if names[c.Name] || !regexp.MustCompile(`^[a-z0-9-]+$`).MatchString(c.Name) {
			t.Errorf("the name %q", c.Name)
		}
		if !regexp.MustCompile(`^(R\d+|contract)$`).MatchString(c.Requirement) || !strings.HasSuffix(c.Rule, ".") || len(c.Modes) == 0 {
			t.Errorf("%+v is incomplete", c)
		}
		names[c.Name], cited[c.Requirement] = true, true
	}
	for _, r := range []string{"R1", "R2", "R4", "R6", "R7", "R9", "R17", "R18", "R19", "R23", "R24", "R26", "R32", "R34", "R38", "contract"} {
		if !cited[r] {
			t.Errorf("no case for %s", r)
		}
	}
}

// TestDocs: the page has the table of the cases.
func TestDocs(t *testing.T) {
	page, err := os.ReadFile("../docs/check.md")
	if err != nil {
		t.Fatal(err)
	}
	table := "| case | requirement | rule | judged |\n|---|---|---|---|\n"
	for _, c := range Cases() {
		modes := "always"
		if len(c.Modes) < 4 {
			var words []string
			for _, m := range c.Modes {
				words = append(words, string(m))
			}
			modes = strings.Join(words, ", ")
		}
		table += "| `" + c.Name + "` | " + c.Requirement + " | " + c.Rule + " | " + modes + " |\n"
	}
	if !strings.Contains(string(page), "\n\n"+table+"\n") {
		t.Errorf("docs/check.md does not have this table:\n%s", table)
	}
}

func TestReport(t *testing.T) {
	c := Case{Name: "kill9", Requirement: "R9", Rule: "It comes back."}
	r := Report{Results: []Result{
		{Case: c, Outcome: Holds, Observed: []string{"pid 1"}, Took: 1500 * time.Millisecond},
		{Case: c, Outcome: NotApplicable, Reason: "none"},
	}}
	if !r.OK() {
		t.Error("a report of what holds is not OK")
	}
	if (Report{Results: r.Results[1:]}).OK() {
		t.Error("a report in which nothing applied is OK")
	}
	for _, o := range []Outcome{Broken, Undecided} {
		bad := Report{Results: append(r.Results[:2:2], Result{Case: c, Outcome: o, Reason: "a <b> & \"c\" \x1b"})}
		if bad.OK() {
			t.Errorf("a report with %s is OK", o)
		}
		var b bytes.Buffer
		if err := bad.WriteJUnit(&b, "tool & co"); err != nil {
			t.Fatal(err)
		}
		var got struct {
			Name     string `xml:"name,attr"`
			Tests    int    `xml:"tests,attr"`
			Failures int    `xml:"failures,attr"`
			Errors   int    `xml:"errors,attr"`
			Skipped  int    `xml:"skipped,attr"`
			Cases    []struct {
				Name    string `xml:"name,attr"`
				Time    string `xml:"time,attr"`
				Out     string `xml:"system-out"`
				Failure *struct {
					Message string `xml:"message,attr"`
					Text    string `xml:",chardata"`
				} `xml:"failure"`
				Error   *struct{} `xml:"error"`
				Skipped *struct{} `xml:"skipped"`
			} `xml:"testcase"`
		}
		if err := xml.Unmarshal(b.Bytes(), &got); err != nil {
			t.Fatal(err, b.String())
		}
		if got.Name != "tool & co" || got.Tests != 3 || got.Failures+got.Errors != 1 || got.Skipped != 1 || len(got.Cases) != 3 {
			t.Fatalf("%+v", got)
		}
		if first := got.Cases[0]; first.Name != "R9 kill9" || first.Time != "1.500" || first.Out != "pid 1" || first.Failure != nil {
			t.Errorf("%+v", first)
		}
		last := got.Cases[2]
		if got.Cases[1].Skipped == nil || (o == Broken) != (last.Failure != nil) || (o == Undecided) != (last.Error != nil) {
			t.Errorf("%+v", got)
		}
		if last.Failure != nil && (!strings.HasPrefix(last.Failure.Message, `a <b> & "c" `) || last.Failure.Text != c.Rule) {
			t.Errorf("%+v", last.Failure)
		}
	}
}
