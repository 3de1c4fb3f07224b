//go:build !unix

package main

import "errors"

func keep(int) error { return errors.ErrUnsupported }
