package owner

import (
	"errors"
	"io/fs"
	"strings"
	"testing"

	"golang.org/x/sys/windows"
)

func TestCheck(t *testing.T) {
	own, err := SID()
	if err != nil {
		t.Fatal(err)
	}
	if err := Check(own); err != nil {
		t.Errorf("our own: %v", err)
	}
	for _, kind := range []windows.WELL_KNOWN_SID_TYPE{windows.WinLocalSystemSid, windows.WinBuiltinAdministratorsSid, windows.WinWorldSid} {
		sid, err := windows.CreateWellKnownSid(kind)
		if err != nil {
			t.Fatal(err)
		}
		err = Check(sid)
		var e *Error
		if !errors.As(err, &e) || e.SID != sid.String() || e.Own != own.String() || !errors.Is(err, fs.ErrPermission) {
			t.Errorf("%v: %v", sid, err)
		}
		if !strings.Contains(err.Error(), e.SID) || !strings.Contains(err.Error(), e.Own) {
			t.Errorf("%q does not name both", err)
		}
	}
	if err := Check(nil); !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "an unknown user") {
		t.Errorf("nobody: %v", err)
	}
}

func TestOnly(t *testing.T) {
	own, err := SID()
	if err != nil {
		t.Fatal(err)
	}
	for inherit, want := range map[bool]string{false: "O:OWND:P(A;;FA;;;OWN)", true: "O:OWND:P(A;OICI;FA;;;OWN)"} {
		sd, err := Only(inherit)
		if err != nil {
			t.Fatal(err)
		}
		if got, want := sd.String(), strings.ReplaceAll(want, "OWN", own.String()); got != want {
			t.Errorf("inherit %v: %s, want %s", inherit, got, want)
		}
	}
}
