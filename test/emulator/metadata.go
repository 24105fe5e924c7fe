package emulator

import (
	"crypto/rand"
	"encoding/json"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// Facts of the ECS instance metadata service in security hardening mode (IMDSv2), from its documentation and the SDK.
const (
	metadataHost    = "100.100.100.200"
	metadataToken   = "X-Aliyun-Ecs-Metadata-Token"
	metadataTTL     = "X-Aliyun-Ecs-Metadata-Token-Ttl-Seconds"
	maxMetadataTTL  = 21600
	nodeCredentials = "/latest/meta-data/ram/security-credentials/"
	// nodeSession is how long the credentials of a node's role last.
	nodeSession = 6 * time.Hour
)

// metadata holds the tokens that the metadata service gave out.
type metadata struct {
	mu     sync.Mutex
	tokens map[string]time.Time // and when they end
}

func (m *metadata) give(ends time.Time) string {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.tokens == nil {
		m.tokens = map[string]time.Time{}
	}
	token := rand.Text()
	m.tokens[token] = ends
	return token
}

func (m *metadata) valid(token string, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Before(m.tokens[token])
}

// Metadata serves the metadata service of the node, over plain HTTP: directly, or as the proxy through which a client
// asks for http://100.100.100.200, since the SDK has no other way to lead it elsewhere. Requests without a token, which
// the service's first version takes, are refused. Calls are counted, and struck by faults, as GetMetadataToken,
// GetNodeRole and GetNodeCredentials.
func (e *Emulator) Metadata() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &call{id: requestID(), request: r, host: hostname(r.Host), now: e.clock()}
		serve := func() answer { return plain(c, http.StatusNotFound, "404 - Not Found") }
		role, credentials := strings.CutPrefix(r.URL.Path, nodeCredentials)
		switch {
		case r.URL.IsAbs() && r.URL.Hostname() != metadataHost:
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			c.action, serve = "GetMetadataToken", func() answer { return e.giveMetadataToken(c) }
		case r.Method == http.MethodGet && credentials && role == "":
			c.action, serve = "GetNodeRole", func() answer { return e.showNodeRole(c) }
		case r.Method == http.MethodGet && credentials:
			c.action, serve = "GetNodeCredentials", func() answer { return e.giveNodeCredentials(c, role) }
		}
		e.finish(w, r, c, serve)
	})
}

func (e *Emulator) giveMetadataToken(c *call) answer {
	seconds, err := strconv.Atoi(c.request.Header.Get(metadataTTL))
	if err != nil || seconds < 1 || seconds > maxMetadataTTL {
		return plain(c, http.StatusBadRequest, "400 - Bad Request")
	}
	return plain(c, http.StatusOK, e.metadata.give(c.now.Add(time.Duration(seconds)*time.Second)))
}

func (e *Emulator) showNodeRole(c *call) answer {
	r, refused := e.nodeRole(c)
	if refused != nil {
		return *refused
	}
	return plain(c, http.StatusOK, r.Name)
}

func (e *Emulator) giveNodeCredentials(c *call, name string) answer {
	r, refused := e.nodeRole(c)
	switch {
	case refused != nil:
		return *refused
	case name != r.Name:
		return plain(c, http.StatusNotFound, "404 - Not Found")
	}
	s := e.sessions.add(session{
		role: r.arn, roleName: r.Name, name: "i-emulated", account: r.Account, expires: c.now.Add(nodeSession),
	}, c.now)
	body, err := json.Marshal(struct {
		credentials
		LastUpdated, Code string
	}{s.credentials(), stamp(c.now), "Success"})
	if err != nil {
		return plain(c, http.StatusInternalServerError, "500") // strings always encode
	}
	return newAnswer(c, http.StatusOK, CodeOK, "application/json", body)
}

// nodeRole returns the role of the node, if the call has a token and the role lets nodes use it.
func (e *Emulator) nodeRole(c *call) (role, *answer) {
	if !e.metadata.valid(c.request.Header.Get(metadataToken), c.now) {
		a := plain(c, http.StatusForbidden, "403 - Forbidden")
		return role{}, &a
	}
	r, ok := e.ram.role(e.node)
	asked := policy.Request{Action: "sts:AssumeRole", Service: "ecs.aliyuncs.com"}
	if !ok || policy.Decide([]policy.Document{r.trust}, asked) != policy.Allow {
		a := plain(c, http.StatusNotFound, "404 - Not Found")
		return role{}, &a
	}
	return r, nil
}

func plain(c *call, status int, text string) answer {
	code := CodeOK
	if status != http.StatusOK {
		code = strconv.Itoa(status)
	}
	return newAnswer(c, status, code, "text/plain", []byte(text))
}
