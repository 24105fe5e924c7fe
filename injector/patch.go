package injector

import (
	"slices"
	"strconv"
	"strings"

	"github.com/kms-agent-injector/kms-agent-injector/config"
	"github.com/kms-agent-injector/kms-agent-injector/injector/rawjson"
)

// A builder appends RFC 6902 add operations: the only ones there are here. Paths count elements as they are when the patch is
// applied in order, so that insertions into an array of containers must follow everything that addresses a container in it.
type builder struct {
	patch   []byte   // "[" and the operations
	created []string // pointers of arrays that the pod does not have and an operation adds
	open    bool     // the last operation is the one that adds the last of them
}

// empty reports whether there is no operation.
func (b *builder) empty() bool { return len(b.patch) == 0 }

// injectedPointer is where config.InjectedAnnotation is, in an object that the pod has: without annotations it asks for nothing.
var injectedPointer = "/metadata/annotations/" + strings.NewReplacer("~", "~0", "/", "~1").Replace(config.InjectedAnnotation)

// grow appends values to the array at pointer, which is nil if the pod lacks it (or has it as null).
func grow[T any, V value](b *builder, pointer string, existing []T, values ...V) {
	for _, v := range values {
		switch {
		case existing != nil:
			add(b, pointer+"/-", v)
		case b.open && b.created[len(b.created)-1] == pointer:
			b.patch = append(b.patch[:len(b.patch)-len("]}")], ',')
			b.patch = append(appendValue(b.patch, v), "]}"...)
		case slices.Contains(b.created, pointer):
			add(b, pointer+"/-", v)
		default:
			b.begin(pointer)
			b.patch = append(appendValue(append(b.patch, '['), v), "]}"...)
			b.created, b.open = append(b.created, pointer), true
		}
	}
}

// insert puts values into the array at pointer, the first of them at index.
func insert[T any, V value](b *builder, pointer string, existing []T, index int, values ...V) {
	if existing == nil {
		grow(b, pointer, existing, values...)
		return
	}
	for i, v := range values {
		add(b, pointer+"/"+strconv.Itoa(index+i), v)
	}
}

func add[V value](b *builder, path string, v V) {
	b.begin(path)
	b.patch = append(appendValue(b.patch, v), '}')
	b.open = false
}

// begin appends an operation up to its value.
func (b *builder) begin(path string) {
	separator := byte(',')
	if b.empty() {
		separator = '['
	}
	b.patch = append(append(b.patch, separator), `{"op":"add","path":`...)
	b.patch = append(rawjson.AppendString(b.patch, path), `,"value":`...)
}

// json is the patch, nil for none.
func (b *builder) json() []byte {
	if b.empty() {
		return nil
	}
	return append(b.patch, ']')
}
