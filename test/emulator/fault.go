package emulator

import (
	"cmp"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"time"
)

// Codes that calls are counted under when a fault left them without an answer.
const (
	CodeHang = "Hang"
	CodeCut  = "Cut"
)

// The places where an answer can hang or be cut.
const (
	AtHeaders = "headers"
	AtBody    = "body"
)

// Fault makes calls go wrong. It strikes the calls that match Action and Secret; of several faults that match, the one
// added first strikes alone.
type Fault struct {
	ID string `json:"id,omitempty"` // given when the fault is added
	// Action to strike, as in GetSecretValue; * stands for any characters, as in *GetSecretValue for both of KMS's. Default: all.
	Action string `json:"action,omitempty"`
	// Secret to strike, by its short name, also a call that asks for others too. Default: all calls, those of STS too.
	Secret string `json:"secret,omitempty"`
	Count  int    `json:"count,omitempty"` // how many calls it strikes before it is gone. Default: all, until it is removed.

	// Status and Code are answered instead of the truth. Given one, the other has a default: the code's usual status,
	// else 400; for a status of 500 and above ServiceUnavailableTemporary, else Throttling.User.
	Status     int      `json:"status,omitempty"`
	Code       string   `json:"code,omitempty"`
	Message    string   `json:"message,omitempty"`    // goes with Code. Default: a text that names the fault.
	Body       string   `json:"body,omitempty"`       // sent as it is instead of an error document, with Status (default 200)
	RetryAfter Duration `json:"retryAfter,omitempty"` // sent as the header of that name, in whole seconds
	Latency    Duration `json:"latency,omitempty"`    // added before the answer
	// Hang sends nothing, or half of the body, until the client gives up or the fault is removed: "headers" or "body".
	Hang string `json:"hang,omitempty"`
	// Cut closes the connection instead of sending anything, or after half of the body: "headers" or "body".
	Cut    string `json:"cut,omitempty"`
	MaxQPS int    `json:"maxQPS,omitempty"` // lets so many calls pass in any second and answers the others as the service throttles
	// ClockSkew is how far the cloud's clock is ahead of the caller's for the call; negative for behind.
	ClockSkew Duration `json:"clockSkew,omitempty"`
}

// Duration is a time.Duration that is text in JSON, as in "1m30s".
type Duration time.Duration

// MarshalText implements encoding.TextMarshaler.
func (d Duration) MarshalText() ([]byte, error) { return []byte(time.Duration(d).String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Duration) UnmarshalText(text []byte) error {
	parsed, err := time.ParseDuration(string(text))
	*d = Duration(parsed)
	return err
}

// usualStatus of the codes that are worth injecting. That of Throttling.* is 400 or 429; UNVERIFIED which.
var usualStatus = map[string]int{
	"Rejected.Throttling": 429, "Throttling.User": 400, "Throttling.Api": 400, "Throttling": 400,
	"ServiceUnavailableTemporary": 503, "ServiceUnavailable": 503, "InternalFailure": 500, "InternalError": 500,
	"Forbidden.NoPermission": 403, "Forbidden.ResourceNotFound": 404, "InvalidAccessKeyId.NotFound": 404,
	"Rejected.Unavailable": 403, "Forbidden.KeyNotFound": 404, "EntityNotExist.Role": 404, "InvalidAction.NotFound": 404,
}

func (f *Fault) complete() error {
	if f.Body != "" {
		if f.Code != "" || f.Message != "" {
			return errors.New("fault: want either body or code and message")
		}
		f.Status = cmp.Or(f.Status, http.StatusOK)
	} else if f.Status != 0 || f.Code != "" {
		if f.Code == "" {
			f.Code = "Throttling.User"
			if f.Status >= 500 {
				f.Code = "ServiceUnavailableTemporary"
			}
		}
		f.Status = cmp.Or(f.Status, usualStatus[f.Code], http.StatusBadRequest)
		f.Message = cmp.Or(f.Message, "This refusal was injected into the emulator.")
	}
	for name, place := range map[string]string{"hang": f.Hang, "cut": f.Cut} {
		if place != "" && place != AtHeaders && place != AtBody {
			return fmt.Errorf("fault: %s %q: want %s or %s", name, place, AtHeaders, AtBody)
		}
	}
	switch {
	case f.Hang != "" && f.Cut != "":
		return errors.New("fault: want either hang or cut")
	case f.Status != 0 && (f.Status < 200 || f.Status > 599):
		return fmt.Errorf("fault: status %d: want 200 to 599", f.Status)
	case f.MaxQPS != 0 && f.Status != 0:
		return errors.New("fault: maxQPS has its own status and code")
	case f.Count < 0 || f.MaxQPS < 0 || f.Latency < 0 || f.RetryAfter < 0:
		return errors.New("fault: count, maxQPS, latency and retryAfter cannot be negative")
	case f.RetryAfter > 0 && f.Status == 0 && f.MaxQPS == 0:
		return errors.New("fault: retryAfter goes with status, code or maxQPS")
	case f.Status == 0 && f.Latency == 0 && f.Hang == "" && f.Cut == "" && f.MaxQPS == 0 && f.ClockSkew == 0:
		return errors.New("fault: want what goes wrong: status, code, body, latency, hang, cut, maxQPS or clockSkew")
	}
	return nil
}

// faults holds those that are set, in the order of their addition.
type faults struct {
	mu   sync.Mutex
	last int
	list []*setFault
}

type setFault struct {
	Fault
	struck  int
	passed  []time.Time   // MaxQPS: when the calls of the last second passed
	removed chan struct{} // closed to let hanging calls go
}

// spent faults strike no more, but stay in the list so that their removal lets hanging calls go.
func (f *setFault) spent() bool { return f.Count > 0 && f.struck >= f.Count }

// AddFault sets a fault and returns its ID.
func (e *Emulator) AddFault(f Fault) (string, error) {
	if err := f.complete(); err != nil {
		return "", err
	}
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	e.faults.last++
	f.ID = strconv.Itoa(e.faults.last)
	e.faults.list = append(e.faults.list, &setFault{Fault: f, removed: make(chan struct{})})
	return f.ID, nil
}

// Faults lists the faults that still strike; Count is what is left of it.
func (e *Emulator) Faults() []Fault {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	list := make([]Fault, 0, len(e.faults.list))
	for _, f := range e.faults.list {
		if f.spent() {
			continue
		}
		left := f.Fault
		left.Count = max(f.Count-f.struck, 0)
		list = append(list, left)
	}
	return list
}

// RemoveFault removes a fault; calls that hang in it are let go.
func (e *Emulator) RemoveFault(id string) error {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	i := slices.IndexFunc(e.faults.list, func(f *setFault) bool { return f.ID == id })
	if i < 0 {
		return fmt.Errorf("fault %s: %w", id, ErrNotFound)
	}
	close(e.faults.list[i].removed)
	e.faults.list = slices.Delete(e.faults.list, i, i+1)
	return nil
}

// ClearFaults removes all faults.
func (e *Emulator) ClearFaults() {
	e.faults.mu.Lock()
	defer e.faults.mu.Unlock()
	for _, f := range e.faults.list {
		close(f.removed)
	}
	e.faults.list = nil
}
