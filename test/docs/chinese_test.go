package docs

import (
	"maps"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// A translation is a page in Chinese, and the English one that it names in its first link.
type translation struct{ english, chinese Page }

// shorter are the Chinese pages that leave out some of what the English ones say. All others say all of it, in the same order.
var shorter = []string{"docs/zh/annotations.md", "docs/zh/kubectl-kms.md", "docs/zh/security.md"}

func (p translation) whole() bool { return !slices.Contains(shorter, p.chinese.File) }

var counterpart = regexp.MustCompile(`(?m)^\[English\]\(([^)]+)\)$`)

// translations are all Chinese pages.
func translations(t *testing.T) []translation {
	t.Helper()
	var found []translation
	for _, p := range pages(t) {
		if !chinese(p.File) {
			continue
		}
		english := counterpart.FindStringSubmatch(p.Text)
		if english == nil {
			t.Errorf("%s does not say which page it is in English", p.File)
			continue
		}
		found = append(found, translation{english: named(t, filepath.Join(filepath.Dir(p.File), english[1])), chinese: p})
	}
	return found
}

func chinese(file string) bool {
	return file == "README.zh-CN.md" || strings.HasPrefix(file, "docs/zh/")
}

func named(t *testing.T, file string) Page {
	t.Helper()
	all := pages(t)
	i := slices.IndexFunc(all, func(p Page) bool { return p.File == file })
	if i < 0 {
		t.Fatalf("there is no %s", file)
	}
	return all[i]
}

// TestReadmes holds the two READMEs to the length that a user reads, and to the same demo.
func TestReadmes(t *testing.T) {
	const lines = 200
	if shown := named(t, "README.md").Section("demo"); shown == "" || shown != named(t, "README.zh-CN.md").Section("demo") {
		t.Error("the READMEs do not show the same of the demo")
	}
	for _, file := range []string{"README.md", "README.zh-CN.md"} {
		if n := strings.Count(named(t, file).Text, "\n"); n > lines {
			t.Errorf("%s has %d lines; %d are enough", file, n, lines)
		}
	}
}

// comment is a remark in a block, which is translated.
var comment = regexp.MustCompile(`(?m) +# .*$`)

// typed returns what is to be typed of a page, or is printed.
func typed(p Page) []string {
	var blocks []string
	for _, b := range p.Blocks {
		if b.Language != "mermaid" { // a picture's words are translated
			blocks = append(blocks, b.Language+"\n"+comment.ReplaceAllString(b.Text, ""))
		}
	}
	return blocks
}

// TestBothLanguagesType holds the blocks of the two languages to each other: commands, manifests, policies, what is printed.
func TestBothLanguagesType(t *testing.T) {
	for _, p := range translations(t) {
		english, chinese := typed(p.english), typed(p.chinese)
		if p.whole() && len(english) != len(chinese) {
			t.Errorf("%s has %d blocks, %s %d", p.english.File, len(english), p.chinese.File, len(chinese))
			continue
		}
		for i, b := range chinese {
			if p.whole() && b != english[i] || !slices.Contains(english, b) {
				t.Errorf("%s shows what %s does not, or not there:\n%s", p.chinese.File, p.english.File, b)
			}
		}
	}
}

// TestBothLanguagesSay holds the two languages to each other: annotations, fields, codes, commands and numbers are the same in each
// section and in each row of a table.
func TestBothLanguagesSay(t *testing.T) {
	for _, p := range translations(t) {
		english, chinese := sections(p.english), sections(p.chinese)
		if !p.whole() {
			english, chinese = []section{{lines: lines(p.english.Prose())}}, []section{{lines: lines(p.chinese.Prose())}}
		}
		if len(english) != len(chinese) {
			t.Errorf("%s has %d sections, %s %d", p.english.File, len(english), p.chinese.File, len(chinese))
			continue
		}
		for i := range chinese {
			at := p.chinese.File + ": " + chinese[i].heading
			compare(t, at, strings.Join(english[i].lines, "\n"), strings.Join(chinese[i].lines, "\n"), p.whole())
			compareRows(t, at, rows(english[i]), rows(chinese[i]), p.whole())
		}
	}
}

type section struct {
	heading string
	lines   []string
}

func lines(text string) []string { return strings.Split(text, "\n") }

// sections divides the prose of a page by its headings.
func sections(p Page) []section {
	all := []section{{}}
	for _, line := range lines(p.Prose()) {
		if strings.HasPrefix(line, "#") {
			all = append(all, section{heading: line})
		}
		last := &all[len(all)-1]
		last.lines = append(last.lines, line)
	}
	return all
}

func rows(s section) []string {
	return slices.DeleteFunc(slices.Clone(s.lines), func(line string) bool { return !strings.HasPrefix(line, "| ") })
}

// compareRows compares tables: those of a whole page row by row, those of a shorter one by the code that a row begins with.
func compareRows(t *testing.T, at string, english, chinese []string, whole bool) {
	t.Helper()
	if whole {
		if len(english) != len(chinese) {
			t.Errorf("%s: %d rows, in English %d", at, len(chinese), len(english))
			return
		}
		for i := range chinese {
			compare(t, at+": "+chinese[i], english[i], chinese[i], true)
		}
		return
	}
	for _, row := range chinese {
		key, _, _ := strings.Cut(row, " | ")
		if codeSpan.FindString(key) != strings.TrimPrefix(key, "| ") {
			continue
		}
		i := slices.IndexFunc(english, func(row string) bool { return strings.HasPrefix(row, key+" | ") })
		if i < 0 {
			t.Errorf("%s: in English there is no row %s", at, key)
			continue
		}
		compare(t, at+": "+row, english[i], row, true)
	}
}

var (
	codeSpan    = regexp.MustCompile("`[^`]+`")
	placeholder = regexp.MustCompile(`<[^<>]*>`)
	target      = regexp.MustCompile(`\]\([^)]*\)|<!--.*?-->`)
	number      = regexp.MustCompile(`\d+(?:[.,]\d+)*`)
	numeral     = regexp.MustCompile(`[一二两三四五六七八九十百]+`)
	word        = regexp.MustCompile(`[a-z]+`)
)

// compare reports what one language says and the other does not; if the Chinese may be shorter, only what it adds.
func compare(t *testing.T, at, english, chinese string, whole bool) {
	t.Helper()
	englishCode, chineseCode := codes(english), codes(chinese)
	for code := range chineseCode {
		if !englishCode[code] {
			t.Errorf("%s: in English there is no %s", at, code)
		}
	}
	englishNumbers, chineseNumbers := numbers(english), numbers(chinese)
	spelled := maps.Clone(chineseNumbers)
	for _, text := range numeral.FindAllString(plain(chinese), -1) {
		spelled[inChinese[text]] = true
	}
	written := maps.Clone(englishNumbers)
	for _, text := range word.FindAllString(strings.ToLower(plain(english)), -1) {
		if n := inEnglish[text]; n != "" {
			written[n] = true
		}
	}
	for n := range chineseNumbers {
		if !written[n] {
			t.Errorf("%s: in English there is no number %s", at, n)
		}
	}
	if !whole {
		return
	}
	for code := range englishCode {
		if !chineseCode[code] {
			t.Errorf("%s: lacks %s", at, code)
		}
	}
	for n := range englishNumbers {
		if !spelled[n] {
			t.Errorf("%s: lacks the number %s", at, n)
		}
	}
}

// codes returns what is in code font, with any placeholder for the reader's own names, in whatever language.
func codes(text string) map[string]bool {
	found := map[string]bool{}
	for _, code := range codeSpan.FindAllString(text, -1) {
		found[strings.Join(strings.Fields(placeholder.ReplaceAllString(code, "<>")), " ")] = true
	}
	return found
}

// plain returns text without code and targets of links.
func plain(text string) string {
	return target.ReplaceAllString(codeSpan.ReplaceAllString(text, ""), "]")
}

func numbers(text string) map[string]bool {
	found := map[string]bool{}
	for _, n := range number.FindAllString(plain(text), -1) {
		found[strings.ReplaceAll(n, ",", "")] = true
	}
	return found
}

var (
	inEnglish = map[string]string{
		"one": "1", "once": "1", "first": "1", "two": "2", "twice": "2", "second": "2", "three": "3", "third": "3", "four": "4", "five": "5",
		"six": "6", "seven": "7", "eight": "8", "nine": "9", "ten": "10", "fifteen": "15", "twenty": "20", "sixty": "60", "hundred": "100",
	}
	inChinese = map[string]string{
		"一": "1", "二": "2", "两": "2", "三": "3", "四": "4", "五": "5", "六": "6", "七": "7", "八": "8", "九": "9", "十": "10", "十五": "15",
		"二十": "20", "六十": "60", "一百": "100",
	}
)

var labelled = regexp.MustCompile(`\[([^\]]*)\]\(([^)]+)\)`)

// TestChineseLinks: a Chinese page leads to Chinese pages, and says which of its links lead to English ones.
func TestChineseLinks(t *testing.T) {
	inChinese := map[string]string{}
	for _, p := range translations(t) {
		inChinese[p.english.File] = p.chinese.File
	}
	if len(inChinese) < 11 {
		t.Errorf("found %d Chinese pages", len(inChinese))
	}
	for _, p := range translations(t) {
		for _, line := range lines(p.chinese.Prose()) {
			for _, m := range labelled.FindAllStringSubmatch(line, -1) {
				path, _, _ := strings.Cut(m[2], "#")
				file := filepath.Join(filepath.Dir(p.chinese.File), path)
				switch {
				case !strings.HasSuffix(path, ".md"), strings.Contains(path, "://"), chinese(file), m[1] == "English", strings.Contains(m[1], "英文"):
				case inChinese[file] != "":
					t.Errorf("%s: %s is there in Chinese: %s", p.chinese.File, m[2], inChinese[file])
				case !strings.Contains(line, "英文"):
					t.Errorf("%s: the link %s leads to an English page; say so", p.chinese.File, m[2])
				}
			}
		}
		if back := "[中文](" + relative(t, p.english.File, p.chinese.File) + ")"; !strings.Contains(p.english.Text, back) {
			t.Errorf("%s lacks the link %s", p.english.File, back)
		}
	}
}

func relative(t *testing.T, from, to string) string {
	t.Helper()
	path, err := filepath.Rel(filepath.Dir(from), to)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// TestChineseTables holds the Chinese tables of annotations and of the plugin's commands to the English ones: each row is there.
func TestChineseTables(t *testing.T) {
	annotations, _, _ := strings.Cut(named(t, "docs/annotations.md").Text, "\n## ")
	for _, c := range []struct{ page, table, prefix string }{
		{"docs/zh/annotations.md", annotations, "`"},
		{"docs/zh/kubectl-kms.md", named(t, "docs/kubectl-kms.md").Text, "`kubectl kms "},
	} {
		chinese, rows := named(t, c.page).Text, 0
		for row := range strings.Lines(c.table) {
			key, _, _ := strings.Cut(strings.TrimPrefix(row, "| "), " |")
			if !strings.HasPrefix(row, "| "+c.prefix) {
				continue
			}
			rows++
			if !strings.Contains(chinese, "\n| "+key+" |") {
				t.Errorf("%s lacks the row %s", c.page, key)
			}
		}
		if rows < 9 {
			t.Errorf("found %d rows for %s", rows, c.page)
		}
	}
}
