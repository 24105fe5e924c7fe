package identity

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"strings"
)

// How the SDK's errors for an answer other than 200 begin; the answer's raw body follows.
var sdkFailures = map[Action]string{
	AssumeRoleWithOIDC: "get session token failed: ",
	AssumeRole:         "refresh session token failed: ",
}

// with is the Error for what the SDK returned. Nothing of an answer that is not an STS error document gets into it: a
// proxy's page or a half answer may hold anything.
func (e Error) with(cause error, secrets []string) *Error {
	var transport *url.Error // repeats the URL, in which AssumeRole has its parameters
	if errors.As(cause, &transport) {
		e.Err = transport.Err
		return &e
	}
	body, answered := strings.CutPrefix(cause.Error(), sdkFailures[e.Action])
	if !answered {
		e.Err = errors.New("the answer was cut off or is not one of STS")
		return &e
	}
	var doc struct{ Code, Message, RequestID string }
	if json.Unmarshal([]byte(body), &doc) != nil || doc.Code == "" {
		e.Err = errors.New("the answer is neither credentials nor an STS error")
		return &e
	}
	e.Code, e.RequestID = doc.Code, doc.RequestID
	if strings.Contains(doc.Code, "Signature") {
		// The gateway quotes what it hashed, session token and all, in more than one encoding.
		doc.Message = "(a message that quotes the request is not shown)"
	}
	for _, secret := range secrets {
		if secret != "" {
			doc.Message = strings.ReplaceAll(doc.Message, secret, "[hidden]")
		}
	}
	e.Message = shorten(doc.Message)
	return &e
}

// What the SDK says when the metadata service answered with another status than 200. The body, which follows, is nobody's
// to see.
var metadataStatus = regexp.MustCompile(`(?:httpStatus: |^get role name failed: \S+ \S+ )([0-9]{3})`)

// withNode is the Error for what the SDK's provider of node roles returned, which is text alone.
func (e Error) withNode(cause error) *Error {
	text := cause.Error()
	var transport *url.Error
	if errors.As(cause, &transport) {
		text = transport.Err.Error()
	}
	status := metadataStatus.FindStringSubmatch(text)
	switch {
	case strings.Contains(text, "IMDS credentials is disabled"):
		e.Code, e.Message = CodeMetadataDisabled, "ALIBABA_CLOUD_ECS_METADATA_DISABLED is true"
	case status != nil:
		e.Code, e.Message = "HTTP "+status[1], "the metadata service refused"
	case strings.Contains(text, "http://"+metadataHost): // as the errors of package net/http do
		e.Err = errors.New("no connection, or no answer in time")
	default:
		e.Err = errors.New("the answer is not one of the metadata service")
	}
	return &e
}

// shorten bounds a remote message: it ends up in a termination message of limited size.
func shorten(s string) string {
	const most = 400
	if len(s) <= most {
		return s
	}
	return fmt.Sprintf("%s… (%d bytes)", strings.ToValidUTF8(s[:most], ""), len(s))
}
