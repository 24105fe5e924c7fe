//go:build linux

package node

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"
)

// component is a program that the node keeps running.
type component struct {
	name    string
	program string // file
	args    []string
	after   func(context.Context) error // returns when it may start; nil: at once
}

// components lists them by what they wait for. kube-controller-manager ends at once if RBAC's bootstrap roles are missing,
// and the others would only retry with growing pauses: they start when the API server says it is ready.
func components(probe *probes, cfg Config) []component {
	kubernetes := filepath.Join(kubernetesDir, "kubernetes")
	clients := func(name string) []string {
		file := pki(name + ".kubeconfig")
		return []string{"--kubeconfig=" + file, "--authentication-kubeconfig=" + file, "--authorization-kubeconfig=" + file,
			"--leader-elect=false", "--kube-api-qps=1000", "--kube-api-burst=2000", "--bind-address=127.0.0.1"}
	}
	return []component{
		{name: "etcd", program: kubernetes, args: etcd()},
		{name: "kube-apiserver", program: kubernetes, args: append(apiserver(), cfg.APIServer...)},
		{name: "containerd", program: filepath.Join(containerdDir, "containerd"), args: []string{"--config=" + conf("containerd.toml")}},
		{name: "kube-controller-manager", program: kubernetes, after: probe.apiserver, args: slices.Concat(clients("kube-controller-manager"),
			[]string{
				"--service-account-private-key-file=" + pki("sa.key"),
				"--root-ca-file=" + pki("ca.crt"),
				"--cluster-signing-cert-file=" + pki("ca.crt"),
				"--cluster-signing-key-file=" + pki("ca.key"),
				"--use-service-account-credentials=true",
			}, cfg.ControllerManager)},
		{name: "kube-scheduler", program: kubernetes, after: probe.apiserver, args: clients("kube-scheduler")},
		{name: "kubelet", program: kubernetes, after: all(probe.apiserver, probe.containerd), args: []string{
			"--config=" + conf("kubelet.yaml"),
			"--kubeconfig=" + pki("kubelet.kubeconfig"),
			"--cert-dir=" + filepath.Join(stateDir, PKIDir),
			"--hostname-override=" + Name,
			"--node-ip=" + Address,
		}},
		{name: "kube-proxy", program: kubernetes, after: probe.apiserver, args: []string{"--config=" + conf("kube-proxy.yaml")}},
		{name: "coredns", program: kubernetes, after: probe.apiserver, args: []string{"-conf", conf("Corefile")}},
	}
}

// EtcdURL is where etcd answers in the node's network.
const EtcdURL = "http://127.0.0.1:2379"

func etcd() []string {
	const client, peer = EtcdURL, "http://127.0.0.1:2380"
	return []string{
		"--data-dir=" + filepath.Join(stateDir, EtcdDir),
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer, "--initial-cluster=default=" + peer,
		"--unsafe-no-fsync", // nothing in it outlives the cluster
		"--log-level=warn",
	}
}

// apiserver has the default admission plugins, PodSecurity among them, and NodeRestriction, as a production cluster has.
func apiserver() []string {
	return []string{
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0",
		"--secure-port=" + APIServerPort,
		"--advertise-address=" + Address,
		"--service-cluster-ip-range=" + ServiceRange,
		"--allow-privileged=true",
		"--authorization-mode=Node,RBAC",
		"--enable-admission-plugins=NodeRestriction",
		"--tls-cert-file=" + pki("kube-apiserver.crt"), "--tls-private-key-file=" + pki("kube-apiserver.key"),
		"--client-ca-file=" + pki("ca.crt"),
		"--kubelet-certificate-authority=" + pki("ca.crt"),
		"--kubelet-client-certificate=" + pki("kubelet-client.crt"), "--kubelet-client-key=" + pki("kubelet-client.key"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=" + Issuer,
		// The default names the node's address; a relying party in the cluster knows the Service's name.
		"--service-account-jwks-uri=" + Issuer + "/openid/v1/jwks",
		"--service-account-key-file=" + pki("sa.pub"), "--service-account-signing-key-file=" + pki("sa.key"),
		"--requestheader-client-ca-file=" + pki("front-proxy-ca.crt"),
		"--requestheader-allowed-names=front-proxy-client",
		"--requestheader-username-headers=X-Remote-User",
		"--requestheader-group-headers=X-Remote-Group",
		"--requestheader-extra-headers-prefix=X-Remote-Extra-",
		"--proxy-client-cert-file=" + pki("front-proxy-client.crt"), "--proxy-client-key-file=" + pki("front-proxy-client.key"),
	}
}

func conf(name string) string { return filepath.Join(stateDir, ConfDir, name) }
func pki(name string) string  { return filepath.Join(stateDir, PKIDir, name) }

func all(waits ...func(context.Context) error) func(context.Context) error {
	return func(ctx context.Context) error {
		for _, wait := range waits {
			if err := wait(ctx); err != nil {
				return err
			}
		}
		return nil
	}
}

// probes ask the node's components whether they do their work.
type probes struct {
	client *http.Client // as cluster administrator
}

func newProbes() (*probes, error) {
	authority, err := os.ReadFile(pki("ca.crt"))
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(authority)
	pair, err := tls.LoadX509KeyPair(pki("admin.crt"), pki("admin.key"))
	if err != nil {
		return nil, err
	}
	return &probes{client: &http.Client{
		Timeout:   2 * time.Second,
		Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{pair}}},
	}}, nil
}

const apiURL = "https://127.0.0.1:" + APIServerPort

func (p *probes) apiserver(ctx context.Context) error { return p.wait(ctx, apiURL+"/readyz", nil) }

func (p *probes) defaultServiceAccount(ctx context.Context) error {
	return p.wait(ctx, apiURL+"/api/v1/namespaces/default/serviceaccounts/default", nil)
}

// Both have their health endpoints' default addresses; the Corefile repeats CoreDNS's.
func (p *probes) kubeProxy(ctx context.Context) error {
	return p.wait(ctx, "http://127.0.0.1:10256/healthz", nil)
}
func (p *probes) coreDNS(ctx context.Context) error {
	return p.wait(ctx, "http://127.0.0.1:8181/ready", nil)
}

func (p *probes) nodeReady(ctx context.Context) error {
	return p.wait(ctx, apiURL+"/api/v1/nodes/"+Name, func(r *http.Response) bool {
		var node struct {
			Status struct {
				Conditions []struct{ Type, Status string }
			}
		}
		if json.NewDecoder(r.Body).Decode(&node) != nil {
			return false
		}
		for _, c := range node.Status.Conditions {
			if c.Type == "Ready" && c.Status == "True" {
				return true
			}
		}
		return false
	})
}

func (p *probes) containerd(ctx context.Context) error {
	return poll(ctx, "containerd's socket", func() error {
		conn, err := net.DialTimeout("unix", ContainerdSocket, time.Second)
		if err != nil {
			return err
		}
		return conn.Close()
	})
}

// wait asks url until it answers 200 and ok, if given, is content with the answer.
func (p *probes) wait(ctx context.Context, url string, ok func(*http.Response) bool) error {
	return poll(ctx, url, func() error {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
		if err != nil {
			return err
		}
		response, err := p.client.Do(request)
		if err != nil {
			return err
		}
		defer response.Body.Close()
		if response.StatusCode != http.StatusOK {
			return errors.New(response.Status)
		}
		if ok != nil && !ok(response) {
			return errors.New("not ready yet")
		}
		return nil
	})
}

func poll(ctx context.Context, what string, try func() error) error {
	for {
		err := try()
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w (last: %v)", what, ctx.Err(), err)
		case <-time.After(50 * time.Millisecond):
		}
	}
}
