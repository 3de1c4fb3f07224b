package daemon

import (
	"io"
	"testing"
	"time"
)

// TestHangupBeforeRead: the work for a client that has sent more and left ends, though
// nobody reads what it has sent.
func TestHangupBeforeRead(t *testing.T) {
	client, server := accepted(t)
	ctx := ConnContext(t.Context(), server)
	if _, err := io.WriteString(client, "another request"); err != nil {
		t.Fatal(err)
	}
	select {
	case <-ctx.Done():
		t.Fatal("it ends while the client waits")
	case <-time.After(3 * hangupInterval): // it does not
	}
	_ = client.Close()
	ends(t, "something is not read", ctx)
}
