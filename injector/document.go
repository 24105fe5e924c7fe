package injector

import (
	"bytes"
	"fmt"
	"slices"
	"time"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// appendDocument appends the text of config.AgentEnv, as encoding/json would write it, to which tests hold it: encoding/json takes
// a large part of the time that a plan takes.
func appendDocument(b []byte, doc config.Agent) []byte {
	start := len(b)
	b = append(b, '{')
	b = appendString(b, "namespace", doc.Namespace)
	b = appendString(b, "serviceAccount", doc.ServiceAccount)
	if doc.Identity.Kind != "" {
		b = append(rawjson.AppendName(b, "identity"), '{')
		b = append(appendText(b, "kind", doc.Identity.Kind), '}')
	}
	b = appendBool(b, "sessionPolicy", doc.SessionPolicy)
	if doc.SessionDuration != 0 {
		b = appendString(b, "sessionDuration", time.Duration(doc.SessionDuration).String())
	}
	b = appendEndpoint(rawjson.AppendName(b, "kms"), doc.KMS)
	if doc.STS != (config.Endpoint{}) {
		b = appendEndpoint(rawjson.AppendName(b, "sts"), doc.STS)
	}
	b = appendText(b, "secretsDir", doc.SecretsDir)
	b = appendList(b, "viewDirs", doc.ViewDirs, rawjson.AppendString)
	b = appendText(b, "stateDir", doc.StateDir)
	b = appendString(b, "refreshInterval", time.Duration(doc.RefreshInterval).String())
	b = appendText(b, "onChange", doc.OnChange)
	if doc.API != nil {
		b = appendAPI(rawjson.AppendName(b, "api"), doc.API)
	}
	b = appendInt(b, "metricsPort", int64(doc.MetricsPort))
	b = appendText(b, "logLevel", doc.LogLevel)
	b = appendText(b, "logFormat", doc.LogFormat)
	b = append(appendItems(append(rawjson.AppendName(b, "files"), '['), doc.Files, appendFile), ']')
	b = appendList(b, "env", doc.Env, appendSecretVariable)
	if doc.EnvMode != 0 {
		b = appendMode(b, "envMode", doc.EnvMode)
	}
	b = append(appendText(b, "program", doc.Program), '}')
	// The kubelet expands $(NAME) in environment variables and turns $$ into $. A dollar can only stand inside a JSON string, where
	// its escape means the same and is left alone.
	if bytes.IndexByte(b[start:], '$') >= 0 {
		b = slices.Concat(b[:start], bytes.ReplaceAll(b[start:], []byte("$"), []byte(`\u0024`)))
	}
	return b
}

// maxDocument is how long the document may be. Linux starts no program with a longer environment variable (MAX_ARG_STRLEN), name
// and closing zero included; the pod would fail with "argument list too long", which tells nobody anything.
const maxDocument = 128<<10 - len(config.AgentEnv+"=\x00")

// tooLong blames the file that takes most of the document.
func (in *Injector) tooLong(spec *config.Spec, document []byte) config.Mistakes {
	if len(document) <= maxDocument {
		return nil
	}
	where, most := config.Prefix+"inject", 0
	var room []byte
	for _, s := range spec.Secrets {
		room = appendFile(room[:0], file(s, 0, nil))
		if n := len(room); n > most {
			where, most = config.Prefix+"secret."+s.File, n
		}
	}
	problem := fmt.Sprintf("all that the annotations tell the agent, and this most of all with %d bytes, is %d bytes long, and at most %d fit into an environment variable; shorten the template, or spread the files over several pods",
		most, len(document), maxDocument)
	if ca := len(in.policy.KMS.CABundle) + len(in.policy.STS.CABundle); ca > maxDocument/4 {
		problem += fmt.Sprintf("; %d bytes are the operator's caFile, which the operator can shorten", ca)
	}
	return config.Mistakes{{Where: where, Problem: problem}}
}

func appendEndpoint(b []byte, e config.Endpoint) []byte {
	b = appendText(append(b, '{'), "host", e.Host)
	return append(appendText(b, "caBundle", e.CABundle), '}')
}

func appendAPI(b []byte, api *config.LocalAPI) []byte {
	b = appendInt(append(b, '{'), "port", int64(api.Port))
	b = appendText(b, "socket", api.Socket)
	b = appendList(b, "allow", api.Allow, rawjson.AppendString)
	return append(appendString(b, "tokenFile", api.TokenFile), '}')
}

func appendFile(b []byte, f config.File) []byte {
	b = appendString(append(b, '{'), "path", f.Path)
	b = appendMode(b, "mode", f.Mode)
	b = appendText(b, "secret", f.Secret)
	b = appendList(b, "from", f.From, func(b []byte, s config.Source) []byte {
		b = appendString(append(b, '{'), "name", s.Name)
		return append(appendString(b, "secret", s.Secret), '}')
	})
	b = appendText(b, "versionId", f.VersionID)
	b = appendText(b, "versionStage", f.VersionStage)
	b = appendString(b, "format", f.Format)
	b = appendList(b, "keys", f.Keys, func(b []byte, k config.Key) []byte {
		b = appendString(append(b, '{'), "name", k.Name)
		return append(appendString(b, "path", k.Path), '}')
	})
	b = appendText(b, "template", f.Template)
	b = appendText(b, "roleArn", f.RoleARN)
	b = appendText(b, "onChange", f.OnChange)
	b = appendBool(b, "optional", f.Optional)
	return append(appendList(b, "dirs", f.Dirs, rawjson.AppendString), '}')
}

func appendSecretVariable(b []byte, v config.Variable) []byte {
	b = appendString(append(b, '{'), "name", v.Name)
	b = appendString(b, "secret", v.Secret)
	return append(appendText(b, "key", v.Key), '}')
}

func appendMode(b []byte, name string, mode config.FileMode) []byte {
	return append(rawjson.AppendName(b, name), '"', '0', '0'+byte(mode>>6&7), '0'+byte(mode>>3&7), '0'+byte(mode&7), '"')
}

// appendString appends the member also if it is empty.
func appendString[S ~string](b []byte, name string, s S) []byte {
	return rawjson.AppendString(rawjson.AppendName(b, name), s)
}
