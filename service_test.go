package fastbind

import (
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/launch"
)

// FuzzService: of any service comes a definition that is stored and taken again
// unchanged, with all that the service says, or a refusal that names the field.
func FuzzService(f *testing.F) {
	f.Add("gocache", "", "serve\n-v", "", false, "broker", "/srv", "A=1\nB", "coexist", "", "1.2.3", int64(time.Second), "replace", "replace", "1.0.0", "1\n>=1.2, <2")
	f.Add("a", "ci", "", "/usr/bin/webd\n", true, "", "", "", "", "N={fd};", "(devel)", int64(0), "", "", "", "")
	f.Add("A", "", "", "x", false, "daemon", "relative", "1=2", "refuse", "N", "\x00", int64(-1), "report", "refuse", "v1", "<=1")
	f.Fuzz(func(t *testing.T, name, instance, args, command string, foreign bool, bind, dir, env, envPolicy, fdEnv, version string, within int64, onHang, onVersion, minVersion, allow string) {
		list := func(s string) []string {
			if s == "" {
				return nil
			}
			return strings.Split(s, "\n")
		}
		s := Service{
			Name: name, Instance: instance, Args: list(args), Command: list(command), Foreign: foreign, Bind: Bind(bind), Dir: dir,
			Env: list(env), EnvPolicy: EnvPolicy(envPolicy), FDEnv: list(fdEnv), Version: version,
			BoundWithin: time.Duration(within), AdoptWithin: time.Duration(within), StopWithin: time.Duration(within), IdleExit: time.Duration(within),
			HangAfter: time.Duration(within), OnHang: HangPolicy(onHang), OnVersion: VersionPolicy(onVersion), MinVersion: minVersion, AllowVersions: list(allow),
		}
		d, err := s.definition()
		if err != nil {
			var invalid *definition.Invalid
			if !errors.As(err, &invalid) || invalid.Field == "" || strings.Contains(err.Error(), "\n") {
				t.Fatalf("refused as %#v", err)
			}
			var fe *Error
			if public := publicError(err); !errors.Is(public, ErrRefused) || !errors.As(public, &fe) || fe.Service != name {
				t.Fatalf("refused in public as %#v", public)
			}
			return
		}
		var stored definition.Definition
		for _, field := range d.Fields() {
			if err := stored.Set(field.Key, field.Value); err != nil {
				t.Fatalf("%s %q: %v", field.Key, field.Value, err)
			}
		}
		if diff := cmp.Diff(d, stored, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-made +stored):\n%s", diff)
		}
		want := d
		want.Service, want.Foreign, want.Env, want.FDEnv, want.Version, want.IdleExit = name, foreign, s.Env, s.FDEnv, version, s.IdleExit
		want.MinVersion, want.AllowVersions = minVersion, s.AllowVersions
		if want.Command = s.Command; len(s.Command) == 0 {
			want.Command, want.Self = append([]string{""}, s.Args...), true
		}
		for _, o := range []struct {
			given string
			is    *string
		}{
			{instance, &want.Instance}, {dir, &want.Dir}, {bind, (*string)(&want.Bind)}, {envPolicy, (*string)(&want.EnvPolicy)},
			{onHang, (*string)(&want.OnHang)}, {onVersion, (*string)(&want.OnVersion)},
		} {
			if o.given != "" {
				*o.is = o.given
			}
		}
		if within != 0 {
			want.BoundWithin, want.AdoptWithin, want.StopWithin, want.HangAfter = s.BoundWithin, s.AdoptWithin, s.StopWithin, s.HangAfter
		}
		if diff := cmp.Diff(want, d, cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("(-said +made):\n%s", diff)
		}
	})
}

// TestRemembered: a service is taken for the one before only if nothing differs, not
// even within a list that its caller has changed in place.
func TestRemembered(t *testing.T) {
	t.Setenv("FASTBIND_RUNTIME_DIR", t.TempDir())
	base := func() Service {
		return Service{Name: "a", Args: []string{"x", "y"}, Env: []string{"A"}}
	}
	remember := func(s Service) *launch.Broker {
		t.Helper()
		b, err := s.broker()
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	s := base()
	b := remember(s)
	if same := base(); same.remembered() != b || remember(same) != b {
		t.Error("the same service is not remembered")
	}
	v := reflect.ValueOf(&s).Elem()
	for i := range v.NumField() {
		s = base()
		switch f := v.Field(i); f.Kind() {
		case reflect.String:
			f.SetString(f.String() + "1")
		case reflect.Bool:
			f.SetBool(!f.Bool())
		case reflect.Int64:
			f.SetInt(f.Int() + 1)
		case reflect.Slice:
			f.Set(reflect.Append(f, reflect.ValueOf("1")))
		default:
			t.Fatalf("%s is of a kind that this test does not know", v.Type().Field(i).Name)
		}
		if s.remembered() != nil {
			t.Errorf("a service with another %s is taken for the one before", v.Type().Field(i).Name)
		}
	}

	s = base()
	remember(s)
	s.Args[1] = "z"
	if s.remembered() != nil || remember(s).Def.Command[2] != "z" {
		t.Error("the list was the caller's")
	}

	b = remember(base())
	t.Setenv("XDG_STATE_HOME", t.TempDir()) // where it is kept is not where it is dialled
	if same := base(); same.remembered() != b || remember(same) == b {
		t.Error("another directory for state: dialled anew, or launched by the old one")
	}
	for _, name := range []string{"FASTBIND_RUNTIME_DIR", "XDG_RUNTIME_DIR"} {
		remember(base())
		t.Setenv(name, t.TempDir())
		if same := base(); (same.remembered() == nil) != (name == "FASTBIND_RUNTIME_DIR") {
			t.Errorf("with another %s: %v", name, same.remembered())
		}
	}
	t.Setenv("FASTBIND_RUNTIME_DIR", "")
	for _, name := range []string{"XDG_RUNTIME_DIR", "HOME"} {
		remember(base())
		t.Setenv(name, t.TempDir())
		if same := base(); same.remembered() != nil {
			t.Errorf("with another %s the service is looked for where it was", name)
		}
	}
}
