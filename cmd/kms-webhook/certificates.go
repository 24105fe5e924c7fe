package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/internal/incluster"
	"github.com/kms-agent-injector/kms-agent-injector/webhook/certificate"
)

// checkTimeout is the time limit of --check.
const checkTimeout = 10 * time.Second

// certificates maintains the authority, the serving certificate and the caBundle of the webhook configurations, or with cert-manager
// the bundle of authorities. It opens no port: the process that listens is not allowed to write any of them.
func certificates(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("kms-webhook certificates", flag.ContinueOnError)
	mode := flags.String("cert-mode", "self-signed", "self-signed or cert-manager; with files there is nothing to do")
	namespace := flags.String("namespace", os.Getenv("POD_NAMESPACE"), "the webhook's namespace (default $POD_NAMESPACE)")
	service := flags.String("service-name", "kms-webhook", "the Service by which the API server calls")
	kubeconfig := flags.String("kubeconfig", "", "file that says how to reach the API server (default: as a pod)")
	level := flags.String("log-level", "info", "debug, info, error")
	check := flags.Bool("check", false, "only say whether everything is as it should be, and change nothing: for probes")
	err := flags.Parse(args)
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is not a flag; flags begin with --, and -h lists them", flags.Arg(0))
	case *namespace == "":
		err = errors.New("--namespace (or POD_NAMESPACE) is missing: the Secrets are there")
	}
	if err != nil {
		return err
	}
	o := certificate.Options{Namespace: *namespace, Service: *service, Configuration: configuration}
	if o.Log, err = incluster.NewLogger(*level); err != nil {
		return err
	}
	if o.REST, err = incluster.APIServer(*kubeconfig); err != nil {
		return err
	}
	keeper, err := newKeeper(*mode, o)
	if err != nil {
		return err
	}
	if *check {
		ctx, cancel := context.WithTimeout(ctx, checkTimeout)
		defer cancel()
		return keeper.Check(ctx)
	}
	return keeper.Run(ctx)
}

// newKeeper makes what --cert-mode names.
func newKeeper(mode string, o certificate.Options) (*certificate.Keeper, error) {
	switch mode {
	case "self-signed":
		return certificate.NewSelfSigned(o)
	case "cert-manager":
		return certificate.NewCertManager(o)
	}
	return nil, fmt.Errorf("--cert-mode: %q is not one of self-signed, cert-manager", mode)
}
