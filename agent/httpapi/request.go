package httpapi

import (
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

const queryPath = "/secretsmanager/get"

// What each form of a request takes.
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
