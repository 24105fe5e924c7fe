package injector

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// cure is for whoever changes annotations of pods that have the agent already.
const cure = "; write it into the pod template, or have the webhook that writes it called before this one, by the name of its configuration; " +
	"from a manifest with the agent in it remove the containers " + InitContainerName + " and " + ContainerName + ", and they are made anew"

// outdated compares what the annotations of an injected pod ask for with what its agent was told. Another webhook, or whoever
// edited the manifest of an injected pod, can have changed them since, and what is in a pod stays as it is. A pod that would start
// without what it asks for, or as somebody else, is refused; of the rest its author is warned. Only what the annotations say counts:
// the operator's document, this program's version and the pod's containers may be others by now.
func (in *Injector) outdated(r *Request, now config.Agent, document []byte) (config.Mistakes, []string) {
	told := r.Pod.Spec.told(config.AgentEnv)
	if told == "" || max(len(told), len(document)) > maxDocument {
		return nil, nil
	}
	missing, changed, gone := slices.Concat(r.otherViews(), r.otherRole()), slices.Concat(r.otherMode(), r.otherPlaces()), []string(nil)
	was := config.DefaultAgent()
	if told != string(document) && json.Unmarshal([]byte(told), &was) == nil { // else nobody here wrote it
		missing = slices.Concat(missing, otherFiles(&r.Spec, was, now), otherVariables(was, now), otherAPI(was.API, now.API), otherServer(&r.Spec, was))
		changed = append(changed, in.otherSettings(&r.Spec, was)...)
		gone = surplus(was, now)
	}
	var mistakes config.Mistakes
	for _, annotation := range distinct(missing) {
		mistakes = append(mistakes, config.Mistake{Where: config.Prefix + annotation, Problem: "the agent in this pod was injected before this was written, and knows nothing of it" + cure})
	}
	var warnings []string
	if len(changed) > 0 {
		warnings = append(warnings, config.Prefix+strings.Join(distinct(changed), ", "+config.Prefix)+": changed after the agent was injected, without any effect"+cure)
	}
	if len(gone) > 0 {
		warnings = append(warnings, "the agent was injected when the annotations asked for more, and still has "+some(gone)+cure)
	}
	return mistakes, warnings
}

func distinct(names []string) []string {
	slices.Sort(names)
	return slices.Compact(names)
}

// Unasked warns of the agent in a pod that was injected and does not ask for it any more.
func Unasked(pod Pod) []string {
	if _, marked := pod.Metadata.Annotations[config.InjectedAnnotation]; !marked || !injected(&pod.Spec) {
		return nil
	}
	return []string{config.Prefix + "inject: does not ask for the agent any more, which is in this pod already and stays; to be without it, " +
		"remove the containers " + InitContainerName + " and " + ContainerName + " from the manifest, or have the webhook that changes the annotation called before this one, by the name of its configuration"}
}

// told is the value of a variable of the agent's, "" without an agent.
func (s *PodSpec) told(variable string) string {
	for c := range s.each {
		if !ours(c.Name) {
			continue
		}
		for _, e := range c.Env {
			if e.Name == variable {
				return e.Value
			}
		}
	}
	return ""
}
