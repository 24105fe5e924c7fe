package emulator

import (
	"fmt"
	"hash/fnv"
	"net/http"
	"regexp"
	"strconv"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

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
		return nil, missingSessionName()
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

func missingSessionName() *problem {
	return problemf(http.StatusBadRequest, "MissingRoleSessionName", "RoleSessionName is mandatory for this action.")
}

// id is a number like those of RAM, made of the ARN so that it is the same in every run.
func (r role) id() string {
	h := fnv.New64a()
	h.Write([]byte(r.arn))
	return fmt.Sprintf("3%015d", h.Sum64()%1e15)
}

func stamp(t time.Time) string { return t.UTC().Format(timeFormat) }
