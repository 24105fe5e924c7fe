package injector

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// An operation is an RFC 6902 add: the only one there is here.
type operation struct {
	Op    string `json:"op"`
	Path  string `json:"path"`
	Value any    `json:"value"`
}

// A builder collects additions. Paths count elements as they are when the patch is applied in order, so that insertions into
// an array of containers must follow everything that addresses a container in it.
type builder struct {
	operations []operation
	created    map[string]int // pointer of an array that the pod does not have -> the operation that adds it
}

// set adds a member to an object that the pod has.
func (b *builder) set(object, key string, value any) {
	b.add(object+"/"+strings.ReplaceAll(strings.ReplaceAll(key, "~", "~0"), "/", "~1"), value)
}

// grow appends values to the array at pointer, which has length elements, or nil for one that the pod lacks (or has as null).
func grow[T, V any](b *builder, pointer string, existing []T, values ...V) {
	if existing != nil {
		for _, v := range values {
			b.add(pointer+"/-", v)
		}
		return
	}
	for _, v := range values {
		b.create(pointer, v)
	}
}

// insert puts values into the array at pointer, the first of them at index.
func insert[T, V any](b *builder, pointer string, existing []T, index int, values ...V) {
	if existing == nil {
		grow(b, pointer, existing, values...)
		return
	}
	for i, v := range values {
		b.add(pointer+"/"+strconv.Itoa(index+i), v)
	}
}

func (b *builder) create(pointer string, value any) {
	if i, found := b.created[pointer]; found {
		b.operations[i].Value = append(b.operations[i].Value.([]any), value)
		return
	}
	if b.created == nil {
		b.created = map[string]int{}
	}
	b.created[pointer] = len(b.operations)
	b.add(pointer, []any{value})
}

func (b *builder) add(path string, value any) {
	b.operations = append(b.operations, operation{"add", path, value})
}

// patch is the operations as JSON, nil for none.
func (b *builder) patch() ([]byte, error) {
	if len(b.operations) == 0 {
		return nil, nil
	}
	patch, err := json.Marshal(b.operations)
	if err != nil {
		return nil, fmt.Errorf("encode the patch: %w", err)
	}
	return patch, nil
}
