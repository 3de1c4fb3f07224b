package launch

// OfService makes the broker of a fastbind.Service. Package fastbind sets it:
// the conversion is its own, and package daemon, which imports it, needs it for
// a daemon that is started by hand.
var OfService func(service any) (*Broker, error)

// Public makes an error of this package one that users of package fastbind can
// tell apart. Package fastbind sets it.
var Public func(error) error
