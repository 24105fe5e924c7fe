package certificate

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/test/fakekube"
)

const publishedPath = "/api/v1/namespaces/kms/secrets/kms-webhook-ca-bundle"

// TestPublishedAuthorityRotates lets two replicas see a new certificate at different times, as kubelets show what cert-manager has
// written, while something copies the published bundle to the configurations, as its cainjector does, and a client keeps connecting.
func TestPublishedAuthorityRotates(t *testing.T) {
	kube := fakekube.New(t)
	dirs := []string{t.TempDir(), t.TempDir()}
	old, next := newAuthorityPair(t), newAuthorityPair(t)
	kube.Put(publishedPath, fakekube.Object{"apiVersion": "v1", "kind": "Secret"})
	configure(kube, nil)
	inject(t, kube)
	keeper, err := NewCertManager(options(t, kube))
	if err != nil {
		t.Fatal(err)
	}
	start(t, keeper)
	if err := keeper.Check(t.Context()); err == nil || !strings.Contains(err.Error(), "kms-webhook-tls") {
		t.Errorf("before there is a certificate: %v, want to know where it is missing", err)
	}
	issued(t, kube, old)
	eventually(t, "the authority published", func() error { return keeper.Check(t.Context()) })
	var replicas []*Source
	var clients []*connecting
	for _, dir := range dirs {
		old.write(t, dir, serverName)
		f := startFiles(t, kube, dir)
		eventually(t, "ready", f.Ready)
		replicas, clients = append(replicas, f), append(clients, connect(t, kube, serve(t, f)))
	}
	issued(t, kube, next)
	for i, dir := range dirs {
		first, _ := replicas[i].GetCertificate(nil)
		next.write(t, dir, serverName)
		eventually(t, "the new certificate", func() error {
			c, err := replicas[i].GetCertificate(nil)
			if err == nil && c == first {
				err = errors.New("not yet")
			}
			return err
		})
	}
	for _, c := range clients {
		c.end(t)
	}
	if n := len(parse(bundleOf(kube, mutatingPath, 0))); n != 2 {
		t.Errorf("the caBundle has %d authorities, want both", n)
	}
}

// issued is what cert-manager writes.
func issued(t *testing.T, kube *fakekube.Server, by authorityPair) {
	t.Helper()
	certificate, key := by.issue(t, serverName, time.Now())
	kube.Put(servingPath, fakekube.Object{"apiVersion": "v1", "kind": "Secret", "data": fakekube.Object{
		"tls.crt": encode(certificate), "tls.key": encode(key), "ca.crt": encode(by.ca)}})
}

// inject copies what is published to the configurations until the test ends.
func inject(t *testing.T, kube *fakekube.Server) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for {
			select {
			case <-t.Context().Done():
				return
			case <-tick.C:
			}
			published := kube.Get(publishedPath)
			data, _ := published["data"].(fakekube.Object)
			if text, _ := data["ca.crt"].(string); text != "" && text != encode(bundleOf(kube, mutatingPath, 0)) {
				configureText(kube, text)
			}
		}
	}()
	t.Cleanup(func() { <-done })
}
