package progress

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

func TestPlainOutputIsHeardOfEveryTenSeconds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(&out)
		step := p.Begin("building")
		time.Sleep(5 * time.Second)
		step.Update("built %d of %d", 1, 2)
		time.Sleep(16 * time.Second)
		step.Done("built")
		want := "   0.0s  building\n" + "  10.0s  built 1 of 2\n" + "  20.0s  built 1 of 2\n" + "  21.0s  built\n"
		if out.String() != want {
			t.Errorf("printed\n%s\nwant\n%s", out.String(), want)
		}
	})
}

func TestTerminalLineIsRewritten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var out bytes.Buffer
		p := New(&out)
		p.terminal = true
		step := p.Begin("building %s", strings.Repeat("x", 200))
		time.Sleep(1500 * time.Millisecond)
		step.Done("built")
		for i, line := range strings.Split(out.String(), "\r\x1b[K") {
			if want := i == 2; strings.HasSuffix(line, "built\n") != want || len(line) > width+1 {
				t.Errorf("line %d is %q", i, line)
			}
		}
	})
}

func TestNilPrinterIsSilent(t *testing.T) {
	p := New(nil)
	p.Line("nothing")
	step := p.Begin("nothing")
	step.Update("nothing")
	step.Done("nothing")
}

func TestConcurrentLines(t *testing.T) {
	var out bytes.Buffer
	p := New(&out)
	step := p.Begin("working")
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() { p.Line("line"); step.Update("still working") })
	}
	group.Wait()
	step.Done("worked")
	if got := strings.Count(out.String(), "\n"); got != 10 {
		t.Errorf("%d lines, want 10:\n%s", got, out.String())
	}
}
