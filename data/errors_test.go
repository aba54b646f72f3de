package data

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestMalformedInput(t *testing.T) {
	good := `{"text": "a good row"}` + "\n"
	for name, test := range map[string]struct{ file, content, want string }{
		"syntax":             {"a.jsonl", good + `{"text": "x",}` + "\n", "a.jsonl:2: column 14: malformed JSON"},
		"cut off":            {"a.jsonl", good + `{"text": "x`, "a.jsonl:2: column 11: malformed JSON: unexpected end of JSON input"},
		"leading space":      {"a.jsonl", `  {"text" "x"}`, "a.jsonl:1: column 11: malformed JSON"},
		"two objects":        {"a.jsonl", `{"text": "x"} {"text": "y"}`, "a.jsonl:1: column 15: malformed JSON"},
		"array file":         {"a.json", "[\n{\"text\": \"x\"}\n]", "a.json:1: the file is a JSON array; write one object a line"},
		"a number":           {"a.jsonl", good + "12", "a.jsonl:2: the line is a number"},
		"null":               {"a.jsonl", good + "null", "a.jsonl:2: the line is null"},
		"other keys":         {"a.jsonl", good + `{"instruction": "x", "body": "y"}`, "a.jsonl:2: found keys body, instruction; want text, or prompt and completion, or messages"},
		"no keys":            {"a.jsonl", good + `{}`, "a.jsonl:2: found no keys"},
		"half a pair":        {"a.jsonl", `{"prompt": "x", "completion": null}`, "a.jsonl:1: found keys completion (null), prompt; want"},
		"wrong type":         {"a.jsonl", `{"text": 12}`, "a.jsonl:1: text is a number, want a string"},
		"wrong type of pair": {"a.jsonl", `{"prompt": "x", "completion": ["y"]}`, "a.jsonl:1: completion is an array, want a string"},
		"messages a string":  {"a.jsonl", `{"messages": "x"}`, "a.jsonl:1: messages is a string, want an array"},
		"message a string":   {"a.jsonl", `{"messages": ["x"]}`, "a.jsonl:1: messages[0] is a string, want {"},
		"no content":         {"a.jsonl", `{"messages": [{"role": "user"}]}`, "a.jsonl:1: messages[0].content is missing, want a string"},
		"content null":       {"a.jsonl", `{"messages": [{"role": "user", "content": null}]}`, "a.jsonl:1: messages[0].content is null"},
		"no template":        {"a.jsonl", `{"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}`, "a.jsonl:1: the row has messages, but the model brings no chat template (chat_template.jinja"},
		"not UTF-8":          {"a.jsonl", good + "{\"text\": \"caf\xe9\"}", "a.jsonl:2: column 14: byte 0xe9 is not UTF-8"},
		"text not UTF-8":     {"a.txt", "first\nsecond caf\xe9 and on", "a.txt:2: byte 0xe9 is not UTF-8"},
		"UTF-16":             {"a.txt", "\xff\xfea\x00b\x00", "UTF-16"},
		"empty":              {"a.jsonl", "", "a.jsonl is empty"},
		"blank":              {"a.jsonl", "\n \n", "a.jsonl: no rows; want text"},
		"only a mark":        {"a.txt", "\xef\xbb\xbf", "a.txt: the text is empty"},
		"short text":         {"a.txt", "abc", "the training text has 4 tokens; one row of length 8 needs 9"},
		"not parquet":        {"a.parquet", "PAR1 but no more", "a.parquet: not a readable parquet file"},
		"binary":             {"a.bin", "\x00\x01\x02", "a.bin is neither text in UTF-8 nor parquet"},
		"gzip":               {"a.jsonl.gz", "\x1f\x8b\x08", "a.jsonl.gz is compressed"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(context.Background(), settings(t, write(t, test.file, test.content), nil))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %q, want %q", err, test.want)
			}
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("error of several lines: %q", err)
			}
		})
	}
}

func TestWrongOptions(t *testing.T) {
	path := write(t, "a.txt", strings.Repeat("text ", 30))
	rows := write(t, "a.jsonl", `{"text": "abc"}`)
	for name, test := range map[string]struct {
		change func(*Options)
		want   string
	}{
		"missing file":      {func(o *Options) { o.Path += "x" }, "does not exist"},
		"no match":          {func(o *Options) { o.Path += "*.csv" }, "no file matches"},
		"bad pattern":       {func(o *Options) { o.Path = "[" }, "pattern"},
		"no path":           {func(o *Options) { o.Path = "" }, "no path"},
		"no tokenizer":      {func(o *Options) { o.Tokenizer = nil }, "no tokenizer"},
		"length 0":          {func(o *Options) { o.Length = 0 }, "length 0"},
		"huge length":       {func(o *Options) { o.Length = 1 << 40 }, "more than"},
		"fraction 1":        {func(o *Options) { o.ValidationFraction = 1 }, "not in [0, 1)"},
		"sampling":          {func(o *Options) { o.Sampling = "random" }, "unknown; known: epochs, windows"},
		"windows of rows":   {func(o *Options) { o.Path, o.Sampling = rows, SamplingWindows }, "needs plain text"},
		"one row to split":  {func(o *Options) { o.Path, o.ValidationFraction = rows, 0.1 }, "1 row cannot be split"},
		"small validation":  {func(o *Options) { o.ValidationFraction = 0.01 }, "the validation part (0.01 of 151 tokens) has 2 tokens; one row of length 8 needs 9"},
		"mixed validation":  {func(o *Options) { o.ValidationPath = rows }, "must both be plain text or both rows"},
		"mixed files":       {func(o *Options) { o.Path += "," + rows }, "plain text cannot be mixed with rows"},
		"hub offline":       {func(o *Options) { o.Path = "hf://datasets/a/b" }, "--offline forbids"},
		"hub name":          {func(o *Options) { o.Path = "hf://models/a" }, "is not a data set"},
		"cache not allowed": {func(o *Options) { o.CacheDir = filepath.Join(path, "sub") }, "cache folder"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := Open(context.Background(), settings(t, path, test.change))
			if err == nil || !strings.Contains(err.Error(), test.want) {
				t.Fatalf("error %v, want %q", err, test.want)
			}
		})
	}
}

func TestFolderWithoutData(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a.csv"), []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(context.Background(), settings(t, dir, nil)); err == nil || !strings.Contains(err.Error(), "holds no .txt") {
		t.Errorf("error %v", err)
	}
}

func TestLineLimit(t *testing.T) {
	defer func(old int) { maxLineBytes = old }(maxLineBytes)
	maxLineBytes = 2 << 20
	long := `{"text": "` + strings.Repeat("x", 3<<20) + `"}`
	_, err := Open(context.Background(), settings(t, write(t, "a.jsonl", `{"text": "abc"}`+"\n"+long+"\n"), nil))
	if err == nil || !strings.Contains(err.Error(), "a.jsonl:2: the line is longer than 2 MB") {
		t.Errorf("error %v", err)
	}
	maxLineBytes = 4 << 20
	open(t, settings(t, write(t, "a.jsonl", long), nil))
}

// TestUnknownCharacter names the line that a character vocabulary cannot express.
func TestUnknownCharacter(t *testing.T) {
	path := write(t, "a.txt", "abc\nabc\nabd\n")
	vocabulary, err := CharTokenizer(context.Background(), write(t, "b.txt", "abc\n"))
	if err != nil {
		t.Fatal(err)
	}
	_, err = Open(context.Background(), settings(t, path, func(o *Options) { o.Tokenizer = vocabulary }))
	if err == nil || !strings.Contains(err.Error(), "a.txt:3: ") || !strings.Contains(err.Error(), "'d'") {
		t.Errorf("error %v", err)
	}
}

func FuzzParseRow(f *testing.F) {
	for _, seed := range []string{`{"text": "x"}`, `{"prompt": "a", "completion": "b"}`, `{"messages": [{"role": "user", "content": "x"}]}`,
		`{"conversations": [{"from": "human", "value": "x"}]}`, `{"text": nul`, `[]`, `null`, "{\"\xff\": 1}", `{"text": "\ud800"}`} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, line []byte) {
		r, err := parseRow(line)
		if err != nil {
			if err.Error() == "" || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %q", err)
			}
			return
		}
		if r.form == 0 {
			t.Error("a row without a form")
		}
	})
}

func FuzzContainer(f *testing.F) {
	dir := f.TempDir()
	path := filepath.Join(dir, "c")
	if err := writeContainer(path, func(w *containerWriter) (any, error) { _, err := w.Write([]byte("sections")); return &rowMeta{}, err }); err != nil {
		f.Fatal(err)
	}
	good, err := os.ReadFile(path)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add(good[:len(good)-1])
	f.Add([]byte(nil))
	f.Fuzz(func(t *testing.T, content []byte) {
		path := filepath.Join(t.TempDir(), "c")
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
		file, _, err := openContainer(context.Background(), path, &rowMeta{})
		if err == nil {
			_ = file.Close()
		} else if !errors.Is(err, errCorrupt) {
			t.Errorf("error %v, want errCorrupt", err)
		}
	})
}
