// Package httpapi serves secrets to the containers of a pod over HTTP, as the KMS Agent of Alibaba Cloud does.
//
// A process that can read the token file can read the allowed secrets. The server checks a request in this order, which is the order
// of the agent that the KMS Agent is modelled on: number of connections, X-Forwarded-For and similar headers, token, method, path,
// parameters, allow-list. Only /ping needs no token. Values and tokens are never logged.
package httpapi

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/kms"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// A Request asks for a version of a secret. It is comparable, so that a cache can have it as its key.
type Request struct {
	kms.Ref
	RefreshNow bool // ask KMS, whatever is cached
}

// A Source has the secrets. It is safe for concurrent use, and a Secret that it has handed out does not change.
type Source interface {
	// Get returns a secret. Its error is an *Error, which becomes the answer; context.DeadlineExceeded, which becomes 504;
	// or anything else, which becomes 500 and is logged.
	Get(ctx context.Context, r Request) (*kms.Secret, error)
	// Watch sends the secret as it is, and again each time that it has another version, until ctx ends. A receiver that
	// is slow misses versions, but never the last one.
	Watch(ctx context.Context, r Request) <-chan *kms.Secret
}

// Error is an answer other than 200, in the form of KMS's own errors.
type Error struct {
	Status     int           `json:"-"` // of HTTP
	RetryAfter time.Duration `json:"-"` // when the same request makes sense again, in whole seconds; 0: not said
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
	values := make(map[string]string, len(queryParameters))
	for pair := range strings.SplitSeq(r.URL.RawQuery, "&") {
		if pair == "" {
			continue
		}
		key, escaped, _ := strings.Cut(pair, "=")
		if !slices.Contains(known, key) {
			return Request{}, invalid("unknown parameter: %s; this request takes %s", key, strings.Join(known, ", "))
		}
		if _, twice := values[key]; twice {
			return Request{}, invalid("%s is there twice", key)
		}
		// Not QueryUnescape: it makes a space of +, which a secret's name may have, while no name has a space.
		value, err := url.PathUnescape(escaped)
		if err != nil {
			return Request{}, invalid("%s: %s", key, err)
		}
		values[key] = value
	}
	request := Request{Ref: kms.Ref{
		Name: cmp.Or(id, values["secretId"]), VersionID: values["versionId"], VersionStage: values["versionStage"],
	}}
	refresh, said := values["refreshNow"]
	switch strings.ToLower(refresh) {
	case "true", "1":
		request.RefreshNow = true
	case "false", "0":
	default:
		if said {
			return Request{}, invalid("invalid refreshNow value: it is true or false")
		}
	}
	if request.Name == "" {
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

// allows reports whether a secret may be asked for.
func allows(list []string, id string) bool {
	return slices.ContainsFunc(list, func(pattern string) bool { return config.MatchesSecret(pattern, id) })
}
