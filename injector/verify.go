package injector

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector/kubejson"
)

// A pod that arrives with containers of the agent's names has them from an earlier call of the webhook, from `kubectl kms inject`, or
// from an author who imitates an injected pod. The webhook builds the containers that it would write now, and compares: each of their
// members must be there with the same value. So a member that this program learns to write is compared from then on. Exceptions:
//
//   - resources, imagePullPolicy, user and group are free: plugins of the API server and policies set them, too;
//   - what the API server, its plugins and other webhooks add is allowed: mayAdd says what;
//   - the image may be one of agent.earlierImages, with a warning;
//   - what came into the pod since may have changed the modes of files, the metrics port and the kind of the sidecar, and the
//     configuration may have changed how the program comes into the pod: any value that the webhook would write in such a case is right.

// cure is the advice that removes every difference.
const cure = "; remove the containers " + agentconfig.InitContainerName + " and " + agentconfig.ContainerName +
	" from the manifest, and they are made anew"

// cureLate is for annotations that came after the agent.
const cureLate = "; write it into the pod template, or have the webhook that writes it called before this one, by the name of its " +
	"configuration; from a manifest with the agent in it remove the containers " + agentconfig.InitContainerName + " and " +
	agentconfig.ContainerName + ", and they are made anew"

// A verification compares all of the agent's containers in a pod.
type verification struct {
	in     *Injector
	r      *request
	shared corev1.Container
	doc    agentconfig.Config     // that the agents are to have
	trees  map[int]map[string]any // doc with a port for metrics, by the port

	mistakes    config.Mistakes
	annotations []string // whose value an agent was not told
	surplus     []string // what an agent was told that no annotation asks for
	images      []string // that are not the configuration's, and allowed
	proxied     []string // variables
}

// verify compares the agent's containers that are in the pod with those that it would get.
func (in *Injector) verify(
	r *request, a *permissions, doc agentconfig.Config, resources corev1.ResourceRequirements,
) (config.Mistakes, []string) {
	if !injected(&r.Pod.Spec) {
		return nil, nil
	}
	same := *r
	in.adaptMode(&same)
	v := verification{in: in, r: &same, doc: doc, trees: map[int]map[string]any{}, shared: in.sharedContainer(r, a, documentHole, resources)}
	for _, list := range []struct {
		containers []Container
		inits      bool
	}{{r.Pod.Spec.InitContainers, true}, {r.Pod.Spec.Containers, false}} {
		for i := range list.containers {
			if c := &list.containers[i]; ours(c.Name) && c.hasEnv(agentconfig.Env) { // else invalid says so
				v.container(c, list.inits)
			}
		}
	}
	v.annotations = slices.Concat(v.annotations, r.otherFileSets())
	return v.refusals(), slices.Concat(v.warnings(), r.warnChanged())
}

func (v *verification) container(c *Container, inits bool) {
	where := "container " + c.Name
	if c.Name == agentconfig.InitContainerName && !inits {
		v.mistakes.Add(where, "is not an init container, as the one that this webhook makes"+cure)
		return
	}
	port := v.metricsPort(c)
	made := initContainer(v.shared)
	if c.Name == agentconfig.ContainerName {
		made = v.in.sidecar(v.r, v.shared, inits, port)
	}
	want := tree(made)
	delete(want, "resources")
	delete(want, "imagePullPolicy")
	security := want["securityContext"].(map[string]any)
	delete(security, "runAsUser")
	delete(security, "runAsGroup")
	found := comparison{
		keys: map[string]string{"env": "name", "volumeMounts": "mountPath", "ports": "containerPort"},
		besides: func(rule, name, value string) bool {
			return mayAdd(rule, name, value, want["volumeMounts"].([]any))
		},
		same: func(place, _, _, got string) bool {
			switch place {
			case "image":
				return v.earlier(got)
			case "env[" + agentconfig.Env + "].value":
				return v.document(where, port, got)
			}
			return false
		},
	}
	found.value("", "", want, c.text)
	if slices.ContainsFunc(c.Env, func(e Setting) bool { return e.Name == agentconfig.Env && e.Value == documentHole }) {
		found.differs = append(found.differs, "env["+agentconfig.Env+"].value") // what stands for the document is none
	}
	fields := slices.DeleteFunc(found.differs, v.annotated)
	for _, e := range c.Env {
		if proxies(e.Name) && !slices.Contains(v.proxied, e.Name) {
			v.proxied = append(v.proxied, e.Name)
		}
	}
	if len(fields) == 0 {
		return
	}
	slices.SortStableFunc(fields, func(a, b string) int { return strings.Count(a, "[") - strings.Count(b, "[") }) // the items of lists last
	problem := "is not the one that this webhook makes: there is another value of " + some(fields)
	if slices.Contains(fields, "image") {
		problem += fmt.Sprintf("; its image is to be %s, or one that agent.earlierImages of the webhook's configuration allows",
			v.in.policy.Agent.Image)
	}
	v.mistakes.Add(where, "%s", problem+cure)
}

// earlier reports whether an image is one that the agent's containers had before.
func (v *verification) earlier(got string) bool {
	if !v.in.policy.Agent.AllowsImage(got) {
		return false
	}
	if !slices.Contains(v.images, got) {
		v.images = append(v.images, got)
	}
	return true
}

// metricsPort returns the port in the agent's document if it can be right: a container that came since may have the port, and a pod
// without metrics needs none.
func (v *verification) metricsPort(c *Container) int {
	i := slices.IndexFunc(c.Env, func(e Setting) bool { return e.Name == agentconfig.Env })
	var told struct {
		MetricsPort int `json:"metricsPort"`
	}
	_ = kubejson.Unmarshal([]byte(c.Env[i].Value), &told) // what is wrong with it, document says
	if told.MetricsPort == 0 || told.MetricsPort == *v.in.policy.Agent.MetricsPort {
		return told.MetricsPort
	}
	return v.doc.MetricsPort
}

// document compares what an agent was told, and keeps what differs by the annotation that asks for it.
func (v *verification) document(where string, metricsPort int, told string) bool {
	problem := func(what string) {
		v.mistakes.Add(where, "%s", agentconfig.Env+" "+what+cure)
	}
	switch {
	case len(told) > maxDocument:
		problem("is longer than a variable can be")
		return true
	case strings.Contains(told, "$"): // which encode escapes
		problem("has a $, for which the kubelet might put something else")
		return true
	case !jsontext.Value(told).IsValid(): // of a member that is there twice the agent takes both
		problem("is not a document for the agent")
		return true
	}
	found := comparison{
		exact:    true,
		keys:     map[string]string{"files": "path", "env": "name"},
		besides:  func(string, string, string) bool { return false },
		same:     v.sameMode,
		defaults: agentDefaults,
	}
	if v.trees[metricsPort] == nil {
		doc := v.doc
		doc.MetricsPort = metricsPort
		v.trees[metricsPort] = documentTree(doc)
	}
	found.value("", "", v.trees[metricsPort], jsontext.Value(told))
	if slices.Contains(found.differs, "") {
		problem("is not a document for the agent")
		return true
	}
	var fields []string
	for _, place := range found.differs {
		name, what := v.asked(place)
		switch {
		case what != "" && slices.Contains(found.surplus, place) && (strings.HasSuffix(place, "]") || !strings.ContainsAny(place, ".[")):
			v.surplus = append(v.surplus, what)
		case place == "env":
			for _, e := range v.r.Spec.Env {
				v.annotations = append(v.annotations, v.written("env."+e.Name, "env"))
			}
		case name != "":
			v.annotations = append(v.annotations, name)
		default:
			fields = append(fields, place)
		}
	}
	if len(fields) > 0 {
		problem("tells the agent something else than this webhook does: " + some(fields))
	}
	return true
}

// sameMode: the containers that came since may run as other users, and the files that state no mode be open to others.
func (v *verification) sameMode(place, rule, _, got string) bool {
	if rule == "files[].mode" {
		for _, s := range v.r.Spec.Secrets {
			if s.Mode != nil && place == "files["+s.Path+"].mode" {
				return false
			}
		}
	}
	return (rule == "files[].mode" || rule == "envMode") && slices.Contains([]string{"0400", "0440", "0444"}, got)
}

// askedBy are the annotations that places in the agent's document are about.
var askedBy = map[string][]string{
	"api.port": {"api-port", "api-socket", "api"}, "api.socket": {"api-socket", "api-port", "api"}, "api.allow": {"api-allow", "api"},
	"kms.host": {"endpoint", "region"}, "refreshInterval": {"refresh-interval"}, "onChange": {"on-change"}, "logLevel": {"log-level"},
	"logFormat": {"log-format"},
}

// asked returns the annotation of the pod's that a place in the agent's document is about, "" for none, and what it is called.
func (v *verification) asked(place string) (annotation, what string) {
	_, item, _ := strings.Cut(place, "[")
	item, _, _ = strings.Cut(item, "]")
	top, _, _ := strings.Cut(place, ".")
	switch {
	case strings.HasPrefix(place, "files["):
		for _, s := range v.r.Spec.Secrets {
			if s.Path == item {
				return v.written("secret." + s.File), "the file " + item
			}
		}
		return "", "the file " + item
	case place == "env":
		return "", "environment variables"
	case strings.HasPrefix(place, "env["):
		return v.written("env."+item, "env"), "the variable " + item
	case top == "identity":
		return v.written("identity"), ""
	case top == "api" && askedBy[place] == nil:
		return v.written("api"), "the local API"
	}
	return v.written(askedBy[place]...), ""
}

// annotated reports whether a place in a container differs because of an annotation of the pod's, which is kept.
func (v *verification) annotated(place string) bool {
	var annotation string
	switch {
	case place == "env[ALIBABA_CLOUD_ROLE_ARN].value":
		if v.r.RoleARN == "" { // there is none, for which the pod is refused
			return true
		}
		annotation = v.written("role-arn", "role-name")
	case strings.HasSuffix(place, "].valueFrom.secretKeyRef.name"):
		annotation = v.written("identity")
	case place == "lifecycle":
		annotation = v.written("mode")
	}
	if annotation != "" {
		v.annotations = append(v.annotations, annotation)
	}
	return annotation != ""
}

// written returns the first of some annotations that the pod has.
func (v *verification) written(names ...string) string {
	for _, name := range names {
		if _, found := v.r.Pod.Metadata.Annotations[podconfig.Prefix+name]; found {
			return name
		}
	}
	return ""
}

// refusals are about annotations if these explain the differences.
func (v *verification) refusals() config.Mistakes {
	var m config.Mistakes
	for _, annotation := range distinct(v.annotations) {
		m.Add(podconfig.Prefix+annotation, "this annotation was written after the agent was injected, so the agent ignores it%s", cureLate)
	}
	if len(v.surplus) > 0 {
		m.Add(podconfig.Prefix+"inject", "%s", "the agent in this pod has more than the annotations ask for, "+
			some(distinct(v.surplus))+cureLate)
	}
	if len(m) > 0 || v.in.policy.Unknown {
		return m
	}
	return v.mistakes
}

func (v *verification) warnings() (warnings []string) {
	for _, image := range v.images {
		if v.in.policy.Unknown {
			break
		}
		warnings = append(warnings, fmt.Sprintf("the agent was injected with the image %s, and the webhook's configuration says %s%s", image,
			v.in.policy.Agent.Image, cure))
	}
	if len(v.proxied) > 0 {
		warnings = append(warnings, "the agent's containers have the variables "+some(v.proxied)+": the agent calls KMS and STS through a "+
			"proxy, which then has to let it through; to exclude the agent, have the webhook that adds them leave out the containers "+
			agentconfig.InitContainerName+" and "+agentconfig.ContainerName)
	}
	return warnings
}
