package tokenizer

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// TestBadFiles: every malformed file gives one line that names file and part.
func TestBadFiles(t *testing.T) {
	good := `{"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}`
	cases := map[string]struct {
		files map[string]string
		want  string
	}{
		"nothing":          {nil, "neither tokenizer.json nor polar_char_tokenizer.json"},
		"truncated":        {map[string]string{tokenizerJSON: `{"model": {"ty`}, "tokenizer.json: unexpected end"},
		"a list":           {map[string]string{tokenizerJSON: `[]`}, "tokenizer.json: "},
		"no model":         {map[string]string{tokenizerJSON: `{}`}, "no model"},
		"model type":       {map[string]string{tokenizerJSON: `{"model":{"type":"Magic"}}`}, `"Magic" is not supported; known: BPE`},
		"empty":            {map[string]string{tokenizerJSON: `{"model":{"type":"BPE","vocab":{},"merges":[]}}`}, "model.vocab is empty"},
		"huge id":          {map[string]string{tokenizerJSON: `{"model":{"type":"BPE","vocab":{"a":4000000000},"merges":[]}}`}, "id 4000000000"},
		"negative id":      {map[string]string{tokenizerJSON: `{"model":{"type":"BPE","vocab":{"a":-1},"merges":[]}}`}, "id -1"},
		"merge":            {map[string]string{tokenizerJSON: `{"model":{"type":"BPE","vocab":{"a":0},"merges":["a c"]}}`}, "model.merges: entry 0"},
		"unk":              {map[string]string{tokenizerJSON: `{"model":{"type":"BPE","vocab":{"a":0},"merges":[],"unk_token":"?"}}`}, "model.unk_token"},
		"added id":         {map[string]string{tokenizerJSON: good + `,"added_tokens":[{"id":-5,"content":"x"}]}`}, "added_tokens"},
		"normalizer":       {map[string]string{tokenizerJSON: good + `,"normalizer":{"type":"Precompiled"}}`}, `normalizer type "Precompiled" is not supported`},
		"pre_tokenizer":    {map[string]string{tokenizerJSON: good + `,"pre_tokenizer":{"type":"Split","pattern":{"Regex":"("},"behavior":"Isolated"}}`}, "regular expression"},
		"behavior":         {map[string]string{tokenizerJSON: good + `,"pre_tokenizer":{"type":"Split","pattern":{"String":"x"},"behavior":"Odd"}}`}, "MergedWithNext"},
		"decoder":          {map[string]string{tokenizerJSON: good + `,"decoder":{"type":"CTC"}}`}, `decoder type "CTC"`},
		"post id":          {map[string]string{tokenizerJSON: good + `,"post_processor":{"type":"BertProcessing","cls":["a",9],"sep":["b",1]}}`}, "id 9 is outside"},
		"unigram unk":      {map[string]string{tokenizerJSON: `{"model":{"type":"Unigram","unk_id":7,"vocab":[["a",-1]]}}`}, "model.unk_id is 7"},
		"unigram entry":    {map[string]string{tokenizerJSON: `{"model":{"type":"Unigram","vocab":[["a","b"]]}}`}, "entry 0"},
		"config":           {map[string]string{tokenizerJSON: good + `}`, tokenizerConf: `{`}, "tokenizer_config.json"},
		"special":          {map[string]string{tokenizerJSON: good + `}`, tokenizerConf: `{"bos_token": 3}`}, "tokenizer_config.json: bos_token"},
		"eos ids":          {map[string]string{tokenizerJSON: good + `}`, modelConf: `{"eos_token_id": "x"}`}, "config.json: eos_token_id"},
		"characters":       {map[string]string{CharFile: `{"format":"polar-characters-1","alphabet":"ba"}`}, "not sorted"},
		"character format": {map[string]string{CharFile: `{"format":"other"}`}, `format "other"`},
	}
	for name, c := range cases {
		files := map[string][]byte{}
		for k, v := range c.files {
			files[k] = []byte(v)
		}
		_, err := FromFiles(files)
		if err == nil || !strings.Contains(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: error %v, want one line with %q", name, err, c.want)
		}
	}
	if _, err := FromFolder(filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a missing folder was accepted")
	}
}

// TestSpecialTokens checks ids from config.json, lists of end tokens and added_tokens_decoder.
func TestSpecialTokens(t *testing.T) {
	files := map[string][]byte{
		tokenizerJSON: []byte(`{"added_tokens":[{"id":3,"content":"<e>","special":true}],"model":{"type":"BPE","vocab":{"a":0,"b":1,"ab":2},"merges":["a b"]}}`),
		tokenizerConf: []byte(`{"add_bos_token":true,"bos_token":{"content":"<b>"},"added_tokens_decoder":{"4":{"content":"<b>","special":true},"3":{"content":"<e>"}}}`),
		specialMap:    []byte(`{"pad_token":"<e>"}`),
		modelConf:     []byte(`{"eos_token_id":[3,2,99]}`),
	}
	tok, err := FromFiles(files)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := tok.Encode("ab<e>a", true)
	bos, _ := tok.BOS()
	eos, _ := tok.EOS()
	pad, _ := tok.Pad()
	if err != nil || !equalInts(ids, []int{4, 2, 3, 0}) || bos != 4 || eos != 3 || pad != 3 || !equalInts(Stops(tok), []int{3, 2}) || tok.VocabSize() != 5 {
		t.Errorf("ids %v, %v; bos %d, eos %d, pad %d, stops %v, size %d", ids, err, bos, eos, pad, Stops(tok), tok.VocabSize())
	}
	if _, err := tok.Encode("xyz", false); err == nil || !strings.Contains(err.Error(), `"x"`) {
		t.Errorf("a character outside the vocabulary: error %v", err)
	}
}

func equalInts(a, b []int) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i] != b[i] {
			return false
		}
	}
	return true
}

// TestChar: round trip, saved file, unknown character with its offset.
func TestChar(t *testing.T) {
	c, err := FromText("héllo wörld\n")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, content := range c.Files() {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	again, err := FromFolder(dir)
	if err != nil {
		t.Fatal(err)
	}
	ids, err := again.Encode("wörld héllo", true)
	if err != nil || again.Decode(ids) != "wörld héllo" || again.Fingerprint() != c.Fingerprint() || again.VocabSize() != 10 {
		t.Errorf("ids %v, %v, text %q, size %d", ids, err, again.Decode(ids), again.VocabSize())
	}
	for i := 1; i < c.VocabSize(); i++ {
		if c.Token(i-1) >= c.Token(i) {
			t.Errorf("alphabet is not sorted at %d", i)
		}
	}
	if _, err := c.Encode("é!", false); err == nil || !strings.Contains(err.Error(), `'!' (U+0021) at byte offset 2`) {
		t.Errorf("unknown character: %v", err)
	}
	if _, err := FromText(""); err == nil {
		t.Error("an empty text was accepted")
	}
	if _, err := FromText("a\xff"); err == nil || !strings.Contains(err.Error(), "offset 1") {
		t.Errorf("text that is not UTF-8: %v", err)
	}
}

// TestBadTemplates: no file access, no endless output, one-line errors.
func TestBadTemplates(t *testing.T) {
	for name, src := range map[string]string{
		"empty": " ", "unclosed": "{% if x %}", "syntax": "{{ 1 + }}", "unknown block": "{% nonsense %}",
		"file": "{% include '/etc/passwd' %}", "filter": "{{ messages | nothing }}", "range": "{% for i in range(1000000000) %}{% endfor %}",
		"raise": "{{ raise_exception('a\nb') }}",
	} {
		c, err := ParseChatTemplate(src, nil)
		if err == nil {
			_, err = c.Render([]Message{{"user", "x"}}, false)
		}
		if err == nil || strings.Contains(err.Error(), "\n") || !strings.HasPrefix(err.Error(), "chat template: ") {
			t.Errorf("%s: error %v, want one line", name, err)
		}
	}
	for _, content := range []string{`{"chat_template":3}`, `{"chat_template":[{"name":"rag","template":"x"}]}`} {
		if _, err := TemplateFromFiles(map[string][]byte{tokenizerConf: []byte(content)}); err == nil {
			t.Errorf("%s was accepted", content)
		}
	}
}
