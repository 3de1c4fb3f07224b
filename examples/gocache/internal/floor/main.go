// Command floor is the least that a GOCACHEPROG can cost: it answers from a map
// in its own memory, locks nothing, checks nothing, evicts nothing, and puts
// bodies into a directory that should be on a tmpfs. What a go command takes
// with it is what the protocol itself costs; the difference to that is a cache's
// own cost.
//
//	GOCACHEPROG="floor /dev/shm/floor" go build
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"log"
	"os"
	"path/filepath"
	"strings"
)

type request struct {
	ID                 int64
	Command            string
	ActionID, OutputID []byte
	BodySize           int64
}

type response struct {
	ID            int64
	Err           string   `json:",omitempty"`
	KnownCommands []string `json:",omitempty"`
	Miss          bool     `json:",omitempty"`
	OutputID      []byte   `json:",omitempty"`
	Size          int64    `json:",omitempty"`
	DiskPath      string   `json:",omitempty"`
}

// An object is what an action leads to.
type object struct {
	Output []byte
	Size   int64
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("floor: ")
	if len(os.Args) != 2 {
		log.Fatal("usage: floor DIR")
	}
	if err := serve(os.Args[1], os.Stdin, os.Stdout); err != nil {
		log.Fatal(err)
	}
}

func serve(dir string, in io.Reader, out io.Writer) error {
	dir, err := filepath.Abs(dir)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return err
	}
	actions := map[string]object{}
	list := filepath.Join(dir, "actions")
	if f, err := os.Open(list); err == nil {
		err = gob.NewDecoder(bufio.NewReader(f)).Decode(&actions)
		_ = f.Close()
		if err != nil {
			return err
		}
	}
	enc := json.NewEncoder(out)
	if err := enc.Encode(response{KnownCommands: []string{"get", "put", "close"}}); err != nil {
		return err
	}
	changed := false
	dec := json.NewDecoder(bufio.NewReaderSize(in, 64<<10))
	for {
		var req request
		if err := dec.Decode(&req); err != nil {
			return err
		}
		res := response{ID: req.ID}
		switch req.Command {
		case "get":
			if o, ok := actions[string(req.ActionID)]; ok {
				res.OutputID, res.Size, res.DiskPath = o.Output, o.Size, filepath.Join(dir, hex.EncodeToString(o.Output))
			} else {
				res.Miss = true
			}
		case "put":
			var text string
			if req.BodySize > 0 {
				if err := dec.Decode(&text); err != nil {
					return err
				}
			}
			res.DiskPath = filepath.Join(dir, hex.EncodeToString(req.OutputID))
			if err := write(res.DiskPath, text); err != nil {
				return err
			}
			actions[string(req.ActionID)] = object{req.OutputID, req.BodySize}
			changed = true
		case "close":
			if changed {
				f, err := os.Create(list + ".new")
				if err != nil {
					return err
				}
				if err := gob.NewEncoder(f).Encode(actions); err != nil {
					return err
				}
				if err := f.Close(); err != nil {
					return err
				}
				if err := os.Rename(list+".new", list); err != nil {
					return err
				}
			}
			return enc.Encode(res)
		default:
			res.Err = fmt.Sprintf("unknown command %q", req.Command)
		}
		if err := enc.Encode(res); err != nil {
			return err
		}
	}
}

func write(path, text string) error {
	if _, err := os.Stat(path); err == nil {
		return nil // content-addressed
	}
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	if _, err := io.Copy(f, base64.NewDecoder(base64.StdEncoding, strings.NewReader(text))); err != nil {
		_ = f.Close()
		return err
	}
	return f.Close()
}
