package agent

import (
	"errors"
	"io/fs"
	"log/slog"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
	"github.com/kms-agent-injector/kms-agent-injector/agent/identity"
	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
)

// pauseFile has the pause that a hold keeps, so that a container which starts again is not back too soon.
const pauseFile = "pause.json"

// pause is a hold's state as it is written, with the refusal in one of the two.
type pause struct {
	Until    time.Time       `json:"until"`
	Refusals int             `json:"refusals"`
	STS      *identity.Error `json:"sts,omitempty"`
	KMS      *kms.Error      `json:"kms,omitempty"`
}

// resume takes over the pause that a process before left in a directory, and has h leave its own there.
func (h *hold) resume(directory string, log *slog.Logger) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.directory, h.log = directory, log
	var p pause
	if err := handover.Read(directory, pauseFile, &p); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("the pause that is remembered cannot be used: asking at once", "error", err)
		}
		return
	}
	switch {
	case p.STS != nil:
		h.last = p.STS
	case p.KMS != nil:
		if p.KMS.Code == "" {
			p.KMS.Err = errors.New(p.KMS.Message)
		}
		h.last = p.KMS
	default:
		return
	}
	h.refusals = p.Refusals
	remaining := min(time.Until(p.Until), 2*longestHold) // if it is more, somebody has set the clock back since
	if h.until = time.Now().Add(remaining); remaining > 0 {
		log.Info("the pause that STS or KMS asked for goes on", "in", remaining.String(), "error", h.last)
	}
}

// save is called with mu held.
func (h *hold) save() {
	if h.directory == "" {
		return
	}
	if h.refusals == 0 {
		handover.Remove(h.directory, pauseFile)
		return
	}
	p := pause{Until: h.until, Refusals: h.refusals}
	var refusal *kms.Error
	if errors.As(h.last, &refusal) {
		about := *refusal
		if about.Err != nil { // an interface, which cannot be decoded again
			about.Message, about.Err = about.Err.Error(), nil
		}
		p.KMS = &about
	} else if !errors.As(h.last, &p.STS) {
		return
	}
	if err := handover.Write(h.directory, pauseFile, p); err != nil {
		h.log.Warn("the pause cannot be remembered", "error", err)
	}
}
