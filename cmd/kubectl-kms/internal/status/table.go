package status

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/agent/status"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
)

// Table writes the pods for people; wide with everything.
func Table(s screen.Screen, pods []Pod, namespaces, wide bool, now time.Time) {
	if len(pods) == 0 {
		return
	}
	header := []string{"POD", "INJECTED", "MODE", "ROLE", "API", "STATE", "FETCHED", "SECRETS"}
	if namespaces {
		header = append([]string{"NAMESPACE"}, header...)
	}
	if wide {
		header = slices.Insert(header, len(header)-1, "REFRESH", "RESTARTS")
	}
	t := screen.Table{Header: header}
	for _, p := range pods {
		row := []string{p.Name, p.Injected, p.Mode, role(p, wide), p.API, p.State, age(p.Fetched, now), versions(p.Secrets)}
		if namespaces {
			row = append([]string{p.Namespace}, row...)
		}
		if wide {
			row = slices.Insert(row, len(row)-1, p.Refresh, strconv.Itoa(int(p.Restarts)))
		}
		for i := range row {
			row[i] = cmp.Or(row[i], "–")
		}
		t.Add(row...)
	}
	s.Table(t)
	problems(s, pods)
}

// problems writes what is wrong, each once with all the pods that have it.
func problems(s screen.Screen, pods []Pod) {
	for i, p := range pods {
		alike := func(other Pod) bool {
			return other.State == p.State && other.Problem != "" && cmp.Or(other.alike, other.Problem) == cmp.Or(p.alike, p.Problem)
		}
		if p.Problem == "" || slices.ContainsFunc(pods[:i], alike) {
			continue
		}
		title, more := p.Namespace+"/"+p.Name+" is "+p.State, -1
		if p.State == NotMade {
			title = "pods of " + p.Namespace + "/" + p.Name + " are not made"
		}
		for _, other := range pods[i:] {
			if alike(other) {
				more++
			}
		}
		if more > 0 {
			title += fmt.Sprintf(", and so are %d more", more)
		}
		s.Printf("\n%s\n", s.Strong(title+":"))
		s.Indented(2, screen.Escape(p.Problem))
	}
}

func role(p Pod, wide bool) string {
	switch _, name, found := strings.Cut(p.RoleARN, ":role/"); {
	case p.RoleARN == "":
		return p.Identity
	case wide || !found:
		return p.RoleARN
	default:
		return name
	}
}

func age(at, now time.Time) string {
	if at.IsZero() {
		return ""
	}
	return check.Since(at, now) + " ago"
}

func versions(all []status.Secret) string {
	var out []string
	for _, s := range all {
		switch {
		case s.Absent != "":
			out = append(out, s.Name+" (absent)")
		case s.Version != "":
			out = append(out, s.Name+"@"+s.Version)
		default:
			out = append(out, s.Name)
		}
	}
	return strings.Join(out, " ")
}
