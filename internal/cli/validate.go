package cli

import (
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/definition"
)

type validateReply struct {
	Schema int         `json:"schema"`
	Files  []fileJSON  `json:"files"`
	Error  *errorJSON  `json:"error"`
	Errors []errorJSON `json:"errors"`
}

type fileJSON struct {
	Path    string     `json:"path"`
	Valid   bool       `json:"valid"`
	Service *string    `json:"service"`
	Line    *int       `json:"line"`
	Field   *string    `json:"field"`
	Error   *errorJSON `json:"error"`
}

func (a *app) validateCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "validate FILE…",
		Short: "Check definition files",
		Long: `Check definition files as start would read them: syntax, fields, values, and who
can write to them. Each mistake names file, line and field, and the exit status is
5. Nothing is started. The fields are in fastbind help definition, and those of
` + settingsFile + ` in fastbind help broker.`,
		Args: cobra.MinimumNArgs(1),
		ValidArgsFunction: func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
			return []string{"toml"}, cobra.ShellCompDirectiveFilterFileExt
		},
		RunE: func(cmd *cobra.Command, files []string) error {
			r := validateReply{Schema: schema, Files: []fileJSON{}}
			var errs []error
			for _, path := range files {
				d, err := a.validate(path)
				j := fileJSON{Path: path, Valid: err == nil, Error: errorOf(err)}
				if d != nil {
					j.Service = &d.def.Service
				}
				if fe, ok := err.(*fileError); ok {
					j.Line, j.Field = some(fe.line), some(fe.field)
				}
				r.Files = append(r.Files, j)
				switch {
				case err != nil:
					errs = append(errs, err)
				case !a.json:
					line(a.out.w, harmless(path)+": ok")
				}
			}
			if a.json {
				r.Error, r.Errors = worstOf(cmd.Context(), errs), errorsOf(errs)
				a.print(r)
			}
			return a.reportAll(cmd.Context(), errs)
		},
	}
}

// validate checks a file. That with the settings of the broker has no definition.
func (a *app) validate(path string) (*fileDefinition, error) {
	name, ok := strings.CutSuffix(filepath.Base(path), fileSuffix)
	if !ok {
		return nil, &fileError{path: path, text: "a definition file is called NAME.toml"}
	}
	if err := definition.CheckName("service", name); err != nil {
		return nil, &fileError{path: path, text: "the file's name is the service's name: " + err.Error()}
	}
	full := path
	if !filepath.IsAbs(path) {
		wd, err := a.cwd()
		if err != nil {
			return nil, err
		}
		full = filepath.Join(wd, path)
	}
	if err := a.trusted(filepath.Dir(full)); err != nil {
		return nil, err
	}
	var d *fileDefinition
	var err error
	if name == standing.Service {
		_, err = a.readSettings(full)
	} else {
		d, err = a.readFile(full, name)
	}
	if fe, ok := err.(*fileError); ok {
		fe.path = path // as it was given: editors jump to it
	}
	return d, err
}
