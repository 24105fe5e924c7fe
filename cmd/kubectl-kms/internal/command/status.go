package command

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/status"
)

func (sh *shell) status() *cobra.Command {
	var everywhere bool
	var selector, output string
	cmd := &cobra.Command{
		Use:   "status [POD...]",
		Short: "List injected pods: role, secrets, versions, freshness",
		Long: "Lists the injected pods of a namespace, as whom they read which secrets, in which version, and when they were last fetched.\n" +
			"Versions and times come from the agents (kms-agent status, by exec); they say no value. Pods in mode init say what they started with.",
		Example: `  # The pods of the current namespace
  kubectl kms status

  # One pod, with everything
  kubectl kms status web-58c5759d8d-vcpdf -o wide

  # All that are stale
  kubectl kms status -A -o json | jq '.[] | select(.state == "stale")'`,
		ValidArgsFunction: sh.completePods,
	}
	flags := cmd.Flags()
	flags.BoolVarP(&everywhere, "all-namespaces", "A", false, "pods of all namespaces")
	flags.StringVarP(&selector, "selector", "l", "", "labels that the pods have")
	flags.StringVarP(&output, "output", "o", "table", "table, wide, json or yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf(output, "table", "wide", "json", "yaml"); err != nil {
			return err
		}
		client, err := sh.client()
		if err != nil {
			return err
		}
		namespace := sh.namespace()
		if everywhere {
			namespace = metav1.NamespaceAll
		}
		var pods []corev1.Pod
		for _, name := range args {
			pod, err := client.Kube.CoreV1().Pods(sh.namespace()).Get(cmd.Context(), name, metav1.GetOptions{})
			if err != nil {
				return err
			}
			pods = append(pods, *pod)
		}
		if len(args) == 0 {
			list, err := client.Kube.CoreV1().Pods(namespace).List(cmd.Context(), metav1.ListOptions{LabelSelector: selector})
			if err != nil {
				return err
			}
			pods = list.Items
		}
		rest, err := sh.kube.ToRESTConfig()
		if err != nil {
			return err
		}
		now := time.Now()
		found := status.Of(cmd.Context(), injected.Asker{Kube: client.Kube, REST: rest}, pods, now)
		if output == "table" || output == "wide" {
			status.Table(sh.screen(), found, everywhere, output == "wide", now)
			return nil
		}
		return sh.encode(found, output)
	}
	return cmd
}

// encode writes for programs.
func (sh *shell) encode(value any, output string) error {
	text, err := json.MarshalIndent(value, "", "  ")
	if err == nil && output == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return err
	}
	if text[len(text)-1] != '\n' {
		text = append(text, '\n')
	}
	_, err = fmt.Fprint(sh.Out, string(text))
	return err
}

// completePods offers the names of the namespace's pods.
func (sh *shell) completePods(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	client, err := sh.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	list, err := client.Kube.CoreV1().Pods(sh.namespace()).List(cmd.Context(), metav1.ListOptions{})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, pod := range list.Items {
		names = append(names, pod.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
