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
	yamlv3 "go.yaml.in/yaml/v3"
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
		Short: "List pods and ExternalSecrets: role, secrets, versions, freshness",
		Long: "Lists the pods of a namespace that ask for the agent: their role and secrets, the versions in their files, and when the agent\n" +
			"last fetched them; below that, what is wrong and why. Versions and times come from the agents (kms-agent status, by exec),\n" +
			"values never do. Pods in mode init show what they started with. Without the right to exec, the list shows what the pods'\n" +
			"own status says. ExternalSecrets of kms-sync are listed below the pods, where the cluster has any, unless pods are named or\n" +
			"chosen by labels.\n\n" +
			"Exit code: 0 nothing is wrong, 1 something is, 2 something could not be read.",
		Annotations: map[string]string{judges: "not looked at"},
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
		source := status.Source{Kube: client.Kube, Ask: injected.Asker{Kube: client.Kube, REST: rest}.Ask,
			Progress: sh.aside.Progress("pods asked")}
		found, now := source.Of(cmd.Context(), pods), time.Now()
		var synced []status.ExternalSecret
		blind := sh.unlisted(found, args)
		if len(args) == 0 && selector == "" {
			refused, err := source.Refused(cmd.Context(), namespace)
			if err != nil {
				fmt.Fprintf(sh.Err, "Whether pods are refused could not be seen: %v\n", err)
				blind = true
			}
			found = append(found, refused...)
			all, err := client.ExternalSecrets(cmd.Context(), namespace)
			if err != nil {
				fmt.Fprintf(sh.Err, "ExternalSecrets not looked at: %v\n", err)
				blind = true
			}
			synced = status.Synced(all, now)
		}
		if len(found) == 0 && len(synced) == 0 && len(args) == 0 {
			fmt.Fprintf(sh.Err, "No pods that ask for the agent found in %s.\n", within(namespace))
		}
		list := []any{}
		for _, p := range found {
			list = append(list, p)
		}
		for _, o := range synced {
			list = append(list, o)
		}
		table := func(s screen.Screen) {
			status.Table(s, found, everywhere, output == "wide", now)
			if len(found) > 0 && len(synced) > 0 {
				s.Printf("\n")
			}
			status.SyncedTable(s, synced, everywhere, now)
		}
		if err := sh.show(list, output, table); err != nil {
			return err
		}
		wrong, unseen := status.Verdict(found)
		return verdict(wrong || slices.ContainsFunc(synced, status.ExternalSecret.Wrong), unseen || blind)
	}
	return cmd
}

func within(namespace string) string {
	if namespace == metav1.NamespaceAll {
		return "any namespace"
	}
	return "namespace " + namespace
}

// podsOf returns the pods of these names, or all that a selector matches, which may be many: they come in pages.
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

// unlisted says of what was asked for and has no agent, on the side, so that programs read a list all the same, and whether there was any.
func (sh *shell) unlisted(found []status.Pod, names []string) (any bool) {
	for _, name := range names {
		if !slices.ContainsFunc(found, func(p status.Pod) bool { return p.Name == name }) {
			fmt.Fprintf(sh.Err, "Pod %s/%s does not ask for the agent, and has none.\n", sh.namespace(), name)
			any = true
		}
	}
	return any
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
		if written, err = unmovingYAML(written); err != nil {
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

// unmovingYAML is YAML in which no string moves a terminal: those that would are in double quotes, where YAML has the escapes of JSON.
func unmovingYAML(text []byte) ([]byte, error) {
	if bytes.Equal(unmoving(string(text)), text) {
		return text, nil
	}
	var tree yamlv3.Node
	if err := yamlv3.Unmarshal(text, &tree); err != nil {
		return nil, err
	}
	var quote func(n *yamlv3.Node)
	quote = func(n *yamlv3.Node) {
		if n.Kind == yamlv3.ScalarNode && string(unmoving(n.Value)) != n.Value {
			n.Style = yamlv3.DoubleQuotedStyle
		}
		for _, child := range n.Content {
			quote(child)
		}
	}
	quote(&tree)
	var out bytes.Buffer
	enc := yamlv3.NewEncoder(&out)
	enc.SetIndent(2)
	enc.CompactSeqIndent()
	if err := errors.Join(enc.Encode(&tree), enc.Close()); err != nil {
		return nil, err
	}
	return unmoving(out.String()), nil
}
