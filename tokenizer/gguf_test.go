package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gomlx/go-huggingface/models/gguf"
)

// metaOf turns a golden tokenizer.json into GGUF metadata, as llama.cpp's converter would.
func metaOf(t *testing.T, style, pre string) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(goldens, style, "tokenizer.json"))
	if err != nil {
		t.Fatal(err)
	}
	var f struct {
		Added []addedToken `json:"added_tokens"`
		Model struct {
			Vocab  map[string]int `json:"vocab"`
			Merges [][2]string    `json:"merges"`
		} `json:"model"`
	}
	if err := json.Unmarshal(raw, &f); err != nil {
		t.Fatal(err)
	}
	tokens, kinds := make([]string, len(f.Model.Vocab)), make([]int32, len(f.Model.Vocab))
	for token, id := range f.Model.Vocab {
		tokens[id], kinds[id] = token, 1
	}
	for _, a := range f.Added {
		kinds[a.ID] = ggufControl
	}
	var merges []string
	for _, m := range f.Model.Merges {
		merges = append(merges, m[0]+" "+m[1])
	}
	return map[string]any{"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": pre, "tokenizer.ggml.tokens": tokens,
		"tokenizer.ggml.token_type": kinds, "tokenizer.ggml.merges": merges, "tokenizer.chat_template": "{{ bos_token }}"}
}

func lookup(m map[string]any) func(string) (any, bool) {
	return func(key string) (any, bool) { v, ok := m[key]; return v, ok }
}

// TestGGUFGolden: the metadata form of a golden tokenizer encodes as the golden one.
func TestGGUFGolden(t *testing.T) {
	for style, pre := range map[string]string{"gpt2": "gpt-2", "smollm2": "smollm", "qwen2": "qwen2", "llama3": "llama-bpe"} {
		tok, err := FromGGUF(lookup(metaOf(t, style, pre)))
		if err != nil {
			t.Errorf("%s: %v", style, err)
			continue
		}
		_, g := readGolden(t, style)
		for _, c := range g.Cases {
			if got, err := tok.Encode(c.Text, false); err != nil || !slices.Equal(got, c.IDs) {
				t.Errorf("%s: Encode(%q) = %v, %v, want %v", style, c.Text, got, err, c.IDs)
			}
			if got := tok.Decode(c.IDs); got != c.Decoded {
				t.Errorf("%s: Decode(%v) = %q, want %q", style, c.IDs, got, c.Decoded)
			}
		}
		if src, err := TemplateFromFiles(tok.Files()); err != nil || src != "{{ bos_token }}" {
			t.Errorf("%s: chat template %q, %v", style, src, err)
		}
	}
}

// TestGGUFSentencePiece checks merges by score on a vocabulary small enough to work out by hand.
func TestGGUFSentencePiece(t *testing.T) {
	tokens := []string{"<unk>", "<s>", "</s>"}
	kinds := []int32{2, 3, 3}
	for b := range 256 {
		tokens = append(tokens, "<0x"+strings.ToUpper(hex2(byte(b)))+">")
		kinds = append(kinds, 6)
	}
	scores := make([]float32, len(tokens))
	for i, piece := range []string{"ab", "bc", "▁abc", "▁a", "▁", "a", "b", "c"} {
		tokens, kinds, scores = append(tokens, piece), append(kinds, 1), append(scores, -float32(i+1))
	}
	meta := map[string]any{"tokenizer.ggml.model": "llama", "tokenizer.ggml.tokens": tokens, "tokenizer.ggml.token_type": kinds,
		"tokenizer.ggml.scores": scores, "tokenizer.ggml.bos_token_id": uint32(1), "tokenizer.ggml.eos_token_id": uint32(2)}
	tok, err := FromGGUF(lookup(meta))
	if err != nil {
		t.Fatal(err)
	}
	// "ab" has the best score, so "▁abc" is ▁ + ab + c although it is a piece itself; é falls back to bytes; <s> is prepended.
	want := []string{"<s>", "▁", "ab", "c", "▁", "b", "<0xC3>", "<0xA9>"}
	ids, err := tok.Encode("abc bé", true)
	if got := spell(tok, ids); err != nil || !slices.Equal(got, want) {
		t.Errorf("tokens %q, %v, want %q", got, err, want)
	}
	if text := tok.Decode(ids[1:]); text != "abc bé" {
		t.Errorf("decoded %q", text)
	}
}

func hex2(b byte) string {
	const digits = "0123456789abcdef"
	return string([]byte{digits[b>>4], digits[b&15]})
}

// TestGGUFErrors: each broken metadata gives one line that names the key.
func TestGGUFErrors(t *testing.T) {
	cases := map[string]struct {
		key   string
		value any
		want  string
	}{
		"model":      {"tokenizer.ggml.model", "rwkv", "known: gpt2, llama"},
		"pre":        {"tokenizer.ggml.pre", "tekken", "known: default, gpt-2"},
		"no tokens":  {"tokenizer.ggml.tokens", nil, "tokenizer.ggml.tokens"},
		"not text":   {"tokenizer.ggml.tokens", []int{1}, "list of strings"},
		"no merges":  {"tokenizer.ggml.merges", []string{}, "tokenizer.ggml.merges"},
		"bad merge":  {"tokenizer.ggml.merges", []string{"abc"}, "model.merges: entry 0"},
		"few types":  {"tokenizer.ggml.token_type", []int32{1}, "token_type has 1 entries"},
		"eos":        {"tokenizer.ggml.eos_token_id", uint32(1 << 30), "eos_token_id"},
		"repeated":   {"tokenizer.ggml.tokens", []string{"a", "a"}, "both token 0 and token 1"},
		"spm scores": {"tokenizer.ggml.model", "llama", "tokenizer.ggml.scores"},
		"template":   {"tokenizer.chat_template", 3, "tokenizer.chat_template"},
	}
	for name, c := range cases {
		meta := metaOf(t, "gpt2", "gpt-2")
		meta[c.key] = c.value
		if c.value == nil {
			delete(meta, c.key)
		}
		_, err := FromGGUF(lookup(meta))
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", name, err, c.want)
		}
	}
}

// TestGGUFFile encodes with a real file's vocabulary, where POLAR_TEST_GGUF names one of SmolLM2; the ids are from transformers
// reading the saved tokenizer.json (bench/golden/compare_gguf.py).
func TestGGUFFile(t *testing.T) {
	path := os.Getenv("POLAR_TEST_GGUF")
	if path == "" {
		t.Skip("set POLAR_TEST_GGUF to a GGUF file to run this test")
	}
	f, err := gguf.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	tok, err := FromGGUF(func(key string) (any, bool) {
		kv, ok := f.GetKeyValue(key)
		if !ok {
			return nil, false
		}
		return kv.Raw(), true
	})
	if err != nil {
		t.Fatal(err)
	}
	if dir := os.Getenv("POLAR_TEST_OUT"); dir != "" {
		saveForComparison(t, tok, dir)
	}
	for _, text := range []string{"Hello world 123", "naïve 😀\n\n  x", "<|im_start|>user\nHi<|im_end|>\n"} {
		ids, err := tok.Encode(text, false)
		if err != nil || tok.Decode(ids) != text {
			t.Errorf("%q: %v, %q, %v", text, ids, tok.Decode(ids), err)
		}
	}
}

// saveForComparison writes the tokenizer's files and the ids of every golden text, for bench/golden/compare_gguf.py.
func saveForComparison(t *testing.T, tok Tokenizer, dir string) {
	t.Helper()
	type result struct {
		Text string `json:"text"`
		IDs  []int  `json:"ids"`
	}
	_, g := readGolden(t, "smollm2")
	var results []result
	for _, c := range g.Cases {
		ids, err := tok.Encode(c.Text, true)
		if err != nil {
			t.Fatal(err)
		}
		results = append(results, result{c.Text, ids})
	}
	content, err := json.Marshal(results)
	if err != nil {
		t.Fatal(err)
	}
	files := tok.Files()
	files["encoded.json"] = content
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
