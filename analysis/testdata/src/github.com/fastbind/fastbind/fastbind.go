// Package fastbind has the declarations of the SDK that the analyzers look for.
// TestSDK checks them against the SDK itself.
package fastbind

import (
	"context"
	"net"
)

type Endpoint struct{ path string }

func (e Endpoint) Path() string   { return e.path }
func (e Endpoint) String() string { return e.path }

type Service struct{ Name string }

func Dial(ctx context.Context, s Service) (net.Conn, error) { return nil, nil }
