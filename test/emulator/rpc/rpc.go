// Package rpc computes the HMAC-SHA1 signature of Alibaba Cloud's older RPC style independently of the SDKs that send it.
//
// The rules are those of "Request syntax and signature method V2": all parameters but Signature, of query and form
// together, sorted and percent-encoded, behind the method and the path.
package rpc

import (
	"crypto/hmac"
	"crypto/sha1"
	"encoding/base64"
	"net/url"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/acs3"
)

// The parameters SignatureMethod and SignatureVersion, which have no other value.
const (
	Method  = "HMAC-SHA1"
	Version = "1.0"
)

// StringToSign returns the text that the access key's secret signs.
func StringToSign(method string, params url.Values) string {
	var pairs []string
	for name, values := range params {
		if name == "Signature" {
			continue
		}
		for _, value := range values {
			pairs = append(pairs, acs3.Escape(name)+"="+acs3.Escape(value))
		}
	}
	slices.Sort(pairs)
	return method + "&" + acs3.Escape("/") + "&" + acs3.Escape(strings.Join(pairs, "&"))
}

// Sign returns the signature, in base64.
func Sign(secret, stringToSign string) string {
	mac := hmac.New(sha1.New, []byte(secret+"&"))
	mac.Write([]byte(stringToSign))
	return base64.StdEncoding.EncodeToString(mac.Sum(nil))
}
