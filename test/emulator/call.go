package emulator

import (
	"cmp"
	"crypto/rand"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// maxBody is more than the largest request, an OIDC token of 20,000 characters and a policy.
const maxBody = 1 << 20

// call is one request to the cloud, read.
type call struct {
	id      string
	request *http.Request
	body    []byte
	host    string
	service service
	region  string
	action  string
	version string
	params  url.Values
	// instance is the ID of the KMS instance that was called, if it was one's gateway.
	instance string
	// protobuf is set if the call and its answer are in the instance gateway's own format, not the OpenAPI's.
	protobuf bool
	// now is the time of the call's arrival by the cloud's clock.
	now time.Time
	// caller is whose the signature is; zero for unsigned operations.
	caller session
}

// newCall reads a request in either style: action and version in x-acs- headers (V3), or as parameters (RPC).
// Parameters may be in the query, the form body, or both.
func (e *Emulator) newCall(w http.ResponseWriter, r *http.Request, instance string) (*call, *problem) {
	c := &call{id: requestID(), request: r, host: hostname(r.Host), now: e.clock(), instance: instance}
	var err error
	if c.body, err = io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody)); err != nil {
		return c, unreadableRequest()
	}
	if c.params, err = url.ParseQuery(r.URL.RawQuery); err != nil {
		return c, unreadableRequest()
	}
	switch media, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type")); media {
	case protobufType:
		return c, e.readProtobuf(c)
	case "application/x-www-form-urlencoded":
		form, err := url.ParseQuery(string(c.body))
		if err != nil {
			return c, unreadableRequest()
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
		return operation{}, unsupportedMethod()
	}
	op, ok := operations[c.service][c.action]
	if c.instance != "" && c.action != "GetSecretValue" {
		// An instance's gateway uses secrets and keys; they are made on the shared one. That it has no BatchGetSecretValue is UNVERIFIED.
		ok = false
	}
	switch {
	case !ok || c.request.URL.Path != "/" && c.request.URL.Path != "":
		return operation{}, invalidAction()
	case c.version != versions[c.service]:
		return operation{}, invalidVersion()
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

// secret is the short name of the secret that the call is about, if any; of several with commas between them, which no name has.
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

// role is the ARN of the role to assume, or of the caller's role.
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

// instanceID is the ID in the host name of a KMS instance's gateway.
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
