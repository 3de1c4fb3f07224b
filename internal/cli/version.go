package cli

import (
	"runtime"
	"runtime/debug"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/control"
	"github.com/fastbind/fastbind/internal/handover"
	"github.com/fastbind/fastbind/internal/journal"
	"github.com/fastbind/fastbind/internal/record"
)

type versionReply struct {
	Schema   int         `json:"schema"`
	Version  string      `json:"version"`
	Revision *string     `json:"revision"`
	Go       string      `json:"go"`
	OS       string      `json:"os"`
	Arch     string      `json:"arch"`
	Formats  formatsJSON `json:"formats"`
	Error    *errorJSON  `json:"error"`
}

// formatsJSON are the major versions of the files and wires that releases share.
type formatsJSON struct {
	Record   int `json:"record"`
	Journal  int `json:"journal"`
	Control  int `json:"control"`
	Handover int `json:"handover"`
}

func (a *app) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "version",
		Short:             "Print the version",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(*cobra.Command, []string) error {
			version, revision := buildVersion()
			if a.json {
				a.print(versionReply{Schema: schema, Version: version, Revision: some(revision),
					Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH,
					Formats: formatsJSON{Record: record.Major, Journal: journal.Major, Control: control.Format, Handover: handover.Major}})
				return nil
			}
			text := "fastbind " + version
			if revision != "" {
				text += " (" + revision + ")"
			}
			line(a.out.w, text+" "+runtime.Version()+" "+runtime.GOOS+"/"+runtime.GOARCH)
			return nil
		},
	}
}

// buildVersion is what the linker knows of this build.
func buildVersion() (version, revision string) {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown", ""
	}
	version = info.Main.Version
	if version == "" {
		version = "(devel)"
	}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" {
			revision = s.Value[:min(12, len(s.Value))]
		}
	}
	return version, revision
}
