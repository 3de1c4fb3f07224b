package proc

// Children returns the processes whose parent is this one, those included that have
// ended and are not reaped. Whoever forks meanwhile may find its child among them or
// not. It is errors.ErrUnsupported where the system does not tell.
func Children() ([]ID, error) { return children() }
