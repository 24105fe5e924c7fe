package injector

import (
	"bytes"
	"encoding/json"
	"strings"

	"github.com/go-json-experiment/json/jsontext"
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/agentconfig"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// A patch is the text of RFC 6902 add operations: there are no others here. Paths count elements as they are when it is applied in order,
// so that insertions into an array of containers must follow everything that addresses a container in it. Values are JSON, in pieces.
type patch struct {
	text   []byte // without the closing bracket
	growth string // path of an array that the last operation adds
}

// injectedPointer is where config.InjectedAnnotation is, in an object that the pod has: without annotations it asks for nothing.
var injectedPointer = "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(podconfig.InjectedAnnotation)

// add adds an operation. There is nothing in its path that JSON escapes.
func (p *patch) add(path string, value ...[]byte) {
	before := byte(',')
	if len(p.text) == 0 {
		before = '['
	}
	p.text = append(append(append(append(p.text, before), `{"op":"add","path":"`...), path...), `","value":`...)
	p.write(value)
	p.text, p.growth = append(p.text, '}'), ""
}

func (p *patch) write(value [][]byte) {
	for _, piece := range value {
		p.text = append(p.text, piece...)
	}
}

// grow appends a value to the array at a pointer, which exists unless the pod lacks it (or has it as null). The values of an array that
// the pod lacks follow one another.
func (p *patch) grow(pointer string, exists bool, value ...[]byte) {
	if exists {
		p.add(pointer+"/-", value...)
		return
	}
	separator := ","
	if p.growth != pointer {
		p.add(pointer, []byte("[]"))
		p.growth, separator = pointer, ""
	}
	p.text = append(p.text[:len(p.text)-len("]}")], separator...)
	p.write(value)
	p.text = append(p.text, "]}"...)
}

// encode returns nil for a patch without operations.
func (p *patch) encode() []byte {
	if len(p.text) == 0 {
		return nil
	}
	return append(p.text, ']')
}

// Encoding containers takes most of the time of a decision, and most pods get the same ones, but for the agent's document and the role:
// what is encoded for a shape of pods is remembered.

// A shape is everything else that the agent's containers and volumes depend on, besides the Injector.
type shape struct {
	identity        config.Identity
	tokenExpiration int64
	mode            podconfig.Mode
	uid, gid        int64
	fsGroup         bool
	fileSets        int
	variables       bool
	copiesProgram   bool
	api             bool
	fetches         bool
	native          bool
	metricsPort     int
}

// What is remembered: shapes of few file sets, which are short, and so many of them that it stays below some megabytes. Authors of pods
// choose users and Secrets; where there are too many, all are forgotten, so that none of them fills the memory or keeps others out of it.
const (
	maxShapes   = 256
	maxFileSets = 8
)

// encoded is the encoded addition to pods of a shape.
type encoded struct {
	agents  []encodedAgent
	volumes []named
}

type encodedAgent struct {
	name  string
	plain bool      // an app container
	parts [3][]byte // between them are the document and, if the third is not nil, the role
}

// named is an encoded value with its name.
type named struct {
	name string
	text []byte
}

// What the document and the role are encoded as.
const (
	documentHole = "<document>"
	roleHole     = "<role>"
)

// encoded returns what a pod gets. The warnings about it were made before: in.adaptMode has been called.
func (in *Injector) encoded(r *request, a *permissions, resources corev1.ResourceRequirements) *encoded {
	key := shape{
		identity: r.Spec.Identity, tokenExpiration: r.Spec.TokenExpiration, mode: r.Spec.Mode, uid: a.uid, gid: a.gid, fsGroup: a.fsGroup,
		fileSets: len(r.fileSets), variables: len(r.Spec.Env) > 0, copiesProgram: in.copiesProgram(&r.Pod.Spec), api: r.Spec.API != nil,
		fetches: fetches(&r.Spec), native: in.native(r), metricsPort: in.metricsPort(r),
	}
	usual := len(r.fileSets) <= maxFileSets && len(r.Spec.AgentRequests) == 0 && len(r.Spec.AgentLimits) == 0 && r.Pod.Spec.Resources.none()
	if known, found := in.shapes.Load(key); found && usual {
		return known.(*encoded)
	}
	of := *r
	of.RoleARN = roleHole
	e := &encoded{}
	for _, c := range in.containers(&of, in.sharedContainer(&of, a, documentHole, resources)) {
		agent := encodedAgent{name: c.Name, plain: c.Name == agentconfig.ContainerName && c.RestartPolicy == nil}
		text := encodeValue(c)
		agent.parts[0], text, _ = bytes.Cut(text, encodeValue(documentHole))
		agent.parts[1], agent.parts[2], _ = bytes.Cut(text, encodeValue(roleHole))
		e.agents = append(e.agents, agent)
	}
	for _, v := range in.volumes(r, a) {
		e.volumes = append(e.volumes, named{v.Name, encodeValue(v)})
	}
	if usual {
		if in.shapeCount.Add(1) > maxShapes {
			in.shapeCount.Store(1)
			in.shapes.Clear()
		}
		in.shapes.Store(key, e)
	}
	return e
}

// text returns the container of a pod, in pieces, from the document and the role as JSON strings.
func (a *encodedAgent) text(document, role []byte) [][]byte {
	if a.parts[2] == nil {
		return [][]byte{a.parts[0], document, a.parts[1]}
	}
	return [][]byte{a.parts[0], document, a.parts[1], role, a.parts[2]}
}

func quoted(s string) []byte {
	text, err := jsontext.AppendQuote(make([]byte, 0, len(s)+len(s)/4), s)
	if err != nil { // a text that is not UTF-8, which nothing in a decoded pod is
		return encodeValue(s)
	}
	return text
}

// encodeValue encodes one of Kubernetes' own types.
func encodeValue(v any) []byte {
	text, err := json.Marshal(v)
	if err != nil {
		panic(err) // nothing in it cannot be encoded
	}
	return text
}
