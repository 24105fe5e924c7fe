package emulator

import (
	"cmp"
	"slices"
	"strings"
	"sync"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// CodeOK is the code of calls that succeeded.
const CodeOK = "OK"

// Call is what calls are counted by.
type Call struct {
	Action string `json:"action"`           // as in GetSecretValue
	Secret string `json:"secret,omitempty"` // the short name of the secret asked for; of several, as in "a,b"
	Role   string `json:"role,omitempty"`   // the ARN of the role to assume, or of the role of the caller
	Code   string `json:"code"`             // the error code answered, OK for success, or Hang or Cut for those faults
}

// CallCount is how many calls were alike.
type CallCount struct {
	Call
	Count int `json:"count"`
}

// CallCounts are the calls since the start or the last reset, sorted by action, secret, role and code.
type CallCounts []CallCount

// Sum counts the calls that are like the pattern; its empty fields match anything. * in Action stands for any characters; Secret is
// one that was asked for, maybe with others.
func (c CallCounts) Sum(pattern Call) int {
	like := func(want, have string) bool { return want == "" || want == have }
	sum := 0
	for _, n := range c {
		if asks(n.Action, n.Secret, pattern.Action, pattern.Secret) && like(pattern.Role, n.Role) && like(pattern.Code, n.Code) {
			sum += n.Count
		}
	}
	return sum
}

// asks reports whether a call has the action and is about the secret, as Sum and faults mean it.
func asks(action, secrets, wantAction, wantSecret string) bool {
	return (wantAction == "" || policy.Match(wantAction, action)) &&
		(wantSecret == "" || slices.Contains(strings.Split(secrets, ","), wantSecret))
}

// tally counts calls.
type tally struct {
	mu     sync.Mutex
	counts map[Call]int
}

func (t *tally) add(c *call, code string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[Call{Action: c.action, Secret: c.secret(), Role: c.role(), Code: code}]++
}

// Calls returns the number of calls of each kind.
func (e *Emulator) Calls() CallCounts {
	e.calls.mu.Lock()
	defer e.calls.mu.Unlock()
	list := make(CallCounts, 0, len(e.calls.counts))
	for call, n := range e.calls.counts {
		list = append(list, CallCount{call, n})
	}
	slices.SortFunc(list, func(a, b CallCount) int {
		return cmp.Or(cmp.Compare(a.Action, b.Action), cmp.Compare(a.Secret, b.Secret),
			cmp.Compare(a.Role, b.Role), cmp.Compare(a.Code, b.Code))
	})
	return list
}

// ResetCalls starts counting anew.
func (e *Emulator) ResetCalls() {
	e.calls.mu.Lock()
	defer e.calls.mu.Unlock()
	clear(e.calls.counts)
}
