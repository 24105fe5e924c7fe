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

	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
)

// A Store keeps sessions for the process after this one. The error of Read is fs.ErrNotExist if there are none.
type Store interface {
	Read(what any) error
	Write(what any) error
}

// Sessions are those of a pod, by the ID of their Provider. A process that finds one asks STS for none, so that a pod's start
// is one exchange, whatever restarts in it. Until Open is called they keep nothing. It is safe for concurrent use.
type Sessions struct {
	store Store
	log   *slog.Logger

	mu   sync.Mutex
	kept map[string]session
}

// session is what is kept of one.
type session struct {
	Credentials Credentials
	Renew       time.Time // when it is due for replacement
}

// Open takes over what a process before left in a store, and keeps sessions there from now on. What cannot be read is as if it
// were not there.
func (s *Sessions) Open(store Store, log *slog.Logger) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.store, s.log = store, log
	if err := store.Read(&s.kept); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			log.Warn("the sessions that are remembered cannot be used: asking STS for new ones", logkey.Error, err)
		}
		s.kept = nil
	}
}

// of returns the session of an identity, if it has not ended. One that would last longer than STS gives any is of another clock.
func (s *Sessions) of(identity string, now time.Time) (session, bool) {
	if s == nil {
		return session{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	c, ok := s.kept[identity]
	return c, ok && !c.Credentials.Expires.IsZero() && c.Credentials.valid(now) && c.Credentials.Expires.Sub(now) <= longestSession
}

// keep replaces the session of an identity; one without credentials is forgotten.
func (s *Sessions) keep(identity string, c session) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.store == nil {
		return
	}
	if c.Credentials.AccessKeyID == "" {
		delete(s.kept, identity)
	} else {
		if s.kept == nil {
			s.kept = map[string]session{}
		}
		s.kept[identity] = c
	}
	if err := s.store.Write(s.kept); err != nil {
		s.log.Warn("the session cannot be remembered: the next process of the agent asks STS for one of its own", logkey.Error, err)
	}
}

// fingerprint hashes the parameters of an identity: a session is used only for the identity that got it.
func fingerprint(parts ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(parts, "\x00")))
	return hex.EncodeToString(sum[:])
}
