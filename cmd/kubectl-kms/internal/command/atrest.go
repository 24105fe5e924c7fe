package command

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/runtime/schema"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/atrest"
)

// atRestFlags are the flags of both commands.
type atRestFlags struct {
	resources []string
	servers   int
	qps       float32
}

func (sh *shell) atRest() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "at-rest",
		Short: "Report how Secrets are stored in etcd, and rewrite them",
		Long: "Encryption at rest has the API servers encrypt Secrets before they go to etcd. status says whether it is in force, what is\n" +
			"still plaintext, and whether an old key is still needed; migrate has all rewritten with the present key.",
		Example: `  # Is everything encrypted, with the present key?
  kubectl kms at-rest status

  # Encrypt what is not
  kubectl kms at-rest migrate`,
		Args: cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(cmd *cobra.Command, _ []string) error { return cmd.Help() }, // without which an unknown command would be no mistake
	}
	cmd.AddCommand(sh.atRestStatus(), sh.atRestMigrate())
	return cmd
}

func (sh *shell) atRestFlags(cmd *cobra.Command) *atRestFlags {
	f := &atRestFlags{}
	flags := cmd.Flags()
	flags.StringSliceVar(&f.resources, "resources", []string{"secrets"}, "resources, for example secrets,configmaps,widgets.example.com")
	flags.IntVar(&f.servers, "api-servers", 0, "how many API servers there are, if the cluster does not say it (default: as many as have "+
		"Leases, or as the Service kubernetes has endpoints)")
	flags.Float32Var(&f.qps, "qps", 300, "most requests a second to one API server")
	offer(cmd, "resources", cobra.NoFileCompletions)
	return f
}

// cluster is asked more than by other commands, and its answers take longer.
func (sh *shell) atRestCluster(f *atRestFlags) (atrest.Cluster, []schema.GroupVersionResource, error) {
	rest, err := sh.kube.ToRESTConfig()
	if err != nil {
		return atrest.Cluster{}, nil, err
	}
	if rest.Timeout == 0 {
		rest.Timeout = 4 * patience
	}
	if f.qps <= 0 {
		return atrest.Cluster{}, nil, fmt.Errorf("--qps %v: say how many requests a second are allowed, more than 0", f.qps)
	}
	rest.QPS, rest.Burst = f.qps, max(1, int(f.qps/10))
	var resources []schema.GroupVersionResource
	for _, name := range f.resources {
		resource, err := sh.resource(name)
		if err != nil {
			return atrest.Cluster{}, nil, fmt.Errorf("--resources %s: %w", name, err)
		}
		resources = append(resources, resource)
	}
	return atrest.Cluster{REST: rest, Aside: sh.aside}, resources, nil
}

// resource finds one by its name, without asking where there is but one of that name.
func (sh *shell) resource(name string) (schema.GroupVersionResource, error) {
	if slices.Contains([]string{"secrets", "configmaps"}, name) {
		return schema.GroupVersionResource{Version: "v1", Resource: name}, nil
	}
	mapper, err := sh.kube.ToRESTMapper()
	if err != nil {
		return schema.GroupVersionResource{}, err
	}
	return mapper.ResourceFor(schema.ParseGroupResource(name).WithVersion(""))
}

func (sh *shell) atRestStatus() *cobra.Command {
	var output string
	var o atrest.StatusOptions
	var probe bool
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Say which Secrets are encrypted in etcd, with which key, on each API server",
		Long: "Asks each API server that can be reached for its metrics and its health, and has one of them read each Secret from etcd: its\n" +
			"counters say then how many are plaintext, and how many are stored with which key. No value leaves the API server, since only\n" +
			"metadata is asked for. Nothing is changed, unless --probe has each API server create and delete an empty Secret.\n\n" +
			"Exit code: 0 all are stored with the key that is written with; 1 something is plaintext, or stored with another key, or not\n" +
			"healthy; 2 something could not be looked at, for example for want of rights: get /metrics, list and get secrets, list leases\n" +
			"in kube-system.",
		Example: `  # Is everything encrypted, with the present key?
  kubectl kms at-rest status

  # May the old key go? Also where no API server has written a Secret since it got the new one
  kubectl kms at-rest status --probe

  # ConfigMaps too, for a program
  kubectl kms at-rest status --resources secrets,configmaps -o json | jq .findings`,
		Annotations: map[string]string{judges: "not examined"},
		Args:        cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := sh.atRestFlags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.Count, "count", true, "read each object; without, there are only the API servers' counters since their start")
	flags.BoolVar(&probe, "probe", false, "have each API server create and delete an empty Secret, in the namespace of -n")
	outputFlag(cmd, &output, "table", "json", "yaml")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		cluster, resources, err := sh.atRestCluster(f)
		if err != nil {
			return err
		}
		o.Resources, o.Servers = resources, f.servers
		if probe {
			o.Probe = sh.namespace()
		}
		report, err := cluster.Status(cmd.Context(), o)
		if err != nil {
			return err
		}
		if err := sh.show(report, output, report.Text); err != nil {
			return err
		}
		return verdict(report.State() == atrest.Broken, report.State() == atrest.Unknown)
	}
	return cmd
}

func (sh *shell) atRestMigrate() *cobra.Command {
	var o atrest.MigrateOptions
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Rewrite all Secrets with the present key",
		Long: "Waits until all API servers write with one key, then has each Secret rewritten, by a StorageVersionMigration where the\n" +
			"cluster serves it, else by patches that change nothing: an API server writes again what is not stored as it would store it. No\n" +
			"value leaves the API server, and what is stored with the key already stays as it is. An interrupted migration goes on by the same\n" +
			"command: what was written after it began, which a file in your folder for caches says, is left out.\n\n" +
			"An API server that has written no Secret since it started or reloaded its configuration first creates and deletes an empty one in\n" +
			"the namespace of -n: its metrics show then how it stores what it writes. If that is plaintext, or if the metrics cannot be read,\n" +
			"nothing is rewritten without --allow-plaintext.\n\n" +
			"Afterwards etcd still has the old values, in revisions that are not compacted and pages that are not defragmented, and so have\n" +
			"backups.\n\n" +
			"Exit code: 0 all are stored with the key that all API servers show; 1 some could not be written, or with --allow-plaintext all\n" +
			"were and nothing shows with which key; 2 it could not be done, for example because not all API servers can be seen, or was\n" +
			"interrupted. It takes these rights: get /metrics, list and patch secrets, create and delete them in the namespace of -n, list\n" +
			"leases in kube-system.",
		Example: `  # After encryption was switched on, or a key was rotated
  kubectl kms at-rest migrate

  # What would be done?
  kubectl kms at-rest migrate --dry-run

  # Behind a load balancer with three API servers that nothing names
  kubectl kms at-rest migrate --api-servers 3

  # Where KMS v1 does not show that its key was rotated: by an annotation, as ACK's documentation does it
  kubectl kms at-rest migrate --annotate`,
		Annotations: map[string]string{judges: "not migrated"},
		Args:        cobra.NoArgs, ValidArgsFunction: cobra.NoFileCompletions,
	}
	f := sh.atRestFlags(cmd)
	flags := cmd.Flags()
	flags.BoolVar(&o.DryRun, "dry-run", false, "say what would be done")
	flags.DurationVar(&o.Wait, "wait", 15*time.Minute, "how long to wait until all API servers write with one key")
	flags.StringVar(&o.Via, "via", atrest.Auto, "auto, updates or storageversionmigration")
	flags.BoolVar(&o.Annotate, "annotate", false, "set the annotation "+atrest.Annotation+" to the present time, so that all are written")
	flags.BoolVar(&o.Again, "again", false, "write everything, also what an interrupted migration has written")
	flags.BoolVar(&o.AllowPlaintext, "allow-plaintext", false, "go on where the API servers write plaintext, to go back to it, or where "+
		"nothing shows what they write")
	ways := []string{atrest.Auto, atrest.Updates, atrest.SVM}
	offer(cmd, "via", cobra.FixedCompletions(ways, cobra.ShellCompDirectiveNoFileComp))
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if !slices.Contains(ways, o.Via) {
			return fmt.Errorf("--via %s: this command knows %q", o.Via, ways)
		}
		if o.Via == atrest.SVM && o.Annotate {
			return errors.New("--annotate changes objects, which a StorageVersionMigration does not; leave out --via")
		}
		cluster, resources, err := sh.atRestCluster(f)
		if err != nil {
			return err
		}
		o.Resources, o.Servers, o.Probe = resources, f.servers, sh.namespace()
		err = cluster.Migrate(cmd.Context(), o)
		if atrest.Failed(err) {
			fmt.Fprintln(sh.Err, "error:", err)
			return errWrong
		}
		return err
	}
	return cmd
}
