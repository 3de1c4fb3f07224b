//go:build !unix

package limit

func script(Plan) string { return "" }

func rlimits(a *Available) { a.NoRlimit = "this system has no resource limits" }
