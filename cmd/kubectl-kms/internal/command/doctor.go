package command

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/check"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/doctor"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/status"
	"github.com/kms-agent-injector/kms-agent-injector/injector"
)

func (sh *shell) doctor() *cobra.Command {
	var output string
	cmd := &cobra.Command{
		Use:   "doctor POD | TYPE/NAME",
		Short: "Find the broken link between a pod, or an ExternalSecret, and its secrets",
		Long: "Goes through the chain from the namespace's label to the age of the pod's files, says of each link " +
			"whether it holds (✓),\n" +
			"does not hold (✗) or could not be looked at (?), and what to do, and prints the RAM policies that the pod needs. The agent in\n" +
			"the pod asks STS and KMS once more for this, and throws away what it gets; the API server is asked for\n" +
			"a pod as a dry run. Nothing is changed.\n\n" +
			"The chain of an ExternalSecret goes from its spec by kms-sync, the store, the ServiceAccount and its role to the Secret; what only\n" +
			"kms-sync sees is as its condition Ready says. Of the Secret no more than the metadata is read.\n\n" +
			"Exit code: 0 the chain is whole, 1 it is not, 2 that could not be told (?).",
		Example: `  # Why does this pod not start?
  kubectl kms doctor web-58c5759d8d-vcpdf

  # Why are there no pods at all?
  kubectl kms doctor deployment/web

  # Why is a Secret of kms-sync not made, or old?
  kubectl kms doctor externalsecret/shop-tls

  # For a program
  kubectl kms doctor web-0 -o json | jq '.checks[] | select(.state == "broken")'`,
		Annotations: map[string]string{judges: "not examined"},
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) != 1 {
				return fmt.Errorf("name one pod, or TYPE/NAME of a workload; there are %d arguments", len(args))
			}
			return nil
		},
		ValidArgsFunction: sh.completePods,
	}
	cmd.Flags().StringVar(&sh.syncNamespace, "sync-namespace", cluster.SyncDeployment, "namespace of kms-sync")
	outputFlag(cmd, &output, "text", "json", "yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		report, err := sh.examine(cmd, args[0])
		if err != nil {
			return err
		}
		if err := sh.show(report, output, report.Text); err != nil {
			return err
		}
		return verdict(report.Broken(), report.Unseen())
	}
	return cmd
}

func (sh *shell) examine(cmd *cobra.Command, target string) (doctor.Report, error) {
	client, err := sh.client()
	if err != nil {
		return doctor.Report{}, err
	}
	rest, err := sh.kube.ToRESTConfig()
	if err != nil {
		return doctor.Report{}, err
	}
	world, _, blind, err := sh.world(cmd.Context(), &manifestFlags{})
	if err != nil {
		return doctor.Report{}, err
	}
	d := doctor.Doctor{
		Client: client, Asker: injected.Asker{Kube: client.Kube, REST: rest}, Flags: sh.kube, Policy: world.Injector.Policy(), Blind: blind,
	}
	d.Decide = func(ctx context.Context, namespace string, pod []byte) (injector.Decision, error) {
		return world.Pod(ctx, namespace, pod)
	}
	source := status.Source{Kube: client.Kube, Ask: d.Asker.Ask}
	d.States = func(ctx context.Context, pods []corev1.Pod) []check.PodState {
		var states []check.PodState
		for _, p := range source.Of(ctx, pods) {
			states = append(states, check.PodState{
				Name: p.Name, State: p.State, Problem: p.Problem, Wrong: p.Wrong(), Unseen: p.State == status.Unknown,
			})
		}
		return states
	}
	return d.Examine(cmd.Context(), sh.namespace(), target, time.Now())
}
