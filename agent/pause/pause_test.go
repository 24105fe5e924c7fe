package pause

import (
	"context"
	"math"
	"testing"
	"testing/synctest"
	"time"
)

func TestWaitsAreSpread(t *testing.T) {
	for name, c := range map[string]struct {
		wait        func() time.Duration
		least, most time.Duration
	}{
		"around":       {func() time.Duration { return Around(10 * time.Second) }, 9 * time.Second, 11*time.Second + 1},
		"up to":        {func() time.Duration { return UpTo(10 * time.Second) }, 0, 10 * time.Second},
		"nearly up to": {func() time.Duration { return NearlyUpTo(10 * time.Second) }, 5 * time.Second, 10 * time.Second},
	} {
		least, most := time.Duration(math.MaxInt64), time.Duration(0)
		for range 1000 {
			d := c.wait()
			least, most = min(least, d), max(most, d)
		}
		if least < c.least || most > c.most || most-least < (c.most-c.least)*9/10 {
			t.Errorf("%s: from %s to %s, want %s to %s", name, least, most, c.least, c.most)
		}
	}
	if d := Around(math.MaxInt64 / 2); d < math.MaxInt64/3 {
		t.Errorf("centuries overflow: %s", d)
	}
}

func TestDoubled(t *testing.T) {
	for n := range 100 {
		for _, first := range []time.Duration{1, time.Second, 37 * time.Second, time.Hour, 100 * time.Hour} {
			if got := Doubled(first, n, time.Hour); got <= 0 || got > time.Hour {
				t.Fatalf("%s, doubled %d times: %s", first, n, got)
			}
		}
	}
	for n, want := range map[int]time.Duration{0: time.Second, 1: 2 * time.Second, 3: 8 * time.Second, 4: 10 * time.Second,
		1000: 10 * time.Second} {
		if got := Doubled(time.Second, n, 10*time.Second); got != want {
			t.Errorf("%d: %s, want %s", n, got, want)
		}
	}
}

func TestSleepEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		begun := time.Now()
		Sleep(ctx, time.Hour)
		if took := time.Since(begun); took != time.Second {
			t.Errorf("it took %s", took)
		}
	})
}
