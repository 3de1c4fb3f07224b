// Package loader loads for a daemon.
package loader

import "github.com/fastbind/fastbind/daemon"

func Load(inst *daemon.Instance) { inst.Ready() }

func Forget(inst *daemon.Instance) { inst.Progress("loading", 1) }
