//go:build !unix

package limit

func script(Plan) string { return "" }

func rlimits(a *Available) { a.NoRes = "this system has no resource limits" }
