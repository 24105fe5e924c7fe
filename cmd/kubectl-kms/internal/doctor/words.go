package doctor

import (
	"regexp"
	"slices"
	"strings"
)

// A problem is a paragraph of what an agent says: what failed, and below it why and what to do. The agent's termination message
// is text for people, and there is no other word of a container that has ended.
type problem struct {
	link   string
	secret string
	says   string
	cure   string
}

var (
	assuming = regexp.MustCompile(`(?:^|: )assume \S+ .*?at [^\s:]+(?::[0-9]+)?: (?:([A-Za-z]+(?:\.[A-Za-z]+)*): )?`)
	getting  = regexp.MustCompile(`(?:^|: )get secret (\S+)`)
)

// problems takes the paragraphs of a text apart: the further lines of one begin with two spaces.
func problems(text string) []problem {
	var paragraphs []string
	for line := range strings.SplitSeq(strings.TrimSpace(text), "\n") {
		if strings.HasPrefix(line, "  ") && len(paragraphs) > 0 {
			paragraphs[len(paragraphs)-1] += "\n" + strings.TrimSpace(line)
		} else if strings.TrimSpace(line) != "" {
			paragraphs = append(paragraphs, line)
		}
	}
	var out []problem
	for _, p := range paragraphs {
		out = append(out, read(p))
	}
	return out
}

func read(paragraph string) problem {
	p := problem{says: paragraph, link: Files, cure: "if it does not pass by itself: the log of the pod's container kms-agent (or kms-agent-init) has more"}
	if i := strings.Index(paragraph, "\nfix: "); i >= 0 {
		p.says, p.cure = paragraph[:i], strings.TrimPrefix(paragraph[i:], "\nfix: ")
	}
	first, _, _ := strings.Cut(paragraph, "\n")
	if m := getting.FindStringSubmatch(first); m != nil {
		p.link, p.secret = KMS, strings.TrimSuffix(m[1], ":")
	} else if m := assuming.FindStringSubmatch(first); m != nil {
		p.link = ofSTS(m[1], first)
	} else if strings.Contains(first, "read ServiceAccount token") {
		p.link = Token
	}
	return p
}

// ofSTS is the link that a refusal of AssumeRoleWithOIDC is about.
func ofSTS(code, says string) string {
	const token = "AuthenticationFail.OIDCToken."
	switch {
	case code == token+"AudienceNotMatch", code == token+"Expired":
		return Token
	case strings.HasPrefix(code, token), code == "AuthenticationFail.NoPermission" && (strings.Contains(says, "OIDC Provider") || strings.Contains(says, "OIDCProviderArn")):
		return Provider
	}
	return STS
}

// of are the problems with a link.
func of(all []problem, link string) []problem {
	return slices.DeleteFunc(slices.Clone(all), func(p problem) bool { return p.link != link })
}
