package httpapi

import "strings"

// allowList are the secrets that may be asked for: names, ARNs, and patterns in which * stands for any characters.
//
// A name is of the role's own account, and an ARN may be of another's. So a pattern that does not begin with acs: is about
// names only: "*/db" must not reach into other accounts. "*" alone is everything.
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
	for _, pattern := range a.patterns {
		if pattern == "*" || strings.HasPrefix(pattern, "acs:") == strings.HasPrefix(id, "acs:") && match(pattern, id) {
			return true
		}
	}
	return false
}

// match takes the shortest text for each *, which is enough as only the last part must reach the end.
func match(pattern, text string) bool {
	parts := strings.Split(pattern, "*")
	first, last := parts[0], parts[len(parts)-1]
	if len(text) < len(first)+len(last) || !strings.HasPrefix(text, first) || !strings.HasSuffix(text, last) {
		return false
	}
	text = text[len(first) : len(text)-len(last)]
	for _, part := range parts[1 : len(parts)-1] {
		i := strings.Index(text, part)
		if i < 0 {
			return false
		}
		text = text[i+len(part):]
	}
	return true
}
