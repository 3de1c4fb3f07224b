package cli

import (
	"cmp"
	"errors"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"

	"github.com/spf13/cobra"

	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/definition"
	"github.com/fastbind/fastbind/internal/proc"
)

// maxFile is the size of the largest definition file, in bytes.
const maxFile = 64 << 10

const fileSuffix = ".toml"

func definitionTopic() *cobra.Command {
	return &cobra.Command{
		Use:   "definition",
		Short: "Where the definition of a service comes from, and what is in it",
		Long: `A definition says how a service is started. It comes from the first of

  1. a COMMAND on the command line,
  2. the file NAME.toml in FASTBIND_CONFIG_DIR, else $XDG_CONFIG_HOME/fastbind,
     else ~/.config/fastbind,
  3. what the service was last started with.

A file has these fields, of which only command is required:

  command      = ["/usr/sbin/nginx", "-g", "daemon off;"]
  bind         = "broker"     # or "daemon": the program binds the endpoint itself
  dir          = "/"          # working directory
  env          = ["EDITOR", "MODE=fast"]   # passes a variable on, or sets one
  env_policy   = "ignore"     # or "coexist", "refuse": clients with other variables
  fd_env       = ["NGINX={fd};"]           # {fd}, {socket}; also in arguments
  endpoints    = ["admin"]                 # further: {fd:admin}, {socket:admin}
  version      = "1.2"
  foreign      = true         # false: a program made with the fastbind SDK
  bound_within = "500ms"      # bind "daemon": from exec to listening
  adopt_within = "10s"        # from exec to adopting the listener
  stop_within  = "10s"        # from the request to stop to the kill
  idle_exit    = "10m"        # end after that long without a client; else never
  hang_after   = "30s"        # silence after which it is asked whether it lives
  on_hang      = "replace"    # or "report": what to do about one that is hung
  on_version   = "ignore"     # or "coexist", "replace", "refuse": another build
  min_version  = "1.2.0"      # with replace and refuse
  allow_versions = ["1"]      # "1.4.2", "1.4", ">=1.2, <2"; any of them

These are kept by a standing broker, see fastbind help broker:

  hold           = true         # start and dial launch a broker if there is none
  ready          = "accept"     # foreign: or "notify", "http /healthz",
                                # "output REGEXP", "command PROGRAM", "delay 2s"
  notify_access  = "main"       # or "all": whose notifications count
  ready_within   = "60s"        # from launch to ready; else whenever
  watchdog       = "10s"        # between two signs of life; else none is expected
  restart        = "on-demand"  # or "on-failure", "always"
  backoff_min    = "100ms"      # after the first failure in a row, then times
  backoff_factor = 2            # backoff_factor for each, up to
  backoff_max    = "30s"        # backoff_max;
  backoff_reset  = "10s"        # who served for so long begins a new row
  own_scope      = true         # outlives the session or job that it came from
  memory         = "512M"       # bytes, also with K, M, G, T
  tasks          = 64           # processes and threads
  cpu_weight     = 100          # share of a busy processor
  open_files     = 1024         # of each process

command[0] is an absolute path or a name to be found in PATH. The file and its
directory must be yours, or root's, and writable by nobody else. Each field that
is not the broker's is also a flag of start and dial.`,
	}
}

// A fileError is why a definition file is refused.
type fileError struct {
	path  string
	line  int    // 0: the file as a whole
	field string // "" if it is about none
	text  string
	hint  string
	err   error
}

func (e *fileError) Error() string {
	s := e.path
	if e.line > 0 {
		s += ":" + strconv.Itoa(e.line)
	}
	if e.field != "" {
		s += ": " + e.field
	}
	return s + ": " + e.text
}

func (e *fileError) Unwrap() error { return e.err }

// configDir is where definition files are, "" if the user has no such place.
func (a *app) configDir() string {
	if dir := a.getenv("FASTBIND_CONFIG_DIR"); dir != "" {
		return dir
	}
	if dir := a.getenv("XDG_CONFIG_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "fastbind")
	}
	home := a.getenv("HOME")
	if home == "" {
		home, _, _, _ = proc.Account(a.uid)
	}
	if home == "" {
		return ""
	}
	return filepath.Join(home, ".config", "fastbind")
}

// fileNames are the services that files define. The broker's own file defines none.
func (a *app) fileNames() []string {
	entries, _ := os.ReadDir(a.configDir())
	var names []string
	for _, e := range entries {
		name, ok := strings.CutSuffix(e.Name(), fileSuffix)
		if ok && definition.CheckName("service", name) == nil && name != standing.Service {
			names = append(names, name)
		}
	}
	return names
}

// A fileDefinition is a definition and the file it is from.
type fileDefinition struct {
	path   string
	def    definition.Definition
	broker brokerFields
}

// file returns the definition that the user's file for a service holds, nil if
// there is no file. The error is a *fileError.
func (a *app) file(name string) (*fileDefinition, error) {
	if name == standing.Service {
		return nil, nil // its file has the settings
	}
	path, err := a.inConfig(name + fileSuffix)
	if path == "" || err != nil {
		return nil, err
	}
	return a.readFile(path, name)
}

// inConfig returns the path of a file of the user, "" if there is none. The error is a
// *fileError.
func (a *app) inConfig(name string) (string, error) {
	dir := a.configDir()
	if dir == "" {
		return "", nil
	}
	path := filepath.Join(dir, name)
	if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) && a.getenv("FASTBIND_CONFIG_DIR") == "" {
		return "", nil
	}
	if !filepath.IsAbs(dir) {
		return "", &fileError{path: dir, text: "FASTBIND_CONFIG_DIR must be an absolute path"}
	}
	return path, a.trusted(dir)
}

// trusted refuses a file or directory that another user can change: it names
// programs that will run as this one.
func (a *app) trusted(path string) error {
	fi, err := os.Stat(path)
	if err != nil {
		return &fileError{path: path, text: cause(err), err: err}
	}
	return a.trustedInfo(path, fi)
}

func cause(err error) string {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		return pe.Err.Error()
	}
	return err.Error()
}

// readFile reads one definition file for the named service.
func (a *app) readFile(path, name string) (*fileDefinition, error) {
	b, err := a.readTrusted(path)
	if err != nil {
		return nil, err
	}
	d, err := parseFile(path, b)
	if err != nil {
		return nil, err
	}
	d.def.Service, d.def.Instance = name, a.instance
	d.def = d.def.Complete()
	err = d.def.Check()
	if err == nil {
		err = d.broker.complete(d.def)
	}
	if err != nil {
		return nil, d.invalid(err)
	}
	if err := d.def.CheckTemplates(); err != nil {
		return nil, d.invalid(err)
	}
	return &d.fileDefinition, nil
}

// readTrusted reads a file that nobody else can change, and one byte more than maxFile
// of a larger one. The error is a *fileError.
func (a *app) readTrusted(path string) ([]byte, error) {
	f, err := openForReading(path)
	if err != nil {
		return nil, &fileError{path: path, text: cause(err), err: err}
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, &fileError{path: path, text: cause(err), err: err}
	}
	if !fi.Mode().IsRegular() {
		return nil, &fileError{path: path, text: "it is not a regular file"}
	}
	if err := a.trustedInfo(path, fi); err != nil {
		return nil, err
	}
	b, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, &fileError{path: path, text: cause(err), err: err}
	}
	return b, nil
}

// A parsedFile also knows in which line each field stands.
type parsedFile struct {
	fileDefinition
	lines map[string]int
}

// invalid makes an error with a position of one of definition.Check.
func (p parsedFile) invalid(err error) error {
	var i *definition.Invalid
	if !errors.As(err, &i) {
		return &fileError{path: p.path, text: err.Error(), err: err}
	}
	text := i.Reason
	if i.Value != "" {
		text = strconv.Quote(i.Value) + ": " + text
	}
	return &fileError{path: p.path, line: p.lines[i.Field], field: i.Field, text: text, err: err}
}

// The kinds of fields.
var (
	stringFields   = []string{"bind", "dir", "env_policy", "version", "on_hang", "on_version", "min_version"}
	listFields     = []string{"command", "env", "fd_env", "endpoints", "allow_versions"}
	durationFields = []string{"bound_within", "adopt_within", "stop_within", "idle_exit", "hang_after"}
	fileFields     = slices.Concat(listFields, stringFields, durationFields, []string{"foreign"}, brokerKeys)
)

// parseFile parses a definition file. It refuses what it does not know.
func parseFile(path string, b []byte) (parsedFile, error) {
	p := parsedFile{fileDefinition: fileDefinition{path: path}, lines: map[string]int{}}
	p.def.Foreign = true
	if err := p.parse(b, p.set); err != nil {
		return p, err
	}
	if len(p.def.Command) == 0 {
		return p, &fileError{path: path, line: p.lines["command"], field: "command", text: "it is missing; it is the program and its arguments, a list of strings"}
	}
	if c := p.def.Command[0]; strings.Contains(c, "/") && !filepath.IsAbs(c) {
		return p, &fileError{path: path, line: p.lines["command"], field: "command",
			text: strconv.Quote(c) + ": use an absolute path or a name to be found in PATH"}
	}
	return p, nil
}

// parse gives each field of a file to set, in its order: the first mistake is the one
// that is named. A value that cannot be used is a *definition.Invalid of set.
func (p *parsedFile) parse(b []byte, set func(key string, value any) error) error {
	if len(b) > maxFile {
		return &fileError{path: p.path, text: "larger than 64 KiB"}
	}
	values := map[string]any{}
	if err := toml.Unmarshal(b, &values); err != nil {
		var de *toml.DecodeError
		if errors.As(err, &de) {
			row, _ := de.Position()
			return &fileError{path: p.path, line: row, field: strings.Join(de.Key(), "."),
				text: strings.TrimPrefix(de.Error(), "toml: "), err: err}
		}
		return &fileError{path: p.path, text: err.Error(), err: err}
	}
	p.lines = fieldLines(b)
	keys := slices.SortedFunc(maps.Keys(values), func(x, y string) int {
		return cmp.Or(p.lines[x]-p.lines[y], strings.Compare(x, y))
	})
	for _, k := range keys {
		err := set(k, values[k])
		if _, ok := errors.AsType[*definition.Invalid](err); ok {
			return p.invalid(err)
		}
		if err != nil {
			return &fileError{path: p.path, line: p.lines[k], field: k, text: err.Error(), err: err}
		}
	}
	return nil
}

// fieldLines returns the line of each top-level field and table.
func fieldLines(b []byte) map[string]int {
	lines := map[string]int{}
	var p unstable.Parser
	p.Reset(b)
	table := ""
	for p.NextExpression() {
		e := p.Expression()
		key := e.Key()
		if !key.Next() {
			continue
		}
		n := key.Node()
		name := string(n.Data)
		if e.Kind != unstable.KeyValue {
			table = name
		} else if table != "" {
			continue // a field of that table
		}
		if _, ok := lines[name]; !ok {
			lines[name] = p.Shape(n.Raw).Start.Line
		}
	}
	return lines
}

func (p *parsedFile) set(key string, value any) error {
	switch {
	case slices.Contains(listFields, key):
		return p.setList(key, value)
	case slices.Contains(stringFields, key):
		s, ok := value.(string)
		if !ok {
			return errors.New("it must be a string, not " + kind(value))
		}
		if s == "" && key != "version" {
			return errors.New("it is empty")
		}
		return p.def.Set(key, s)
	case slices.Contains(durationFields, key):
		s, ok := value.(string)
		if !ok {
			return errors.New(`it must be a string such as "500ms", not ` + kind(value))
		}
		if _, err := time.ParseDuration(s); err != nil {
			return errors.New(strconv.Quote(s) + ` is no duration; write "500ms" or "10s"`)
		}
		if err := p.def.Set(key, s); err != nil {
			return err
		}
		if d, _ := time.ParseDuration(s); d == 0 && key != "idle_exit" {
			return errors.New("use 1ms to 1h") // 0 would mean the default
		}
		return nil
	case key == "foreign":
		b, ok := value.(bool)
		if !ok {
			return errors.New("it must be true or false, not " + kind(value))
		}
		p.def.Foreign = b
		return nil
	case slices.Contains(brokerKeys, key):
		return p.broker.set(key, value)
	case key == "service":
		return errors.New("the file's name is the service's name")
	case key == "instance":
		return errors.New("a file defines the service in every instance; use --instance")
	}
	return unknownField(key, fileFields)
}

func unknownField(key string, known []string) error {
	text := "unknown field"
	if near := nearest(key, known); near != "" {
		text += "; did you mean " + near + "?"
	}
	return errors.New(text)
}

func (p *parsedFile) setList(key string, value any) error {
	list, ok := value.([]any)
	if !ok {
		return errors.New(`it must be a list of strings such as ["a", "b"], not ` + kind(value))
	}
	for i, v := range list {
		s, ok := v.(string)
		if !ok {
			return errors.New("element " + strconv.Itoa(i+1) + " must be a string, not " + kind(v))
		}
		if err := p.def.Set(key, s); err != nil {
			return err
		}
	}
	return nil
}

func kind(v any) string {
	switch v.(type) {
	case string:
		return "a string"
	case bool:
		return "a boolean"
	case int64:
		return "an integer"
	case float64:
		return "a float"
	case []any:
		return "a list"
	case map[string]any:
		return "a table"
	}
	return "a date or time"
}

// nearest returns the word that a misspelt one probably means, "" if none.
func nearest(word string, words []string) string {
	best, found := 3, "" // more than two changes are no misspelling
	for _, w := range words {
		if d := distance(word, w); d < best {
			best, found = d, w
		}
	}
	return found
}

// distance is the number of bytes to insert, delete or change (Levenshtein).
func distance(a, b string) int {
	if len(a) > 64 {
		return len(a)
	}
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			next := min(row[j]+1, row[j+1]+1)
			if a[i] == b[j] {
				next = min(next, diagonal)
			} else {
				next = min(next, diagonal+1)
			}
			diagonal, row[j+1] = row[j+1], next
		}
	}
	return row[len(b)]
}
