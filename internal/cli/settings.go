package cli

import (
	"context"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fastbind/fastbind/internal/broker/limit"
	"github.com/fastbind/fastbind/internal/broker/standing"
	"github.com/fastbind/fastbind/internal/broker/supervise"
	"github.com/fastbind/fastbind/internal/broker/wire"
	"github.com/fastbind/fastbind/internal/definition"
)

// settingsFile is the name of the file with the user's settings for the broker, beside
// the definition files. It holds for every instance.
const settingsFile = standing.Service + fileSuffix

var settingsFields = []string{"max_daemons", "max_memory"}

// quota is what the user's daemons may have together; zero if no file says that. The
// error is a *fileError.
func (a *app) quota() (supervise.Quota, error) {
	path, err := a.inConfig(settingsFile)
	if path == "" || err != nil {
		return supervise.Quota{}, err
	}
	return a.readSettings(path)
}

func (a *app) readSettings(path string) (supervise.Quota, error) {
	b, err := a.readTrusted(path)
	if err != nil {
		return supervise.Quota{}, err
	}
	return parseSettings(path, b)
}

// quotaField shows what the living broker keeps, and what it cannot. One that does not
// answer is not waited for: status says so of its daemon.
func (a *app) quotaField(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	var q *wire.Quota
	_ = a.askLiving(ctx, func(ctx context.Context, c *wire.Client) error {
		m, err := c.Metrics(ctx)
		q = m.Quota
		return err
	})
	if q != nil {
		a.field("Quota", quotaText(*q))
	}
}

func quotaText(q wire.Quota) string {
	var set, over []string
	if q.Daemons > 0 {
		set = append(set, "max_daemons "+strconv.Itoa(q.Daemons))
	}
	if q.Memory > 0 {
		set = append(set, "max_memory "+mebibytes(int64(q.Memory)))
	}
	if q.ExcessDaemons > 0 {
		over = append(over, strconv.Itoa(q.ExcessDaemons)+" more run")
	}
	if q.ExcessMemory > 0 {
		over = append(over, mebibytes(int64(q.ExcessMemory))+" more are used")
	}
	text := strings.Join(set, ", ")
	if len(over) > 0 {
		text += "; in use: " + strings.Join(over, ", ")
	}
	return text
}

// parseSettings parses the file with the settings. It refuses what it does not know.
func parseSettings(path string, b []byte) (supervise.Quota, error) {
	var q supervise.Quota
	p := parsedFile{fileDefinition: fileDefinition{path: path}}
	err := p.parse(b, func(key string, value any) error {
		n, isInteger := value.(int64)
		s, isString := value.(string)
		switch key {
		case "max_daemons":
			if !isInteger {
				return errors.New("it must be a whole number, not " + kind(value))
			}
			if n < 1 {
				return errors.New("it must be at least 1; leave it out for no limit")
			}
			if n > math.MaxInt32 {
				return errors.New("it is too large")
			}
			q.Daemons = int(n)
		case "max_memory":
			if isInteger {
				s = strconv.FormatInt(n, 10)
			} else if !isString {
				return errors.New(`it must be a number or a string such as "4G", not ` + kind(value))
			}
			n, err := limit.Parse(limit.Memory, s)
			if i, ok := errors.AsType[*definition.Invalid](err); ok {
				return &definition.Invalid{Field: key, Value: i.Value, Reason: i.Reason}
			}
			q.Memory = uint64(n)
		default:
			if slices.Contains(fileFields, key) {
				return errors.New("a definition has this field, but that name is the standing broker's own; give the service another one")
			}
			return unknownField(key, settingsFields)
		}
		return nil
	})
	if err != nil {
		return supervise.Quota{}, err
	}
	return q, nil
}
