package command

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"k8s.io/client-go/kubernetes"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/decide"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/clusterconfig"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

// patience is for one answer of the API server.
const patience = 15 * time.Second

// world is what decisions are made in, and where its policy is from. Blind says why the webhook's configuration is not there; the world is
// then without it.
func (sh *shell) world(ctx context.Context, f *manifestFlags) (world decide.World, policy string, blind, err error) {
	if f.roleARN != "" && !config.IsRoleARN(f.roleARN) {
		return world, "", nil, fmt.Errorf("--role-arn: %q is not the ARN of a RAM role; write acs:ram::<account>:role/<name>", f.roleARN)
	}
	world = decide.World{Cluster: decide.Offline{}, RoleARN: f.roleARN}
	if f.config != "" {
		document, err := os.ReadFile(f.config)
		if err != nil {
			return world, "", nil, err
		}
		if world.Injector, err = sh.configured(f.config, document); err != nil {
			return world, "", nil, fmt.Errorf("%s: %w", f.config, err)
		}
		return world, f.config, nil, nil
	}
	if world.Injector, err = sh.anything(); err != nil {
		return world, "", nil, err
	}
	if f.offline {
		return world, "", errors.New("--offline"), nil
	}
	client, err := sh.client()
	if err != nil {
		return world, "", err, nil
	}
	configuration, version, err := client.Policy(ctx)
	var native bool
	if err == nil {
		native, err = injector.NativeBeside(version)
	}
	if err != nil {
		if _, asked := client.Kube.Discovery().ServerVersion(); asked == nil { // it answers, but has or shows no document
			world.Cluster, world.Selects = client, sh.scope(ctx, client)
		}
		return world, "", err, nil
	}
	world.PlainSidecars, world.Cluster, world.Selects = !native, client, sh.scope(ctx, client)
	world.Injector, err = injector.New(configuration, sh.version)
	return world, "the cluster's", nil, err
}

// scope returns cluster.Selects of the cluster's webhook, and notes that it cannot be read.
func (sh *shell) scope(ctx context.Context, client cluster.Client) func(namespace string, of map[string]string) bool {
	selects, err := client.Scope(ctx)
	if err != nil {
		fmt.Fprintf(sh.Err, "Note: whether the webhook's namespaceSelector leaves namespaces out was not checked: %v\n", err)
	}
	return selects
}

// configured returns the injector of a webhook's configuration in a file. The error is a mistake in it.
func (sh *shell) configured(file string, document []byte) (*injector.Injector, error) {
	policy, err := clusterconfig.Load(document, func(name string) ([]byte, error) {
		if !filepath.IsAbs(name) {
			name = filepath.Join(filepath.Dir(file), name)
		}
		return os.ReadFile(name)
	})
	if err != nil {
		return nil, err
	}
	return injector.New(policy, sh.version)
}

// anything returns a configuration that allows everything, to check what does not depend on one. What only a real one could say is in angle
// brackets, for messages that name it.
func (sh *shell) anything() (*injector.Injector, error) {
	policy, err := clusterconfig.Read([]byte(`{accountID: "0", clusterID: none, region: cn-hangzhou, agent: {image: kms-agent}, allow: {
		roles: ["*"], secrets: ["*"], regions: ["*"], endpoints: ["*"], identities: [node-role, access-key, client-key]}}`))
	if err != nil {
		return nil, err
	}
	policy.AccountID, policy.Region, policy.OIDCProviderARN = "<account>", "<region>", "acs:ram::<account>:oidc-provider/ack-rrsa-<cluster id>"
	policy.Unknown = true
	return injector.New(policy, sh.version)
}

// client asks the cluster of the kubeconfig.
func (sh *shell) client() (cluster.Client, error) {
	rest, err := sh.kube.ToRESTConfig()
	if err != nil {
		return cluster.Client{}, err
	}
	if rest.Timeout == 0 {
		rest.Timeout = patience
	}
	rest.QPS, rest.Burst = 50, 100 // a person waits
	kube, err := kubernetes.NewForConfig(rest)
	return cluster.Client{Kube: kube, WebhookNamespace: sh.webhookNamespace, SyncNamespace: sh.syncNamespace}, err
}

// namespace returns the namespace of objects without one.
func (sh *shell) namespace() string {
	namespace, _, err := sh.kube.ToRawKubeConfigLoader().Namespace()
	if err != nil || namespace == "" {
		return "default"
	}
	return namespace
}
