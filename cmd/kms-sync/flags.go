package main

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/sync"
)

// withoutEffect are flags of ack-secret-manager that are accepted, so that its Deployments need no change, and do nothing.
var withoutEffect = map[string]string{
	"backend":                        "KMS is the only one",
	"reconcile-period":               "it had none",
	"token-rotation-period":          "sessions are renewed when they are due",
	"max-concurrent-secret-pulls":    "--kms-calls-per-second counts calls",
	"max-concurrent-kms-secret-pulls": "--kms-calls-per-second counts calls",
	"max-concurrent-oos-secret-pulls": "OOS is not asked yet",
	"cleanup-secret-on-failure":      "no failure deletes a Secret; target.deletionPolicy says what follows the end of a secret in KMS",
	"process-cluster-external-secret": "ClusterExternalSecrets are not carried out yet",
	"enable-cross-namespace-auth-ref": "sharedSecrets and clusterServiceAccounts of --config list what stores may name elsewhere",
}

// flags are the command line.
type flags struct {
	kubeconfig, level string
	withoutEffect     []string // those that were given
}

// parse reads the command line, and the configuration that it names.
func (f *flags) parse(args []string) (sync.Options, error) {
	var o sync.Options
	set := flag.NewFlagSet("kms-sync", flag.ContinueOnError)
	config := set.String("config", "", "file with what the administrator allows; --region, --cluster-id, --uid and --kms-endpoint precede it")
	region := set.String("region", "", "region of KMS")
	endpoint := set.String("kms-endpoint", "", "host of KMS (default kms-vpc.<region>.aliyuncs.com)")
	cluster := set.String("cluster-id", "", "id of the ACK cluster")
	account := set.String("uid", "", "id of the Alibaba Cloud account")
	set.DurationVar(&o.PollingInterval, "polling-interval", 120*time.Second, "time between two refreshes of an object without rotationInterval")
	set.BoolVar(&o.DisablePolling, "disable-polling", false, "refresh objects only when they change")
	set.IntVar(&o.Workers, "reconcile-count", 10, "how many objects are worked on at a time")
	nodeRole := set.Bool("enable-worker-role", false, "let the namespaces that the controller serves read as its node's role")
	set.BoolVar(&o.ClusterStores, "process-cluster-secret-store", true, "look at ClusterSecretStores")
	crossStores := set.Bool("enable-cross-namespace-secret-store", false, "let an ExternalSecret name a SecretStore of another namespace")
	watch := set.String("watch-namespaces", "", "comma list of the only namespaces that are looked at")
	exclude := set.String("exclude-namespaces", "", "comma list of namespaces that are not looked at")
	compat := set.String("compat", "", "comma list of switches that have kms-sync do as ack-secret-manager: docs/secret-sync.md")
	set.Float64Var(&o.KMSCallsPerSecond, "kms-calls-per-second", 60, "most calls of KMS's shared gateway, of the 450 of an account and region")
	set.Float64Var(&o.STSCallsPerMinute, "sts-calls-per-minute", 100, "most exchanges with STS, of the account's 500")
	set.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8080", "address of /metrics; 0: none")
	set.StringVar(&o.HealthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	set.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Lease (default $POD_NAMESPACE)")
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "file that says how to reach the API server (default: as a pod)")
	set.StringVar(&f.level, "log-level", "info", "debug, info, error")
	for name, why := range withoutEffect {
		set.Var(ignored{}, name, "no effect: "+why)
	}
	err := set.Parse(args)
	switch {
	case err != nil:
	case set.NArg() > 0: // what follows has not been read either
		err = fmt.Errorf("%q is not a flag; flags begin with --, and -h lists them", set.Arg(0))
	case o.PollingInterval < sync.ShortestInterval:
		err = fmt.Errorf("--polling-interval: %s is shorter than %s", o.PollingInterval, sync.ShortestInterval)
	case o.Workers < 1 || o.KMSCallsPerSecond <= 0 || o.STSCallsPerMinute <= 0:
		err = errors.New("--reconcile-count, --kms-calls-per-second and --sts-calls-per-minute are more than 0")
	case *watch != "" && *exclude != "":
		err = errors.New("--watch-namespaces and --exclude-namespaces are both set; one of them says everything")
	}
	if err != nil {
		return o, err
	}
	set.Visit(func(given *flag.Flag) {
		if _, none := withoutEffect[given.Name]; none {
			f.withoutEffect = append(f.withoutEffect, given.Name)
		}
	})
	o.Watch, o.Exclude = list(*watch), list(*exclude)
	if o.Compat, err = content.ParseCompat(list(*compat)); err != nil {
		return o, err
	}
	...
}
