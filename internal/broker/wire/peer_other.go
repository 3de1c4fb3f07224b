//go:build !windows

package wire

import "github.com/fastbind/fastbind/internal/peer"

// checkPeer returns nil for a connection of the same uid.
var checkPeer = peer.Check
