package launch

import (
	"math/rand/v2"
	"strconv"
)

// Nonce returns a fresh nonce for a question to a control endpoint. It tells
// this question's answer from any other; it keeps no secret, for the peer's uid
// is checked.
func Nonce() string {
	return strconv.FormatUint(rand.Uint64(), 36) + strconv.FormatUint(rand.Uint64(), 36)
}
