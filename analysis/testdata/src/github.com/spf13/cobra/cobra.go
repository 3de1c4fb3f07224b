// Package cobra has the declarations that the tests use.
package cobra

type Command struct {
	RunE func(*Command, []string) error
}

func (c *Command) Execute() error { return c.RunE(c, nil) }
