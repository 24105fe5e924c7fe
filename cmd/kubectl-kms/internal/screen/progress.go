package screen

import (
	"fmt"
	"io"
	"os"
	"time"

	"golang.org/x/term"
)

// Progress returns what shows on a terminal, once a second has gone, how much of what is done; elsewhere it shows nothing.
func Progress(out io.Writer, what string) func(done, all int) {
	file, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(file.Fd())) {
		return func(int, int) {}
	}
	next := time.Now().Add(time.Second)
	shown := false
	return func(done, all int) {
		switch now := time.Now(); {
		case done == all && shown:
			fmt.Fprint(file, "\r\x1b[K")
		case done < all && now.After(next):
			fmt.Fprintf(file, "\r%s: %d of %d", what, done, all)
			next, shown = now.Add(time.Second/10), true
		}
	}
}
