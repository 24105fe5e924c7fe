package decide

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// A Severity tells what is refused from what is worth a look.
type Severity string

// The severities.
const (
	Mistake Severity = "mistake" // the cluster would refuse the pod
	Warning Severity = "warning"
)

// A Finding is one thing to look at.
type Finding struct {
	Severity  Severity `json:"severity"`
	File      string   `json:"file"`
	Line      int      `json:"line"` // of the annotation, or of the document
	Kind      string   `json:"kind"`
	Namespace string   `json:"namespace"`
	Name      string   `json:"name"`
	Where     string   `json:"where,omitempty"` // the annotation's key, or what else in the pod it is about
	Problem   string   `json:"problem"`         // and what to do about it
}

// A Report is what came of the check.
type Report struct {
	Pods     int       `json:"pods"` // that were looked at, pod templates too
	Asking   int       `json:"asking"`
	Policy   string    `json:"policy"` // whose policy they were held to
	Findings []Finding `json:"findings"`

	ExternalSecrets int `json:"externalSecrets,omitempty"` // that were looked at
	Stores          int `json:"stores,omitempty"`          // of kms-sync, that were looked at
}

// Mistakes counts the findings for which a pod would be refused.
func (r Report) Mistakes() int {
	n := 0
	for _, f := range r.Findings {
		if f.Severity == Mistake {
			n++
		}
	}
	return n
}

// Validate reports what is wrong with the pods of the documents, and with kms-sync's ExternalSecrets and stores, before a cluster does. The
// error is an outage.
func Validate(ctx context.Context, world World, documents []*manifest.Document, namespace string) (Report, error) {
	world = world.With(documents, namespace)
	r := Report{Findings: []Finding{}}
	for _, document := range documents {
		for _, o := range document.Objects() {
			in := namespaceOf(o, namespace)
			if o.IsSynced() {
				r.synced(o, in)
				continue
			}
			pod, ok := o.Pod()
			if !ok {
				r.strays(o, in)
				continue
			}
			r.Pods++
			r.overlooked(pod, in)
			d, err := world.Pod(ctx, in, pod.JSON, pod.Claims...)
			if err != nil {
				return r, err
			}
			if !d.Asked {
				continue
			}
			r.Asking++
			r.pod(pod, in, d, world.optedIn(ctx, in))
		}
	}
	return r, nil
}

func (r *Report) add(o manifest.Object, line int, namespace string, severity Severity, where, problem string) {
	r.Findings = append(r.Findings, Finding{severity, o.Document.File, line, o.Kind, namespace, o.Name, where, problem})
}

// strays looks at annotations for pods that were not found. Whether they reach any is not known; a mistake in them is one in any case.
func (r *Report) strays(o manifest.Object, namespace string) {
	for _, stray := range o.Strays(podconfig.Prefix) {
		_, mistakes := injector.Parse(stray.Annotations)
		for _, m := range mistakes {
			r.add(o, stray.Line, namespace, Mistake, m.Where, m.Problem)
		}
		r.add(o, stray.Line, namespace, Warning, stray.Path, unseen(o.Kind))
	}
}

// overlooked warns of annotations that have no effect, because of their place or a mistake in their prefix.
func (r *Report) overlooked(pod manifest.Pod, namespace string) {
	for _, key := range podconfig.Misplaced(pod.Above, pod.Annotations) {
		r.add(pod.Object, pod.AboveLine(key), namespace, Warning, key,
			"has no effect here, only on pods; move it to "+pod.Path+".metadata.annotations")
	}
	meant := podconfig.Misspelt(pod.Annotations)
	for _, key := range slices.Sorted(maps.Keys(meant)) {
		r.add(pod.Object, pod.AnnotationLine(key), namespace, Warning, key, "has no effect; did you mean "+meant[key]+"?")
	}
}

func (r *Report) pod(pod manifest.Pod, namespace string, d injector.Decision, notOptedIn string) {
	o := pod.Object
	add := func(severity Severity, where, problem string) {
		r.add(o, pod.AnnotationLine(where), namespace, severity, where, problem)
	}
	for _, m := range d.Mistakes {
		add(Mistake, m.Where, m.Problem)
	}
	// Workloads may come before their ServiceAccounts; a pod that does is refused.
	unknown := errors.Is(d.NoRole, ErrUnknown)
	switch {
	case d.NoRole != nil && o.Kind == "Pod" && !unknown:
		add(Mistake, "", d.NoRole.Error())
	case d.NoRole != nil && !unknown:
		add(Warning, "", "its pods will be refused until this is put right: "+d.NoRole.Error())
	case d.NoRole != nil:
		add(Warning, "", "its role was not checked: "+d.NoRole.Error())
	}
	for _, w := range d.Warnings {
		add(Warning, "", w)
	}
	if notOptedIn != "" {
		add(Warning, podconfig.Prefix+"inject", notOptedIn)
	}
}

// Text writes the report for people.
func (r Report) Text(s screen.Screen) {
	for _, f := range r.Findings {
		name := f.Name
		if f.Namespace != "" {
			name = f.Namespace + "/" + name
		}
		s.Printf("%s:%d: %s: %s %s: ", screen.Line(f.File), f.Line, f.Severity, screen.Line(f.Kind), screen.Line(name))
		if f.Where != "" {
			s.Printf("%s: ", screen.Line(f.Where))
		}
		s.Printf("%s\n", screen.Line(f.Problem))
	}
	mistakes := r.Mistakes()
	asking := fmt.Sprintf("%d asking for injection", r.Asking)
	if r.ExternalSecrets > 0 {
		asking += ", " + count(r.ExternalSecrets, "ExternalSecret")
	}
	if r.Stores > 0 {
		asking += ", " + count(r.Stores, "store")
	}
	s.Printf("%s looked at, %s (policy: %s): %s, %s\n",
		count(r.Pods, "pod"), asking, r.Policy, count(mistakes, "mistake"), count(len(r.Findings)-mistakes, "warning"))
}

func namespaceOf(o manifest.Object, defaultNamespace string) string {
	return cmp.Or(o.Namespace, defaultNamespace)
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
