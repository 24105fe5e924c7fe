package identity

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io/fs"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/handover"
)

// SessionsFile has the sessions that one process of the agent leaves for the next.
const SessionsFile = "sessions.json"

// Sessions are those of a pod, by what they are sessions of. A process that finds one asks STS for none, so that a pod's start
// is one exchange, whatever restarts in it. It is safe for concurrent use.
type Sessions struct {
	directory string
	log       *slog.Logger

	mu   sync.Mutex
	kept map[string]session
}

// session is what is kept of one.
type session struct {
	Credentials Credentials
	Renew       time.Time // when it is due for replacement
}

// OpenSessions reads what a process before left in a directory. What cannot be read is as if it were not there.
func OpenSessions(directory string, log *slog.Logger) *Sessions {
	s := &Sessions{directory: directory, log: log}
	if err := handover.Read(directory, SessionsFile, &s.kept); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("the sessions that are remembered cannot be used: asking STS for new ones", "error", err)
		}
		s.kept = nil
	}
	if s.kept == nil {
		s.kept = map[string]session{}
	}
	return s
}

// of is the session of an identity, if it has not ended. One that would last longer than STS gives any is of another clock.
func (s *Sessions) of(identity string, now time.Time) (session, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.kept[identity]
	return c, ok && !c.Credentials.Expires.IsZero() && c.Credentials.valid(now) && c.Credentials.Expires.Sub(now) <= LongestSession
}

// keep replaces the session of an identity; one without credentials is forgotten.
func (s *Sessions) keep(identity string, c session) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.Credentials.AccessKeyID == "" {
		delete(s.kept, identity)
	} else {
		s.kept[identity] = c
	}
	if err := handover.Write(s.directory, SessionsFile, s.kept); err != nil {
		s.log.Warn("the session cannot be remembered: the next process of the agent asks STS for one of its own", "error", err)
	}
}

// fingerprint is the same for the same identity, and for no other: a session is used only where STS would give the same one.
func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}

// fingerprint of what STS is asked for.
func (s *STS) fingerprint(parts ...string) string {
	return fingerprint(append(parts, s.host(), s.SessionName, s.Policy, s.Duration.String())...)
}
