package data

import (
	"context"
	"strings"
	"testing"

	"github.com/polargo/polar/tokenizer"
)

// A template with one character around each turn: <u…> and <a…>, a newline behind.
const testTemplate = "{% for m in messages %}<{{ m.role[0] }}{{ m.content }}>\n{% endfor %}{% if add_generation_prompt %}<a{% endif %}"

func template(t *testing.T, src string) *tokenizer.ChatTemplate {
	t.Helper()
	c, err := tokenizer.ParseChatTemplate(src, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestChatMasksByHand(t *testing.T) {
	chat := template(t, "{% for m in messages %}<{{ m.role[0] }}{{ m.content }}{% endfor %}{% if add_generation_prompt %}<a{% endif %}")
	row := `{"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yo"}, {"role": "user", "content": "x"}, {"role": "assistant", "content": "z"}]}`
	c := open(t, settings(t, write(t, "a.jsonl", row), func(o *Options) { o.Chat, o.Length = chat, 16 }))
	b := mustBatch(t, c.Train(), 0, 1)
	if got, want := textOf(b, b.Tokens, 0), "<uhi<ayo<ux<az__"; got != want {
		t.Errorf("tokens %q, want %q", got, want)
	}
	//               targets "uhi<ayo<ux<az$__"
	if got, want := marks(b, 0), "0000011000001100"; got != want {
		t.Errorf("weights %s, want %s of targets %q", got, want, textOf(b, b.Targets, 0))
	}
	p, err := c.Train().Preview()
	if err != nil || len(p.Segments) != 4 || p.Segments[0].Text != "<uhi<a" || p.Segments[1].Text != "yo" || !p.Segments[3].Trained {
		t.Errorf("preview %+v, %v", p, err)
	}
}

func TestShareGPTNames(t *testing.T) {
	row := `{"conversations": [{"from": "human", "value": "hi"}, {"from": "gpt", "value": "yo"}]}`
	c := open(t, settings(t, write(t, "a.jsonl", row), func(o *Options) { o.Chat, o.Length = template(t, testTemplate), 16 }))
	if b := mustBatch(t, c.Train(), 0, 1); !strings.HasPrefix(textOf(b, b.Tokens, 0), "<uhi>\n<ayo>") {
		t.Errorf("tokens %q", textOf(b, b.Tokens, 0))
	}
}

func TestChatWithoutAnswer(t *testing.T) {
	for _, messages := range []string{`[]`, `[{"role": "user", "content": "hi"}]`, `[{"role": "assistant", "content": " "}]`} {
		row := `{"messages": ` + messages + `}`
		_, err := Open(context.Background(), settings(t, write(t, "a.jsonl", row), func(o *Options) { o.Chat = template(t, testTemplate) }))
		if err == nil || !strings.Contains(err.Error(), "a.jsonl:1: messages hold no answer of the role assistant") {
			t.Errorf("%s: error %v", messages, err)
		}
	}
}
