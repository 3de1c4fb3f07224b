package launch

import (
	"os"
	"strings"

	"github.com/fastbind/fastbind/internal/endpoint"
	"github.com/fastbind/fastbind/internal/record"
	"github.com/fastbind/fastbind/internal/runtimedir"
)

// A further endpoint of a service is made, named, listened on and handed down in the
// same steps of the launch protocol as the service's own, under the same lock, but it
// decides nothing: whether somebody serves is asked at the service's own alone, the
// first.
//
// That is safe by the order within the steps. A launch removes the further names
// before the first one's, whatever definition made them, makes them after it and
// listens on the first last. So whoever is connected at the first can connect at all
// of them, and the names that are there while the first answers are those of the
// launch that made it: a deleted one can be put back from its second link without
// asking who it was. A further endpoint that has lost both names stays so until the
// next launch; those who are connected there, and the others, do not notice.
type further struct {
	name  string
	sock  *endpoint.Socket
	inode record.Inode
}

// heldFurther are the names of the further endpoints in a service's directory.
func heldFurther(dir string) []string {
	var names []string
	files, _ := os.ReadDir(dir) // sorted
	for _, f := range files {
		if name, ok := strings.CutPrefix(f.Name(), runtimedir.FurtherSock("")); ok {
			names = append(names, name)
		}
	}
	return names
}

// listenAll listens on the first endpoint last.
func listenAll(list []*further, first *endpoint.Socket) error {
	for _, f := range list {
		if err := f.sock.Listen(); err != nil {
			return err
		}
	}
	return first.Listen()
}

func closeFurther(list []*further) {
	for _, f := range list {
		_ = f.sock.Close()
	}
}
