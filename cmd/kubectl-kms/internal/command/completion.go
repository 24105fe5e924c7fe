package command

import (
	"context"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes"
)

// completePods offers the names of the namespace's pods.
func (sh *shell) completePods(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return sh.names(cmd, func(ctx context.Context, kube kubernetes.Interface) (runtime.Object, error) {
		return kube.CoreV1().Pods(sh.namespace()).List(ctx, metav1.ListOptions{})
	})
}

// completeNamespaces offers the names of the cluster's namespaces.
func (sh *shell) completeNamespaces(cmd *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	return sh.names(cmd, func(ctx context.Context, kube kubernetes.Interface) (runtime.Object, error) {
		return kube.CoreV1().Namespaces().List(ctx, metav1.ListOptions{})
	})
}

// names completes names of the cluster's objects. If the cluster does not answer, there are none: names of files would be wrong.
func (sh *shell) names(cmd *cobra.Command, list func(context.Context, kubernetes.Interface) (runtime.Object, error)) (names []string,
	_ cobra.ShellCompDirective) {
	client, err := sh.client()
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	objects, err := list(cmd.Context(), client.Kube)
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	err = meta.EachListItem(objects, func(object runtime.Object) error {
		item, err := meta.Accessor(object)
		if err == nil {
			names = append(names, item.GetName())
		}
		return err
	})
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}

// offer has a shell offer values of a flag.
func offer(cmd *cobra.Command, flag string, values cobra.CompletionFunc) {
	_ = cmd.RegisterFlagCompletionFunc(flag, values) // fails only if the command has no such flag
}
