package injector

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// warnReferences is for $(NAME) of a variable that the agent sets: Kubernetes replaces it by a variable of the pod's spec, or leaves it as
// it is.
func warnReferences(r *request, readers []Container) []string {
	if len(r.Spec.Env) == 0 {
		return nil
	}
	ours := make(map[string]bool, len(r.Spec.Env))
	for _, v := range r.Spec.Env {
		ours[v.Name] = true
	}
	var where []string
	named := map[string]bool{}
	for _, c := range readers {
		missing := map[string]bool{} // what of ours the container's own variables lack
		look := func(place string, texts ...string) {
			found := false
			for _, text := range texts {
				for name := range references(text) {
					if !ours[name] {
						continue
					}
					if _, known := missing[name]; !known {
						missing[name] = !c.hasEnv(name)
					}
					if missing[name] {
						found, named["$("+name+")"] = true, true
					}
				}
			}
			if found {
				where = append(where, place+" of "+c.Name)
			}
		}
		look("command", c.Command...)
		look("args", c.Args...)
		for _, e := range c.Env {
			look("variable "+e.Name, e.Value)
		}
	}
	if len(where) == 0 {
		return nil
	}
	names := slices.Sorted(maps.Keys(named))
	return []string{fmt.Sprintf("%s stays as it is written in %s: Kubernetes replaces only variables of the pod's spec, and env.<NAME> is "+
		"set as the container starts; "+
		"have the program read the variable, or start it by a shell: command: [sh, -c, 'exec …'] with $%s in place of %s",
		some(names), some(where), strings.Trim(names[0], "$()"), names[0])}
}

// references is for range, over the names in a text that Kubernetes would replace: NAME of $(NAME), but not of $$(NAME).
// https://kubernetes.io/docs/tasks/inject-data-application/define-interdependent-environment-variables/
func references(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		for {
			_, rest, found := strings.Cut(text, "$")
			if !found {
				return
			}
			text = rest
			if escaped, ok := strings.CutPrefix(rest, "$"); ok {
				text = escaped
				continue
			}
			inner, ok := strings.CutPrefix(rest, "(")
			if !ok {
				continue
			}
			name, behind, closed := strings.Cut(inner, ")")
			if !closed {
				return
			}
			if text = behind; !yield(name) {
				return
			}
		}
	}
}
