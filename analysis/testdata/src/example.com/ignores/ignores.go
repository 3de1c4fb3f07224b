// Package ignores has comments that silence nothing.
package ignores

//fastbindvet:ignore // want `this silences nothing: write //fastbindvet:ignore CHECK REASON`
var a int

//fastbindvet:ignore bind // want `this silences nothing: say after "bind" why the rule does not apply here`
var b int

//fastbindvet:ignore binds it is a test // want `this silences nothing: there is no check "binds"; the checks are bind, beforerun, unlink, ready, serve`
var c int

//fastbindvet:ignore bind the directory is made by nobody else
var d int
