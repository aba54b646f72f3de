package tokenizer

import (
	"slices"
	"strings"
	"testing"
)

// spansTemplate ends a turn by the end-of-sequence token in ChatML's frame.
func chatOf(t *testing.T, name string, tok Tokenizer) *ChatTemplate {
	t.Helper()
	c, err := ParseChatTemplate(readChats(t).Templates[name], Special(tok))
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestEncodeChat checks, for templates and tokenizers of each style, which text counts as completion and that the ids are those of
// the rendered text.
func TestEncodeChat(t *testing.T) {
	long := []Message{{"user", "Hello there"}, {"assistant", "It's 42."}, {"user", "naïve?\n"}, {"assistant", "yes 😀"}}
	cases := []struct {
		style, template string
		messages        []Message
		want            []string // the completions' text
	}{
		{"smollm2", "chatml", long, []string{"It's 42.<|im_end|>", "yes 😀<|im_end|>"}},
		{"smollm2", "smollm2", long, []string{"It's 42.<|im_end|>", "yes 😀<|im_end|>"}},
		{"qwen2", "qwen25", long[:2], []string{"It's 42.<|im_end|>"}},
		{"qwen2", "qwen3", long[:2], []string{"<think>\n\n</think>\n\nIt's 42.<|im_end|>"}},
		{"smollm2", "chatml", []Message{{"user", "x"}, {"assistant", "\n\nlines first"}}, []string{"\n\nlines first<|im_end|>"}},
		{"smollm2", "chatml", []Message{{"assistant", "I begin"}, {"user", "x"}}, []string{"I begin<|im_end|>"}},
		{"smollm2", "chatml", []Message{{"user", "only a question"}}, nil},
		{"smollm2", "zephyr", long[:2], []string{"It's 42.<|im_end|>"}},
		{"llama2", "llama2", long, []string{"It's 42. </s>", "yes 😀 </s>"}},
		{"mistral", "mistral", long, []string{"It's 42.</s>", "yes 😀</s>"}},
	}
	for _, c := range cases {
		tok, _ := readGolden(t, c.style)
		template := chatOf(t, c.template, tok)
		ids, completion, err := EncodeChat(tok, template, c.messages)
		if err != nil {
			t.Errorf("%s, %s: %v", c.style, c.template, err)
			continue
		}
		full, err := template.Render(c.messages, false)
		if err != nil {
			t.Fatal(err)
		}
		whole, err := tok.Encode(full, false)
		if err != nil || len(ids) != len(completion) {
			t.Fatalf("%s: %d ids, %d marks, %v", c.style, len(ids), len(completion), err)
		}
		if !slices.Equal(ids, whole) && !strings.HasPrefix(c.messages[len(c.messages)-1].Content, "\n") {
			t.Errorf("%s, %s: ids %v, want those of the whole text %v", c.style, c.template, ids, whole)
		}
		var got []string
		for i := 0; i < len(ids); i++ {
			j := i
			for j < len(ids) && completion[j] {
				j++
			}
			if j > i {
				got = append(got, strings.TrimSpace(tok.Decode(ids[i:j])))
			}
			i = j
		}
		for i := range c.want {
			c.want[i] = strings.TrimSpace(c.want[i])
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s, %s: completions %q, want %q", c.style, c.template, got, c.want)
		}
		if bos, ok := tok.BOS(); ok && len(ids) > 1 && ids[0] == bos && ids[1] == bos {
			t.Errorf("%s, %s: two beginning-of-sequence tokens", c.style, c.template)
		}
	}
}

// TestEncodeChatInconsistent: a template that shows the last message only is refused.
func TestEncodeChatInconsistent(t *testing.T) {
	tok, _ := readGolden(t, "smollm2")
	c, err := ParseChatTemplate("{{ messages | length }}{{ messages[-1].content }}", nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = EncodeChat(tok, c, []Message{{"user", "a"}, {"assistant", "b"}, {"user", "c"}})
	if err == nil || !strings.Contains(err.Error(), "message 2") {
		t.Errorf("error %v, want one that names message 2", err)
	}
}
