package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"net"
	"os"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/internal/incluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/internal/admission"
)

// admit runs the webhook that warns of what the controller will refuse.
func admit(ctx context.Context, args []string) error {
	o := admission.Options{Drain: 5 * time.Second}
	flags := flag.NewFlagSet("kms-sync admission", flag.ContinueOnError)
	address := flags.String("bind-address", ":9443", "address of the webhook")
	health := flags.String("health-probe-bind-address", ":8081", "address of /healthz and /readyz")
	flags.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the certificates' Secrets (default $POD_NAMESPACE)")
	kubeconfig := flags.String("kubeconfig", "", "file that says how to reach the API server (default: as a pod)")
	level := flags.String("log-level", "info", "debug, info, error")
	err := flags.Parse(args)
	switch {
	case err != nil:
	case flags.NArg() > 0:
		err = fmt.Errorf("%q is not a flag; flags begin with --, and -h lists them", flags.Arg(0))
	case o.Namespace == "":
		err = errors.New("--namespace (or POD_NAMESPACE) is missing: the certificates' Secrets are there")
	}
	if err != nil {
		return err
	}
	if o.Log, err = incluster.NewLogger(*level); err != nil {
		return err
	}
	if o.REST, err = incluster.APIServer(*kubeconfig); err != nil {
		return err
	}
	if o.Admission, err = net.Listen("tcp", *address); err != nil {
		return fmt.Errorf("listen for admission: %w", err)
	}
	if o.Health, err = net.Listen("tcp", *health); err != nil {
		return fmt.Errorf("listen for probes: %w", err)
	}
	return admission.Run(ctx, o)
}
