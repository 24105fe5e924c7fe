package httpapi

import (
	"cmp"
	"context"
	"crypto/subtle"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/textproto"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/logkey"
)

// Config says what to serve, and under which conditions.
type Config struct {
	Source Source
	Token  string // what a request must bring
	// Allow are the secrets that may be asked for: names, ARNs, patterns with * for any characters. Nothing else is served;
	// "*" alone is all that the role may read.
	Allow        []string
	Headers      []string // that the token may be in; nil: X-KMS-Token and X-Vault-Token
	PathPrefix   string   // of requests that name the secret in their path; empty: /v1/
	MaxConn      int      // connections at a time; 0: 800
	ResponseType ResponseType
	ARNPrefix    string        // of the account's secrets, for ShapeAWS: acs:kms:<region>:<account>:secret/; empty: not known
	Heartbeat    time.Duration // between the comments that keep a watch open; 0: 15s
	Log          *slog.Logger  // nil: slog.Default
}

// DefaultHeaders returns the headers that the token may be in.
func DefaultHeaders() []string { return []string{"X-KMS-Token", "X-Vault-Token"} }

// The KMS Agent's defaults.
const (
	DefaultMaxConn    = 800
	DefaultPathPrefix = "/v1/"
)

// Server answers requests. It is an http.Handler; MaxConn is kept by Serve.
type Server struct {
	cfg        Config // complete
	watchPath  string
	writeLimit time.Duration
}

// New checks cfg and returns a Server for it.
func New(cfg Config) (*Server, error) {
	cfg.PathPrefix, cfg.MaxConn = cmp.Or(cfg.PathPrefix, DefaultPathPrefix), cmp.Or(cfg.MaxConn, DefaultMaxConn)
	cfg.Heartbeat, cfg.Log = cmp.Or(cfg.Heartbeat, 15*time.Second), cmp.Or(cfg.Log, slog.Default())
	if len(cfg.Headers) == 0 {
		cfg.Headers = DefaultHeaders()
	}
	cfg.Headers = slices.Clone(cfg.Headers)
	for i, h := range cfg.Headers {
		cfg.Headers[i] = textproto.CanonicalMIMEHeaderKey(h)
	}
	switch {
	case cfg.Token == "":
		return nil, errors.New("the local API needs a token: " +
			"without one, an attacker who makes a process of this pod send a request reads its secrets")
	case !strings.HasPrefix(cfg.PathPrefix, "/") || !strings.HasSuffix(cfg.PathPrefix, "/"):
		return nil, fmt.Errorf("path prefix %q: it must begin and end with /, as /v1/ does", cfg.PathPrefix)
	case cfg.ResponseType < ShapeKMS || cfg.ResponseType > ShapeVault:
		return nil, fmt.Errorf("response type %d: it is 0 (KMS), 1 (AWS Secrets Manager) or 2 (HashiCorp Vault KV)", cfg.ResponseType)
	}
	return &Server{cfg: cfg, watchPath: cfg.PathPrefix + "watch", writeLimit: 10 * time.Second}, nil
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := s.answer(w, r); err != nil {
		s.refuse(w, r, err)
	}
}

// answer returns an error if it has written nothing.
func (s *Server) answer(w http.ResponseWriter, r *http.Request) error {
	path := r.URL.Path
	if err := s.admit(r, path == "/ping"); err != nil {
		return err
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		return &Error{Status: http.StatusMethodNotAllowed, Code: CodeMethod, Message: "only GET is allowed"}
	}
	switch {
	case path == "/ping":
		w.Header()["Content-Type"] = textType
		_, _ = w.Write([]byte("healthy")) // a client that has gone away needs no answer
		return nil
	case path == queryPath:
		return s.get(w, r, "", queryParameters)
	case path == s.watchPath:
		return s.watch(w, r)
	case strings.HasPrefix(path, s.cfg.PathPrefix) && path != s.cfg.PathPrefix:
		return s.get(w, r, path[len(s.cfg.PathPrefix):], pathParameters)
	}
	return &Error{
		Status: http.StatusNotFound, Code: CodePath,
		Message: "there is only " + queryPath + "?secretId=…, " + s.cfg.PathPrefix + "<secretId>, " + s.watchPath + "?secretId=… and /ping",
	}
}

// forwardedHeaders are the headers of a request that came through a proxy (RFC 7239, RFC 9110).
var forwardedHeaders = []string{"X-Forwarded-For", "Forwarded", "Via"}

// admit checks what has nothing to do with the secret.
func (s *Server) admit(r *http.Request, ping bool) *Error {
	connection := connectionOf(r)
	if !ping && connection.over() {
		return &Error{Status: http.StatusTooManyRequests, Code: CodeTooManyConnections, Message: fmt.Sprintf(
			"connection limit exceeded: there are more than %d; keep connections open and use them again, or raise MaxConn", s.cfg.MaxConn)}
	}
	if ping {
		return nil
	}
	for _, name := range forwardedHeaders {
		if _, forwarded := r.Header[name]; forwarded {
			return &Error{Status: http.StatusBadRequest, Code: CodeForwarded, Message: "a forwarded request (" + name + ") gets no secret"}
		}
	}
	for _, name := range s.cfg.Headers {
		for _, value := range r.Header[name] {
			if subtle.ConstantTimeCompare([]byte(value), []byte(s.cfg.Token)) == 1 {
				connection.trust()
				return nil
			}
		}
	}
	return &Error{
		Status: http.StatusForbidden, Code: CodeBadToken,
		Message: "bad token: send what is in the token file, without a line break, in the header " + strings.Join(s.cfg.Headers, " or "),
	}
}

// permitted reads a request for a secret that may be asked for.
func (s *Server) permitted(r *http.Request, id string, known []string) (Request, error) {
	request, refusal := parse(r, id, known)
	switch {
	case refusal != nil:
		return Request{}, refusal
	case !allows(s.cfg.Allow, request.Name):
		return Request{}, &Error{
			Status: http.StatusForbidden, Code: CodeNotAllowed,
			Message: "this agent does not serve the secret " + request.Name,
			Recommend: "declare the secret in the pod, or add a pattern for it to the annotation kms.alibabacloud.com/api-allow; " +
				"case matters, and a pattern for the name does not match the ARN",
		}
	}
	return request, nil
}

func (s *Server) get(w http.ResponseWriter, r *http.Request, id string, known []string) error {
	request, err := s.permitted(r, id, known)
	if err != nil {
		return err
	}
	secret, err := s.cfg.Source.Get(r.Context(), request)
	if err != nil {
		return err
	}
	// Answers are encoded for each request: kept beside the values they would double the size of a cache.
	body, err := encode(s.document(request, secret))
	if err != nil {
		return err
	}
	write(w, http.StatusOK, body)
	return nil
}

// refuse answers with err. Neither the token nor a value can be in it.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, err error) {
	var refusal *Error
	switch {
	case errors.As(err, &refusal):
	case r.Context().Err() != nil:
		// The client has gone, or has closed its side and still reads: a return would be 200 without a value.
		panic(http.ErrAbortHandler)
	case errors.Is(err, context.DeadlineExceeded):
		refusal = &Error{Status: http.StatusGatewayTimeout, Code: CodeTimeout, Message: "KMS did not answer in time"}
	default:
		s.cfg.Log.Error("request failed", logkey.Path, r.URL.Path, logkey.Error, err)
		refusal = &Error{Status: http.StatusInternalServerError, Code: CodeInternal, Message: "the agent's log says what went wrong"}
	}
	s.cfg.Log.Debug("request refused", logkey.Path, r.URL.Path, logkey.Status, refusal.Status, logkey.Code, refusal.Code)
	if refusal.Code == CodeTooManyConnections {
		w.Header().Set("Connection", "close") // or it would stay one too many
	}
	if refusal.RetryAfter > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(int(math.Ceil(refusal.RetryAfter.Seconds()))))
	}
	body, err := encode(refusal)
	if err != nil {
		s.cfg.Log.Error("answer could not be encoded", logkey.Error, err)
	}
	write(w, refusal.Status, body)
}

// Header values that all answers share: net/http only reads them.
var (
	jsonType = []string{"application/json"}
	textType = []string{"text/plain; charset=utf-8"}
	noStore  = []string{"no-store"}
)

func write(w http.ResponseWriter, status int, body []byte) {
	header := w.Header()
	header["Content-Type"], header["Cache-Control"] = jsonType, noStore
	header.Set("Content-Length", strconv.Itoa(len(body)))
	w.WriteHeader(status)
	_, _ = w.Write(body) // a client that has gone away needs no answer
}
