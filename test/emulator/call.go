package emulator

import (
	"bytes"
	"cmp"
	"crypto/rand"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxBody is more than the largest request, an OIDC token of 20,000 characters and a policy.
const maxBody = 1 << 20

// call is one request to the cloud, read.
type call struct {
	id       string
	request  *http.Request
	body     []byte
	host     string
	service  service
	region   string
	action   string
	version  string
	params   url.Values
	instance string    // the ID of the KMS instance that was called, if it was one's gateway
	protobuf bool      // set if the call and its answer are in the instance gateway's own format, not the OpenAPI's
	now      time.Time // the time of the call's arrival by the cloud's clock
	caller   session   // whose the signature is; zero for unsigned operations
}

// newCall reads a request in either style: action and version in x-acs- headers (V3), or as parameters (RPC).
// Parameters may be in the query, the form body, or both.
func (e *Emulator) newCall(w http.ResponseWriter, r *http.Request, instance string) (*call, *problem) {
	c := &call{id: requestID(), request: r, host: hostname(r.Host), now: e.clock(), instance: instance}
	var err error
	if c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return c, unreadableRequest
	}
	if c.params, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return c, unreadableRequest
	}
	switch media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media {
	case protobufType:
		return c, e.readProtobuf(c)
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(c.body))
		if err != nil {
			return c, unreadableRequest
		}
		for name, values := range form {
			c.params[name] = append(c.params[name], values...)
		}
	}
	c.action, c.version = r.Header.Get("x-acs-action"), r.Header.Get("x-acs-version")
	if c.action == "" {
		c.action, c.version = c.params.Get("Action"), c.params.Get("Version")
	}
	c.service, c.region = endpoint(c.host)
	if c.instance == "" {
		c.instance = instanceID(c.host)
	}
	if c.instance != "" {
		c.service, c.region = kms, e.instances[c.instance].Region
	}
	if c.service == "" {
		c.service = serviceOf(c.action)
	}
	if c.region == "" {
		c.region = e.defaults.region
	}
	return c, nil
}

// operation finds what the call asks for.
func (c *call) operation() (operation, *problem) {
	if !allowedMethod(c.request.Method) {
		return operation{}, unsupportedMethod
	}
	op, ok := operations[c.service][c.action]
	if c.instance != "" && c.action != "GetSecretValue" {
		// An instance's gateway uses secrets and keys; they are made on the shared one. That it has no BatchGetSecretValue is UNVERIFIED.
		ok = false
	}
	switch {
	case !ok || c.request.URL.Path != "/" && c.request.URL.Path != "":
		return operation{}, invalidAction
	case c.version != versions[c.service]:
		return operation{}, invalidVersion
	}
	return op, nil
}

// called checks that the KMS instance exists. In the cloud, the host name of one that does not has no address.
func (e *Emulator) called(c *call) *problem {
	if _, ok := e.instances[c.instance]; c.instance != "" && !ok {
		return noInstance(c.instance)
	}
	return nil
}

// secret returns the short name of the secret that the call is about, if any; of several with commas between them, which no name has.
func (c *call) secret() string {
	if c.action == batchAction {
		var names []string
		for _, r := range c.batch() {
			names = append(names, shortName(r.SecretName))
		}
		return strings.Join(names, ",")
	}
	return shortName(c.params.Get("SecretName"))
}

// role returns the ARN of the role to assume, or of the caller's role.
func (c *call) role() string { return cmp.Or(c.params.Get("RoleArn"), c.caller.role) }

// endpoint tells a public or VPC endpoint's service and region from its host name, as in kms-vpc.cn-hangzhou.aliyuncs.com
// and sts.aliyuncs.com. Other hosts, such as 127.0.0.1, serve everything.
func endpoint(host string) (service, string) {
	prefix, ok := strings.CutSuffix(host, ".aliyuncs.com")
	if !ok {
		return "", ""
	}
	name, region, _ := strings.Cut(prefix, ".")
	switch strings.TrimSuffix(name, "-vpc") {
	case "sts":
		return sts, region
	case "kms":
		return kms, region
	}
	return "", ""
}

// instanceID returns the ID in the host name of a KMS instance's gateway.
func instanceID(host string) string {
	id, ok := strings.CutSuffix(host, ".cryptoservice.kms.aliyuncs.com")
	if !ok || strings.Contains(id, ".") {
		return ""
	}
	return id
}

func serviceOf(action string) service {
	for service, actions := range operations {
		if _, ok := actions[action]; ok {
			return service
		}
	}
	return ""
}

func hostname(host string) string {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	return strings.ToLower(host)
}

// requestID has the form of the real ones: a random UUID in capitals.
func requestID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%X-%X-%X-%X-%X", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}

// ServeHTTP answers as the gateway of the three services does. Answers are always JSON; the real gateway gives XML to clients that
// do not ask for JSON, which no SDK does.
func (e *Emulator) ServeHTTP(w http.ResponseWriter, r *http.Request) { e.serve(w, r, "") }

// Instance serves the gateway of one KMS instance under any host name.
func (e *Emulator) Instance(id string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { e.serve(w, r, id) })
}

func (e *Emulator) serve(w http.ResponseWriter, r *http.Request, instance string) {
	c, p := e.newCall(w, r, instance)
	if p == nil {
		p = e.called(c)
	}
	e.finish(w, r, c, func() answer { return e.perform(c, p) })
}

// finish answers a call, by a fault or by what perform returns, and counts it.
func (e *Emulator) finish(w http.ResponseWriter, r *http.Request, c *call, perform func() answer) {
	start := time.Now()
	fault := e.faults.strike(c)
	c.now = c.now.Add(fault.skew)

	var a answer
	if fault.answers() {
		a = fault.answer(c)
	} else {
		a = perform()
	}
	code := fault.outcome(a.code)
	e.calls.add(c, code)
	e.log.Info("call", "action", c.action, "secret", c.secret(), "role", c.role(), "status", a.status, "code", code,
		"host", c.host, "requestID", c.id, "took", time.Since(start))
	fault.send(w, r, a)
}

// perform runs the operation for its caller. A request that could not be read comes with the problem.
func (e *Emulator) perform(c *call, p *problem) answer {
	if p != nil {
		return refusal(c, p)
	}
	op, p := c.operation()
	if p != nil {
		return refusal(c, p)
	}
	if op.signed {
		if c.caller, p = e.authenticate(c); p != nil {
			return refusal(c, p)
		}
	}
	value, p := op.serve(e, c.request.Context(), c)
	if p != nil {
		return refusal(c, p)
	}
	if c.protobuf {
		return newAnswer(c, http.StatusOK, CodeOK, protobufType, value.(getSecretValueAnswer).protobuf())
	}
	return jsonAnswer(c, http.StatusOK, CodeOK, value)
}

// answer is what is sent back.
type answer struct {
	status int
	code   string
	header http.Header
	body   []byte
}

func refusal(c *call, p *problem) answer {
	if c.protobuf {
		return newAnswer(c, p.status, p.code, protobufType, p.protobuf(c))
	}
	return jsonAnswer(c, p.status, p.code, p.body(c))
}

func jsonAnswer(c *call, status int, code string, value any) answer {
	var body bytes.Buffer
	enc := json.NewEncoder(&body)
	enc.SetEscapeHTML(false)
	// The values are structs of strings, which always encode.
	_ = enc.Encode(value)
	return newAnswer(c, status, code, "application/json;charset=utf-8", bytes.TrimSpace(body.Bytes()))
}

func newAnswer(c *call, status int, code, contentType string, body []byte) answer {
	return answer{status: status, code: code, body: body, header: http.Header{
		"Content-Type":     {contentType},
		"Content-Length":   {strconv.Itoa(len(body))},
		"X-Acs-Request-Id": {c.id},
	}}
}
