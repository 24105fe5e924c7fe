package target

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/api/v1alpha1"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
)

var kills = flag.Int("kills", 20, "how often TestKilled kills a process that writes")

// serverVariable has the address of the API server for a process that applies one ExternalSecret once, instead of the tests.
const serverVariable = "TARGET_TEST_SERVER"

func TestMain(m *testing.M) {
	if server := os.Getenv(serverVariable); server != "" {
		if err := applyOnce(server); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	m.Run()
}

// applyOnce has the Secret of the ExternalSecret db have the data of an annotation.
func applyOnce(server string) error {
	scheme := newScheme()
	kinds := meta.NewDefaultRESTMapper(nil)
	for _, kind := range []string{"Secret", "SecretList"} {
		kinds.Add(corev1.SchemeGroupVersion.WithKind(kind), meta.RESTScopeNamespace)
	}
	kinds.Add(v1alpha1.GroupVersion.WithKind("ExternalSecret"), meta.RESTScopeNamespace)
	config := &rest.Config{Host: server, QPS: -1}
	config.ContentType = runtime.ContentTypeJSON
	c, err := client.New(config, client.Options{Scheme: scheme, Mapper: kinds})
	if err != nil {
		return err
	}
	var es v1alpha1.ExternalSecret
	ctx := context.Background()
	if err := c.Get(ctx, client.ObjectKey{Namespace: ns, Name: "db"}, &es); err != nil {
		return err
	}
	data := map[string]string{}
	if err := json.Unmarshal([]byte(es.Annotations["data"]), &data); err != nil {
		return err
	}
	w := &Writer{Client: c, Cached: c, Live: c}
	_, err = w.Apply(ctx, &es, content.Result{Type: corev1.SecretTypeOpaque, Data: values(data)})
	return err
}

// TestKilled: a process that writes a Secret is killed at a random call, before or after the call has done its work. What strangers wrote
// stays, the Secret always has what it had or what it is to have, never less, and the next process brings it in order.
func TestKilled(t *testing.T) {
	c := newCluster(t)
	es := c.add("db", nil)
	c.make("stranger", stranger, map[string]string{"k1": "theirs"}, nil)
	var process atomic.Pointer[os.Process]
	var fuse atomic.Int32 // calls until it is killed
	kill := func() {
		if p := process.Load(); p != nil && fuse.Add(-1) == 0 {
			_ = p.Kill()
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		kill()
		status, body := c.serve(r)
		kill()
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(status)
		_ = json.NewEncoder(w).Encode(body)
	}))
	defer server.Close()
	run := func(after int) (killed bool) {
		fuse.Store(int32(after))
		cmd := exec.CommandContext(t.Context(), os.Args[0])
		cmd.Env = append(os.Environ(), serverVariable+"="+server.URL)
		var output bytes.Buffer
		cmd.Stderr = &output
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		process.Store(cmd.Process)
		err := cmd.Wait()
		process.Store(nil)
		if err != nil && after == 0 {
			t.Fatalf("%v: %s", err, output.String())
		}
		return err != nil && strings.Contains(err.Error(), "killed")
	}
	had := map[string]string{}
	for n, begun := 0, time.Now(); n < *kills; {
		if time.Since(begun) > 10*time.Minute {
			t.Fatalf("%d kills in ten minutes", n)
		}
		want := map[string]string{}
		for _, k := range []string{"k1", "k2", "k3"}[:1+rand.IntN(3)] {
			want[k] = fmt.Sprint(rand.IntN(1000))
		}
		text, _ := json.Marshal(want)
		es.Annotations = map[string]string{"data": string(text)}
		es.Spec.Target.Name = []string{"one", "two"}[rand.IntN(2)]
		c.save(es)
		for _, name := range []string{"one", "two"} {
			if s := c.secret(name); s != nil && rand.IntN(2) == 0 {
				c.edit(name, func(s *corev1.Secret) { s.Data["foreign"] = []byte("theirs") })
			}
		}
		if run(1 + rand.IntN(16)) {
			n++
		}
		for _, name := range []string{"one", "two"} {
			s := c.secret(name)
			if s == nil {
				continue
			}
			own := claimed(es, s).present(s)
			if len(own) > 0 && !equal(own, had) && !equal(own, want) {
				t.Fatalf("%s has %s; it had %v and is to have %v", name, textOf(own), had, want)
			}
		}
		run(0)
		if s := c.secret(es.Spec.Target.Name); s == nil || !equal(claimed(es, s).present(s), want) {
			t.Fatalf("%s; want %v", textOf(s.Data), want)
		}
		for _, name := range []string{"one", "two"} {
			if s := c.secret(name); s != nil && name != es.Spec.Target.Name {
				if textOf(s.Data) != "[foreign=theirs]" || claimed(es, s).any() {
					t.Fatalf("%s is left with %s", name, textOf(s.Data))
				}
				c.remove(name) // or it could not have the name again
			}
		}
		es.Status.SecretName = es.Spec.Target.Name
		if err := c.Status().Update(t.Context(), es); err != nil {
			t.Fatal(err)
		}
		had = want
	}
	if got := textOf(c.secret("stranger").Data); got != "[k1=theirs]" {
		t.Error(got)
	}
}

func equal(got map[string][]byte, want map[string]string) bool {
	return len(got) == len(want) && includes(got, values(want))
}

func textOf(data map[string][]byte) string { return text(&corev1.Secret{Data: data}) }

// serve answers a request as an API server does.
func (c *cluster) serve(r *http.Request) (status int, answer any) {
	ctx := context.Background()
	fail := func(err error) (int, any) {
		var s apierrors.APIStatus
		if e, ok := err.(apierrors.APIStatus); ok { //nolint:errorlint // as the client made it
			s = e
		} else {
			s = apierrors.NewInternalError(err)
		}
		st := s.Status()
		st.APIVersion, st.Kind = "v1", "Status"
		return int(st.Code), &st
	}
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return fail(err)
	}
	parts := strings.Split(strings.Trim(r.URL.Path, "/"), "/")
	name := parts[len(parts)-1]
	key := client.ObjectKey{Namespace: ns, Name: name}
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: ns, Name: name}}
	switch {
	case strings.Contains(r.URL.Path, "/externalsecrets/"):
		es := &v1alpha1.ExternalSecret{}
		err = c.Get(ctx, key, es)
		answer = es
	case name == "externalsecrets":
		all := &v1alpha1.ExternalSecretList{}
		err = c.List(ctx, all, client.InNamespace(ns))
		answer = all
	case name == "secrets" && r.Method == http.MethodGet:
		all := &metav1.PartialObjectMetadataList{}
		all.SetGroupVersionKind(corev1.SchemeGroupVersion.WithKind("SecretList"))
		err = c.List(ctx, all, client.InNamespace(ns), client.HasLabels{LabelSynced})
		all.SetGroupVersionKind(metav1.SchemeGroupVersion.WithKind("PartialObjectMetadataList"))
		answer = all
	case name == "secrets":
		if err = json.Unmarshal(body, secret); err == nil {
			err = c.Create(ctx, secret, client.FieldOwner(r.URL.Query().Get("fieldManager")))
		}
		answer = secret
	case r.Method == http.MethodGet:
		err = c.Get(ctx, key, secret)
		answer = secret
	case r.Method == http.MethodDelete:
		var o metav1.DeleteOptions
		if err = json.Unmarshal(body, &o); err == nil && o.Preconditions != nil {
			err = c.WithWatch.Delete(ctx, secret, client.Preconditions(*o.Preconditions))
		}
		answer = &metav1.Status{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusSuccess}
	default:
		opts := []client.PatchOption{client.FieldOwner(r.URL.Query().Get("fieldManager"))}
		if r.URL.Query().Get("force") == "true" {
			opts = append(opts, client.ForceOwnership)
		}
		err = c.Patch(ctx, secret, client.RawPatch(types.PatchType(r.Header.Get("Content-Type")), body), opts...)
		answer = secret
	}
	if err != nil {
		return fail(err)
	}
	return http.StatusOK, answer
}
