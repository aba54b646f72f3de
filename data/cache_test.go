package data

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

func cacheFiles(t *testing.T, o Options, pattern string) []string {
	t.Helper()
	found, err := filepath.Glob(filepath.Join(o.CacheDir, pattern))
	if err != nil {
		t.Fatal(err)
	}
	return found
}

func TestCacheIsReused(t *testing.T) {
	calls := 0
	o := settings(t, write(t, "a.jsonl", `{"text": "one"}`+"\n"+`{"text": "two"}`+"\n"), func(o *Options) {
		o.Progress = func(done, total int64) {
			if calls++; done > total || total != 32 {
				t.Errorf("progress %d of %d", done, total)
			}
		}
	})
	_ = open(t, o).Close()
	if calls == 0 {
		t.Fatal("no progress was told")
	}
	calls = 0
	_ = open(t, o).Close()
	if calls != 0 {
		t.Error("the file was read again")
	}
	// other content of the same length, other tokenizer: read again
	if err := os.WriteFile(o.Path, []byte(`{"text": "one"}`+"\n"+`{"text": "too"}`+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	_ = open(t, o).Close()
	if calls == 0 {
		t.Error("changed content was not noticed")
	}
	calls, o.Tokenizer = 0, byteTokenizer{bos: true}
	_ = open(t, o).Close()
	if calls == 0 {
		t.Error("a changed tokenizer was not noticed")
	}
	if left := slices.Concat(cacheFiles(t, o, "*.tmp"), cacheFiles(t, o, ".*")); len(left) > 0 {
		t.Errorf("temporary files left: %v", left)
	}
}

func TestDamagedCacheIsRebuilt(t *testing.T) {
	rows := ""
	for i := range 40 {
		rows += fmt.Sprintf("{\"text\": \"row %d\"}\n", i)
	}
	for _, pattern := range []string{"tokens-*", "rows-*"} {
		for name, damage := range map[string]func(content []byte) []byte{
			"flipped": func(c []byte) []byte { c[len(c)/3] ^= 4; return c },
			"header":  func(c []byte) []byte { c[len(c)-20] ^= 1; return c },
			"cut":     func(c []byte) []byte { return c[:len(c)/2] },
			"empty":   func([]byte) []byte { return nil },
			"longer":  func(c []byte) []byte { return append(c, 0) },
		} {
			t.Run(pattern+name, func(t *testing.T) {
				o := settings(t, write(t, "a.jsonl", rows), func(o *Options) { o.Packing, o.ValidationFraction = true, 0.2 })
				c := open(t, o)
				want := mustBatch(t, c.Train(), 3, 4).Hash()
				if err := c.Close(); err != nil {
					t.Fatal(err)
				}
				for _, path := range cacheFiles(t, o, pattern) {
					content, err := os.ReadFile(path)
					if err != nil {
						t.Fatal(err)
					}
					if err := os.WriteFile(path, damage(content), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				again := open(t, o)
				if got := mustBatch(t, again.Train(), 3, 4).Hash(); got != want {
					t.Error("the rebuilt cache gives another batch")
				}
				if notes := again.Notes(); pattern == "tokens-*" && (len(notes) != 1 || !strings.Contains(notes[0], "was damaged and is rebuilt")) {
					t.Errorf("notes %q", notes)
				}
			})
		}
	}
}

func TestSplitIsDisjointAndStable(t *testing.T) {
	rows := ""
	for i := range 400 {
		rows += fmt.Sprintf("{\"text\": \"row %03d\"}\n{\"text\": \"row %03d\"}\n", i, i) // every row twice
	}
	texts := func(s *Split) map[string]int {
		seen := map[string]int{}
		for b := range s.Windows(16) {
			for r := range b.Rows {
				if text := textOf(b, b.Targets, r); strings.Contains(text, "$") {
					seen[text]++
				}
			}
		}
		return seen
	}
	o := settings(t, write(t, "a.jsonl", rows), func(o *Options) { o.ValidationFraction = 0.25 })
	c := open(t, o)
	train, held := texts(c.Train()), texts(c.Validation())
	for text, n := range held {
		if train[text] > 0 || n != 2 {
			t.Fatalf("%q is %d times in the validation and %d times in the training data", text, n, train[text])
		}
	}
	// 400 draws of 0.25: mean 100, standard deviation 8.7
	if len(train)+len(held) != 400 || len(held) < 60 || len(held) > 140 {
		t.Errorf("%d training and %d validation texts of 400, want about 300 and 100", len(train), len(held))
	}
	// rows added elsewhere move no row to the other side
	more := open(t, settings(t, write(t, "b.jsonl", `{"text": "new one"}`+"\n"+rows), func(o *Options) { o.ValidationFraction = 0.25 }))
	for text := range texts(more.Validation()) {
		if train[text] > 0 {
			t.Errorf("%q moved to the validation data", text)
		}
	}
	other := open(t, settings(t, o.Path, func(o *Options) { o.ValidationFraction, o.Seed = 0.25, 1 }))
	if same := texts(other.Validation()); fmt.Sprint(same) == fmt.Sprint(held) {
		t.Error("another seed holds out the same rows")
	}
}

func TestValidationIsNeverEmpty(t *testing.T) {
	for name, rows := range map[string]string{"different": "{\"text\": \"abc\"}\n{\"text\": \"def\"}\n{\"text\": \"ghi\"}\n", "equal": strings.Repeat("{\"text\": \"abc\"}\n", 3)} {
		for _, fraction := range []float64{1e-9, 0.5, 0.999999999} {
			for seed := range int64(8) {
				c := open(t, settings(t, write(t, "a.jsonl", rows), func(o *Options) { o.ValidationFraction, o.Seed = fraction, seed }))
				if a, b := c.Train().Rows(), c.Validation().Rows(); a == 0 || b == 0 || a+b != 3 {
					t.Fatalf("%s rows, fraction %v, seed %d: %d training and %d validation rows", name, fraction, seed, a, b)
				}
			}
		}
	}
}

func TestValidationPath(t *testing.T) {
	c := open(t, settings(t, write(t, "a.jsonl", `{"text": "abc"}`), func(o *Options) {
		o.ValidationPath, o.ValidationFraction = write(t, "v.jsonl", `{"text": "xyz"}`), 0.1
	}))
	for b := range c.Validation().Windows(1) {
		if got := textOf(b, b.Tokens, 0); got != "xyz_____" {
			t.Errorf("validation row %q", got)
		}
	}
	if c.Train().Rows() != 1 {
		t.Error("the training row is gone")
	}
}

func TestFoldersGlobsAndLists(t *testing.T) {
	dir := t.TempDir()
	for name, content := range map[string]string{"b.jsonl": `{"text": "bb"}`, "a.jsonl": `{"text": "aa"}`, "c.json": `{"text": "cc"}`, "notes.csv": "1,2", ".hidden.jsonl": "{}"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	in := func(name string) string { return filepath.Join(dir, name) }
	for path, want := range map[string]int64{dir: 3, in("*.jsonl"): 2, in("a.jsonl") + "," + in("c.json"): 2, in("a.jsonl") + "," + in("*.jsonl"): 2} {
		c := open(t, settings(t, path, nil))
		if got := c.Train().Stats().Source; got != want {
			t.Errorf("%s: %d rows, want %d", path, got, want)
		}
		if path == dir && (len(c.Warnings()) != 1 || !strings.Contains(c.Warnings()[0], "ignored .hidden.jsonl, notes.csv")) {
			t.Errorf("warnings %q", c.Warnings())
		}
	}
}

func TestTwoFormsInARow(t *testing.T) {
	row := `{"text": "abc", "prompt": "p", "completion": "c"}` + "\n"
	c := open(t, settings(t, write(t, "a.jsonl", row+row), nil))
	if w := c.Warnings(); len(w) != 1 || !strings.Contains(w[0], "a.jsonl:1: prompt and completion is used, text is not") {
		t.Errorf("warnings %q", w)
	}
}

func TestPreview(t *testing.T) {
	for name, packing := range map[string]bool{"packed": true, "padded": false} {
		t.Run(name, func(t *testing.T) {
			row := `{"prompt": "say b", "completion": "b"}` + "\n"
			c := open(t, settings(t, write(t, "a.jsonl", row+row), func(o *Options) { o.Packing, o.Length = packing, 20 }))
			p, err := c.Train().Preview()
			if err != nil {
				t.Fatal(err)
			}
			if want := "[{say b false} {b<end> true}]"; fmt.Sprint(p.Segments) != want || !strings.Contains(p.Where, "a.jsonl:") {
				t.Errorf("preview %+v, want %s", p, want)
			}
		})
	}
	text := open(t, settings(t, write(t, "a.txt", "abcdefgh"), nil))
	if p, err := text.Train().Preview(); err != nil || fmt.Sprint(p.Segments) != "[{abcdefgh<end> true}]" {
		t.Errorf("preview of text %+v, %v", p, err)
	}
}

// TestTextPiecesAreJoined compares text read in tiny pieces with the whole, for text with and without good places to cut.
func TestTextPiecesAreJoined(t *testing.T) {
	for _, text := range []string{strings.Repeat("a line\n", 50), strings.Repeat("x", 300), strings.Repeat("äöü€😀", 40), strings.Repeat("\n", 99), strings.Repeat("two  spaces ", 30)} {
		var joined strings.Builder
		line := int64(1)
		err := textPieces(strings.NewReader(text), 32, func(piece string, at int64) error {
			if want := line + int64(strings.Count(joined.String(), "\n")); at != want {
				t.Errorf("piece %q begins in line %d, want %d", piece, at, want)
			}
			joined.WriteString(piece)
			return nil
		})
		if err != nil || joined.String() != text {
			t.Errorf("pieces of %.20q differ from the whole: %v", text, err)
		}
	}
}
