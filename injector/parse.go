package injector

import (
	"fmt"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/config/podconfig"
)

// maxExpressions is how many bytes of JMESPath, besides plain names, the annotations of a pod may have: the parser takes up to two
// hundred times as much memory.
const maxExpressions = 16 << 10

// Parse returns what a pod's annotations ask for, or all that is wrong with them. JMESPath expressions and templates are parsed as the
// agent will parse them.
func Parse(annotations map[string]string) (podconfig.Spec, config.Mistakes) {
	spec, mistakes := podconfig.Parse(annotations)
	check := func(annotation, field string, err error) {
		if err != nil {
			mistakes.Add(podconfig.Prefix+annotation, "%s%s", field, err)
		}
	}
	var p expressions
	for _, s := range spec.Secrets {
		for _, key := range s.Keys {
			check("secret."+s.File, "keys: "+key.Name+": ", p.key(key.Path))
		}
		if s.Template != "" {
			check("secret."+s.File, "", p.template(s.Template))
		}
	}
	for _, v := range spec.Env {
		field := ""
		if v.Annotation == "env" {
			field = v.Name + ": "
		}
		if v.Key != "" {
			check(v.Annotation, field, p.key(v.Key))
		}
	}
	if len(mistakes) > 0 {
		return podconfig.Spec{}, mistakes
	}
	return spec, nil
}

// expressions counts the bytes that are expensive to parse.
type expressions struct{ keys, actions int }

func (p *expressions) key(expression string) error {
	if !config.Identifier(expression) {
		p.keys += len(expression)
	}
	if p.keys > maxExpressions {
		return fmt.Errorf("the pod's JMESPath expressions have more than %d bytes together", maxExpressions)
	}
	if err := render.CheckKey(expression); err != nil {
		return fmt.Errorf("%q is not a JMESPath expression: %w", expression, err)
	}
	return nil
}

func (p *expressions) template(text string) error {
	n, err := render.Actions(text)
	if err != nil {
		return err
	}
	if p.actions += n; p.actions > render.MaxActions {
		return fmt.Errorf("the pod's templates have %d bytes between {{ and }}; at most %d are allowed", p.actions, render.MaxActions)
	}
	return render.CheckTemplate(text)
}
