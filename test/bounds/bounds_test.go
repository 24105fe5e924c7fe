package bounds

import "testing"

// kept and counted keep the compiler from leaving out what nothing else needs.
var (
	kept    []byte
	counted int
)

func TestPeak(t *testing.T) {
	const size = 32 << 20
	if peak := Peak(func() { kept = make([]byte, size) }); peak < size || peak > 2*size {
		t.Errorf("%d bytes of heap for %d", peak, size)
	}
	kept = nil
}

func TestAllocated(t *testing.T) {
	const size, times = 1 << 20, 40
	got := Allocated(func() {
		for range times {
			kept = make([]byte, size)
		}
	})
	if got < size*times || got > 2*size*times {
		t.Errorf("%d bytes for %d", got, size*times)
	}
	kept = nil
}

func TestCPU(t *testing.T) {
	sum := 0
	few, many := CPU(func() { sum = count(sum, 1e6) }), CPU(func() { sum = count(sum, 1e8) })
	if many < 10*few {
		t.Errorf("%s for a hundred times the work of %s", many, few)
	}
}

func count(sum, n int) int {
	for i := range n {
		sum ^= i * sum
	}
	return sum
}

// A recorder is a test that may fail.
type recorder struct{ failed bool }

func (r *recorder) Helper()               {}
func (r *recorder) Errorf(string, ...any) { r.failed = true }

func TestLimits(t *testing.T) {
	for name, c := range map[string]struct {
		check func(t T)
		fails bool
	}{
		"little":      {func(t T) { Review(t, []byte(`{}`), func() {}) }, false},
		"much heap":   {func(t T) { Review(t, []byte(`{}`), func() { kept = make([]byte, 16<<20) }) }, true},
		"much time":   {func(t T) { Review(t, []byte(`{}`), func() { counted = count(1, 1e7) }) }, true},
		"few bytes":   {func(t T) { Allocations(t, 10, func() { kept = make([]byte, 1<<20) }) }, false},
		"many bytes":  {func(t T) { Allocations(t, 10, func() { kept = make([]byte, 16<<20) }) }, true},
		"a long text": {func(t T) { Allocations(t, 1<<20, func() { kept = make([]byte, 16<<20) }) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			r := &recorder{}
			c.check(r)
			if r.failed != c.fails {
				t.Errorf("failed: %v, want %v", r.failed, c.fails)
			}
		})
	}
	kept = nil
}
