// Command kms-webhook is the admission webhook that injects KMS secrets into pods.
package main

import (
	"cmp"
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"strings"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/types"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/internal/incluster"
	"github.com/kms-agent-injector/kms-agent-injector/webhook"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/certificate"
)

// configuration is the name of the MutatingWebhookConfiguration and of the ValidatingWebhookConfiguration.
const configuration = "kms-agent-injector"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil && !errors.Is(err, flag.ErrHelp) {
		fmt.Fprintln(os.Stderr, "kms-webhook:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "probe":
			return probe(ctx, args[1:], os.Stdout)
		case "certificates":
			return certificates(ctx, args[1:])
		}
	}
	o := webhook.Options{Version: version(), Configuration: configuration}
	flags := flag.NewFlagSet("kms-webhook", flag.ContinueOnError)
	flags.StringVar(&o.ConfigFile, "config", "", "file with the webhook's configuration; required")
	port := flags.Int("port", 9443, "port of the admission server; 0: a free one, which the log names, as in the addresses that follow")
	metrics := flags.String("metrics-bind-address", ":8080", "address of /metrics")
	health := flags.String("health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	flags.DurationVar(&o.Drain, "drain", 5*time.Second, "how long to go on answering after SIGTERM")
	mode := flags.String("cert-mode", "self-signed",
		"where the serving certificate comes from: self-signed (the Secret of kms-webhook certificates), cert-manager, files")
	dir := flags.String("cert-dir", "/etc/kms-webhook/tls", "folder of tls.crt and tls.key, with cert-manager and files")
	flags.StringVar(&o.ClientCA, "client-ca-file", "",
		"PEM file of the authorities that sign API servers' client certificates; callers without such a certificate are refused")
	namespace := flags.String("namespace", os.Getenv("POD_NAMESPACE"), "the webhook's namespace (default $POD_NAMESPACE)")
	service := flags.String("service-name", "kms-webhook", "the Service by which the API server calls")
	configMap := flags.String("config-map", "kms-webhook",
		"the ConfigMap of the namespace that --config is mounted from; gets events when it changes")
	flags.BoolVar(&o.Guard, "guard", false,
		"the ValidatingAdmissionPolicy "+configuration+" is installed: kms_webhook_registered says whether it and its binding are there")
	kubeconfig := flags.String("kubeconfig", "", "file that says how to reach the API server (default: as a pod)")
	level := flags.String("log-level", "info", "debug, info, error")
	err := flags.Parse(args)
	switch {
	case err != nil:
	case flags.NArg() > 0: // what follows has not been read either
		err = fmt.Errorf("%q is not a flag; flags begin with --, and -h lists them", flags.Arg(0))
	case o.ConfigFile == "":
		err = errors.New("--config is missing")
	}
	if err != nil {
		return err
	}

	o.ConfigMap = types.NamespacedName{Namespace: *namespace, Name: *configMap}
	if o.Log, err = incluster.NewLogger(*level); err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(webhook.GCPercent)
	}
	if o.REST, err = incluster.APIServer(*kubeconfig); err != nil {
		return err
	}
	o.Certificate, err = newCertificate(*mode, *dir, certificate.Options{
		REST: o.REST, Namespace: *namespace, Service: *service, Configuration: configuration, Log: o.Log,
	})
	if err != nil {
		return err
	}
	for _, l := range []struct {
		listener *net.Listener
		of, at   string
	}{{&o.Admission, "admission", fmt.Sprintf(":%d", *port)}, {&o.Metrics, "metrics", *metrics}, {&o.Health, "health", *health}} {
		if *l.listener, err = net.Listen("tcp", l.at); err != nil {
			return fmt.Errorf("listen for %s: %w", l.of, err)
		}
		o.Log.Info("Listening", "for", l.of, "address", (*l.listener).Addr().String())
	}
	return webhook.Run(ctx, o)
}

// newCertificate makes what --cert-mode names.
func newCertificate(mode, dir string, o certificate.Options) (webhook.Certificate, error) {
	switch mode {
	case "files", "cert-manager":
		return certificate.NewFiles(dir, o)
	case "self-signed":
		if o.Namespace == "" {
			return nil, errors.New("--namespace (or POD_NAMESPACE) is missing: --cert-mode=self-signed reads a Secret there")
		}
		return certificate.NewSecret(o)
	}
	return nil, fmt.Errorf("--cert-mode: %q is not one of self-signed, cert-manager, files", mode)
}

// version returns the version of the module, or the commit of a build from a checkout.
func version() string {
	info, _ := debug.ReadBuildInfo()
	if info == nil {
		return "devel"
	}
	return strings.Trim(cmp.Or(info.Main.Version, "devel"), "()")
}
