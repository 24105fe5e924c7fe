package build

import (
	"fmt"
	"time"
)

// speedShows is the time before which the speed is not representative, because the first packages are small.
const speedShows = 15 * time.Second

// An estimate predicts the remaining time of a build from its speed so far. The time to compile is roughly proportional to the size
// of the sources: early predictions are wrong by some ten percent.
type estimate struct {
	sizes       map[string]int64 // of the sources of the packages that are to be compiled, in bytes
	total, done int64
	begun       int
	current     string
}

func newEstimate(sizes map[string]int64) *estimate {
	e := &estimate{sizes: sizes}
	for _, size := range sizes {
		e.total += size
	}
	return e
}

// begin records that the compilation of a package starts, which means that the previous one is almost done.
func (e *estimate) begin(name string) {
	e.done += e.sizes[e.current]
	e.begun++
	e.current = name
}

// after returns the progress after a time.
func (e *estimate) after(elapsed time.Duration) string {
	text := fmt.Sprintf("compiling package %d of %d", e.begun, len(e.sizes))
	if elapsed < speedShows || e.done == 0 {
		return text
	}
	left := time.Duration(float64(elapsed) * float64(e.total-e.done) / float64(e.done))
	if left < time.Minute {
		return text + ", less than a minute to go"
	}
	return fmt.Sprintf("%s, about %d min to go", text, left.Round(time.Minute)/time.Minute)
}
