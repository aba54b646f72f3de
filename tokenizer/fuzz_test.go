package tokenizer

import (
	"os"
	"path/filepath"
	"testing"
	"unicode/utf8"
)

// FuzzFromFiles: any bytes as tokenizer.json give a tokenizer or an error, and a tokenizer never panics.
func FuzzFromFiles(f *testing.F) {
	for _, style := range styles(f) {
		content, err := os.ReadFile(filepath.Join(goldens, style, "tokenizer.json"))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(content, "Hello  world 12\n")
	}
	f.Add([]byte(`{"model":{"type":"Unigram","vocab":[["a",-1],["",0]],"unk_id":0}}`), "ab")
	f.Add([]byte(`{"normalizer":{"type":"Replace","pattern":{"String":""},"content":"x"},"model":{"type":"WordLevel","vocab":{"a":0},"unk_token":"a"}}`), "ab")
	f.Fuzz(func(t *testing.T, content []byte, text string) {
		tok, err := FromFiles(map[string][]byte{tokenizerJSON: content})
		if err != nil {
			return
		}
		ids, err := tok.Encode(text, true)
		if err != nil {
			return
		}
		if s := tok.Decode(ids); utf8.ValidString(text) && tok.(*huggingFace).byteLevel && !utf8.ValidString(s) {
			t.Errorf("decoded text is not UTF-8: %q", s)
		}
		for _, id := range ids {
			if id < 0 || id >= tok.VocabSize() {
				t.Errorf("id %d of %d", id, tok.VocabSize())
			}
		}
	})
}

// FuzzParseChatTemplate: any source gives a template or an error, and rendering never panics.
func FuzzParseChatTemplate(f *testing.F) {
	for _, src := range readChats(f).Templates {
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src string) {
		c, err := ParseChatTemplate(src, testSpecial)
		if err != nil {
			return
		}
		_, _ = c.Render([]Message{{"user", "a"}, {"assistant", "b"}}, true)
	})
}
