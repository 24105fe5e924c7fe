package podconfig

import (
	"path"
	"slices"

	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// contradictions reports mistakes that need more than one annotation.
func (p *parser) contradictions() {
	if !p.has(injectKey) && !slices.Contains(p.meant, injectKey) {
		p.mistakes.Add(Prefix+injectKey, `is missing, so that the pod's other %s annotations would have no effect; `+
			`add it with the value "true", or "false" to switch the injection off`, Prefix)
	}
	if p.Inject && p.asksNothing() {
		p.mistakes.Add(Prefix+injectKey, `is "true", but no secret is asked for; add `+
			`%[1]ssecret.<file>: <name of a KMS secret>, %[1]senv.<NAME>: <name of a KMS secret>, or %[1]sapi: "true" for the local API alone`,
			Prefix)
	}
	if p.RoleARN != "" && p.RoleName != "" {
		p.mistakes.Add(Prefix+"role-name", "contradicts role-arn; keep one of the two")
	}
	if len(p.Containers) > 0 && len(p.SkipContainers) > 0 {
		p.mistakes.Add(Prefix+"skip-containers", "contradicts containers, which already says which containers get the files; keep one of the two")
	}
	if p.Mode == ModeSingle && p.has("init-position") {
		p.mistakes.Add(Prefix+"init-position", "contradicts mode: single, in which there is no init container; remove one of the two")
	}
	p.identityContradictions()
	p.refreshContradictions()
	p.apiContradictions()
	p.pathContradictions()
}

// identityContradictions are annotations of RRSA with another identity.
func (p *parser) identityContradictions() {
	if p.Identity.Kind == config.RRSA {
		return
	}
	instead := map[config.IdentityKind]string{
		config.NodeRole:  "whose role is the node's",
		config.AccessKey: "whose role, if any, is in the Secret's key " + config.AccessKeyRole,
		config.ClientKey: "which has no role",
	}[p.Identity.Kind]
	for _, key := range []string{"role-arn", "role-name"} {
		if p.has(key) {
			p.mistakes.Add(Prefix+key, "contradicts identity: %s, %s; remove one of the two", p.Identity, instead)
		}
	}
	if p.has("token-expiration") {
		p.mistakes.Add(Prefix+"token-expiration", "contradicts identity: %s, which needs no ServiceAccount token; remove one of the two",
			p.Identity)
	}
	if p.AppIdentity {
		p.mistakes.Add(Prefix+"app-identity", "contradicts identity: %s; only the identity rrsa can be given to the application's containers, "+
			"too", p.Identity)
	}
	for _, s := range p.Secrets {
		if s.RoleARN != "" && p.Identity.Kind == config.ClientKey {
			p.mistakes.Add(Prefix+"secret."+s.File, "roleArn contradicts identity: %s, which cannot assume a role; remove one of the two",
				p.Identity)
		}
	}
}

// refreshContradictions reports refresh settings in a pod that never refreshes.
func (p *parser) refreshContradictions() {
	var never, cure string
	switch {
	case p.Mode == ModeInit:
		never, cure = "mode: init, in which nothing refreshes", "use mode: sidecar"
		if p.has("refresh-interval") {
			p.mistakes.Add(Prefix+"refresh-interval", "contradicts %s; remove it, or %s", never, cure)
		}
	case p.RefreshInterval == 0:
		never, cure = "refresh-interval: 0, with which no file changes", "give an interval such as 5m"
	case p.OnChange != "" && len(p.Secrets) == 0 && !p.isWrong("secret."):
		p.mistakes.Add(Prefix+"on-change", "the pod has no file that could change; remove it, or add %ssecret.<file>", Prefix)
		return
	default:
		return
	}
	if p.OnChange != "" {
		p.mistakes.Add(Prefix+"on-change", "contradicts %s; remove it, or %s", never, cure)
	}
	for _, s := range p.Secrets {
		if s.OnChange != "" {
			p.mistakes.Add(Prefix+"secret."+s.File, "onChange contradicts %s; remove it, or %s", never, cure)
		}
	}
}

func (p *parser) apiContradictions() {
	if !p.apiOn {
		for _, key := range []string{"api-allow", "api-port", "api-socket"} {
			if p.has(key) {
				p.mistakes.Add(Prefix+key, `has no effect without the local API; remove it, or add %sapi: "true"`, Prefix)
			}
		}
		return
	}
	if p.has("api-port") && p.has("api-socket") {
		p.mistakes.Add(Prefix+"api-port", "contradicts api-socket, which takes the place of the port; keep one of the two")
	}
	for _, s := range p.Secrets {
		if len(s.Containers) > 0 {
			p.mistakes.Add(Prefix+"secret."+s.File, "containers contradicts api, by which every container with the API's token can read the "+
				"secret; remove one of the two")
		}
	}
	if p.Mode == ModeInit {
		p.mistakes.Add(Prefix+"api", "contradicts mode: init, in which no agent runs beside the application; remove it, or use mode: sidecar")
	}
}

// pathContradictions are files that would stand in each other's way.
func (p *parser) pathContradictions() {
	if len(p.Secrets) < 2 {
		return
	}
	writers := make(map[string]string, len(p.Secrets)) // files by their paths
	for _, s := range p.Secrets {
		if writer, taken := writers[s.Path]; taken {
			p.mistakes.Add(Prefix+"secret."+s.File, "writes %s, which secret.%s writes too; give one of them another path", s.Path, writer)
			continue
		}
		writers[s.Path] = s.File
	}
	for _, s := range p.Secrets {
		for folder := path.Dir(s.Path); folder != "."; folder = path.Dir(folder) {
			if writer, taken := writers[folder]; taken {
				p.mistakes.Add(Prefix+"secret."+s.File, "writes %s and secret.%s writes %s, so that one name would be a file and a folder; give one "+
					"of them another path", s.Path, writer, folder)
			}
		}
	}
}

// asksNothing reports whether no annotation asks for a secret, not even one with a mistake.
func (p *parser) asksNothing() bool {
	return len(p.Secrets) == 0 && len(p.Env) == 0 && !p.apiOn && !p.isWrong("secret.") && !p.isWrong("env.") && !p.isWrong("env") &&
		!slices.ContainsFunc(p.meant, func(key string) bool { return key == "secret." || key == "env." || key == "api" })
}

// isWrong reports whether an annotation of a row has a mistake.
func (p *parser) isWrong(row string) bool { return slices.Contains(p.wrong, row) }
