// Package httpapi serves secrets to the containers of a pod over HTTP, as the KMS Agent of Alibaba Cloud does.
//
// A process that can read the token file can read the allowed secrets. The server checks a request in this order, which is the order
// of the agent that the KMS Agent is modelled on: number of connections, X-Forwarded-For and similar headers, token, method, path,
// parameters, allow-list. Only /ping needs no token. Values and tokens are never logged.
package httpapi

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Request names a version of a secret. It is comparable, so that a cache can have it as its key.
type Request struct {
	SecretID     string // name, or ARN for another account's
	VersionID    string // empty: the version at VersionStage
	VersionStage string // empty: ACSCurrent
	RefreshNow   bool   // ask KMS, whatever is cached
}

func (r Request) String() string {
	var b strings.Builder
	b.WriteString(r.SecretID)
	if r.VersionID != "" {
		b.WriteString(" version " + r.VersionID)
	}
	if r.VersionStage != "" {
		b.WriteString(" stage " + r.VersionStage)
	}
	return b.String()
}

// A Secret is what KMS's GetSecretValue answers, as it is on the wire.
type Secret struct {
	RequestID  string `json:"RequestId"`
	ARN        string `json:"-"` // not KMS's; empty if it is not known
	Name       string `json:"SecretName"`
	Type       string `json:"SecretType"`     // Generic, Rds, RAMCredentials, ECS, …
	Data       string `json:"SecretData"`     // base64 if DataType is binary
	DataType   string `json:"SecretDataType"` // text or binary
	VersionID  string `json:"VersionId"`
	Stages     Stages `json:"VersionStages"`
	CreateTime string `json:",omitempty"` // RFC 3339

	// Only managed secrets have these.
	AutomaticRotation string `json:",omitempty"`
	RotationInterval  string `json:",omitempty"`
	LastRotationDate  string `json:",omitempty"`
	NextRotationDate  string `json:",omitempty"`
	ExtendedConfig    string `json:",omitempty"`
}

// Stages are the stages of a version.
type Stages []string

// MarshalJSON implements json.Marshaler, as KMS nests lists.
func (s Stages) MarshalJSON() ([]byte, error) {
	return json.Marshal(map[string][]string{"VersionStage": s.list()})
}

// list is never nil, which would be null in JSON.
func (s Stages) list() []string { return append([]string{}, s...) }

// String hides the value from every %v.
func (s *Secret) String() string { return fmt.Sprintf("secret %s version %s", s.Name, s.VersionID) }

// GoString hides the value from %#v.
func (s *Secret) GoString() string { return s.String() }

// LogValue hides the value from slog.
func (s *Secret) LogValue() slog.Value { return slog.StringValue(s.String()) }

// A Source has the secrets. It is safe for concurrent use, and a Secret that it has handed out does not change.
type Source interface {
	// Get returns a secret. Its error is an *Error, which becomes the answer; context.DeadlineExceeded, which becomes 504;
	// or anything else, which becomes 500 and is logged.
	Get(ctx context.Context, r Request) (*Secret, error)
	// Watch sends the secret as it is, and again each time that it has another version, until ctx ends. A receiver that
	// is slow misses versions, but never the last one.
	Watch(ctx context.Context, r Request) <-chan *Secret
}

// Error is an answer other than 200, in the form of KMS's own errors.
type Error struct {
	Status int `json:"-"` // of HTTP
	// RetryAfter is when the same request makes sense again, in whole seconds; 0: not said.
	RetryAfter time.Duration `json:"-"`
	Code       string        // KMS's, or one of those below
	Message    string
	RequestID  string `json:"RequestId"`           // KMS's; empty if the agent itself refuses
	Recommend  string `json:"Recommend,omitempty"` // why, and what to change
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s (HTTP %d): %s", e.Code, e.Status, e.Message)
	if e.RequestID != "" {
		text += " (request " + e.RequestID + ")"
	}
	return text
}

// The codes of the agent's own refusals.
const (
	CodeTooManyConnections = "Rejected.TooManyConnections" // 429
	CodeTooManyCalls       = "Rejected.TooManyCalls"       // 429: the local API's calls to KMS are rationed
	CodeForwarded          = "Forbidden.Forwarded"         // 400
	CodeBadToken           = "Forbidden.BadToken"          // 403
	CodeMethod             = "MethodNotAllowed"            // 405
	CodePath               = "PathNotFound"                // 404
	CodeMissingParameter   = "MissingParameter"            // 400
	CodeInvalidParameter   = "InvalidParameter"            // 400
	CodeNotAllowed         = "Forbidden.SecretNotAllowed"  // 403
	CodeConnection         = "ConnectionError"             // 502: KMS or STS cannot be reached, and nothing is cached
	CodeTimeout            = "TimeoutError"                // 504: they did not answer in time
	CodeInternal           = "InternalFailure"             // 500
)

const queryPath = "/secretsmanager/get"

// The parameters of each form of a request.
var (
	queryParameters = []string{"secretId", "versionId", "versionStage", "refreshNow"}
	pathParameters  = queryParameters[1:]
	watchParameters = []string{"secretId", "versionStage"}
)

// parse reads the parameters of r. With an id, which the path gave, there is no secretId among them.
func parse(r *http.Request, id string, known []string) (Request, *Error) {
	request := Request{SecretID: id}
	seen := make([]string, 0, 4)
	for rest := r.URL.RawQuery; rest != ""; {
		var pair string
		if pair, rest, _ = strings.Cut(rest, "&"); pair == "" {
			continue
		}
		key, escaped, _ := strings.Cut(pair, "=")
		switch {
		case !slices.Contains(known, key):
			return Request{}, invalid("unknown parameter: %s; this request takes %s", key, strings.Join(known, ", "))
		case slices.Contains(seen, key):
			return Request{}, invalid("%s is there twice", key)
		}
		seen = append(seen, key)
		// Not QueryUnescape: it makes a space of +, which a secret's name may have, while no name has a space.
		value, err := url.PathUnescape(escaped)
		if err != nil {
			return Request{}, invalid("%s: %s", key, err)
		}
		switch key {
		case "secretId":
			request.SecretID = value
		case "versionId":
			request.VersionID = value
		case "versionStage":
			request.VersionStage = value
		case "refreshNow":
			switch strings.ToLower(value) {
			case "true", "1":
				request.RefreshNow = true
			case "false", "0":
			default:
				return Request{}, invalid("invalid refreshNow value: it is true or false")
			}
		}
	}
	if request.SecretID == "" {
		return Request{}, &Error{
			Status: http.StatusBadRequest, Code: CodeMissingParameter,
			Message: "missing secretId: say which secret, as in " + queryPath + "?secretId=app/db",
		}
	}
	return request, nil
}

func invalid(format string, args ...any) *Error {
	return &Error{Status: http.StatusBadRequest, Code: CodeInvalidParameter, Message: fmt.Sprintf(format, args...)}
}

// allowList are the secrets that may be asked for: names, ARNs, and patterns as config.MatchesSecret has them.
type allowList struct {
	exact    map[string]struct{}
	patterns []string
}

func newAllowList(entries []string) allowList {
	a := allowList{exact: map[string]struct{}{}}
	for _, entry := range entries {
		if strings.Contains(entry, "*") {
			a.patterns = append(a.patterns, entry)
		} else {
			a.exact[entry] = struct{}{}
		}
	}
	return a
}

func (a allowList) allows(id string) bool {
	if _, ok := a.exact[id]; ok {
		return true
	}
	return slices.ContainsFunc(a.patterns, func(pattern string) bool { return config.MatchesSecret(pattern, id) })
}
