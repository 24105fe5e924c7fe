package doctor

import (
	"context"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"
	"time"

	admissionv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// fromSecret is the annotation by which cert-manager's cainjector finds what to copy into a caBundle.
const fromSecret = "cert-manager.io/inject-ca-from-secret"

// certificate has the API server call the webhook, by a dry run: its own judgement of the certificate is the one that counts.
func (e *examination) certificate(ctx context.Context, w *admissionv1.MutatingWebhook, all *admissionv1.MutatingWebhookConfiguration) {
	release := e.Client.Release(ctx)
	cure := fmt.Sprintf("%[2]s writes the caBundle and says what keeps it from that: kubectl -n %[1]s logs deployment/%[2]s; "+
		"with certificates.mode files, it is the chart's certificates.files.caBundle",
		release, cluster.Certificates)
	if all != nil && all.Annotations[fromSecret] != "" {
		cure = fmt.Sprintf("cert-manager's cainjector copies the caBundle from the Secret %s, which %[3]s fills: "+
			"look at cainjector, and at kubectl -n %[2]s describe certificate; "+
			"kubectl -n %[2]s logs deployment/%[3]s",
			all.Annotations[fromSecret], release, cluster.Certificates)
	}
	says := ""
	if w != nil {
		var err error
		if says, err = authority(w.ClientConfig.CABundle, time.Now()); err != nil {
			e.add(Certificate, Broken, fmt.Sprintf("the caBundle of %s: %v", w.Name, err), cure)
			return
		}
	}
	if e.labels[podconfig.NamespaceLabel] != "enabled" {
		e.add(Certificate, Unneeded, says+"whether the API server accepts the certificate shows in a labelled namespace", "")
		return
	}
	if w != nil && !cluster.Selects(w, e.subject.namespace, e.labels) {
		e.add(Certificate, Unneeded, says+"the webhook is not called in this namespace; whether the API server accepts the certificate "+
			"shows in a labelled namespace that is not left out", "")
		return
	}
	dryRun := metav1.CreateOptions{DryRun: []string{metav1.DryRunAll}}
	_, err := e.Client.Kube.CoreV1().Pods(e.subject.namespace).Create(ctx, bystander(), dryRun)
	if err == nil {
		e.add(Certificate, Good, strings.TrimSuffix("the API server reaches the webhook and accepts its certificate; "+says, "; "), "")
		return
	}
	// There is no other sign of it than the API server's words.
	text := err.Error()
	switch ours := strings.Contains(text, "failed calling webhook") && (w == nil || strings.Contains(text, w.Name)); {
	case !ours:
		e.add(Certificate, Unseen, says+"whether the API server accepts the certificate could not be tried: "+text, "")
	case strings.Contains(text, "x509") || strings.Contains(text, "tls:"):
		e.add(Certificate, Broken, "the API server does not accept the webhook's certificate: "+text, cure)
	default:
		e.add(Certificate, Broken, "the API server does not get an answer: "+text,
			"let the control plane reach the webhook's pods on port 9443: security groups, network policies")
	}
}

// authority says until when the last of the certificates in a bundle is good: while one follows another, both are there.
func authority(bundle []byte, now time.Time) (string, error) {
	if len(bundle) == 0 {
		return "", errors.New("is empty: the API server can trust no webhook")
	}
	block, rest := pem.Decode(bundle)
	if block == nil {
		return "", errors.New("is not PEM")
	}
	var last time.Time
	for ; block != nil; block, rest = pem.Decode(rest) {
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return "", err
		}
		if c.NotAfter.After(last) {
			last = c.NotAfter
		}
	}
	if now.After(last) {
		return "", fmt.Errorf("its authority expired on %s", last.Format(time.DateOnly))
	}
	return "its authority is good until " + last.Format(time.DateOnly) + "; ", nil
}

// bystander returns a pod that the webhook is asked about and leaves as it is.
func bystander() *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "kms-doctor-", Annotations: map[string]string{podconfig.Prefix + "inject": "false"}},
		Spec: corev1.PodSpec{
			AutomountServiceAccountToken: new(false),
			SecurityContext: &corev1.PodSecurityContext{
				RunAsNonRoot: new(true), SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
			},
			Containers: []corev1.Container{{Name: "none", Image: "none", SecurityContext: &corev1.SecurityContext{
				AllowPrivilegeEscalation: new(false), Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			}}},
		},
	}
}
