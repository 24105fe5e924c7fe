//go:build linux

package cluster

import (
	"fmt"
	"os"
	"path/filepath"

	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/node"
	"github.com/kms-agent-injector/kms-agent-injector/test/cluster/internal/pki"
)

const administrators = "system:masters"

// writeCredentials makes the cluster's keys and certificates, and the kubeconfigs of its components and its user.
func writeCredentials(dir, server string) error {
	authority, err := pki.NewAuthority("kms-cluster")
	if err != nil {
		return err
	}
	frontProxy, err := pki.NewAuthority("kms-cluster-front-proxy")
	if err != nil {
		return err
	}
	authorityKey, err := authority.KeyPEM()
	if err != nil {
		return err
	}
	tokenPublic, tokenPrivate, err := pki.TokenKey()
	if err != nil {
		return err
	}
	files := map[string][]byte{
		"ca.crt": authority.PEM, "ca.key": authorityKey, "front-proxy-ca.crt": frontProxy.PEM,
		"sa.pub": tokenPublic, "sa.key": tokenPrivate,
	}
	inside := "https://127.0.0.1:" + node.APIServerPort
	nodeUser := "system:node:" + node.Name

	for _, c := range []struct {
		file, user string
		groups     []string
		hosts      []string
		from       *pki.Authority
		client     bool // gets a kubeconfig
	}{
		{file: "kube-apiserver", user: "kube-apiserver", from: authority, hosts: []string{
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc.cluster.local",
			"localhost", "127.0.0.1", node.Address, node.KubernetesService,
		}},
		{
			file: "kubelet", user: nodeUser, groups: []string{"system:nodes"}, hosts: []string{node.Name, node.Address}, from: authority,
			client: true,
		},
		{file: "kubelet-client", user: "kube-apiserver-kubelet-client", groups: []string{administrators}, from: authority},
		{file: "front-proxy-client", user: "front-proxy-client", from: frontProxy},
		{file: "admin", user: "admin", groups: []string{administrators}, from: authority, client: true},
		{file: "kube-controller-manager", user: "system:kube-controller-manager", from: authority, client: true},
		{file: "kube-scheduler", user: "system:kube-scheduler", from: authority, client: true},
		{file: "kube-proxy", user: "system:kube-proxy", from: authority, client: true},
		{file: "coredns", user: "coredns", groups: []string{administrators}, from: authority, client: true},
	} {
		pair, err := c.from.Issue(c.user, c.groups, c.hosts...)
		if err != nil {
			return err
		}
		files[c.file+".crt"], files[c.file+".key"] = pair.Cert, pair.Key
		if c.client {
			files[c.file+".kubeconfig"] = pki.Kubeconfig(node.Name, inside, authority.PEM, pair)
		}
		if c.file == "admin" {
			kubeconfig := pki.Kubeconfig(node.Name, server, authority.PEM, pair)
			if err := os.WriteFile(filepath.Join(dir, "kubeconfig"), kubeconfig, 0o600); err != nil {
				return err
			}
		}
	}
	if err := pki.Write(filepath.Join(dir, node.PKIDir), files); err != nil {
		return fmt.Errorf("write the cluster's credentials: %w", err)
	}
	return nil
}
