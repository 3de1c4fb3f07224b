package fastbindtest

import (
	"encoding/xml"
	"fmt"
	"io"
	"strings"
	"time"
)

// An Outcome is what came of a case.
type Outcome string

// The outcomes.
const (
	Holds         Outcome = "holds"
	Broken        Outcome = "broken"
	NotApplicable Outcome = "not applicable"

	// Undecided: something kept the case from being judged, such as the end of its
	// time. It makes a report fail, like Broken.
	Undecided Outcome = "undecided"
)

// A Result is what came of one case.
type Result struct {
	Case     Case          `json:"case"`
	Outcome  Outcome       `json:"outcome"`
	Reason   string        `json:"reason"`   // what is broken, or why it does not apply; "" if it holds
	Observed []string      `json:"observed"` // what was seen: processes, statuses, descriptors
	Took     time.Duration `json:"took"`
}

// A Report is what was found.
type Report struct {
	Mode    Mode
	Results []Result
	Took    time.Duration
}

// OK reports whether no rule is broken and every case was decided. A report in
// which nothing applied is not OK.
func (r Report) OK() bool {
	return r.Count(Broken) == 0 && r.Count(Undecided) == 0 && r.Count(Holds) > 0
}

// Count is how many cases had an outcome.
func (r Report) Count(o Outcome) (n int) {
	for _, res := range r.Results {
		if res.Outcome == o {
			n++
		}
	}
	return n
}

// WriteJUnit writes the report as JUnit XML, as CI systems read it: a failure for
// a broken rule, an error for an undecided one, skipped for what does not apply.
func (r Report) WriteJUnit(w io.Writer, suite string) error {
	type message struct {
		Message string `xml:"message,attr"`
		Text    string `xml:",chardata"`
	}
	type testcase struct {
		Class   string   `xml:"classname,attr"`
		Name    string   `xml:"name,attr"`
		Time    string   `xml:"time,attr"`
		Failure *message `xml:"failure"`
		Error   *message `xml:"error"`
		Skipped *message `xml:"skipped"`
		Out     string   `xml:"system-out,omitempty"`
	}
	type testsuite struct {
		XMLName  xml.Name   `xml:"testsuite"`
		Name     string     `xml:"name,attr"`
		Tests    int        `xml:"tests,attr"`
		Failures int        `xml:"failures,attr"`
		Errors   int        `xml:"errors,attr"`
		Skipped  int        `xml:"skipped,attr"`
		Time     string     `xml:"time,attr"`
		Cases    []testcase `xml:"testcase"`
	}
	seconds := func(d time.Duration) string { return fmt.Sprintf("%.3f", d.Seconds()) }
	s := testsuite{Name: suite, Tests: len(r.Results), Failures: r.Count(Broken), Errors: r.Count(Undecided),
		Skipped: r.Count(NotApplicable), Time: seconds(r.Took)}
	for _, res := range r.Results {
		c := testcase{Class: suite, Name: res.Case.Requirement + " " + res.Case.Name, Time: seconds(res.Took),
			Out: strings.Join(res.Observed, "\n")}
		m := &message{Message: res.Reason, Text: res.Case.Rule}
		switch res.Outcome {
		case Broken:
			c.Failure = m
		case Undecided:
			c.Error = m
		case NotApplicable:
			c.Skipped = m
		case Holds:
		}
		s.Cases = append(s.Cases, c)
	}
	if _, err := io.WriteString(w, xml.Header); err != nil {
		return err
	}
	e := xml.NewEncoder(w)
	e.Indent("", "  ")
	if err := e.Encode(s); err != nil {
		return err
	}
	_, err := io.WriteString(w, "\n")
	return err
}
