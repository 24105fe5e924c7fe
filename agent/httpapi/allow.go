package httpapi

import (
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

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
