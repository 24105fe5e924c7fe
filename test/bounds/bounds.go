// Package bounds measures what a program does with a stranger's input, for tests that hold it to a multiple of the input.
package bounds

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/metrics"
	"syscall"
	"time"
)

// The limits of Review and Allocations. What every program needs for itself, whatever the input, is in allowance.
const (
	peakFactor      = 20  // of the heap's peak to the bytes of the input
	cpuFactor       = 100 // of CPU time to that of encoding/json
	allocatedFactor = 50  // of all bytes allocated to the bytes of the input
	allowance       = 4 << 20

	tries = 3
)

// A T is a test: of package testing, or another's.
type T interface {
	Helper()
	Errorf(format string, args ...any)
}

// Review fails the test unless the peak of the heap and the CPU time of handle are in proportion to input, a text in JSON. It calls
// handle several times. No other test of the process may run meanwhile: both are the process's.
func Review(t T, input []byte, handle func()) {
	t.Helper()
	peak, most := Peak(handle), uint64(peakFactor*len(input)+allowance)
	for range tries - 1 { // when the collector runs is chance
		if peak > most {
			peak = min(peak, Peak(handle))
		}
	}
	if peak > most {
		t.Errorf("%d bytes of input take %d bytes of heap at the most; at most %d are allowed", len(input), peak, most)
	}
	decode := func() {
		var decoded any
		if err := json.Unmarshal(input, &decoded); err != nil {
			panic(fmt.Sprintf("a review that is not JSON: %v", err))
		}
	}
	var spent, limit time.Duration
	for range tries { // a loaded machine's caches are cold at times
		if spent, limit = CPU(handle), cpuFactor*CPU(decode); spent <= limit {
			return
		}
	}
	t.Errorf("%d bytes of input take %s of CPU time, %d times as long as encoding/json needs to decode them; at most %d times are allowed",
		len(input), spent, spent*cpuFactor/limit, cpuFactor)
}

// Allocations fails the test unless the bytes that f allocates are in proportion to an input of n bytes.
func Allocations(t T, n int, f func()) {
	t.Helper()
	if got, limit := Allocated(f), uint64(allocatedFactor*n+allowance); got > limit {
		t.Errorf("%d bytes of input have %d bytes allocated; at most %d are allowed", n, got, limit)
	}
}

// Allocated is how many bytes the process allocates while f runs.
func Allocated(f func()) uint64 {
	before := read("/gc/heap/allocs:bytes")
	f()
	return read("/gc/heap/allocs:bytes") - before
}

// Peak is how many bytes the heap of the process grows by at the most while f runs, with the collector on: what is garbage and not
// yet collected counts. It is sampled every millisecond.
func Peak(f func()) uint64 {
	const heap = "/memory/classes/heap/objects:bytes"
	runtime.GC()
	base := read(heap)
	done, peak := make(chan struct{}), make(chan uint64)
	go func() {
		most, ticker := base, time.NewTicker(time.Millisecond)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				most = max(most, read(heap))
			case <-done:
				peak <- most
				return
			}
		}
	}()
	f()
	end := read(heap)
	close(done)
	return max(end, <-peak) - base
}

func read(metric string) uint64 {
	sample := [1]metrics.Sample{{Name: metric}}
	metrics.Read(sample[:])
	return sample[0].Value.Uint64()
}

// CPU returns the CPU time of the process, all threads, in which f runs once. What takes little is repeated until it can be measured.
func CPU(f func()) time.Duration {
	const enough = 10 * time.Millisecond
	start := cpuTime()
	for n := time.Duration(1); ; n++ {
		f()
		if spent := cpuTime() - start; spent >= enough {
			return spent / n
		}
	}
}

// cpuTime is how long the process has run on any CPU since it started.
func cpuTime() time.Duration {
	var usage syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &usage); err != nil {
		panic(err)
	}
	return time.Duration(usage.Utime.Nano() + usage.Stime.Nano())
}
