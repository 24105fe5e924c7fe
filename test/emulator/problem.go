package emulator

import (
	"fmt"
	"net/http"
	"net/url"

	"github.com/kms-agent-injector/kms-agent-injector/test/emulator/policy"
)

// problem is a refusal as Alibaba Cloud words it. Codes, messages and statuses are those of the product's error
// tables unless the comment at the constructor calls them UNVERIFIED.
type problem struct {
	status  int
	code    string
	message string
	denied  *accessDenied
}

func (p *problem) Error() string { return p.code + ": " + p.message }

// accessDenied is the AccessDeniedDetail of a refusal by RAM.
type accessDenied struct {
	AuthAction               string
	AuthPrincipalDisplayName string
	AuthPrincipalOwnerID     string `json:"AuthPrincipalOwnerId"`
	AuthPrincipalType        string
	NoPermissionType         string
	PolicyType               string
}

func denial(caller session, action string, decision policy.Decision, kind string) *accessDenied {
	return &accessDenied{
		AuthAction: action, AuthPrincipalDisplayName: caller.displayName(), AuthPrincipalOwnerID: caller.account,
		AuthPrincipalType: caller.kind(), NoPermissionType: decision.String(), PolicyType: kind,
	}
}

// problemBody is the JSON body of every refusal, of whichever service.
type problemBody struct {
	Code               string
	Message            string
	RequestID          string `json:"RequestId"`
	HostID             string `json:"HostId"`
	Recommend          string
	AccessDeniedDetail *accessDenied `json:",omitempty"`
}

func (p *problem) body(c *call) problemBody {
	recommend := url.Values{"q": {p.code}, "product": {string(c.service)}, "requestId": {c.id}}
	return problemBody{
		Code: p.code, Message: p.message, RequestID: c.id, HostID: c.host,
		Recommend:          "https://api.alibabacloud.com/troubleshoot?" + recommend.Encode(),
		AccessDeniedDetail: p.denied,
	}
}

func problemf(status int, code, format string, args ...any) *problem {
	return &problem{status: status, code: code, message: fmt.Sprintf(format, args...)}
}

var (
	// Refusals of the gateway that stands before all services.
	invalidAction = problemf(http.StatusNotFound, "InvalidAction.NotFound", "Specified api is not found, please check your url and method.")
	// The status is UNVERIFIED.
	invalidVersion    = problemf(http.StatusBadRequest, "InvalidVersion", "Specified parameter Version is not valid.")
	unsupportedMethod = problemf(http.StatusForbidden, "UnsupportedHTTPMethod", "This http method is not supported.")
	// Code and status are UNVERIFIED.
	unreadableRequest = problemf(http.StatusBadRequest, "InvalidParameter", "The request's query or body cannot be read.")
	// The status is UNVERIFIED.
	missingAccessKey    = problemf(http.StatusBadRequest, "MissingAccessKeyId", "AccessKeyId is mandatory for this action.")
	incompleteSignature = problemf(http.StatusBadRequest, "IncompleteSignature", "The request signature does not conform to Aliyun standards.")
	badTimestamp        = problemf(http.StatusBadRequest, "InvalidTimeStamp.Format",
		"Specified time stamp or date value is not well formatted.")
	expiredTimestamp = problemf(http.StatusBadRequest, "InvalidTimeStamp.Expired", "Specified time stamp or date value is expired.")
	usedNonce        = problemf(http.StatusBadRequest, "SignatureNonceUsed", "Specified signature nonce was used already.")
	unknownAccessKey = problemf(http.StatusNotFound, "InvalidAccessKeyId.NotFound", "Specified access key is not found.")
	missingToken     = problemf(http.StatusBadRequest, "MissingSecurityToken", "SecurityToken is mandatory for this action.")
	malformedToken   = problemf(http.StatusBadRequest, "InvalidSecurityToken.Malformed", "Specified SecurityToken is malformed.")
	mismatchedToken  = problemf(http.StatusBadRequest, "InvalidSecurityToken.MismatchWithAccessKey",
		"Specified SecurityToken mismatch with the AccessKey.")
	// The gateway's table says 400, the pages of some products 403.
	expiredToken = problemf(http.StatusBadRequest, "InvalidSecurityToken.Expired", "Specified SecurityToken is expired.")
)

// Refusals of the signature (ACS3) and of the session token that goes with it.

// missingHeader: that the gateway uses this code for a missing x-acs- header is UNVERIFIED.
func missingHeader(name string) *problem {
	return problemf(http.StatusBadRequest, "MissingParameter",
		"The input parameter %q that is mandatory for processing this request is not supplied.", name)
}

// wrongSignature quotes what the gateway hashed, as the real one does. That text holds the session token: clients must
// not log this message.
func wrongSignature(stringToSign, canonicalRequest string) *problem {
	return problemf(http.StatusBadRequest, "SignatureDoesNotMatch",
		"Specified signature does not match our calculation. server StringToSign is [%s] server CanonicalRequest is [%s]",
		stringToSign, canonicalRequest)
}
