package cli

import "github.com/fastbind/fastbind/internal/runtimedir"

// candidates are the directories that may be the runtime root: one.
func (d *doctor) candidates() []candidate {
	if d.a.dirs.RuntimeDir != "" {
		return []candidate{{d.a.dirs.RuntimeDir, "FASTBIND_RUNTIME_DIR", true}}
	}
	return []candidate{{runtimedir.AccountRoot(), "local application data", true}}
}

// shell: no such programs are launched here.
func (d *doctor) shell() {}
