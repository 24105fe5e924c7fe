package emulator

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strconv"
	"time"
)

// ServeHTTP answers as the gateway of the three services does. Answers are always JSON; the real gateway gives XML to those who
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
