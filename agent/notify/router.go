package notify

import "context"

// A Router knows which target hears of which files.
type Router struct {
	Notifier *Notifier
	Pod      Target            // hears of all files that have no target of their own; zero: nobody does
	Files    map[string]Target // by path
}

// Tell tells each target, once, of its files of a change. It returns at once.
func (r Router) Tell(ctx context.Context, change Change) {
	parts := map[Target]*Change{}
	for _, f := range change.Files {
		to, own := r.Files[f.Path]
		if !own {
			to = r.Pod
		}
		if to == (Target{}) {
			continue
		}
		if parts[to] == nil {
			parts[to] = &Change{At: change.At}
		}
		parts[to].Files = append(parts[to].Files, f)
	}
	for to, part := range parts {
		r.Notifier.Notify(ctx, to, *part)
	}
}
