package command

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/pager"
	"sigs.k8s.io/yaml"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/cluster"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/injected"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/screen"
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
	outputFlag(cmd, &output, "table", "wide", "json", "yaml")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := oneOf(output, "table", "wide", "json", "yaml"); err != nil {
			return err
		}
		if len(args) > 0 && (everywhere || selector != "") {
			return errors.New("name pods, or choose them with -A and -l, not both")
		}
		client, err := sh.client()
		if err != nil {
			return err
		}
		namespace := sh.namespace()
		if everywhere {
			namespace = metav1.NamespaceAll
		}
		pods, err := podsOf(cmd.Context(), client, namespace, selector, args)
		if err != nil {
			return err
		}
		rest, err := sh.kube.ToRESTConfig()
		if err != nil {
			return err
		}
		now := time.Now()
		found := status.Of(cmd.Context(), injected.Asker{Kube: client.Kube, REST: rest}, pods, now)
		sh.unlisted(found, namespace, args)
		if output == "table" || output == "wide" {
			status.Table(sh.screen(), found, everywhere, output == "wide", now)
			return nil
		}
		return sh.encode(found, output)
	}
	return cmd
}

// podsOf are the pods of these names, or all that a selector matches, which may be many: they come in pages.
func podsOf(ctx context.Context, client cluster.Client, namespace, selector string, names []string) ([]corev1.Pod, error) {
	var pods []corev1.Pod
	ask := client.Kube.CoreV1().Pods(namespace)
	for _, name := range names {
		pod, err := ask.Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return nil, err
		}
		pods = append(pods, *pod)
	}
	if len(names) > 0 {
		return pods, nil
	}
	page := func(ctx context.Context, options metav1.ListOptions) (runtime.Object, error) {
		return ask.List(ctx, options)
	}
	err := pager.New(page).EachListItem(ctx, metav1.ListOptions{LabelSelector: selector}, func(o runtime.Object) error {
		if pod, ok := o.(*corev1.Pod); ok {
			pods = append(pods, *pod)
		}
		return nil
	})
	return pods, err
}

// unlisted says of what was asked for and is not there, on the side, so that programs read a list all the same.
func (sh *shell) unlisted(found []status.Pod, namespace string, names []string) {
	for _, name := range names {
		if !slices.ContainsFunc(found, func(p status.Pod) bool { return p.Name == name }) {
			fmt.Fprintf(sh.Err, "Pod %s/%s is not injected; kubectl kms doctor -n %[1]s %[2]s says why.\n", namespace, name)
		}
	}
	switch {
	case len(names) > 0 || len(found) > 0:
	case namespace == metav1.NamespaceAll:
		fmt.Fprintln(sh.Err, "No injected pods found in any namespace.")
	default:
		fmt.Fprintf(sh.Err, "No injected pods found in namespace %s.\n", namespace)
	}
}

// encode writes for programs.
func (sh *shell) encode(value any, output string) error {
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetIndent("", "  ")
	enc.SetEscapeHTML(false)
	if err := enc.Encode(value); err != nil {
		return err
	}
	written := unmoving(text.String())
	if output == "yaml" {
		var err error
		if written, err = yaml.JSONToYAML(written); err != nil {
			return err
		}
	}
	_, err := sh.Out.Write(written)
	return err
}

// unmoving is JSON in which no string moves a terminal: all that encoding/json leaves as it is.
func unmoving(text string) []byte {
	var out []byte
	for _, r := range text {
		if r == '\u007f' || r > '\u007f' && screen.Escape(string(r)) != screen.Text(string(r)) {
			out = fmt.Appendf(out, `\u%04x`, r)
		} else {
			out = utf8.AppendRune(out, r)
		}
	}
	return out
}
