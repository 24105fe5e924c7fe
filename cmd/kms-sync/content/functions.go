package content

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"text/template"

	"github.com/Masterminds/sprig/v3"

	"github.com/kms-agent-injector/kms-agent-injector/agent/render"
	"github.com/kms-agent-injector/kms-agent-injector/cmd/kms-sync/pattern"
	"github.com/kms-agent-injector/kms-agent-injector/config"
)

// refusals say why functions that ack-secret-manager has are not here; a name that ends in * is a beginning.
var refusals = []struct{ names, reason string }{
	{"env expandenv", "the controller's environment is not the tenants'; write the value into the spec or into KMS"},
	{"getHostByName", "the result would be the network's; write the host's name"},
	{"now date date_in_zone date_modify dateInZone dateModify htmlDate htmlDateInZone ago must_date_modify mustDateModify mustToDate toDate " +
		"unixEpoch", "a Secret is made of secrets and not of the time, which would change it at each refresh"},
	{"encryptAES", "it makes another text of the same value at each refresh, and what watches the Secret would restart; " +
		"store its result in KMS"},
	{"rand* shuffle uuidv4 gen*", "it makes another value at each refresh; make the value once and store it in KMS"},
	{"derivePassword", "a call takes 32 MB of memory; store its result in KMS"},
	{"buildCustomCert", "it is for the functions that make certificates, which are not available either"},
	{"call", "there is nothing to call"},
}

// refusal returns why a function is not available; nil if it is.
func refusal(name string) error {
	for _, r := range refusals {
		for refused := range strings.FieldsSeq(r.names) {
			if prefix, cut := strings.CutSuffix(refused, "*"); name == refused || cut && strings.HasPrefix(name, prefix) {
				return fmt.Errorf("function %s is not available: %s", name, r.reason)
			}
		}
	}
	return nil
}

// unknown returns the error for a function that is in no library.
func unknown(name string) error {
	err := fmt.Sprintf("function %s is not known", excerpt(name))
	if near := config.Nearest(name, slices.Sorted(maps.Keys(newEngine(Compat{}).functions))); near != "" {
		err += "; did you mean " + near + "?"
	}
	return errors.New(err)
}

// table returns the functions: Sprig's but those that refusals names, and ack-secret-manager's own. Each counts its work.
func (e *engine) table() template.FuncMap {
	table := sprig.TxtFuncMap() // refused ones too, for which the parser's words would be that they are not known
	maps.Copy(table, template.FuncMap{
		"bcrypt": e.bcrypt, "htpasswd": e.htpasswd,
		"jsonPath": e.jsonPath, "mergeJson": e.mergeJSON, "parseKeyValue": parseKeyValue, "toLines": toLines,
		"fromJson": fromJSON, "mustFromJson": fromJSON, // numbers as they are written
		"keys": keys, "values": values, // sorted
		"fail": func(string) (string, error) { return "", problem("the template says so") }, // its text may have a value in it
		// Those of text/template that make texts.
		"print": fmt.Sprint, "printf": fmt.Sprintf, "println": fmt.Sprintln,
		"html": template.HTMLEscaper, "js": template.JSEscaper, "urlquery": template.URLQueryEscaper,
		printCall: e.print, itemsCall: ranged, weighCall: same,
	})
	for name, function := range table {
		table[name] = e.counted(name, function)
	}
	table[tickCall] = func(nodes int) (string, error) { return "", e.spend(stepsOfNode * nodes) }
	return table
}

// stepsOfNode is the work of evaluating a node: a microsecond, in which a function handles so many bytes.
const stepsOfNode = 32

func same(v any) any { return v }

// ranged is put after what is ranged over. The library's own error would have the value in it.
func ranged(v any) (any, error) {
	switch reflect.ValueOf(v).Kind() {
	case reflect.String:
		return nil, problem("range needs a list, an object or a number, and this is a text; toLines and splitList make lists of texts")
	case reflect.Bool, reflect.Float64:
		return nil, problem("range needs a list, an object or a number of times")
	}
	return v, nil
}

// print is put after each action that prints.
func (e *engine) print(v any) (string, error) {
	switch f := v.(type) {
	case nil:
		if !e.compat.MissingTemplateKeys {
			return "", problem("it is null, or does not exist; what may be absent: {{ … | default \"…\" }}")
		}
		return "<no value>", nil
	case float64:
		if !e.compat.FloatForm && math.Abs(f) < 1e21 {
			return strconv.FormatFloat(f, 'f', -1, 64), nil
		}
	}
	return fmt.Sprint(v), nil
}

var errorType = reflect.TypeFor[error]()

// counted returns a function of the same parameters that spends work for its arguments before, and for its result after, and whose errors
// have no values in them.
func (e *engine) counted(name string, function any) any {
	f := reflect.ValueOf(function)
	t := f.Type()
	in := make([]reflect.Type, 0, t.NumIn())
	for p := range t.Ins() {
		in = append(in, p)
	}
	outer := reflect.FuncOf(in, []reflect.Type{t.Out(0), errorType}, t.IsVariadic())
	return reflect.MakeFunc(outer, func(arguments []reflect.Value) (results []reflect.Value) {
		failed := func(p problem) []reflect.Value {
			return []reflect.Value{reflect.Zero(t.Out(0)), reflect.ValueOf(&p).Elem().Convert(errorType)}
		}
		defer func() {
			if recover() != nil {
				results = failed("it cannot be applied to these values")
			}
		}()
		if p := e.afford(name, flat(arguments, t.IsVariadic())); p != "" {
			return failed(p)
		}
		if t.IsVariadic() {
			results = f.CallSlice(arguments)
		} else {
			results = f.Call(arguments)
		}
		if len(results) == 2 && !results[1].IsNil() {
			var ours problem
			if err, _ := results[1].Interface().(error); errors.As(err, &ours) {
				return failed(ours)
			}
			return failed("it cannot be applied to these values")
		}
		if p := e.weigh(results[0], 1); p != "" {
			return failed(p)
		}
		return []reflect.Value{results[0], reflect.Zero(errorType)}
	}).Interface()
}

// flat returns all arguments, those of a variadic parameter one by one.
func flat(arguments []reflect.Value, variadic bool) []reflect.Value {
	if !variadic {
		return arguments
	}
	last := arguments[len(arguments)-1]
	all := slices.Clone(arguments[:len(arguments)-1])
	for i := range last.Len() {
		all = append(all, last.Index(i))
	}
	return all
}

// weigh spends work for what a value has in it: bytes of texts, and items.
func (e *engine) weigh(v reflect.Value, factor int) problem {
	const deepest = 100
	left := (maxWork - e.work) / factor
	n, deep := weight(v, left, deepest)
	switch {
	case deep:
		return problem(fmt.Sprintf("a value is nested deeper than %d levels, or contains itself", deepest))
	case n > left || e.spend(n*factor) != nil:
		return tooMuch
	}
	return ""
}

// weight counts up to a limit.
func weight(v reflect.Value, limit, depth int) (n int, deep bool) {
	const each = 8
	if depth == 0 {
		return 0, true
	}
	n = each
	part := func(item reflect.Value) bool {
		m, tooDeep := weight(item, limit-n, depth-1)
		n += m
		deep = deep || tooDeep
		return !deep && n <= limit
	}
	switch v.Kind() {
	case reflect.String:
		return n + v.Len(), false
	case reflect.Interface, reflect.Pointer:
		if !v.IsNil() {
			part(v.Elem())
		}
	case reflect.Slice, reflect.Array:
		for i := range v.Len() {
			if !part(v.Index(i)) {
				break
			}
		}
	case reflect.Map:
		for iterator := v.MapRange(); iterator.Next(); {
			if !part(iterator.Key()) || !part(iterator.Value()) {
				break
			}
		}
	}
	return n, deep
}

// factors are of functions that take more than a step for each byte of their arguments, most because they make a list or a copy of
// many small parts.
var factors = map[string]int{
	"split": 32, "splitList": 16, "splitn": 16, "toLines": 16, "parseKeyValue": 32, "fromJson": 32, "mustFromJson": 32, "jsonPath": 32,
	"mergeJson": 64, "toPrettyJson": 64, "mustToPrettyJson": 64, "deepCopy": 32, "mustDeepCopy": 32, "merge": 32, "mustMerge": 32,
	"mergeOverwrite": 32, "mustMergeOverwrite": 32, "toStrings": 4, "chunk": 4, "mustChunk": 4, "regexFindAll": 16, "mustRegexFindAll": 16,
	"regexSplit": 16, "mustRegexSplit": 16, "decryptAES": 4, "html": 6, "js": 6, "urlquery": 4, "urlParse": 8,
	"regexQuoteMeta": 2, "sortAlpha": 16, "camelcase": 4, "snakecase": 8, "kebabcase": 8, "wrap": 4, "semver": 64, "semverCompare": 64,
}

// afford spends the work of a call.
func (e *engine) afford(name string, arguments []reflect.Value) problem {
	factor := max(factors[name], 1)
	for _, argument := range arguments {
		if p := e.weigh(argument, factor); p != "" {
			return p
		}
	}
	made, p := result(name, arguments)
	if p == "" && e.spend(int(min(made, maxWork+1))) != nil {
		p = tooMuch
	}
	return p
}

// result bounds what a function makes, for those that make more than their arguments are long.
func result(name string, arguments []reflect.Value) (float64, problem) {
	a := make([]float64, len(arguments)) // numbers, or the lengths of texts
	for i, argument := range arguments {
		a[i] = measure(argument)
	}
	switch {
	case len(a) == 0:
	case name == "repeat" && len(a) == 2:
		return max(a[0], 0) * a[1], ""
	case name == "until":
		return 16 * math.Abs(a[0]), ""
	case name == "untilStep" && len(a) == 3:
		return 16 * math.Abs(a[1]-a[0]) / max(math.Abs(a[2]), 1), ""
	case name == "seq":
		return 20 * span(a), ""
	case (name == "indent" || name == "nindent") && len(a) == 2:
		return max(a[0], 0) * float64(1+strings.Count(arguments[1].String(), "\n")), ""
	case name == "replace" && len(a) == 3:
		return float64(strings.Count(arguments[2].String(), arguments[0].String())) * a[1], ""
	case name == "wrapWith" && len(a) == 3:
		return a[2] * (1 + a[1]), ""
	case name == "join" && len(a) == 2:
		return a[0] * items(arguments[1]), ""
	case strings.HasPrefix(name, "regex") || strings.HasPrefix(name, "mustRegex"):
		return search(name, arguments, a)
	case name == "printf":
		return format(arguments)
	case name == "bcrypt" || name == "htpasswd":
		return workOfHash, ""
	case name == "uniq" || name == "mustUniq":
		n := items(arguments[0])
		return 4 * n * n, ""
	case slices.Contains([]string{"addf", "subf", "mulf", "divf"}, name):
		return 256 * float64(len(a)*len(a)), "" // digits of a decimal, which each argument makes longer
	case name == "without" || name == "mustWithout":
		return items(arguments[0]) * float64(len(a)), ""
	}
	return 0, ""
}

// search bounds what a regular expression does to a text.
func search(name string, arguments []reflect.Value, a []float64) (float64, problem) {
	if len(arguments) < 2 || strings.HasSuffix(name, "QuoteMeta") {
		return 0, ""
	}
	n, err := pattern.Instructions(arguments[0].String())
	if err != nil {
		return 0, problem(err.Error())
	}
	text := a[1]
	work := float64(8*n) + float64(n)*text/4
	if strings.Contains(name, "ReplaceAll") && len(a) == 3 {
		work += 2 * (text + 1) * a[2]
	}
	return work, ""
}

// format bounds what printf makes: a verb writes an argument, and as many spaces as its number says.
func format(arguments []reflect.Value) (float64, problem) {
	text := arguments[0].String()
	if strings.ContainsRune(text, '*') && strings.ContainsRune(text, '%') {
		return 0, "printf: a width or precision by * is not available; write the number"
	}
	largest, numbers := 0.0, 0.0
	for _, argument := range arguments[1:] {
		n, _ := weight(argument, maxWork, maxDepthOfFormat)
		largest = max(largest, float64(n))
	}
	for digits := range strings.FieldsFuncSeq(text, func(r rune) bool { return r < '0' || r > '9' }) {
		n, err := strconv.Atoi(digits)
		if err != nil {
			n = maxWork
		}
		numbers += float64(n)
	}
	return numbers + float64(strings.Count(text, "%"))*largest, ""
}

const maxDepthOfFormat = 100

func span(a []float64) float64 {
	switch len(a) {
	case 1:
		return math.Abs(a[0])
	case 2:
		return math.Abs(a[1] - a[0])
	case 3:
		return math.Abs(a[2]-a[0]) / max(math.Abs(a[1]), 1)
	}
	return 0
}

// measure returns a number, or the length of a text.
func measure(v reflect.Value) float64 {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	switch {
	case v.Kind() == reflect.String:
		return float64(v.Len())
	case v.CanInt():
		return float64(v.Int())
	case v.CanFloat():
		return v.Float()
	}
	return 0
}

func items(v reflect.Value) float64 {
	for v.Kind() == reflect.Interface {
		v = v.Elem()
	}
	if v.Kind() == reflect.Slice || v.Kind() == reflect.Array {
		return float64(v.Len())
	}
	return 1
}

// fromJSON reads JSON, with a number that a float64 would change as its text.
func fromJSON(text string) (any, error) {
	doc, err := render.Decode([]byte(text))
	if err != nil {
		return nil, problem("the value is not JSON")
	}
	steps := float64(render.StepsOfFile)
	found, _ := render.Search(doc, []string{"@"}, &steps)
	return found[0], nil
}

// jsonPath returns the field of a JSON text that a.b.0 names: a text as it is, an object or a list as JSON.
func (e *engine) jsonPath(text, path string) (string, error) {
	value, err := render.Decode([]byte(text))
	if err != nil {
		return e.or("", "jsonPath: the value is not JSON")
	}
	for part := range strings.SplitSeq(strings.TrimPrefix(path, "."), ".") {
		var next any
		ok := part == ""
		switch in := value.(type) {
		case map[string]any:
			next, ok = in[part]
		case []any:
			if i, err := strconv.Atoi(part); err == nil && i >= 0 && i < len(in) {
				next, ok = in[i], true
			}
		}
		if !ok {
			return e.or("", problem(fmt.Sprintf("jsonPath: %s of %s does not exist; there it has %s", excerpt(part), excerpt(path),
				render.Names(value))))
		}
		value = next
	}
	if value == nil {
		return e.or("", problem(fmt.Sprintf("jsonPath: %s is null", excerpt(path))))
	}
	written, err := write(value, false)
	return string(written), err
}

// or returns an error, or what ack-secret-manager's functions return in place of one.
func (e *engine) or(text string, p problem) (string, error) {
	if e.compat.MissingTemplateKeys {
		return text, nil
	}
	return "", p
}

// mergeJSON returns a JSON object with the fields of two; those of the second precede, and objects that both have are merged.
func (e *engine) mergeJSON(base, over string) (string, error) {
	var objects [2]map[string]any
	for i, text := range []string{base, over} {
		doc, err := render.Decode([]byte(text))
		object, ok := doc.(map[string]any)
		if err != nil || !ok {
			return e.or(base, problem(fmt.Sprintf("mergeJson: argument %d is not a JSON object", i+1)))
		}
		objects[i] = object
	}
	merge(objects[0], objects[1])
	merged, err := json.Marshal(objects[0])
	return string(merged), err
}

func merge(base, over map[string]any) {
	for key, value := range over {
		to, ok := base[key].(map[string]any)
		from, both := value.(map[string]any)
		if ok && both {
			merge(to, from)
		} else {
			base[key] = value
		}
	}
}

// parseKeyValue reads lines of key=value; blank lines and those that begin with # are passed over.
func parseKeyValue(text string) map[string]any {
	object := map[string]any{}
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if key, value, ok := strings.Cut(line, "="); ok && !strings.HasPrefix(line, "#") {
			object[strings.TrimSpace(key)] = strings.TrimSpace(value)
		}
	}
	return object
}

// toLines returns the lines of a text without their ends.
func toLines(text string) []string {
	lines := strings.Split(strings.ReplaceAll(text, "\r\n", "\n"), "\n")
	if lines[len(lines)-1] == "" {
		lines = lines[:len(lines)-1]
	}
	return lines
}

// keys and values are Sprig's, in order.
func keys(objects ...map[string]any) []string {
	all := []string{}
	for _, object := range objects {
		all = append(all, slices.Sorted(maps.Keys(object))...)
	}
	return all
}

func values(object map[string]any) []any {
	all := []any{}
	for _, key := range slices.Sorted(maps.Keys(object)) {
		all = append(all, object[key])
	}
	return all
}
