package emulator

import (
	"net/http"
	"sync"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/acs3"
	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/rpc"
)

// maxSkew is how far the date of a request may differ from the gateway's, and so how long a nonce must be remembered.
const maxSkew = 15 * time.Minute

// timeFormat is that of every date in requests and answers: ISO 8601 in UTC.
const timeFormat = "2006-01-02T15:04:05Z"

// authenticate checks the request's signature, in whichever of the three ways it is signed, and returns whose it is.
func (e *Emulator) authenticate(c *call) (session, *problem) {
	switch header := c.request.Header; {
	case c.protobuf:
		return e.authenticateClientKey(c)
	case header.Get("Authorization") != "":
		return e.authenticateACS3(c)
	case c.params.Get("Signature") != "":
		return e.authenticateRPC(c)
	}
	return session{}, missingAccessKey
}

// authenticateACS3 checks a signature of the V3 style, in the headers.
func (e *Emulator) authenticateACS3(c *call) (session, *problem) {
	header := c.request.Header
	auth, err := acs3.ParseAuthorization(header.Get("Authorization"))
	if err != nil {
		return session{}, incompleteSignature
	}
	for _, name := range []string{"x-acs-date", "x-acs-content-sha256"} {
		if header.Get(name) == "" {
			return session{}, missingHeader(name)
		}
	}
	if p := checkDate(header.Get("x-acs-date"), c.now); p != nil {
		return session{}, p
	}
	caller, p := e.caller(auth.AccessKeyID, header.Get("x-acs-security-token"))
	if p != nil {
		return session{}, p
	}
	canonical := acs3.CanonicalRequest(c.request, c.body)
	toSign := acs3.StringToSign(canonical)
	if !acs3.Equal(acs3.Sign(caller.secret, toSign), auth.Signature) ||
		header.Get("x-acs-content-sha256") != acs3.HashBody(c.body) {
		return session{}, wrongSignature(toSign, canonical)
	}
	return e.admit(c, caller, header.Get("x-acs-signature-nonce"))
}

// authenticateRPC checks a signature of the RPC style, among the parameters.
func (e *Emulator) authenticateRPC(c *call) (session, *problem) {
	if c.params.Get("SignatureMethod") != rpc.Method || c.params.Get("SignatureVersion") != rpc.Version {
		return session{}, incompleteSignature
	}
	for _, name := range []string{"AccessKeyId", "Timestamp", "SignatureNonce"} {
		if c.params.Get(name) == "" {
			return session{}, missingHeader(name)
		}
	}
	if p := checkDate(c.params.Get("Timestamp"), c.now); p != nil {
		return session{}, p
	}
	caller, p := e.caller(c.params.Get("AccessKeyId"), c.params.Get("SecurityToken"))
	if p != nil {
		return session{}, p
	}
	toSign := rpc.StringToSign(c.request.Method, c.params)
	if !acs3.Equal(rpc.Sign(caller.secret, toSign), c.params.Get("Signature")) {
		return session{}, wrongSignature(toSign, "")
	}
	return e.admit(c, caller, c.params.Get("SignatureNonce"))
}

// caller finds whose access key it is: that of a RAM user, or of a session, which must show its token.
func (e *Emulator) caller(accessKeyID, token string) (session, *problem) {
	user, ok := e.ram.accessKey(accessKeyID)
	switch {
	case !ok:
		return e.sessions.find(accessKeyID, token)
	case token != "":
		return session{}, mismatchedToken
	}
	return user, nil
}

// admit lets the bearer of a right signature in, unless its session is over or the request is a copy.
func (e *Emulator) admit(c *call, caller session, nonce string) (session, *problem) {
	if caller.ended(c.now) {
		return session{}, expiredToken
	}
	// Only a well signed request uses up its nonce; anyone could burn another's otherwise. It may have none.
	if nonce != "" && !e.nonces.use(caller.accessKeyID+" "+nonce, c.now) {
		return session{}, usedNonce
	}
	return caller, nil
}

func checkDate(date string, now time.Time) *problem {
	t, err := time.Parse(timeFormat, date)
	if err != nil {
		return badTimestamp
	}
	if now.Sub(t).Abs() > maxSkew {
		return expiredTimestamp
	}
	return nil
}

// nonces remembers which were used, for as long as a request with the same date would be accepted.
type nonces struct {
	mu    sync.Mutex
	used  map[string]time.Time
	swept time.Time
}

func (n *nonces) use(nonce string, now time.Time) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if now.Sub(n.swept) > maxSkew {
		for old, at := range n.used {
			if now.Sub(at) > 2*maxSkew {
				delete(n.used, old)
			}
		}
		n.swept = now
	}
	if _, again := n.used[nonce]; again {
		return false
	}
	n.used[nonce] = now
	return true
}

// allowedMethod: RPC calls come by POST from the SDKs, and by GET from people.
func allowedMethod(method string) bool { return method == http.MethodPost || method == http.MethodGet }
