package deploy_test

import (
	"bytes"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
)

// manifestsNamespace is the namespace of the plain manifests.
const manifestsNamespace = "kms-agent-injector"

// manifestsDir is the folder of the manifests for self-signed certificates.
const manifestsDir = "manifests"

// variants are the folders of manifests, by the webhook's certificate mode.
var variants = []struct{ mode, dir string }{{"self-signed", manifestsDir}, {"cert-manager", manifestsDir + "/cert-manager"}}

// kustomization has the fields of kustomization.yaml that the manifests use.
type kustomization struct {
	APIVersion         string   `json:"apiVersion"`
	Kind               string   `json:"kind"`
	Namespace          string   `json:"namespace"`
	Resources          []string `json:"resources"`
	ConfigMapGenerator []struct {
		Name    string          `json:"name"`
		Files   []string        `json:"files"`
		Options map[string]bool `json:"options"`
	} `json:"configMapGenerator"`
}

func readKustomization(t *testing.T, dir string) kustomization {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "kustomization.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var k kustomization
	if err := yaml.UnmarshalStrict(text, &k); err != nil {
		t.Fatal(err)
	}
	return k
}

func TestManifests(t *testing.T) {
	for _, v := range variants {
		t.Run(v.mode, func(t *testing.T) { checkManifests(t, v.dir) })
	}
}

func checkManifests(t *testing.T, dir string) {
	k := readKustomization(t, dir)
	var stream []byte
	for _, name := range k.Resources {
		text, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		stream = append(append(stream, text...), "\n---\n"...)
	}
	o := decode(t, manifestsNamespace, stream)
	o.check(t)
	if got := only[*corev1.Namespace](t, o).Name; got != manifestsNamespace {
		t.Errorf("the namespace is %q, want %q", got, manifestsNamespace)
	}
	if bytes.Contains(stream, []byte("Helm")) || bytes.Contains(stream, []byte("helm.sh/")) {
		t.Error("the manifests say that Helm manages them")
	}

	// kubectl apply -k applies only the files that are listed.
	files, err := filepath.Glob(filepath.Join(dir, "*.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		if !slices.Contains(k.Resources, name) && name != "kustomization.yaml" && name != "config.yaml" {
			t.Errorf("%s is not in kustomization.yaml", file)
		}
	}

	generator := k.ConfigMapGenerator[0]
	if generator.Name != "kms-webhook" || k.Namespace != manifestsNamespace || !generator.Options["disableNameSuffixHash"] {
		t.Errorf("the generated ConfigMap is %+v, want kms-webhook, which the Deployment mounts", generator)
	}
}

// With the defaults, the webhook survives the loss of a node or a zone, and is scheduled before the pods that need it.
func TestManifestsAreHighlyAvailable(t *testing.T) {
	for _, v := range variants {
		o := decode(t, manifestsNamespace, []byte(read(t, filepath.Join(v.dir, "deployment.yaml"))+"\n---\n"+read(t,
			filepath.Join(v.dir, "poddisruptionbudget.yaml"))))
		d, budget := only[*appsv1.Deployment](t, o), only[*policyv1.PodDisruptionBudget](t, o)
		pod := d.Spec.Template.Spec
		if *d.Spec.Replicas != 2 || pod.PriorityClassName != "system-cluster-critical" {
			t.Errorf("%s: %d replicas with the priority %q", v.dir, *d.Spec.Replicas, pod.PriorityClassName)
		}
		if budget.Spec.MaxUnavailable.IntValue() != 1 || *budget.Spec.UnhealthyPodEvictionPolicy != policyv1.AlwaysAllow {
			t.Errorf("%s: the disruption budget is %+v", v.dir, budget.Spec)
		}
		var spread []string
		for _, c := range pod.TopologySpreadConstraints {
			spread = append(spread, c.TopologyKey)
			if c.MaxSkew != 1 || c.WhenUnsatisfiable != corev1.ScheduleAnyway || !slices.Equal(c.MatchLabelKeys, []string{"pod-template-hash"}) {
				t.Errorf("%s: replicas are spread by %+v", v.dir, c)
			}
		}
		if !slices.Equal(spread, []string{corev1.LabelHostname, corev1.LabelTopologyZone}) {
			t.Errorf("%s: replicas are spread over %v", v.dir, spread)
		}
	}
}

// The unedited configuration of the manifests is refused, only for the values that the user must fill in.
func TestManifestsConfig(t *testing.T) {
	text, err := os.ReadFile("manifests/config.yaml")
	if err != nil {
		t.Fatal(err)
	}
	_, err = clusterconfig.Read(text)
	if err == nil {
		t.Fatal("the placeholder account was accepted")
	}
	for _, line := range strings.Split(err.Error(), "\n")[1:] {
		if !strings.Contains(line, "accountID: is missing") && !strings.Contains(line, "region: is missing") &&
			!strings.Contains(line, "clusterID: is missing") {
			t.Errorf("as it comes, the document has another mistake: %s", line)
		}
	}
	if _, err := clusterconfig.Read(filled(string(text))); err != nil {
		t.Errorf("with account, cluster and region: %v", err)
	}
}

// filled returns the manifests' config.yaml with these values filled in.
func filled(text string) []byte {
	return []byte(strings.NewReplacer(
		`accountID: ""`, `accountID: "1234567890123456"`,
		`clusterID: ""`, `clusterID: c0ffee`,
		`region: ""`, `region: cn-hangzhou`,
	).Replace(text))
}

// The chart can set each field of the webhook's configuration, and refuses all others.
func TestSchemaHasTheConfiguration(t *testing.T) {
	text, err := os.ReadFile("chart/kms-agent-injector/values.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var root schema
	if err := json.Unmarshal(text, &root); err != nil {
		t.Fatal(err)
	}
	chartsOwn := []string{
		"global", "caFiles", "image", "certificates", "guard", "replicas", "podDisruptionBudget", "priorityClassName", "resources", "logLevel",
		"podLabels", "podAnnotations", "nodeSelector", "tolerations", "affinity", "topologySpreadConstraints", "excludedNamespaces", "monitoring",
		"clientCAFile", "networkPolicy",
	}
	for _, key := range chartsOwn {
		if _, ok := root.Properties[key]; !ok {
			t.Errorf("the schema has no %s", key)
		}
		delete(root.Properties, key)
	}
	root.compare(t, "", root, reflect.TypeFor[clusterconfig.Config]())
}

// schema has the fields of a JSON schema that the comparison needs.
type schema struct {
	Ref                  string            `json:"$ref"`
	Description          string            `json:"description"`
	Defs                 map[string]schema `json:"$defs"`
	Properties           map[string]schema `json:"properties"`
	Items                *schema           `json:"items"`
	AdditionalProperties any               `json:"additionalProperties"`
}

// compare checks that the schema has a property for each YAML field of a struct, and no other.
func (s schema) compare(t *testing.T, path string, root schema, of reflect.Type) {
	t.Helper()
	if name, ok := strings.CutPrefix(s.Ref, "#/$defs/"); ok {
		s = root.Defs[name]
	}
	switch of.Kind() {
	case reflect.Slice:
		if s.Items == nil {
			t.Errorf("%s is a list without items", path)
			return
		}
		s.Items.compare(t, path+"[]", root, of.Elem())
		return
	case reflect.Struct:
	default:
		return
	}
	if s.AdditionalProperties != false {
		t.Errorf("%s: a typing error in a field's name would pass", path)
	}
	fields := map[string]reflect.Type{}
	for _, field := range reflect.VisibleFields(of) {
		if name, options, _ := strings.Cut(field.Tag.Get("yaml"), ","); name != "-" && options != "inline" {
			fields[name] = field.Type
		}
	}
	if got, want := slices.Sorted(maps.Keys(s.Properties)), slices.Sorted(maps.Keys(fields)); !slices.Equal(got, want) {
		t.Errorf("%s: the schema has %v, the document has %v", path, got, want)
	}
	for name, fieldType := range fields {
		s.Properties[name].compare(t, path+"."+name, root, fieldType)
	}
}
