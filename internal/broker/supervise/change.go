package supervise

import "github.com/fastbind/fastbind/internal/definition"

// A When says from when on a changed field of a definition holds.
type When uint8

// From when on a change holds; the later ones include the earlier.
const (
	AtOnce     When = iota // of the generation that runs too
	NextLaunch             // it goes on as it was launched until it ends or is restarted
	Elsewhere              // it is the definition of another endpoint
)

// fields says from when on each holds; those of a definition that are not here are of
// the launch, since what is new is rather not applied to what runs.
var fields = map[string]When{
	// The broker's own patience and policy.
	"restart": AtOnce, "backoff_min": AtOnce, "backoff_max": AtOnce, "backoff_factor": AtOnce, "backoff_reset": AtOnce,
	"ready_within": AtOnce, "hang_after": AtOnce, "on_hang": AtOnce,

	// What clients are told, or do.
	"on_version": AtOnce, "min_version": AtOnce, "allow_versions": AtOnce,

	// stop_within is in a backend's handover, and watchdog in a daemon's environment.
	"stop_within": NextLaunch, "watchdog": NextLaunch,

	"service": Elsewhere, "instance": Elsewhere,
	// One that binds its endpoint itself cannot be held.
	"bind": Elsewhere,
}

// Applies says from when on a changed definition holds: the latest of its fields that
// differ.
//
//   - AtOnce: [Changed] with the new policy.
//   - NextLaunch: [Changed] with Launch. What runs is not touched, as without a
//     standing broker; status and why name the fields, a restart applies them.
//   - Elsewhere: the old endpoint is disabled, and the other one enabled.
//
// coexist says that the endpoint's name has the environment or the version in it.
func Applies(differences []definition.Difference, coexist bool) When {
	latest := AtOnce
	for _, d := range differences {
		when, known := fields[d.Field]
		switch {
		case !known:
			when = NextLaunch
		case d.Field == "on_version" && (d.Have == string(definition.VersionCoexist) || d.Want == string(definition.VersionCoexist)):
			when = Elsewhere
		}
		switch d.Field {
		case "env_policy":
			if d.Have == string(definition.EnvCoexist) || d.Want == string(definition.EnvCoexist) {
				when = Elsewhere
			}
		case "env", "version":
			if coexist {
				when = Elsewhere
			}
		}
		latest = max(latest, when)
	}
	return latest
}
