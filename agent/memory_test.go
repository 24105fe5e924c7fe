package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestConnectionsCloseAfterEachRefresh(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, closed := &clockwork{}, 0
		a := clockworkAgent(t, c, 5*time.Minute, "k")
		a.rest = func() { closed++ }
		runFor(t, a, time.Hour)
		if closed < 10 || closed != len(c.asked) {
			t.Errorf("closed %d times in %d refreshes", closed, len(c.asked))
		}
	})
}
