package screen

import (
	"fmt"
	"time"
)

// Progress returns what shows, once a second has gone, how much of what is done; where no line can be written again it shows nothing.
func (s Screen) Progress(what string) func(done, all int) {
	if !s.Rewrites() {
		return func(int, int) {}
	}
	next := time.Now().Add(time.Second)
	shown := false
	return func(done, all int) {
		switch now := time.Now(); {
		case done == all && shown:
			s.Rewrite("")
		case done < all && now.After(next):
			s.Rewrite(fmt.Sprintf("%s: %d of %d", what, done, all))
			next, shown = now.Add(time.Second/10), true
		}
	}
}
