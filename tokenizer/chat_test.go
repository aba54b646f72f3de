package tokenizer

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

type chatGolden struct {
	Templates     map[string]string    `json:"templates"`
	Conversations map[string][]Message `json:"conversations"`
	Cases         []struct {
		Template     string  `json:"template"`
		Conversation string  `json:"conversation"`
		Prompt       bool    `json:"prompt"`
		Text         *string `json:"text"`
		Error        string  `json:"error"`
	} `json:"cases"`
}

func readChats(t testing.TB) chatGolden {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(goldens, "chats.json"))
	if err != nil {
		t.Fatal(err)
	}
	var g chatGolden
	if err := json.Unmarshal(raw, &g); err != nil {
		t.Fatal(err)
	}
	if len(g.Cases) < 100 {
		t.Fatalf("only %d renderings", len(g.Cases))
	}
	return g
}

var testSpecial = map[string]string{"bos_token": "<s>", "eos_token": "</s>"}

// TestRenderGolden compares renderings and raised errors with transformers' (jinja2), byte for byte.
func TestRenderGolden(t *testing.T) {
	g := readChats(t)
	templates := map[string]*ChatTemplate{}
	for name, src := range g.Templates {
		c, err := ParseChatTemplate(src, testSpecial)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		templates[name] = c
	}
	for _, c := range g.Cases {
		template := templates[c.Template]
		if template == nil {
			continue
		}
		got, err := template.Render(g.Conversations[c.Conversation], c.Prompt)
		if c.Text == nil {
			if err == nil || !strings.Contains(err.Error(), c.Error) || strings.Contains(err.Error(), "\n") {
				t.Errorf("%s, %s: error %v, want %q", c.Template, c.Conversation, err, c.Error)
			}
			continue
		}
		if err != nil || got != *c.Text {
			t.Errorf("%s, %s, prompt %v: %v\n got %q\nwant %q", c.Template, c.Conversation, c.Prompt, err, got, *c.Text)
		}
	}
}
