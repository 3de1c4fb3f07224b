// Command lsp is an editor that opens and ends a session with a language server
// (Language Server Protocol 3.17). It does not judge the server's exit status:
//
//	lsp COMMAND ARG…   prints the server's name
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"
)

func main() {
	name, err := session(exec.Command(os.Args[1], os.Args[2:]...))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(name)
}

type message struct {
	JSONRPC string          `json:"jsonrpc"`
	ID      int             `json:"id,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  any             `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
}

func session(cmd *exec.Cmd) (string, error) {
	in, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	r := bufio.NewReader(out)
	reply, err := call(in, r, 1, "initialize", map[string]any{"capabilities": struct{}{}})
	if err != nil {
		return "", err
	}
	var result struct{ ServerInfo struct{ Name string } }
	if err := json.Unmarshal(reply, &result); err != nil {
		return "", err
	}
	if _, err := call(in, r, 2, "shutdown", nil); err != nil {
		return "", err
	}
	if err := say(in, message{Method: "exit"}); err != nil {
		return "", err
	}
	if err := in.Close(); err != nil {
		return "", err
	}
	// gopls ends with 1 if its daemon closes the connection first.
	err = cmd.Wait()
	if _, exited := errors.AsType[*exec.ExitError](err); exited {
		err = nil
	}
	return result.ServerInfo.Name, err
}

func say(w io.Writer, m message) error {
	m.JSONRPC = "2.0"
	b, err := json.Marshal(m)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(w, "Content-Length: %d\r\n\r\n%s", len(b), b)
	return err
}

// call sends a request and returns its result; what comes before is passed over.
func call(w io.Writer, r *bufio.Reader, id int, method string, params any) (json.RawMessage, error) {
	if err := say(w, message{ID: id, Method: method, Params: params}); err != nil {
		return nil, err
	}
	for {
		length := 0
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return nil, fmt.Errorf("the server ended without an answer to %s: %w", method, err)
			}
			if line = strings.TrimSpace(line); line == "" {
				break
			}
			if v, ok := strings.CutPrefix(line, "Content-Length:"); ok {
				if length, err = strconv.Atoi(strings.TrimSpace(v)); err != nil {
					return nil, err
				}
			}
		}
		body := make([]byte, min(length, 1<<20))
		if _, err := io.ReadFull(r, body); err != nil {
			return nil, err
		}
		// IDs may be strings in what the server asks.
		var m struct {
			ID     any
			Method string
			Result json.RawMessage
		}
		if err := json.Unmarshal(body, &m); err != nil {
			return nil, err
		}
		if m.Method == "" && m.ID == float64(id) {
			return m.Result, nil
		}
	}
}
