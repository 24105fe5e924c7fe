package content

import (
	"bytes"
	"fmt"
	"strings"

	"k8s.io/apimachinery/pkg/util/validation"
)

// maxName is the longest key that Kubernetes allows in a Secret, and longer ones are not rewritten.
const maxName = validation.DNS1123SubdomainMaxLength

// keyProblem says what is wrong with a key of a Secret; "" means nothing.
func keyProblem(key string) string {
	switch {
	case key == "":
		return "is empty"
	case len(key) > maxName:
		return fmt.Sprintf("has %d bytes; Kubernetes allows %d", len(key), maxName)
	case len(validation.IsConfigMapKey(key)) > 0:
		return "is not allowed by Kubernetes, which takes letters, digits and - _ . (and not . or .. alone)"
	}
	return ""
}

// replaceAll replaces a text in a value.
func replaceAll(value []byte, source, target string) ([]byte, error) {
	if len(value)+bytes.Count(value, []byte(source))*len(target) > MaxSize {
		return nil, fmt.Errorf("compat.replaceRuleValues makes a value larger than %d bytes", MaxSize)
	}
	return []byte(strings.ReplaceAll(string(value), source, target)), nil
}
