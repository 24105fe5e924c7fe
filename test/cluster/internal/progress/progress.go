// Package progress prints the steps of a long command, one line each, with the elapsed time.
package progress

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// A running step prints at least this often, so that a long build does not look stuck.
const (
	heartbeatTerminal = time.Second
	heartbeatPlain    = 10 * time.Second
)

// width is what fits into the narrowest usual terminal: a line that wraps cannot be overwritten.
const width = 79

// Printer writes steps to one writer. A nil Printer writes nothing.
type Printer struct {
	out      io.Writer
	terminal bool
	start    time.Time

	mu      sync.Mutex
	partial bool // the cursor stands behind a line that the next one overwrites
}

// New returns a Printer whose clock starts now. On a terminal the running step is one line that rewrites itself; anywhere
// else it is a new line every ten seconds.
func New(out io.Writer) *Printer {
	if out == nil {
		return nil
	}
	return &Printer{out: out, terminal: isTerminal(out), start: time.Now()}
}

func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	if !ok || os.Getenv("TERM") == "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return err == nil && info.Mode()&os.ModeCharDevice != 0
}

// Line prints one finished thing.
func (p *Printer) Line(format string, args ...any) {
	if p == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.print(fmt.Sprintf(format, args...), false)
}

func (p *Printer) print(text string, partial bool) {
	line := fmt.Sprintf("%6.1fs  %s", time.Since(p.start).Seconds(), text)
	if partial && len(line) > width {
		line = line[:width]
	}
	if p.partial {
		line = "\r\x1b[K" + line
	}
	if !partial {
		line += "\n"
	}
	p.partial = partial
	io.WriteString(p.out, line) //nolint:errcheck // a closed terminal must not end the work
}

// Step is one thing that takes its time.
type Step struct {
	printer *Printer
	done    chan struct{}
	ended   sync.WaitGroup

	mu   sync.Mutex
	text string
}

// Begin prints that a step starts and repeats its latest text until Done.
func (p *Printer) Begin(format string, args ...any) *Step {
	s := &Step{printer: p, done: make(chan struct{}), text: fmt.Sprintf(format, args...)}
	if p == nil {
		return s
	}
	s.show()
	every := heartbeatPlain
	if p.terminal {
		every = heartbeatTerminal
	}
	s.ended.Go(func() {
		ticker := time.NewTicker(every)
		defer ticker.Stop()
		for {
			select {
			case <-ticker.C:
				s.show()
			case <-s.done:
				return
			}
		}
	})
	return s
}

func (s *Step) show() {
	s.mu.Lock()
	text := s.text
	s.mu.Unlock()
	s.printer.mu.Lock()
	defer s.printer.mu.Unlock()
	s.printer.print(text, s.printer.terminal)
}

// Update changes what the next heartbeat says.
func (s *Step) Update(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.text = fmt.Sprintf(format, args...)
}

// Done ends the step with a last line. It must be called once.
func (s *Step) Done(format string, args ...any) {
	close(s.done)
	s.ended.Wait()
	s.printer.Line(format, args...)
}
