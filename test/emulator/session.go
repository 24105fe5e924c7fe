package emulator

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"hash/fnv"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// forgetAfter is how long an expired session is still known as expired. Later its access key is as unknown as any, as
// KMS documents for the real one.
const forgetAfter = time.Hour

// session is the signer of a call: a temporary identity that STS issued, a RAM user with an access key of its own, or an
// application access point by its client key.
type session struct {
	accessKeyID string
	secret      string
	token       string
	role        string // ARN
	roleName    string
	name        string
	account     string
	expires     time.Time        // zero for keys, which do not end
	narrowed    *policy.Document // the Policy parameter of the request: the session may do what the role and it both allow

	user  string       // ARN of the RAM user whose access key it is
	point *accessPoint // whose client key it is
}

// ended reports whether a session's time is over.
func (s session) ended(now time.Time) bool { return !s.expires.IsZero() && !now.Before(s.expires) }

// arns returns the names by which a trust policy may mean the caller.
func (s session) arns() []string {
	names := []string{"acs:ram::" + s.account + ":root"}
	for _, arn := range []string{s.user, s.role} {
		if arn != "" {
			names = append(names, arn)
		}
	}
	return names
}

// kind returns the caller's type as RAM calls it in a refusal.
func (s session) kind() string {
	switch {
	case s.user != "":
		return "SubUser"
	case s.point != nil:
		return "ApplicationAccessPoint"
	}
	return "AssumedRoleUser"
}

// sessions holds what STS gave out, by access key ID.
type sessions struct {
	mu      sync.Mutex
	byKey   map[string]session
	byToken map[string]string
}

// add completes the session with credentials in the shape of STS's.
func (s *sessions) add(new session, now time.Time) session {
	new.accessKeyID = "STS.NT" + rand.Text()[:24]
	new.secret = rand.Text() + rand.Text()[:18]
	seed := make([]byte, 300)
	_, _ = rand.Read(seed) // never fails
	new.token = "CAIS" + base64.StdEncoding.EncodeToString(seed)

	s.mu.Lock()
	defer s.mu.Unlock()
	for key, old := range s.byKey {
		if now.Sub(old.expires) > forgetAfter {
			delete(s.byKey, key)
			delete(s.byToken, old.token)
		}
	}
	s.byKey[new.accessKeyID] = new
	s.byToken[new.token] = new.accessKeyID
	return new
}

// find returns the session of the access key with the token that must come with it.
func (s *sessions) find(accessKeyID, token string) (session, *problem) {
	s.mu.Lock()
	defer s.mu.Unlock()
	found, ok := s.byKey[accessKeyID]
	switch {
	case !ok:
		return session{}, unknownAccessKey
	case token == "":
		return session{}, missingToken
	case token == found.token:
		return found, nil
	case s.byToken[token] != "":
		return session{}, mismatchedToken
	default:
		return session{}, malformedToken
	}
}

// ExpireSessions ends every session given out so far, as if its time were over.
func (e *Emulator) ExpireSessions() {
	e.sessions.mu.Lock()
	defer e.sessions.mu.Unlock()
	now := e.clock()
	for key, s := range e.sessions.byKey {
		if s.expires.After(now) {
			s.expires = now
			e.sessions.byKey[key] = s
		}
	}
}

// displayName is how RAM names the session in a refusal.
func (s session) displayName() string {
	if s.role == "" {
		return s.name
	}
	return strings.Join([]string{s.roleName, s.name}, ":")
}

// Bounds of what all operations take that give out sessions, from their documentation.
const (
	minSession      = 900
	defaultSession  = 3600
	maxPolicyLength = 2048
)

var (
	roleSessionName = regexp.MustCompile(`^[A-Za-z0-9.@_-]{2,64}$`)
	anyRoleARN      = regexp.MustCompile(`^acs:ram::[0-9]+:role/[A-Za-z0-9._-]+$`)
)

type assumedRoleUser struct {
	Arn           string
	AssumedRoleID string `json:"AssumedRoleId"`
}

type credentials struct {
	AccessKeyID     string `json:"AccessKeyId"`
	AccessKeySecret string
	SecurityToken   string
	Expiration      string
}

// giveSession makes a session of the role, for as long as the call asks.
func (e *Emulator) giveSession(c *call, r role, narrowed *policy.Document) (session, *problem) {
	seconds, p := duration(c.params.Get("DurationSeconds"), r.MaxSessionDuration)
	if p != nil {
		return session{}, p
	}
	return e.sessions.add(session{
		role: r.arn, roleName: r.Name, name: c.params.Get("RoleSessionName"), account: r.Account,
		expires: c.now.Add(time.Duration(seconds) * time.Second), narrowed: narrowed,
	}, c.now), nil
}

func (r role) as(s session) assumedRoleUser {
	return assumedRoleUser{Arn: r.arn + "/" + s.name, AssumedRoleID: r.id() + ":" + s.name}
}

func (s session) credentials() credentials {
	return credentials{
		AccessKeyID: s.accessKeyID, AccessKeySecret: s.secret, SecurityToken: s.token, Expiration: stamp(s.expires),
	}
}

// checkSessionParameters looks at what all operations that give out sessions take.
func checkSessionParameters(c *call) (narrowed *policy.Document, p *problem) {
	name := c.params.Get("RoleSessionName")
	switch {
	case name == "":
		return nil, missingSessionName
	case !roleSessionName.MatchString(name):
		return nil, badSTSParameter("RoleSessionName", "The parameter RoleSessionName is wrongly formed.")
	case !anyRoleARN.MatchString(c.params.Get("RoleArn")):
		return nil, badSTSParameter("RoleArn", "The parameter RoleArn is wrongly formed.")
	}
	text := c.params.Get("Policy")
	if text == "" {
		return nil, nil
	}
	if len(text) > maxPolicyLength {
		return nil, badSTSParameter("PolicySize", "The max size of policy string is 2048.")
	}
	doc, err := policy.ParsePermissions(text)
	if err != nil {
		return nil, badSTSParameter("PolicyGrammar", "The parameter Policy has not passed grammar check.")
	}
	return &doc, nil
}

func duration(text string, maximum int) (int, *problem) {
	if text == "" {
		return min(defaultSession, maximum), nil
	}
	seconds, err := strconv.Atoi(text)
	if err != nil || seconds < minSession || seconds > maximum {
		return 0, badSTSParameter("DurationSeconds", "The Min/Max value of DurationSeconds is 15min/MaxSessionDuration.")
	}
	return seconds, nil
}

var missingSessionName = problemf(http.StatusBadRequest, "MissingRoleSessionName", "RoleSessionName is mandatory for this action.")

// id returns a number like those of RAM, made of the ARN so that it is the same in every run.
func (r role) id() string {
	h := fnv.New64a()
	h.Write([]byte(r.arn))
	return fmt.Sprintf("3%015d", h.Sum64()%1e15)
}

func stamp(t time.Time) string { return t.UTC().Format(timeFormat) }
