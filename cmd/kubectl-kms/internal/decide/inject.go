package decide

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/kms-agent-injector/kms-agent-injector/cmd/kubectl-kms/internal/manifest"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// Inject writes the documents to out with what the webhook would add to their pods, and warnings to notes. If a pod would be
// refused, nothing is written and the error says why, for all that would be.
func Inject(ctx context.Context, world World, documents []*manifest.Document, namespace string, out, notes io.Writer) error {
	world = world.With(documents, namespace)
	var refused error
	told := map[string]bool{}
	for _, d := range documents {
		for _, o := range d.Objects() {
			pod, ok := o.Pod()
			if !ok {
				for _, stray := range o.Strays(podconfig.Prefix) {
					fmt.Fprintf(notes, "Warning: %s: %s: %s: %s\n", d.File, o, stray.Path, unseen(o.Kind))
				}
				continue
			}
			in := namespaceOf(o, namespace)
			v, err := world.Pod(ctx, in, pod.JSON, pod.Claims...)
			if err != nil {
				return err
			}
			if err := v.Refused(); err != nil {
				refused = errors.Join(refused, fmt.Errorf("%s: %s: %w", d.File, o, err))
				continue
			}
			if !v.Asked {
				continue
			}
			if warning := world.optedIn(ctx, in); warning != "" && !told[warning] {
				told[warning] = true
				fmt.Fprintln(notes, "Warning:", warning)
			}
			for _, warning := range v.Warnings {
				fmt.Fprintf(notes, "Warning: %s: %s: %s\n", d.File, o, warning)
			}
			if v.Patch == nil {
				continue
			}
			if err := pod.Add(v.Patch); err != nil {
				return err
			}
		}
	}
	if refused != nil {
		return refused
	}
	for _, d := range documents {
		lost, err := d.Save()
		if err != nil {
			return err
		}
		if lost != "" {
			fmt.Fprintf(notes, "Warning: %s, document at line %d: is reformatted: %s\n", d.File, d.Line, lost)
		}
	}
	var text bytes.Buffer
	if err := manifest.Write(&text, documents); err != nil {
		return err
	}
	_, err := out.Write(text.Bytes())
	return err
}
