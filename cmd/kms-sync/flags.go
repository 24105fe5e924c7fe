package main

import (
	"errors"
	"flag"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/content"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/store"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/sync"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/when"
)

// withoutEffect are flags of ack-secret-manager that are accepted, so that its command lines need no change, and do nothing.
var withoutEffect = map[string]struct {
	of  flag.Value
	why string
}{
	"backend":                         {ignored{}, "KMS is the only one"},
	"reconcile-period":                {ignored{}, "it has none in ack-secret-manager either"},
	"token-rotation-period":           {ignored{}, "sessions are renewed when they are due"},
	"max-concurrent-secret-pulls":     {ignored{}, "--kms-calls-per-second counts calls"},
	"max-concurrent-kms-secret-pulls": {ignored{}, "--kms-calls-per-second counts calls"},
	"max-concurrent-oos-secret-pulls": {ignored{}, "OOS is not supported yet"},
	"cleanup-secret-on-failure":       {ignoredBool{}, "no failure deletes a Secret; target.deletionPolicy is for secrets that are gone"},
	"process-cluster-external-secret": {ignoredBool{}, "ClusterExternalSecrets are not supported yet"},
	"enable-cross-namespace-auth-ref": {ignoredBool{}, "sharedSecrets and clusterServiceAccounts of --config list what stores may name"},
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
	o.Getenv = os.Getenv
	set.DurationVar(&o.PollingInterval, "polling-interval", 120*time.Second, "time between refreshes of an object without rotationInterval")
	set.BoolVar(&o.DisablePolling, "disable-polling", false, "refresh objects only when they change")
	set.IntVar(&o.Workers, "reconcile-count", 10, "how many ExternalSecrets are worked on at a time")
	nodeRole := set.Bool("enable-worker-role", false, "let the namespaces that the controller serves read as its node's role")
	set.BoolVar(&o.ClusterStores, "process-cluster-secret-store", true, "let ExternalSecrets name ClusterSecretStores")
	crossStores := set.Bool("enable-cross-namespace-secret-store", false, "let an ExternalSecret name a SecretStore of another namespace")
	watch := set.String("watch-namespaces", "", "the only namespaces whose ExternalSecrets are synchronized, separated by commas")
	exclude := set.String("exclude-namespaces", "", "namespaces whose ExternalSecrets are not synchronized, separated by commas")
	compat := set.String("compat", "", "where to behave as ack-secret-manager does, by the names in docs/secret-sync.md, separated by commas")
	set.Float64Var(&o.KMSCallsPerSecond, "kms-calls-per-second", 60, "most calls of KMS's shared gateway, of the 450 of an account and region")
	set.Float64Var(&o.STSCallsPerMinute, "sts-calls-per-minute", 100, "most exchanges with STS, of the account's 500")
	set.StringVar(&o.MetricsAddress, "metrics-bind-address", ":8080", "address of /metrics; 0: none")
	set.StringVar(&o.HealthAddress, "health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	set.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the Lease (default $POD_NAMESPACE)")
	set.StringVar(&f.kubeconfig, "kubeconfig", "", "file that says how to reach the API server (default: as a pod)")
	set.StringVar(&f.level, "log-level", "info", "debug, info, error")
	for name, f := range withoutEffect {
		set.Var(f.of, name, "no effect: "+f.why)
	}
	err := set.Parse(args)
	switch {
	case err != nil:
	case set.NArg() > 0: // what follows has not been read either
		err = fmt.Errorf("%q is not a flag; flags begin with --, and -h lists them", set.Arg(0))
	case o.PollingInterval < when.Shortest:
		err = fmt.Errorf("--polling-interval: %s is shorter than %s", o.PollingInterval, when.Shortest)
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
	switches := list(*compat)
	if i := slices.IndexFunc(switches, func(s string) bool { return strings.TrimPrefix(s, "compat.") == unanchored }); i >= 0 {
		switches, o.Config.Compat.UnanchoredRegexes = slices.Delete(switches, i, i+1), true
	}
	if o.Compat, err = content.ParseCompat(switches, unanchored); err != nil {
		return o, err
	}
	document := map[string]any{
		"region": *region, "clusterID": *cluster, "accountID": *account, "nodeRole": *nodeRole, "crossNamespaceStores": *crossStores,
	}
	compatible := o.Config.Compat
	o.Config, err = configure(*config, document, *endpoint)
	o.Config.Compat = compatible
	return o, err
}

// unanchored is the one switch of compat that is about stores.
const unanchored = "unanchoredRegexes"

// configure reads the administrator's configuration, with what flags say put over it, and finds the files that it names beside it.
func configure(file string, flags map[string]any, endpoint string) (store.Config, error) {
	document := map[string]any{}
	if file != "" {
		text, err := os.ReadFile(file)
		if err == nil {
			err = yaml.Unmarshal(text, &document)
		}
		if err != nil {
			return store.Config{}, fmt.Errorf("--config %s: %w", file, err)
		}
	}
	for field, value := range flags {
		if value != "" && value != false {
			document[field] = value
		}
	}
	if endpoint != "" {
		gateway, _ := document["kms"].(map[string]any)
		gateway = maps.Clone(gateway)
		if gateway == nil {
			gateway = map[string]any{}
		}
		gateway["endpoint"], document["kms"] = endpoint, gateway
	}
	text, err := yaml.Marshal(document)
	if err != nil {
		return store.Config{}, fmt.Errorf("--config %s: %w", file, err)
	}
	c, err := store.Read(text)
	if err != nil {
		return c, err
	}
	for _, ca := range []*string{&c.KMS.CAFile, &c.STS.CAFile} {
		if *ca != "" && !filepath.IsAbs(*ca) {
			*ca = filepath.Join(filepath.Dir(file), *ca)
		}
	}
	return c, nil
}

// list splits a list at its commas.
func list(text string) []string {
	return strings.FieldsFunc(text, func(r rune) bool { return r == ',' || r == ' ' })
}

// ignored takes every value.
type ignored struct{}

func (ignored) String() string   { return "" }
func (ignored) Set(string) error { return nil }

type ignoredBool struct{ ignored }

// IsBoolFlag has package flag take no value from the next argument.
func (ignoredBool) IsBoolFlag() bool { return true }
